"""Sparse projections by a second route, and the estimators that rest on them by integrals over their noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import counted_evaluations
from scipy import optimize, special

from estimators import Bernoulli, BlackBox, Categorical, GumbelEntmax, GumbelSparsemax, incompatibility
from estimators.entmax import entmax15, sparsemax

PROJECTIONS = {2.0: sparsemax, 1.5: entmax15}
FAMILIES = {2.0: GumbelSparsemax, 1.5: GumbelEntmax}
EXTREME = np.array([[-10.0, 0.0, 10.0], [10.0, 10.0, -10.0]])

each = pytest.mark.parametrize("alpha", [2.0, 1.5])


class PrescribedCategorical(Categorical):
    """Categorical variables whose noise is given."""

    draw: Float[Array, "*variables categories"]

    def noise(self, key):
        del key
        return self.draw


@eqx.filter_jit
def estimates(estimator, logits, f, draws):
    def one(draw):
        return estimator.gradient(jax.random.key(0), PrescribedCategorical(logits, draw), f).logits

    return jax.vmap(one)(draws)


@eqx.filter_jit
def projected(projection, z):
    return projection(z)


@eqx.filter_jit
def jacobians(projection, z):
    return jax.vmap(jax.jacobian(projection))(z)


def vectors(categories):
    """Dense ones, sparse ones, and ones of which a single category is left."""
    z = np.random.default_rng(categories).normal(size=(20, categories))
    return np.concatenate([0.1 * z, z, 30 * z])


def by_bisection(z, alpha):
    """`entmax` from its definition: the threshold at which the sum is one."""
    s = (alpha - 1) * z

    def excess(threshold):
        return np.sum(np.maximum(s - threshold, 0) ** (1 / (alpha - 1))) - 1

    threshold = optimize.brentq(excess, s.max() - 1 - 1e-9, s.max(), xtol=1e-14, rtol=1e-15)
    return np.maximum(s - threshold, 0) ** (1 / (alpha - 1))


def jacobian_at(p, alpha):
    q = np.where(p > 0, np.maximum(p, 1e-300) ** (2 - alpha), 0)
    return np.diag(q) - np.outer(q, q) / q.sum()


def cubic(x):
    """Of the first of two categories."""
    return 1.5 * x[0, 0] ** 3 - x[0, 0] ** 2 + 0.2 * x[0, 0]


def first(x):
    return x[0, 0]


def interaction(x):
    """Not separable."""
    s = jnp.vdot(jnp.linspace(-0.6, 1.7, x.size, dtype=x.dtype), x.ravel())
    return (s - 0.45) ** 2 + 0.3 * s**3


def interaction_slope(x):
    """The derivative of `interaction`, in NumPy."""
    a = np.linspace(-0.6, 1.7, x.size).reshape(x.shape)
    s = np.sum(a * x)
    return a * (2 * (s - 0.45) + 0.9 * s**2)


@each
@pytest.mark.parametrize("categories", [2, 3, 7])
def test_the_projection_is_the_one_whose_threshold_bisection_finds(alpha, categories):
    z = vectors(categories)
    found = np.asarray(projected(PROJECTIONS[alpha], jnp.asarray(z)))
    np.testing.assert_allclose(found, [by_bisection(row, alpha) for row in z], atol=1e-12)
    sizes = np.sum(found > 0, axis=1)
    assert sizes.min() == 1 and sizes.max() == categories


@each
def test_ties_and_vertices_are_exact_and_the_whole_is_unmoved_by_a_shift(alpha):
    projection = PROJECTIONS[alpha]
    np.testing.assert_array_equal(projection(jnp.array([3.0, 3.0, 3.0, 3.0])), 0.25)
    np.testing.assert_array_equal(projection(jnp.array([400.0, 0.0, -400.0], jnp.float32)), [1, 0, 0])
    z = vectors(3)
    np.testing.assert_allclose(projected(projection, z + 5.0), projected(projection, z), atol=1e-13)


@each
@pytest.mark.parametrize("categories", [2, 3, 7])
def test_the_jacobian_is_the_formula_and_the_difference_quotient(alpha, categories):
    z, step = vectors(categories), 1e-6
    found = np.asarray(jacobians(PROJECTIONS[alpha], jnp.asarray(z)))
    expected = np.array([jacobian_at(by_bisection(row, alpha), alpha) for row in z])
    np.testing.assert_allclose(found, expected, atol=1e-6 if alpha < 2 else 1e-12)
    for j in range(categories):
        ahead, behind = (
            projected(PROJECTIONS[alpha], jnp.asarray(z + s * np.eye(categories)[j])) for s in (step, -step)
        )
        np.testing.assert_allclose(found[:, :, j], (np.asarray(ahead) - behind) / (2 * step), atol=1e-5)


def two_categories(alpha, logit, f, temperature):
    """Mean of the estimate in the first logit, integrated over where the relaxed event is no vertex."""
    reach = temperature / (alpha - 1)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    z, weights = reach * nodes, reach * weights
    # Only the difference of the two noises matters, so one of them is zero.
    noise = np.stack([z - logit, np.zeros_like(z)], axis=-1)[:, None]
    values = np.asarray(estimates(FAMILIES[alpha](temperature=temperature), np.array([[logit, 0.0]]), f, noise))[:, 0]
    np.testing.assert_allclose(values.sum(axis=-1), 0, atol=1e-14)
    beyond = np.array([[[reach * 1.001 - logit, 0.0]], [[-reach * 1.001 - logit, 0.0]]])
    outside = estimates(FAMILIES[alpha](temperature=temperature), np.array([[logit, 0.0]]), f, beyond)
    np.testing.assert_array_equal(outside, 0.0)
    return (weights * special.expit(z - logit) * special.expit(logit - z)) @ values[:, 0]


@pytest.mark.parametrize("logit", [-1.3, 0.0, 0.8])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_the_mean_of_sparsemax_for_two_categories_is_a_closed_form(logit, temperature):
    mean = two_categories(2.0, logit, first, temperature)
    expected = (special.expit(logit + temperature) - special.expit(logit - temperature)) / (2 * temperature)
    np.testing.assert_allclose(mean, expected, rtol=1e-11)


@each
@pytest.mark.parametrize("logit", [-1.3, 0.8])
def test_the_mean_for_two_categories_is_the_slope_of_the_smoothed_objective(alpha, logit):
    """`E f(p)` by its own quadrature, in an angle in which `p` is smooth up to the vertices: `sqrt(p) = sin(angle)` for
    `alpha = 1.5`, where the perturbed difference is `2 t (sqrt(p) - sqrt(1 - p))`. The slope is that of the density."""
    temperature = 0.7
    nodes, weights = np.polynomial.legendre.leggauss(80)
    angle, weights = np.pi / 4 * (nodes + 1), np.pi / 4 * weights
    p, speed = np.sin(angle) ** 2, np.sin(2 * angle)
    if alpha == 2.0:
        z, dz = temperature * (2 * p - 1), 2 * temperature * speed
    else:
        z, dz = 2 * temperature * (np.sin(angle) - np.cos(angle)), 2 * temperature * (np.sin(angle) + np.cos(angle))
    values = 1.5 * p**3 - p**2 + 0.2 * p
    density = special.expit(z - logit) * special.expit(logit - z)
    # d/dlogit of the density is `density (1 - 2 sigmoid(logit - z))`, and beyond the vertices that of a probability.
    inside = (weights * dz * values * density) @ (1 - 2 * special.expit(logit - z))
    reach = temperature / (alpha - 1)
    beyond = 0.7 * special.expit(reach - logit) * special.expit(logit - reach)
    np.testing.assert_allclose(two_categories(alpha, logit, cubic, temperature), inside + beyond, rtol=1e-10)


@each
def test_the_bias_for_an_affine_objective_vanishes_with_the_square_of_the_temperature(alpha):
    """And not in proportion: the band is symmetric about the threshold."""
    truth = special.expit(0.8) * special.expit(-0.8)
    bias = [two_categories(alpha, 0.8, first, t) - truth for t in (0.1, 0.05)]
    assert abs(bias[0]) < 0.01 * truth and abs(bias[0] / bias[1] - 4) < 0.02


@each
def test_estimates_equal_their_formula_in_numpy(alpha):
    logits = np.array([[-1.0, 0.3, 0.8, 0.0], [0.0, 2.0, -0.4, 1.0]])
    noise = np.random.default_rng(0).gumbel(size=(12, 2, 4))
    for temperature in (0.4, 1.5):
        expected = []
        for z in logits + noise:
            p = np.array([by_bisection(row / temperature, alpha) for row in z])
            slope = interaction_slope(p)
            expected.append([jacobian_at(p[i], alpha) @ slope[i] / temperature for i in range(2)])
        values = estimates(FAMILIES[alpha](temperature=temperature), logits, interaction, noise)
        np.testing.assert_allclose(values, expected, atol=1e-6 if alpha < 2 else 1e-11)


@each
def test_single_precision_is_right_at_extreme_logits_and_low_temperature(alpha):
    """To what is lost in perturbed logits of size 20 divided by 0.05, and multiplied by it."""
    noise = np.random.default_rng(0).gumbel(size=(200, 2, 3))
    estimator = FAMILIES[alpha](temperature=0.05)
    double = estimates(estimator, EXTREME, interaction, noise)
    single = estimates(estimator, EXTREME.astype(np.float32), interaction, noise.astype(np.float32))
    assert single.dtype == jnp.float32 and np.any(np.asarray(double) != 0)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


@each
def test_declared_evaluations_are_the_calls_of_f(alpha):
    assert counted_evaluations(FAMILIES[alpha](), Categorical(EXTREME)) == 1


@each
def test_what_is_wrong_is_said(alpha):
    family = FAMILIES[alpha]
    with pytest.raises(ValueError, match=f"`{family.__name__}` needs `temperature > 0`, got -1.0"):
        family(temperature=-1.0)
    assert "needs a `Categorical`" in incompatibility(family(), Bernoulli([0.0]), jnp.sum)
    assert "differentiable" in incompatibility(family(), Categorical(EXTREME), BlackBox(jnp.sum))
