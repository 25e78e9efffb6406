"""SPSA, random directions and forward gradients: summed over all signs, or integrated over Gaussian directions without error.

The objective is a polynomial of degree four, of which every moment is had from a few nodes and every bias from its
third derivatives.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_law, assert_mean_equals
from hermite import rule
from prescribed import moments, tuples
from scipy import stats

from estimators import (
    SPSA,
    BlackBox,
    Delta,
    EvolutionStrategies,
    ForwardGradient,
    Normal,
    RandomDirections,
    incompatibility,
)

LOC = np.array([0.7, -0.4, 0.2])
SLOPE = np.array([0.5, -2.0, 1.5])
HESSIAN = np.array([[2.0, 0.5, -1.0], [0.5, -1.0, 0.3], [-1.0, 0.3, 0.7]])


def quartic(x):
    return (
        (x[0] - 2 * x[1] + x[2]) ** 2 + x[0] * x[1] ** 2 - 0.6 * x[0] * x[1] * x[2] + 0.4 * x[2] ** 3 + x[0] ** 3 * x[1]
    )


def quadratic(x):
    return x @ jnp.asarray(SLOPE) + x @ jnp.asarray(HESSIAN) @ x / 2


def linear(x):
    return x @ jnp.asarray(SLOPE)


@eqx.filter_jit
def estimates(estimator, directions, f):
    """One estimate for each element of `directions`, of shape `[cases, directions, 3]`."""
    return jax.vmap(lambda v: estimator.along(v, Delta(jnp.asarray(LOC)), f).loc)(directions)


@eqx.filter_jit
def derivatives(f):
    """Gradient and third derivatives at `LOC`."""
    return jax.grad(f)(jnp.asarray(LOC)), jax.jacfwd(jax.jacfwd(jax.grad(f)))(jnp.asarray(LOC))


SIGNS = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
GAUSSIAN = rule(3, 6)


def integrated(estimator, f):
    """Mean and variance over Gaussian directions."""
    return moments(GAUSSIAN[1], estimates(estimator, GAUSSIAN[0][:, None], f))


@pytest.mark.parametrize("step", [0.3, 1.0])
def test_spsa_is_biased_by_third_derivatives(step):
    slope, third = map(np.asarray, derivatives(quartic))
    mean, _ = moments(np.full(8, 1 / 8), estimates(SPSA(step=step), SIGNS[:, None], quartic))
    own = np.einsum("iii->i", third)
    others = np.einsum("ijj->i", third) - own
    np.testing.assert_allclose(mean, slope + step**2 / 6 * (own + 3 * others), rtol=1e-12)


def test_spsa_on_a_quadratic_is_unbiased_with_the_variance_of_the_other_coordinates():
    """`g_i + sum_(j != i) g_j Delta_j Delta_i`, whatever the step."""
    slope = np.asarray(derivatives(quadratic)[0])
    mean, variance = moments(np.full(8, 1 / 8), estimates(SPSA(step=0.8), SIGNS[:, None], quadratic))
    np.testing.assert_allclose(mean, slope, rtol=1e-12)
    np.testing.assert_allclose(variance, slope @ slope - slope**2, rtol=1e-12)


def test_directions_are_averaged():
    indices, weights = tuples(np.full(8, 1 / 8), 2)
    one_mean, one_variance = moments(np.full(8, 1 / 8), estimates(SPSA(), SIGNS[:, None], quartic))
    mean, variance = moments(weights, estimates(SPSA(num_directions=2), SIGNS[indices], quartic))
    np.testing.assert_allclose(mean, one_mean, rtol=1e-12)
    np.testing.assert_allclose(variance, one_variance / 2, rtol=1e-12)
    directions = np.stack([SIGNS[[1, 2, 4]]])
    for estimator in (RandomDirections, ForwardGradient):
        apart = estimates(estimator(), SIGNS[[1, 2, 4]][:, None], quartic)
        together = estimates(estimator(num_directions=3), directions, quartic)
        np.testing.assert_allclose(together[0], np.mean(apart, axis=0), rtol=1e-12)


@pytest.mark.parametrize("step", [0.3, 1.0])
def test_random_directions_follow_the_smoothed_function(step):
    """`E[f(x + h v)] = f + h^2/2 tr(f'') + h^4/8 (...)`, the last a constant for a polynomial of degree four."""
    slope, third = map(np.asarray, derivatives(quartic))
    mean, _ = integrated(RandomDirections(step=step), quartic)
    np.testing.assert_allclose(mean, slope + step**2 / 2 * np.einsum("ijj->i", third), rtol=1e-12)


def test_random_directions_pay_for_one_value_less_with_the_noise_of_curvature():
    """`h/2 (v . H v) v` is even where the rest is odd, and `E[(v . H v)^2 |v|^2] = (D + 4) ((tr H)^2 + 2 tr H^2)`."""
    mean, forward = integrated(RandomDirections(step=0.8), quadratic)
    _, central = integrated(EvolutionStrategies(sigma=0.8), quadratic)
    curvature = np.trace(HESSIAN) ** 2 + 2 * np.trace(HESSIAN @ HESSIAN)
    np.testing.assert_allclose(mean, derivatives(quadratic)[0], rtol=1e-12)
    np.testing.assert_allclose(forward.sum() - central.sum(), 0.8**2 / 4 * 7 * curvature, rtol=1e-12)


def test_forward_gradient_is_unbiased_with_a_variance_of_the_squared_gradient():
    slope = np.asarray(derivatives(quartic)[0])
    mean, variance = integrated(ForwardGradient(), quartic)
    np.testing.assert_allclose(mean, slope, rtol=1e-12)
    np.testing.assert_allclose(variance, slope @ slope + slope**2, rtol=1e-12)


def test_evolution_strategies_on_a_quadratic_are_forward_gradients():
    """Draw for draw, at any size of the perturbation."""
    directions = np.random.default_rng(0).normal(size=(20, 2, 3))
    forward = estimates(ForwardGradient(num_directions=2), directions, quadratic)
    for sigma in (0.1, 2.0):
        smoothed = estimates(EvolutionStrategies(sigma=sigma, num_directions=2), directions, quadratic)
        np.testing.assert_allclose(smoothed, forward, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", [RandomDirections(step=0.2), ForwardGradient(), EvolutionStrategies(sigma=0.2)])
def test_a_linear_function_gives_its_slope(estimator):
    """The slip of a forgotten or doubled `1 / sigma` shows here."""
    np.testing.assert_allclose(integrated(estimator, linear)[0], SLOPE, rtol=1e-12)


def test_directions_follow_their_laws(key):
    dist = Delta(jnp.zeros(2))
    keys = jax.random.split(key)
    signs = np.asarray(SPSA(num_directions=100_000).directions(keys[0], dist))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert_mean_equals(np.column_stack([signs, np.prod(signs, axis=1)]), np.zeros(3), detects=0.03)
    normal = np.asarray(ForwardGradient(num_directions=100_000).directions(keys[1], dist))
    assert_law(normal, stats.norm.cdf, detects=0.02)
    assert_mean_equals(np.prod(normal, axis=1), 0.0, detects=0.03)


def test_what_does_not_fit_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="`SPSA` needs `step > 0`, got 0"):
        SPSA(step=0.0)
    with pytest.raises(ValueError, match="`RandomDirections` needs `step > 0`, got -1"):
        RandomDirections(step=-1.0)
    for family in (SPSA, RandomDirections, ForwardGradient):
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `num_directions >= 1`, got 0"):
            family(num_directions=0)
    reason = incompatibility(SPSA(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`SPSA` needs a `Delta` distribution, and `Normal` is not one."
    reason = incompatibility(ForwardGradient(), Delta(loc=[0.0]), BlackBox(jnp.sum))
    assert reason == "`ForwardGradient` needs a differentiable objective, and `BlackBox` does not declare to be one."
    assert incompatibility(SPSA(), Delta(loc=[0.0]), BlackBox(jnp.sum)) is None
