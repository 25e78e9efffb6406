"""Measure-valued gradients: summed over the shared draw where it is finite, integrated over it where it is not."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from jaxtyping import Array, Float
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from scipy import stats

from estimators import AbstractDistribution, Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.measure_valued import MeasureValued

LOGITS = np.array([-1.0, 0.4, 1.3])
TABLE = np.array([[0.3, -1.2, 2.0], [1.1, 0.0, -0.4], [-0.9, 0.7, 1.6]])


def enumerated(estimator, f):
    """Mean and variance over the one event that all parameters share."""
    events, probabilities = outcomes(LOGITS)
    return moments(probabilities, prescribed_estimates(estimator, None, LOGITS, events[:, None], f)[0])


class Swapped(MeasureValued):
    """Wrong on purpose: the negative draw first."""

    def gradient(self, key, dist, f):
        return jax.tree.map(jnp.negative, MeasureValued.gradient(self, key, dist, f))


class Unweighted(MeasureValued):
    """Wrong on purpose: without the weight of the two laws, a gradient in the probabilities."""

    def gradient(self, key, dist, f):
        weights, _, _ = dist.weak_derivative(key)
        return jax.tree.map(jnp.divide, MeasureValued.gradient(self, key, dist, f), weights)


@pytest.mark.parametrize(
    "dist", [Bernoulli(logits=[-0.8]), Categorical(logits=[0.3, -1.0])], ids=["Bernoulli", "two categories"]
)
def test_one_binary_variable_leaves_no_variance(dist):
    at_zero, at_one = 0.3, -1.1

    @jax.jit
    @jax.vmap
    def estimates(key):
        return MeasureValued().gradient(key, dist, lambda x: at_zero + (at_one - at_zero) * x[0]).logits

    p = float(dist.mean()[0])
    exact = p * (1 - p) * (at_one - at_zero) * np.array([1.0, -1.0])[: dist.logits.size]
    grads = np.asarray(estimates(jax.random.split(jax.random.key(0), 50)))
    np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), rtol=1e-14)


def test_mean_and_variance_over_the_draw_that_three_bits_share():
    mean, variance = enumerated(MeasureValued(), Tangled())
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11)

    events, probabilities = outcomes(LOGITS)
    values, p = (
        dict(zip(map(tuple, events), np.asarray(jax.vmap(Tangled())(events)), strict=True)),
        1 / (1 + np.exp(-LOGITS)),
    )
    for bit in range(3):
        differences = [
            values[tuple(np.where(np.arange(3) == bit, 1.0, x))] - values[tuple(np.where(np.arange(3) == bit, 0.0, x))]
            for x in events
        ]
        _, expected = moments(probabilities, p[bit] * (1 - p[bit]) * np.array(differences))
        np.testing.assert_allclose(variance[bit], expected, rtol=1e-11)


@pytest.mark.parametrize("wrong", [Swapped(), Unweighted()], ids=lambda wrong: type(wrong).__name__)
def test_wrong_signs_and_weights_are_rejected(wrong):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        np.testing.assert_allclose(enumerated(wrong, Tangled())[0], exact_gradient(LOGITS, Tangled()), rtol=1e-11)


class PrescribedCategorical(Categorical):
    """A categorical whose shared draw is `event`, and whose perturbed logits, for the other draw, are `order`."""

    event: Float[Array, "*variables categories"]
    order: Float[Array, "*variables categories"]

    def sample(self, key):
        return self.event

    def noise(self, key):
        return self.order - self.log_probs


def rankings(p):
    """Every order of the perturbed logits of one variable, and its probability: sampling without replacement."""
    for order in itertools.permutations(range(len(p))):
        left, probability = 1.0, 1.0
        for category in order:
            probability, left = probability * p[category] / left, left - p[category]
        yield -np.argsort(order), probability


def test_mean_and_variance_over_all_draws_of_two_categorical_variables():
    logits = np.array([[0.2, -0.7, 1.0], [-0.5, 0.9, 0.0]])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cases = [
        (np.eye(3)[[i, j]], np.array([first, second]), p[0, i] * p[1, j] * of_first * of_second)
        for i, j in itertools.product(range(3), repeat=2)
        for (first, of_first), (second, of_second) in itertools.product(rankings(p[0]), rankings(p[1]))
    ]
    events, orders, weights = (np.array(column) for column in zip(*cases, strict=True))

    def product(x):
        return jnp.vdot(x[0], jnp.asarray(TABLE) @ x[1])

    @jax.jit
    @jax.vmap
    def estimates(event, order):
        dist = PrescribedCategorical(jnp.asarray(logits), event, order.astype(float))
        return MeasureValued().gradient(jax.random.key(0), dist, product).logits

    mean, variance = moments(weights, estimates(events, orders))
    exact = p * np.stack([TABLE @ p[1], TABLE.T @ p[0]])
    exact -= p * exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean, exact, rtol=1e-11)
    np.testing.assert_allclose(mean.sum(axis=1), 0.0, atol=1e-15)

    for variable, category in itertools.product(range(2), range(3)):
        table, own, other = (TABLE, TABLE.T)[variable], p[variable], p[1 - variable]
        joint = np.outer(np.where(np.arange(3) == category, 0.0, own / (1 - own[category])), other)
        differences = own[category] * (1 - own[category]) * (table[[category]] - table)
        _, expected = moments(joint.ravel(), differences.ravel())
        np.testing.assert_allclose(variance[variable, category], expected, rtol=1e-10)


def panel(lower, upper, nodes):
    """Gauss-Legendre nodes and weights on an interval."""
    line, weights = np.polynomial.legendre.leggauss(nodes)
    return lower + (upper - lower) * (line + 1) / 2, weights * (upper - lower) / 2


@pytest.mark.parametrize(("k", "sigma"), [(-1.5, 1.0), (0.4, 0.7)])
def test_closed_forms_on_a_normal_by_quadrature(monkeypatch, k, sigma):
    """`(x - k)^2` under N(1, sigma^2), `a = 1 - k`; a derivative in `log_scale` is `sigma` times one in `sigma`."""
    a, dist = 1.0 - k, Normal(loc=[1.0], log_scale=[np.log(sigma)])
    radius, on_radius = panel(0.0, 12.0, 120)
    rayleigh = on_radius * radius * np.exp(-(radius**2) / 2)
    maxwell = on_radius * radius**2 * np.exp(-(radius**2) / 2) * math.sqrt(2 / math.pi)

    @jax.jit
    @jax.vmap
    def estimates(radius, sign, u):
        monkeypatch.setattr(jax.random, "exponential", lambda key, shape, dtype: jnp.full(shape, radius**2 / 2))
        monkeypatch.setattr(jax.random, "maxwell", lambda key, shape, dtype: jnp.full(shape, radius))
        monkeypatch.setattr(jax.random, "rademacher", lambda key, shape, dtype: jnp.full(shape, sign))
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype, **bounds: jnp.full(shape, u))
        return MeasureValued().gradient(jax.random.key(0), dist, lambda x: jnp.sum((x - k) ** 2))

    (index, sign, u), (_, of_sign, of_u) = (
        np.array(list(itertools.product(*axes))).T
        for axes in [(range(120), (-1.0, 1.0), panel(0.0, 1.0, 5)[0]), (range(120), (0.5, 0.5), panel(0.0, 1.0, 5)[1])]
    )
    index = index.astype(int)
    grads = estimates(radius[index], sign, u)
    mean, variance = moments(rayleigh[index] * of_sign * of_u, grads.loc)
    np.testing.assert_allclose(mean, [2 * a], rtol=1e-11)
    np.testing.assert_allclose(variance, [a**2 * (16 / math.pi - 4)], rtol=1e-10)
    mean, variance = moments(maxwell[index] * of_sign * of_u, grads.log_scale)
    np.testing.assert_allclose(mean, [2 * sigma**2], rtol=1e-11)
    np.testing.assert_allclose(variance, [sigma**2 * (4 * a**2 + 4 * sigma**2)], rtol=1e-10)


def test_a_step_and_a_product_on_two_normal_variables(key):
    """By Monte Carlo, with the laws as they are drawn; sees a bias of 5% of the norm in any coordinate."""
    loc, scale = np.array([0.5, -0.4]), np.array([0.8, 1.2])
    dist = Normal(loc=loc, log_scale=np.log(scale))

    def step(x):
        return jnp.where(x[0] > 0.3, 1.0 + x[1], 0.0)

    def product(x):
        return x[0] * x[1] ** 2

    @jax.jit
    @jax.vmap
    def estimates(key):
        key_step, key_product = jax.random.split(key)
        of_step = MeasureValued().gradient(key_step, dist, BlackBox(step))
        of_product = MeasureValued().gradient(key_product, dist, product)
        return [jnp.concatenate(jax.tree.leaves(grads)) for grads in (of_step, of_product)]

    margin, second = (loc[0] - 0.3) / scale[0], loc[1] ** 2 + scale[1] ** 2
    density = stats.norm.pdf(margin) * (1 + loc[1])
    truths = [
        np.array([density / scale[0], stats.norm.cdf(margin), -margin * density, 0.0]),
        np.array([second, 2 * loc[0] * loc[1], 0.0, 2 * loc[0] * scale[1] ** 2]),
    ]
    for samples, truth in zip(estimates(jax.random.split(key, 100_000)), truths, strict=True):
        assert_mean_equals(samples, truth, detects=0.05 * np.linalg.norm(truth))


@pytest.mark.parametrize(
    ("dist", "evaluations"),
    [
        (Bernoulli(logits=LOGITS), 6),
        (Categorical(logits=np.zeros((2, 3))), 12),
        (Normal(loc=LOGITS, log_scale=LOGITS), 12),
    ],
    ids=["Bernoulli", "Categorical", "Normal"],
)
def test_declared_evaluations_are_the_calls_of_f(dist, evaluations):
    assert counted_evaluations(MeasureValued(), dist) == MeasureValued().evaluations(dist) == evaluations


def test_the_estimate_scales_with_f_and_never_sees_a_constant():
    events, _ = outcomes(LOGITS)

    def estimates(f):
        return np.asarray(prescribed_estimates(MeasureValued(), None, LOGITS, events[:, None], f)[0])

    for scale in (1e-6, 1e6):
        np.testing.assert_allclose(estimates(Tangled(scale)) / scale, estimates(Tangled()), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(estimates(Tangled(shift=7.0)), estimates(Tangled()), atol=1e-14)
    np.testing.assert_array_equal(estimates(Tangled(0.0, -123.4)), 0.0)


class Uniform(AbstractDistribution):
    """A distribution that declares nothing beyond samples and a density."""

    width: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    @property
    def event_shape(self):
        return ()

    def sample(self, key):
        return self.width * jax.random.uniform(key)

    def log_prob(self, x):
        return -jnp.log(self.width)


def test_a_distribution_without_weak_derivative_is_refused():
    reason = incompatibility(MeasureValued(), Uniform(1.0), jnp.sum)
    assert reason == "`MeasureValued` needs a weakly differentiable distribution, and `Uniform` is not one."
