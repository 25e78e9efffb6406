"""Slope-annealed straight-through, summed over its events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from scipy import special

from estimators import Bernoulli, BlackBox, Categorical, SlopeAnnealedStraightThrough, StraightThrough, incompatibility

LOGITS = np.array([-1.0, 0.4, 1.3])


class SlopeInBothPasses(SlopeAnnealedStraightThrough):
    """Another estimator: the law, too, is that of a steeper unit."""

    def gradient(self, key, dist, f):
        return StraightThrough().gradient(key, Bernoulli(self.slope * dist.logits), f)


class WithoutTheFactor(SlopeAnnealedStraightThrough):
    """Wrong on purpose: the derivative of the sigmoid at the steeper logit, without that of the logit."""

    def gradient(self, key, dist, f):
        return jax.tree.map(lambda g: g / self.slope, SlopeAnnealedStraightThrough.gradient(self, key, dist, f))


def cubic(x):
    return jnp.sum(1.5 * x**3 - x**2 + 0.2 * x)


def affine(x):
    return 3 * jnp.sum(x) - 1


def over_events(estimator, logits, f):
    """Probabilities of all events, and estimates there."""
    events, probabilities = outcomes(logits)
    grads, _ = prescribed_estimates(estimator, None, jnp.asarray(logits), events[:, None], f)
    return probabilities, np.asarray(grads)


def assert_mean_is_the_closed_form(family, slope, logit):
    p, s = special.expit(logit), special.expit(slope * logit)
    mean, variance = moments(*over_events(family(slope=slope), np.array([logit]), cubic))
    np.testing.assert_allclose(mean, [slope * s * (1 - s) * (p * 2.7 + (1 - p) * 0.2)], rtol=1e-12)
    np.testing.assert_allclose(variance, [(slope * s * (1 - s) * 2.5) ** 2 * p * (1 - p)], rtol=1e-12)


@pytest.mark.parametrize("logit", [-2.0, -0.7, 0.0, 1.3])
def test_mean_and_variance_on_one_bit_are_closed_forms(logit):
    for slope in (0.5, 2.0, 5.0):
        assert_mean_is_the_closed_form(SlopeAnnealedStraightThrough, slope, logit)


@pytest.mark.parametrize("family", [SlopeInBothPasses, WithoutTheFactor], ids=lambda family: family.__name__)
def test_other_forms_are_rejected(family):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_mean_is_the_closed_form(family, 2.0, -0.7)


def test_at_slope_one_it_is_straight_through():
    _, annealed = over_events(SlopeAnnealedStraightThrough(slope=1.0), LOGITS, Tangled())
    _, plain = over_events(StraightThrough(), LOGITS, Tangled())
    np.testing.assert_allclose(annealed, plain, rtol=1e-12)


def test_each_estimate_is_straight_through_times_a_factor_of_each_logit():
    """Which is the slope at the threshold, and vanishes far from it: biased for an affine objective too."""
    slope, s, p = 3.0, special.expit(3.0 * LOGITS), special.expit(LOGITS)
    _, annealed = over_events(SlopeAnnealedStraightThrough(slope=slope), LOGITS, Tangled())
    _, plain = over_events(StraightThrough(), LOGITS, Tangled())
    factor = slope * s * (1 - s) / (p * (1 - p))
    np.testing.assert_allclose(annealed, factor * plain, rtol=1e-12)
    mean, _ = moments(*over_events(SlopeAnnealedStraightThrough(slope=slope), LOGITS, affine))
    np.testing.assert_allclose(mean, factor * exact_gradient(LOGITS, affine), rtol=1e-12)


def test_single_precision_is_right_at_extreme_logits():
    """The derivative of a saturated sigmoid keeps its relative precision on both sides."""
    events, logits = jnp.array([[[0.0, 1.0, 1.0]]], jnp.float32), jnp.array([-10.0, 10.0, 0.0], jnp.float32)
    values, _ = prescribed_estimates(SlopeAnnealedStraightThrough(slope=5.0), None, logits, events, affine)
    assert values.dtype == jnp.float32
    tail = 15 * special.expit(-50.0)
    np.testing.assert_allclose(values[0], [tail, tail, 15 / 4], rtol=1e-5)


def test_declared_evaluations_are_the_calls_of_f():
    assert counted_evaluations(SlopeAnnealedStraightThrough(), Bernoulli(LOGITS)) == 1


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`SlopeAnnealedStraightThrough` needs `slope > 0`, got 0.0"):
        SlopeAnnealedStraightThrough(slope=0.0)
    estimator = SlopeAnnealedStraightThrough()
    assert "needs a `Bernoulli`" in incompatibility(estimator, Categorical([[0.0, 0.0]]), jnp.sum)
    assert "differentiable" in incompatibility(estimator, Bernoulli([0.0]), BlackBox(jnp.sum))
