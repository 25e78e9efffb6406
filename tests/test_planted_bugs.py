"""Deliberately broken estimators are caught: the suite's verdict is `biased` for each, at the power that is stated.

Copies of right estimators with one well-known slip each. Those that stay unbiased (a reused key that only correlates, a
mis-coupled REBAR) are caught by other means: the check for reused keys, and the coupling identity.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import Expectation, measure
from estimators import AbstractEstimator, AbstractStatelessEstimator, Bernoulli, LeaveOneOut, ScoreFunction
from estimators.base import draw, weighted_score


class Slip(AbstractStatelessEstimator):
    """Two samples with each other's value as baseline, and one thing wrong."""

    slip: str = eqx.field(static=True)

    unbiased = True
    requires = ()

    def gradient(self, key, dist, f):
        xs = draw(key, dist, 2)
        if self.slip == "one sample twice":
            xs = jnp.stack([xs[0], xs[0]])
        values = jax.vmap(f)(xs)
        sign = -1.0 if self.slip == "wrong sign" else 1.0
        divisor = 2.0 if self.slip == "no K / (K - 1)" else 1.0
        centred = values - jnp.mean(values)
        if self.slip == "mean of products":
            # Averaging values and scores apart before multiplying them.
            return weighted_score(dist, xs, jnp.broadcast_to(jnp.mean(values) / 2, values.shape))
        return weighted_score(dist, xs, sign * centred / divisor)

    def evaluations(self, dist):
        return 2


class UpdateThenUse(AbstractEstimator):
    """A moving average that has already taken in the sample that it is the baseline of."""

    unbiased = True
    requires = ()

    def init(self, key, dist):
        return jnp.zeros((), dist.logits.dtype)

    def estimate(self, key, state, dist, f):
        xs = draw(key, dist, 1)
        value = f(xs[0])
        average = 0.9 * state + 0.1 * value
        return weighted_score(dist, xs, (value - average)[None]), value

    def adapt(self, state, stats):
        return (0.9 * state + 0.1 * stats).astype(state.dtype)

    def evaluations(self, dist):
        return 1


def nonseparable(x):
    return (x[0] + 2 * x[1] - x[2] - 0.3) ** 2


SLIPS = ("wrong sign", "no K / (K - 1)", "one sample twice", "mean of products")


@pytest.mark.parametrize("estimator", [*map(Slip, SLIPS), UpdateThenUse()], ids=[*SLIPS, "update before use"])
def test_a_slip_is_found(estimator, key):
    """At 200 000 replicates a shrinkage by a tenth is far above the detectable bias, and the verdict is `biased` for any key."""
    with jax.enable_x64(False):
        problem = Expectation(Bernoulli(logits=[-1.0, 0.5, 2.0]), nonseparable)
        for attempt in jax.random.split(key, 3):
            s = measure(estimator, problem, attempt, replicates=200_000, warm_up_steps=200).summary()
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
