"""Overdispersed sampling: integrated over its noise, the wider law, the law of the weights, and the score function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    EVENTS,
    LOC,
    LOG_SCALE,
    NOISE,
    SCALE,
    WEIGHTS,
    assert_form,
    assert_unbiased,
    bowl,
    estimates,
    integrated,
    two_normals,
    wave,
)
from prescribed import moments

from estimators import Bernoulli, BlackBox, Normal, ScoreFunction, incompatibility
from estimators.base import draw
from estimators.overdispersed import Overdispersed

DISPERSIONS = (1.0, 1.5, 3.0)


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_the_mean_is_the_gradient(dispersion):
    assert_unbiased(estimates(Overdispersed(dispersion=dispersion), wave), wave)


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_it_is_its_formula(dispersion):
    """At events of the wider law, with the ratio of densities by hand."""
    wide = np.sqrt(dispersion) * NOISE
    ratio = dispersion * np.exp(np.sum(NOISE**2 - wide**2, axis=1) / 2)
    values = np.asarray(jax.vmap(wave)(LOC + SCALE * wide))
    expected = (ratio * values)[:, None] * np.concatenate([wide / SCALE, wide**2 - 1], axis=1)
    rows = estimates(Overdispersed(dispersion=dispersion), wave)
    np.testing.assert_allclose(rows, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_without_dispersion_it_is_the_score_function_and_else_a_mean_of_single_ones(num_samples):
    dist = two_normals()

    @jax.jit
    def results(key):
        keys = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(key), (4, 1)))
        same = Overdispersed(num_samples, 1.0).gradient(keys[0], dist, wave)
        plain = ScoreFunction(num_samples).gradient(keys[1], dist, wave)
        wide = Normal(LOC, LOG_SCALE + np.log(1.7) / 2)
        xs = draw(keys[2], wide, num_samples)
        ratios = jax.vmap(lambda x: jnp.exp(dist.log_prob(x) - wide.log_prob(x)))(xs)
        scores = jax.vmap(lambda x: jax.grad(lambda d: d.log_prob(x))(dist).loc)(xs)
        mean = jnp.mean((ratios * jax.vmap(wave)(xs))[:, None] * scores, axis=0)
        return same, plain, Overdispersed(num_samples, 1.7).gradient(keys[3], dist, wave).loc, mean

    same, plain, weighted, mean = results(jax.random.key(5))
    for leaf, other in zip(jax.tree.leaves(same), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-13)
    np.testing.assert_allclose(weighted, mean, rtol=1e-12)


def test_the_wider_law_has_the_natural_parameters_divided():
    """The logarithm of its density is that of the law divided by the dispersion, up to a constant."""
    dist = two_normals()
    wide = dist.overdispersed(jnp.array(2.5))
    log_prob, log_wide = (np.asarray(jax.vmap(d.log_prob)(EVENTS[::50])) for d in (dist, wide))
    np.testing.assert_allclose(np.ptp(log_wide - log_prob / 2.5), 0, atol=1e-11)
    assert isinstance(wide, Normal)


def test_the_second_moment_of_the_weights_grows_with_the_dimension():
    """As the documentation says, `(t / sqrt(2 t - 1))^D`; the mean is one."""
    dispersion = 3.0
    ratio = dispersion * np.exp((1 - dispersion) * np.sum(NOISE**2, axis=1) / 2)
    mean, variance = moments(WEIGHTS, ratio[:, None])
    np.testing.assert_allclose(mean, 1, rtol=1e-12)
    np.testing.assert_allclose(variance + 1, (dispersion / np.sqrt(2 * dispersion - 1)) ** 2, rtol=1e-12)


def test_dispersion_lowers_the_variance_of_the_score_function():
    """Every coordinate of it, for one sample of either."""
    for f in (wave, bowl):
        plain, wide = (integrated(estimates(e, f))[1] for e in (ScoreFunction(), Overdispersed(dispersion=1.5)))
        assert np.all(wide < 0.8 * plain)


def test_shapes_and_needs():
    estimator = Overdispersed(num_samples=3)
    assert_form(estimator, (2, 3))
    assert_form(estimator, ())
    assert incompatibility(estimator, Normal([0.0], [0.0]), BlackBox(jnp.sum)) is None
    sentence = "`Overdispersed` needs an overdispersible distribution, and `Bernoulli` is not one."
    assert incompatibility(estimator, Bernoulli([0.0]), jnp.sum) == sentence


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`Overdispersed` needs `num_samples >= 1`, got 0"):
        Overdispersed(num_samples=0)
    with pytest.raises(ValueError, match="`Overdispersed` needs `dispersion >= 1`, got 0.9"):
        Overdispersed(dispersion=0.9)
