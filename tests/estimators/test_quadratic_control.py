"""The learned quadratic control variate, integrated over its noise for any control, and trained without noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    HESSIAN,
    LOC,
    NOISE,
    WEIGHTS,
    assert_form,
    assert_slope_of_the_second_moment,
    assert_unbiased,
    at_noise,
    bowl,
    estimates,
    exact_gradient,
    integrated,
    total_variance,
    two_normals,
    wave,
)

from estimators import RVRGE, Bernoulli, BlackBox, Normal, Pathwise, incompatibility
from estimators.base import LearnedState, learned_state
from estimators.quadratic_control import QuadraticControlVariate, QuadraticSurrogate

ESTIMATOR = QuadraticControlVariate()
SKEW = np.array([[0.4, -1.3], [0.7, 0.2]])


def surrogate(slope, matrix):
    return QuadraticSurrogate(jnp.asarray(slope), jnp.asarray(matrix))


ARBITRARY = (np.array([-0.6, 1.1]), SKEW)


def rows_of(control):
    return estimates(ESTIMATOR, wave, learned_state(control))


def test_the_mean_is_the_gradient_whatever_the_control():
    assert_unbiased(rows_of(surrogate(*ARBITRARY)), wave)


def test_it_starts_as_pathwise():
    start = ESTIMATOR.control(jax.random.key(0), two_normals())
    np.testing.assert_allclose(rows_of(start)[:, :4], estimates(Pathwise(), wave), rtol=1e-12, atol=1e-14)


def test_with_the_expansion_at_the_mean_it_is_rv_rge():
    """Only the symmetric part of the matrix counts."""
    slope, hessian = (np.asarray(jax.jit(d(wave))(LOC)) for d in (jax.grad, jax.hessian))
    rows = rows_of(surrogate(slope, hessian + np.array([[0.0, 2.0], [-2.0, 0.0]])))
    np.testing.assert_allclose(rows[:, :4], estimates(RVRGE(), wave), rtol=1e-9, atol=1e-10)


def test_the_right_quadratic_leaves_nothing_of_a_quadratic_function():
    slope = np.asarray(jax.grad(bowl)(LOC))
    rows = estimates(ESTIMATOR, bowl, learned_state(surrogate(slope, HESSIAN)))
    np.testing.assert_allclose(rows[:, :4], np.tile(exact_gradient(bowl), (len(NOISE), 1)), rtol=1e-9, atol=1e-10)


def test_the_mean_statistic_is_the_slope_of_the_second_moment():
    assert_slope_of_the_second_moment(rows_of, surrogate(*ARBITRARY))


def best_variance():
    """An estimate is affine in the five free numbers of the control: least squares finds the least variance."""
    centred = rows_of(surrogate(np.zeros(2), np.zeros((2, 2))))[:, :4] - exact_gradient(wave)
    directions = [(e, np.zeros((2, 2))) for e in np.eye(2)]
    directions += [(np.zeros(2), m) for m in np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [1, 0]]]) * 1.0]
    columns = [rows_of(surrogate(*d))[:, :4] - exact_gradient(wave) - centred for d in directions]
    root = np.sqrt(WEIGHTS)[:, None]
    design = np.stack([(root * column).ravel() for column in columns], axis=1)
    return float(np.linalg.lstsq(design, -(root * centred).ravel(), rcond=None)[1][0])


@eqx.filter_jit
def trained(estimator, state, steps=400):
    """The control after steps down the exact slope of the second moment."""

    def step(state, _):
        rows = at_noise(estimator.estimate, state, two_normals(), wave, NOISE[::4])
        weights = jnp.asarray(WEIGHTS[::4] / np.sum(WEIGHTS[::4]))
        restore = jax.flatten_util.ravel_pytree(state.control)[1]
        return estimator.adapt(state, restore(weights @ rows[:, 4:])), None

    return jax.lax.scan(step, state, None, length=steps)[0]


def test_training_finds_the_best_quadratic_which_beats_the_expansion_at_the_mean():
    start = learned_state(surrogate(np.zeros(2), np.zeros((2, 2))))
    found = trained(QuadraticControlVariate(learning_rate=0.02), start)
    assert isinstance(found, LearnedState)
    least, taylor = best_variance(), total_variance(estimates(RVRGE(), wave))
    variance = total_variance(rows_of(found.control))
    np.testing.assert_allclose(variance, least, rtol=1e-3)
    assert variance < 0.6 * taylor < 0.3 * integrated(estimates(Pathwise(), wave))[1].sum()


def test_shapes():
    assert_form(ESTIMATOR, (2, 3))
    assert_form(ESTIMATOR, ())


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`QuadraticControlVariate` needs `learning_rate > 0`, got 0.0"):
        QuadraticControlVariate(learning_rate=0.0)
    assert "needs a reparameterizable distribution" in incompatibility(ESTIMATOR, Bernoulli([0.0]), jnp.sum)
    assert "needs a differentiable objective" in incompatibility(ESTIMATOR, Normal([0.0], [0.0]), BlackBox(jnp.sum))
