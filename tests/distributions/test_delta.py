"""The point mass: what it is, and that no estimator that would be silently wrong runs on it."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import Expectation
from benchmarks.problems import mismatch
from estimators import (
    ESTIMATORS,
    BlackBox,
    Delta,
    Derivative,
    ScoreFunction,
    Uniform,
    incompatibility,
)

LOC = np.array([[0.5, -1.0], [2.0, 3.0]])


def test_it_is_where_it_says(key):
    for dtype in (jnp.float32, jnp.float64):
        dist = Delta(jnp.asarray(LOC, dtype))
        x = dist.sample(key)
        assert dist.event_shape == x.shape == (2, 2) and x.dtype == dist.log_prob(x).dtype == dtype
        np.testing.assert_array_equal(x, LOC)
        assert dist.log_prob(x) == 0 and dist.log_prob(x.at[0, 1].add(0.01)) == -np.inf


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_only_what_asks_for_it_runs_on_it(name):
    """The derivative of its mass is zero, and a score function would estimate zero."""
    estimator = ESTIMATORS.create(name)
    reason = incompatibility(estimator, Delta(LOC), jnp.sum)
    if Delta not in estimator.requires:
        assert reason is not None


def test_an_estimator_that_asks_for_nothing_needs_a_fixed_support():
    class Undemanding(ScoreFunction):
        requires: ClassVar[tuple[type, ...]] = ()

    reason = mismatch(Undemanding(), Expectation(Delta(LOC), jnp.sum))
    assert (
        reason
        == "`Undemanding` asks nothing else of the distribution, so it needs a fixed support, and `Delta` has none."
    )
    assert "`Uniform` has none" in mismatch(Undemanding(), Expectation(Uniform([0.0], [0.0]), jnp.sum))
    reason = mismatch(ScoreFunction(), Expectation(Delta(LOC), jnp.sum))
    assert reason == "`ScoreFunction` needs a fixed support distribution, and `Delta` is not one."


def test_its_truth_is_the_derivative_where_there_is_one():
    truth = Expectation(Delta(LOC), lambda x: jnp.sum(x**3)).truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.loc, 3 * LOC**2, rtol=1e-12)
    assert Expectation(Delta(LOC), BlackBox(jnp.sum)).truth() is None
    reason = incompatibility(Derivative(), Delta(LOC), BlackBox(jnp.sum))
    assert reason == "`Derivative` needs a differentiable objective, and `BlackBox` does not declare to be one."
    grads = Derivative().gradient(jax.random.key(0), Delta(jnp.asarray(LOC)), jnp.prod)
    np.testing.assert_allclose(grads.loc, np.prod(LOC) / LOC, rtol=1e-12)
