"""DLAX, integrated over its noise, and the density of the perturbed logits that it rests on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import counted_evaluations, exact_gradient, moments, prescribe
from scipy import special, stats

from estimators import Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.base import learned_state
from estimators.dlax import DLAX

LOGITS = np.array([-1.2, 0.4])
ESTIMATOR = DLAX(width=3)


def two_bits(x):
    """Not separable."""
    return jnp.sin(1.0 + 2.0 * x[0]) + 1.5 * x[0] * x[1] - 0.7 * x[1]


def panels(edges, nodes):
    """Gauss-Legendre nodes and weights in every piece between `edges`."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * at).ravel(), (half[:, None] * weights).ravel()


def rule(logits):
    """Noises of two variables and weights that integrate over their law, cut where an event changes."""
    axes = []
    for logit in logits:
        pieces = np.array([-38.0, -24.0, -14.0, -8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0, 14.0, 24.0, 38.0])
        at, weights = panels(np.sort(np.append(pieces, -logit)), 9)
        axes.append((at, weights * stats.logistic.pdf(at)))
    (first, one), (second, other) = axes
    noise = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    return noise, np.outer(one, other).ravel()


NOISE, WEIGHTS = rule(LOGITS)


def control_of(dist, spread=0.6):
    """A control with every entry moved by `spread` times a normal variable."""
    flat, restore = ravel_pytree(ESTIMATOR.control(jax.random.key(1), dist))
    return restore(flat + spread * jnp.asarray(np.random.default_rng(2).normal(size=flat.shape)))


@eqx.filter_jit
def estimates(control, f):
    """Estimates and statistics at every noise of the rule."""

    def one(noise):
        dist = prescribe(jnp.array(LOGITS), noise[None])
        grads, slopes = ESTIMATOR.estimate(jax.random.key(0), learned_state(control), dist, f)
        return grads.logits, ravel_pytree(slopes)[0]

    return jax.lax.map(one, jnp.array(NOISE), batch_size=2048)


def test_the_mean_is_the_gradient_whatever_the_control():
    mean, _ = moments(WEIGHTS, estimates(control_of(Bernoulli(LOGITS)), two_bits)[0])
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, two_bits), rtol=1e-8)


def test_it_is_the_formula_of_the_paper():
    """With the network, its slope and the score of a logistic variable, `2 sigmoid(noise) - 1`, by NumPy."""
    control = control_of(Bernoulli(LOGITS))
    inner, outer = (jax.tree.map(np.asarray, layer) for layer in (control.hidden, control.output))
    z, p = LOGITS + NOISE, special.expit(LOGITS)
    units, b = np.tanh(z @ inner.weight.T + inner.bias), (z > 0) * 1.0
    c, path = units @ outer.weight[0] + outer.bias, (outer.weight[0] * (1 - units**2)) @ inner.weight
    expected = np.asarray(jax.vmap(two_bits)(b))[:, None] * (b - p) + path
    expected -= c[:, None] * (2 * special.expit(NOISE) - 1)
    np.testing.assert_allclose(estimates(control, two_bits)[0], expected, rtol=1e-9, atol=1e-12)


def test_it_starts_as_the_score_function():
    control = ESTIMATOR.control(jax.random.key(1), Bernoulli(LOGITS))
    b = (LOGITS + NOISE > 0) * 1.0
    expected = np.asarray(jax.vmap(two_bits)(b))[:, None] * (b - special.expit(LOGITS))
    np.testing.assert_allclose(estimates(control, two_bits)[0], expected, rtol=1e-12, atol=1e-15)


def test_the_mean_statistic_is_the_slope_of_the_second_moment():
    flat, restore = ravel_pytree(control_of(Bernoulli(LOGITS)))
    slopes = WEIGHTS @ np.asarray(estimates(restore(flat), two_bits)[1])

    def second_moment(flat):
        return WEIGHTS @ np.sum(np.asarray(estimates(restore(flat), two_bits)[0]) ** 2, axis=1)

    for direction in np.random.default_rng(6).normal(size=(3, flat.size)):
        step = 1e-5 * jnp.array(direction)
        expected = (second_moment(flat + step) - second_moment(flat - step)) / 2e-5
        np.testing.assert_allclose(slopes @ direction, expected, rtol=1e-7)


def test_following_it_lowers_the_variance():
    """A hundred steps down the exact slope, from the score function."""
    state = learned_state(ESTIMATOR.control(jax.random.key(1), Bernoulli(LOGITS)))
    grads, _ = estimates(state.control, two_bits)
    start, flatten = moments(WEIGHTS, grads)[1].sum(), ravel_pytree(state.control)[1]
    step = eqx.filter_jit(DLAX(width=3, learning_rate=0.05).adapt)
    for _ in range(40):
        state = step(state, flatten(jnp.array(WEIGHTS @ np.asarray(estimates(state.control, two_bits)[1]))))
    assert moments(WEIGHTS, estimates(state.control, two_bits)[0])[1].sum() < 0.8 * start


def test_densities_of_the_perturbed_logits_are_those_of_scipy():
    rng = np.random.default_rng(3)
    z, logits = jnp.array(3 * rng.normal(size=(2, 4, 3)))
    expected = stats.logistic.logpdf(z, logits).sum()
    np.testing.assert_allclose(Bernoulli(logits).latent_log_prob(z), expected, rtol=1e-12)
    expected = stats.gumbel_r.logpdf(z, special.log_softmax(logits, axis=1)).sum()
    np.testing.assert_allclose(Categorical(logits).latent_log_prob(z), expected, rtol=1e-12)


def test_the_control_of_a_categorical_variable_has_mean_zero():
    """Three Gumbel variables; beside a function that is zero only the control is left, and it is smooth in them."""
    logits, line = jnp.array([1.0, 0.3, -0.8]), np.arange(-4.0, 32.0, 0.4)
    noise = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    density = 0.4 * stats.gumbel_r.pdf(line)
    weights = np.einsum("i,j,k->ijk", density, density, density).ravel()
    noise, weights = noise[weights > 1e-12], weights[weights > 1e-12]
    control = control_of(Categorical(logits))

    class Given(Categorical):
        given: jax.Array

        def noise(self, key):
            return self.given

    @jax.jit
    @jax.vmap
    def controls(noise):
        zero = lambda x: 0.0 * x[0]  # noqa: E731
        return ESTIMATOR.gradient(jax.random.key(0), control, Given(logits, noise), zero).logits

    values = np.asarray(controls(noise))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-8)
    np.testing.assert_allclose(weights @ values, 0, atol=1e-7)
    assert np.all(weights @ np.abs(values) > 0.1)


def test_what_it_needs_and_costs():
    dist = Bernoulli(LOGITS)
    assert counted_evaluations(ESTIMATOR, dist) == ESTIMATOR.evaluations(dist) == 1
    assert incompatibility(ESTIMATOR, dist, BlackBox(two_bits)) is None
    sentence = "`DLAX` needs a latent density distribution, and `Normal` is not one."
    assert incompatibility(ESTIMATOR, Normal([0.0], [0.0]), two_bits) == sentence
    for name in ("learning_rate", "width"):
        with pytest.raises(ValueError, match=f"`DLAX` needs `{name} > 0`, got 0"):
            DLAX(**{name: 0})
