"""Double control variates, summed over all tuples of samples: mean, formula, limits and the direction of training.

An estimate is linear in its coefficient, so its second moment is a parabola, known from three points.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates, tuples
from prescribed_categorical import (
    categorical_estimates,
    exact_gradient as categorical_gradient,
    outcomes as categorical_outcomes,
    tied,
)

from estimators import Bernoulli, BlackBox, LeaveOneOut, Normal, incompatibility
from estimators.base import learned_state
from estimators.double_cv import DoubleCV

LOGITS = np.array([-1.0, 0.4, 1.3])
TWO = np.array([-1.0, 0.6])


def two_bits(x):
    """Neither separable nor quadratic."""
    return jnp.sin(1.0 + 2.0 * x[0] - x[1]) + 1.5 * x[0] * x[1] - 0.7 * x[1]


def slope(x):
    """Its derivative, by NumPy, for events along the last axis."""
    wave = np.cos(1.0 + 2.0 * x[..., 0] - x[..., 1])
    return np.stack([2 * wave + 1.5 * x[..., 1], -wave + 1.5 * x[..., 0] - 0.7], axis=-1)


def affine(x):
    return jnp.vdot(jnp.array([1.0, -2.0, 0.5], x.dtype), x) + 4


def state_of(coefficient):
    return learned_state(jnp.array(coefficient))


def enumerated(estimator, coefficient, logits, f):
    """Draws, probabilities, estimates and statistics, for every tuple of samples."""
    events, probabilities = outcomes(logits)
    indices, weights = tuples(probabilities, estimator.num_samples)
    keys = jax.random.split(jax.random.key(0), estimator.num_samples)
    state = None if coefficient is None else state_of(coefficient)
    grads, stats = prescribed_estimates(estimator, state, logits, events[indices], f, keys)
    return events[indices], weights, np.asarray(grads), stats


@pytest.mark.parametrize("coefficient", [-1.0, 0.8])
@pytest.mark.parametrize(("samples", "logits", "f"), [(2, LOGITS, Tangled()), (3, TWO, two_bits), (5, TWO, two_bits)])
def test_the_mean_over_all_samples_is_the_gradient(samples, logits, f, coefficient):
    _, weights, estimates, _ = enumerated(DoubleCV(samples), coefficient, logits, f)
    np.testing.assert_allclose(moments(weights, estimates)[0], exact_gradient(logits, f), rtol=1e-10, atol=1e-13)


def test_the_mean_over_all_one_hot_samples_is_the_gradient():
    samples = 3
    events, probabilities = categorical_outcomes()
    indices, weights = tuples(probabilities, samples)
    keys = jax.random.split(jax.random.key(0), samples)
    estimator = DoubleCV(samples)
    gradient = jax.tree_util.Partial(lambda key, dist, f: estimator.gradient(key, jnp.array(-0.7), dist, f))
    mean, _ = moments(weights, categorical_estimates(gradient, events[indices], tied, keys))
    np.testing.assert_allclose(mean, categorical_gradient(tied), rtol=1e-10, atol=1e-13)


def test_it_is_the_formula_of_the_paper():
    """For Bernoulli variables and three samples, with loops."""
    alpha, p = -0.6, 1 / (1 + np.exp(-TWO))
    draws, _, estimates, _ = enumerated(DoubleCV(3), alpha, TWO, two_bits)
    values, slopes, scores = np.asarray(jax.vmap(jax.vmap(two_bits))(draws)), slope(draws), draws - p
    expected = np.zeros_like(estimates)
    signal = [
        values[:, k] + alpha * np.sum(np.mean(np.delete(slopes, k, axis=1), axis=1) * scores[:, k], axis=1)
        for k in range(3)
    ]
    for k in range(3):
        baseline = np.mean([signal[j] for j in range(3) if j != k], axis=0)
        expected += (signal[k] - baseline)[:, None] * scores[:, k] / 3
    expected -= alpha * slopes.mean(axis=1) * p * (1 - p)
    np.testing.assert_allclose(estimates, expected, rtol=1e-10, atol=1e-14)


def test_without_its_control_variate_it_is_leave_one_out():
    _, _, expected, _ = enumerated(LeaveOneOut(3), None, TWO, two_bits)
    _, _, estimates, _ = enumerated(DoubleCV(3), 0.0, TWO, two_bits)
    np.testing.assert_allclose(estimates, expected, rtol=1e-10, atol=1e-15)


def test_of_an_affine_function_it_is_the_gradient_draw_for_draw():
    _, weights, estimates, stats = enumerated(DoubleCV(2), -1.0, LOGITS, affine)
    expected = np.broadcast_to(exact_gradient(LOGITS, affine), estimates.shape)
    np.testing.assert_allclose(estimates, expected, rtol=1e-11)
    np.testing.assert_allclose(weights @ stats, 0, atol=1e-13)


@functools.cache
def second_moments():
    """The second moment of an estimate at three coefficients, and the mean statistic at the first of them."""
    moment, statistics = [], []
    for coefficient in (0.3, 1.3, -0.7):
        _, weights, estimates, stats = enumerated(DoubleCV(3), coefficient, TWO, two_bits)
        moment.append(weights @ np.sum(estimates**2, axis=1))
        statistics.append(weights @ np.asarray(stats))
    return moment, statistics


def test_the_mean_statistic_is_the_slope_of_the_second_moment():
    (here, above, below), (statistic, _, _) = second_moments()
    np.testing.assert_allclose(statistic, (above - below) / 2, rtol=1e-11)
    assert abs(statistic) > 0.05 * here


def test_it_vanishes_at_the_coefficient_of_least_variance():
    """The vertex of the parabola, where it is better than leave-one-out."""
    (here, above, below), _ = second_moments()
    best = 0.3 - (above - below) / 2 / (above + below - 2 * here)
    _, weights, estimates, stats = enumerated(DoubleCV(3), best, TWO, two_bits)
    np.testing.assert_allclose(weights @ stats, 0, atol=1e-12)
    trained = moments(weights, estimates)[1].sum()
    _, weights, estimates, _ = enumerated(LeaveOneOut(3), None, TWO, two_bits)
    assert trained < 0.9 * moments(weights, estimates)[1].sum()


def test_it_starts_at_its_coefficient_and_costs_its_samples():
    estimator, dist = DoubleCV(num_samples=3, coefficient=0.25), Bernoulli(LOGITS.astype(np.float32))
    control = estimator.control(jax.random.key(0), dist)
    assert control == 0.25 and control.dtype == jnp.float32
    assert counted_evaluations(estimator, Bernoulli(LOGITS)) == estimator.evaluations(dist) == 3


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`DoubleCV` needs `num_samples >= 2`, got 1; the control variate of a sample"):
        DoubleCV(num_samples=1)
    with pytest.raises(ValueError, match="`DoubleCV` needs `learning_rate > 0`, got 0.0"):
        DoubleCV(learning_rate=0.0)
    assert "needs a relaxable distribution" in incompatibility(DoubleCV(), Normal([0.0], [0.0]), jnp.sum)
    assert "needs a differentiable objective" in incompatibility(DoubleCV(), Bernoulli(LOGITS), BlackBox(jnp.sum))
