"""Weak derivatives: `d/d theta_i E[f(x)] = c_i (E[f(x_i^+)] - E[f(x_i^-)])`, whatever `f` is.

For the discrete laws the identity is exact: the draws of `weak_derivative` are prescribed and summed over, against automatic
differentiation of the sum over the support. For the normal law the draws are held against the laws they should have, and the identity
between those laws is integrated numerically. Either way the wiring of the true draws is checked by Monte Carlo besides.
"""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_law, assert_mean_equals
from jaxtyping import Array, Float
from scipy import integrate, stats

from estimators import Bernoulli, Categorical, Normal

BERNOULLI = Bernoulli(np.array([-1.0, 0.4, 1.5]))
CATEGORICAL = Categorical(np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]]))
NORMAL = Normal(np.array([0.7, -1.2]), np.array([-0.3, 0.4]))


def squared(x):
    return (jnp.vdot(jnp.arange(1.0, x.size + 1), x.ravel()) - 2.2) ** 2


def wave(x):
    return jnp.sin(jnp.vdot(jnp.arange(1.0, x.size + 1), x.ravel())) * jnp.prod(1 + 0.3 * x)


def step(x):
    return jnp.where(jnp.vdot(jnp.cos(jnp.arange(1.0, x.size + 1)), x.ravel()) > 0.1, 1.0, -0.5)


OBJECTIVES = pytest.mark.parametrize("f", [squared, wave, step], ids=lambda f: f.__name__)


class PrescribedBernoulli(Bernoulli):
    """Its one draw is `event`."""

    event: Float[Array, "*variables"]

    def sample(self, key):
        del key
        return self.event


class PrescribedCategorical(Categorical):
    """Its sample is `event`, and its latent is `latent`."""

    event: Float[Array, "variables categories"]
    latent: Float[Array, "variables categories"]

    def sample(self, key):
        del key
        return self.event

    def noise(self, key):
        del key
        return self.latent - self.log_probs


def events_of(dist):
    events = dist.support()
    return events, jnp.exp(jax.vmap(dist.log_prob)(events))


def every_bernoulli():
    """A prescribed distribution for each event, and their probabilities."""
    events, probabilities = events_of(BERNOULLI)
    return jax.vmap(lambda x: PrescribedBernoulli(BERNOULLI.logits, x))(events), probabilities


def every_categorical():
    """A prescribed distribution for each event with each order of the latents, and their probabilities. The latents of a variable have
    the order `(a, b, c)` with probability `p_a p_b / (p_b + p_c)` (Plackett-Luce)."""
    events, probabilities = events_of(CATEGORICAL)
    orders = list(itertools.permutations(range(3)))
    p = np.asarray(CATEGORICAL.mean())
    first, second = np.array(orders)[:, 0], np.array(orders)[:, 1]
    chances = [row[first] * row[second] / (1 - row[first]) for row in p]
    latents = -np.argsort(np.array(orders), axis=1).astype(float)
    pairs = np.array(list(itertools.product(range(6), repeat=2)))
    latents = jnp.asarray(latents[pairs])
    chances = jnp.asarray(chances[0][pairs[:, 0]] * chances[1][pairs[:, 1]])
    make = jax.vmap(lambda x, z: PrescribedCategorical(CATEGORICAL.logits, x, z), in_axes=(None, 0))
    dists = jax.vmap(make, in_axes=(0, None))(events, latents)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), dists), jnp.outer(
        probabilities, chances
    ).ravel()


def differences(f, dist, key):
    """`c_i (f(x_i^+) - f(x_i^-))`, a leaf for each leaf of the parameters."""
    weights, plus, minus = dist.weak_derivative(key)

    def difference(c, plus, minus):
        flat = (c.size, *dist.event_shape)
        return c * (jax.vmap(f)(plus.reshape(flat)) - jax.vmap(f)(minus.reshape(flat))).reshape(c.shape)

    return jax.tree.map(difference, weights, plus, minus)


def truth(dist, f):
    """The gradient of the sum over the support by automatic differentiation."""

    def expectation(dist):
        events, probabilities = events_of(dist)
        return probabilities @ jax.vmap(f)(events)

    return np.asarray(jax.jit(jax.grad(expectation))(dist).logits)


@OBJECTIVES
@pytest.mark.parametrize("dist, every", [(BERNOULLI, every_bernoulli), (CATEGORICAL, every_categorical)])
def test_identity_summed_over_all_draws(dist, every, f):
    dists, probabilities = every()
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-13)
    values = eqx.filter_jit(eqx.filter_vmap(lambda dist: differences(f, dist, jax.random.key(0)).logits))(dists)
    exact = truth(dist, f)
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(np.tensordot(probabilities, values, axes=1), exact, rtol=1e-12, atol=1e-13)


@eqx.filter_jit
def many(dist, f, keys):
    return jax.vmap(lambda key: differences(f, dist, key))(keys)


@pytest.mark.parametrize("dist", [BERNOULLI, CATEGORICAL], ids=lambda dist: type(dist).__name__)
def test_true_draws_have_the_mean_of_the_prescribed_ones(dist, key):
    exact = truth(dist, wave)
    values = many(dist, wave, jax.random.split(key, 100_000)).logits
    assert_mean_equals(values, exact, detects=0.05 * np.linalg.norm(exact))
    with pytest.raises(AssertionError, match="Off by"):
        assert_mean_equals(-values, exact, detects=0.05 * np.linalg.norm(exact))


@functools.cache
def drawn(family):
    """Weights, positive and negative draws for many keys."""
    dist, number = {Bernoulli: (BERNOULLI, 1000), Categorical: (CATEGORICAL, 1000), Normal: (NORMAL, 200_000)}[family]
    keys = jax.random.split(jax.random.key(20260101), number)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: dist.weak_derivative(key)))(keys))


@pytest.mark.parametrize(
    "dist",
    [
        BERNOULLI,
        CATEGORICAL,
        NORMAL,
        Bernoulli(0.3),
        Categorical(np.zeros(4)),
        Normal(0.1, 0.2),
        Bernoulli(np.ones((2, 2))),
    ],
    ids=lambda dist: f"{type(dist).__name__}{dist.event_shape}",
)
def test_shapes(dist):
    weights, plus, minus = jax.eval_shape(lambda: dist.weak_derivative(jax.random.key(0)))
    for part in (weights, plus, minus):
        assert type(part) is type(dist)
    for leaf, weight, *draws in zip(*map(jax.tree.leaves, (dist, weights, plus, minus)), strict=True):
        assert weight.shape == leaf.shape and weight.dtype == leaf.dtype
        for draw in draws:
            assert draw.shape == leaf.shape + dist.event_shape and draw.dtype == leaf.dtype


@pytest.mark.parametrize("dist", [BERNOULLI, CATEGORICAL, NORMAL], ids=lambda dist: type(dist).__name__)
def test_plus_and_minus_differ_in_the_variable_of_the_parameter_alone(dist):
    """And there they do; all parameters of one draw share the values of the variables that they leave alone."""
    _, plus, minus = drawn(type(dist))
    variables = dist.event_shape[0]
    width = math.prod(dist.event_shape[1:])
    for a, b in zip(jax.tree.leaves(plus), jax.tree.leaves(minus), strict=True):
        a, b = (array[:1000].reshape(1000, variables, width, variables, width) for array in (a, b))
        own = np.eye(variables, dtype=bool)[:, None, :]
        differ = np.any(a != b, axis=-1)
        assert np.all(differ == np.broadcast_to(own, differ.shape))
        if variables > 2:
            np.testing.assert_array_equal(a[:, 0, :, 2], a[:, 1, :, 2])


def test_supports_of_plus_and_minus_are_disjoint():
    """Of the variable that they replace: success and failure, category `c` and any but `c`; each event one-hot."""
    _, plus, minus = drawn(Bernoulli)
    np.testing.assert_array_equal(np.diagonal(plus.logits, axis1=1, axis2=2), 1)
    np.testing.assert_array_equal(np.diagonal(minus.logits, axis1=1, axis2=2), 0)
    _, plus, minus = drawn(Categorical)
    for draws, same in ((plus.logits, 1), (minus.logits, 0)):
        np.testing.assert_array_equal(np.sum(draws, axis=-1), 1)
        own = np.einsum("nvcvk->nvck", draws)
        np.testing.assert_array_equal(np.diagonal(own, axis1=2, axis2=3), same)


def double_maxwell(m):
    return 0.5 + 0.5 * np.sign(m) * stats.maxwell.cdf(np.abs(m))


# For each leaf and sign: the distribution function of the standardised coordinate that is replaced, and its second and fourth moments.
NORMAL_LAWS = {
    ("loc", 1): (stats.rayleigh.cdf, 2, 8),
    ("loc", -1): (lambda w: 1 - stats.rayleigh.cdf(-w), 2, 8),
    ("log_scale", 1): (double_maxwell, 3, 15),
    ("log_scale", -1): (stats.norm.cdf, 1, 3),
}


def test_laws_of_the_normal_draws():
    """The replaced coordinates have the laws above, the others are normal and independent of them."""
    weights, plus, minus = drawn(Normal)
    scale = np.exp(NORMAL.log_scale)
    np.testing.assert_allclose(weights.loc[0], 1 / (scale * math.sqrt(2 * math.pi)), rtol=1e-14)
    np.testing.assert_array_equal(weights.log_scale, 1)
    for (leaf, sign), (cdf, second, fourth) in NORMAL_LAWS.items():
        draws = getattr(plus if sign > 0 else minus, leaf)
        standard = (draws - np.asarray(NORMAL.loc)) / scale
        replaced, others = np.diagonal(standard, axis1=1, axis2=2), standard[:, [0, 1], [1, 0]]
        assert_law(replaced, cdf, detects=0.011)
        assert_law(others, stats.norm.cdf, detects=0.011)
        assert_mean_equals(replaced**2, [second, second], detects=0.06)
        assert_mean_equals(replaced**4, [fourth, fourth], detects=0.6)
        products = [replaced * others, replaced**2 * (others**2 - 1), replaced[:, :1] * replaced[:, 1:]]
        independent = [0, 0, 0, 0, replaced.mean(axis=0).prod()]
        assert_mean_equals(np.concatenate(products, axis=1), independent, detects=0.12)


@pytest.mark.parametrize(
    "f", [lambda x: x**4 - x, np.sin, lambda x: np.exp(0.5 * x) * (x > 0.2)], ids=["power", "sine", "jump"]
)
@pytest.mark.parametrize("leaf", ["loc", "log_scale"])
def test_identity_between_the_normal_laws(leaf, f):
    """With the laws above: quadrature of both sides, the left one by `E[f (x - loc) / scale^2]` and `E[f ((x - loc)^2 / scale^2 - 1)]`."""
    loc, scale = 0.7, 0.8

    def expectation(g):
        """`int g(standardised)`, cut where `f` may jump."""
        return integrate.quad(g, -12, 12, points=[0, (0.2 - loc) / scale], epsabs=1e-12, epsrel=1e-12, limit=500)[0]

    def at(s):
        return f(loc + scale * s)

    plus = {"loc": stats.rayleigh.pdf, "log_scale": lambda s: 0.5 * stats.maxwell.pdf(abs(s))}[leaf]
    minus = {"loc": lambda s: stats.rayleigh.pdf(-s), "log_scale": stats.norm.pdf}[leaf]
    factor = {"loc": lambda s: s / scale, "log_scale": lambda s: s**2 - 1}[leaf]
    weights = Normal(np.array(loc), np.log(scale)).weak_derivative(jax.random.key(0))[0]
    difference = expectation(lambda s: at(s) * plus(s)) - expectation(lambda s: at(s) * minus(s))
    exact = expectation(lambda s: at(s) * factor(s) * stats.norm.pdf(s))
    assert abs(exact) > 1e-3
    np.testing.assert_allclose(getattr(weights, leaf) * difference, exact, rtol=1e-9, atol=1e-11)


def test_a_uniform_variable_that_is_zero_makes_a_finite_draw():
    """In single precision one in eight million is, and its logarithm is not finite; this key draws one."""
    dist = Normal(jnp.zeros(1, jnp.float32), jnp.zeros(1, jnp.float32))
    drawn = jax.random.uniform(jax.random.split(jax.random.key(2667181), 5)[1], (1,), jnp.float32)
    assert drawn == 0, "Another key is needed."
    draws = jax.jit(lambda key: dist.weak_derivative(key))(jax.random.key(2667181))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(draws))


def test_true_normal_draws_have_the_right_mean(key):
    """`f = x_1^2 x_2 + x_1 x_2^2`, of which the expectation is a polynomial in the moments."""

    def f(x):
        return x[0] ** 2 * x[1] + x[0] * x[1] ** 2

    def expectation(dist):
        first, second = dist.loc, dist.loc**2 + dist.scale**2
        return second[0] * first[1] + first[0] * second[1]

    exact = jax.grad(expectation)(NORMAL)
    values = many(NORMAL, f, jax.random.split(key, 200_000))
    norm = math.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(exact)))
    for leaf in ("loc", "log_scale"):
        assert_mean_equals(getattr(values, leaf), getattr(exact, leaf), detects=0.05 * norm)
