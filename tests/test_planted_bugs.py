"""Deliberately broken estimators are caught: the suite's verdict is `biased` for each, at the power that is stated.

Copies of right estimators with one well-known slip each. Those that stay unbiased (a reused key that only correlates, a
mis-coupled REBAR) are caught by other means: the check for reused keys, and the coupling identity.
"""

import jax
import numpy as np
import pytest

from benchmarks import Expectation, measure
from benchmarks.planted import planted
from estimators import Bernoulli, LeaveOneOut, ScoreFunction


def nonseparable(x):
    return (x[0] + 2 * x[1] - x[2] - 0.3) ** 2


@pytest.mark.parametrize("name", planted())
def test_a_slip_is_found(name, key):
    """At 200 000 replicates a shrinkage by a tenth is far above the detectable bias, and the verdict is `biased` for any key."""
    with jax.enable_x64(False):
        problem = Expectation(Bernoulli(logits=[-1.0, 0.5, 2.0]), nonseparable)
        for attempt in jax.random.split(key, 3):
            s = measure(planted()[name], problem, attempt, replicates=200_000, warm_up_steps=200).summary()
            assert s["min_detectable_bias"] < 0.03 * s["truth_norm"], "underpowered"
            assert s["verdict"] == "biased", s


def test_the_right_ones_are_not(key):
    """The same check passes the estimators that the slips were made from."""
    with jax.enable_x64(False):
        problem = Expectation(Bernoulli(logits=[-1.0, 0.5, 2.0]), nonseparable)
        for estimator in (LeaveOneOut(num_samples=2), ScoreFunction()):
            assert measure(estimator, problem, key, replicates=200_000).summary()["verdict"] != "biased"


def test_a_reused_key_is_refused(key):
    """A key that is drawn from and then split raises under the check that every test of this project runs with."""
    dist = Bernoulli(logits=[0.0])

    def reuse(key):
        return dist.sample(key) + dist.sample(jax.random.split(key)[0])

    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(reuse)(key)
    assert np.isfinite(jax.jit(lambda key: dist.sample(key))(key.copy())).all()
