"""G-REP and RSVI, integrated over the noise that they draw, against a quadrature of the expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed_continuous import assert_same, estimates, exact_gradient, line, log_gamma_rule, mean_of, product
from scipy import special

from estimators import GREP, RSVI, Beta, Dirichlet, Gamma, ImplicitReparameterization, Normal, incompatibility
from estimators.distributions import log_gamma
from estimators.generalized_reparameterization import corrected

GAMMA = Gamma(np.log([0.8, 2.5]), np.array([0.4, -0.3]))
BETA = Beta(np.log([0.9]), np.log([1.8]))
ONE = Gamma(np.log([0.7]), np.array([0.3]))
PAIR = Dirichlet(np.log([1.3, 2.2]))


def tangled(x):
    """Neither separable nor a polynomial, and slow enough for the rules below to follow it where events are large."""
    weights = jnp.arange(1.0, x.size + 1)
    return jnp.sin(0.3 * jnp.vdot(weights, x)) + 0.3 * jnp.prod(x) + 0.2 * jnp.sum(x * jnp.roll(x, 1))


class Uncorrected(GREP):
    """Wrong on purpose: the pathwise term alone, as if the noise had a law of its own."""

    def gradient(self, key, dist, f):
        noise = dist.standardized(key)
        return corrected(dist, f, lambda d: d.restore(noise), lambda d: jnp.zeros(()))


def gamma_rule():
    logs, probabilities = product(*(log_gamma_rule(a, 0.2) for a in np.exp(GAMMA.log_concentration)))
    x = np.exp(logs - np.asarray(GAMMA.log_rate))
    return logs, probabilities, exact_gradient(GAMMA, x, 0.2**2 * np.prod(x, axis=1), tangled)


def test_g_rep_on_gamma():
    logs, probabilities, exact = gamma_rule()
    a = np.exp(GAMMA.log_concentration)
    noise = (logs - special.digamma(a)) / np.sqrt(special.polygamma(1, a))
    np.testing.assert_allclose([probabilities @ noise, probabilities @ noise**2], [[0, 0], [1, 1]], atol=1e-8)
    assert_same(mean_of(probabilities, estimates(GREP(), GAMMA, noise, tangled)), exact)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(mean_of(probabilities, estimates(Uncorrected(), GAMMA, noise, tangled)), exact)


def test_g_rep_on_beta():
    y, weights = line(-30, 20, 0.2)
    x = 1 / (1 + np.exp(-y))
    exact = exact_gradient(BETA, x[:, None], weights * x * (1 - x), tangled)
    probabilities = weights * np.exp(0.9 * np.log(x) - 1.8 * np.log1p(np.exp(y)) - special.betaln(0.9, 1.8))
    scale = np.sqrt(special.polygamma(1, 0.9) + special.polygamma(1, 1.8))
    noise = (y - special.digamma(0.9) + special.digamma(1.8)) / scale
    np.testing.assert_allclose([probabilities @ noise, probabilities @ noise**2], [0, 1], atol=1e-8)
    assert_same(mean_of(probabilities, estimates(GREP(), BETA, noise[:, None], tangled)), exact)


def accepted_rule(a, augmentation, step):
    """The noise of one gamma variable: the accepted normal, by way of the gamma variable that it makes, and logarithms of uniforms."""
    logs, chances = log_gamma_rule(a + augmentation, step)
    third = a + augmentation - 1 / 3
    normal = np.sqrt(9 * third) * ((np.exp(logs) / third) ** (1 / 3) - 1)
    exponential, others = log_gamma_rule(1.0, step)
    return [(normal, chances)] + augmentation * [(-np.exp(exponential), others)]


@pytest.mark.parametrize("augmentation, step", [(1, 0.25), (2, 0.35)])
def test_rsvi_on_gamma(augmentation, step):
    x, weights = np.exp(np.arange(-40, 5, 0.1)), 0.1
    exact = exact_gradient(ONE, x[:, None], weights * x, tangled)
    draws, probabilities = product(*accepted_rule(0.7, augmentation, step))
    found = estimates(RSVI(augmentation=augmentation), ONE, draws[:, :, None], tangled)
    assert_same(mean_of(probabilities, found, rtol=1e-6), exact, rtol=1e-6, atol=1e-8)


def test_rsvi_on_dirichlet():
    y, weights = line(-30, 40, 0.2)
    x = np.stack([1 / (1 + np.exp(-y)), 1 / (1 + np.exp(y))], axis=1)
    exact = exact_gradient(PAIR, x, weights * np.prod(x, axis=1), tangled)
    exponential, weights = special.roots_laguerre(14)
    uniform = (-exponential, weights)
    draws, probabilities = product(*(accepted_rule(a, 1, 0.42)[0] for a in (1.3, 2.2)), uniform, uniform)
    kept = probabilities > 1e-13
    found = estimates(RSVI(), PAIR, draws[kept].reshape(-1, 2, 2), tangled)
    assert_same(mean_of(probabilities[kept], found, rtol=1e-6), exact, rtol=1e-5, atol=1e-7)


def test_the_correction_vanishes_as_the_augmentation_grows():
    """The law of the accepted normal tends to the normal one, which has no parameter: the derivative of its log-density falls like
    one over the root of the concentration."""
    slope = jax.jit(jax.vmap(jax.grad(lambda a, e: log_gamma.log_density_of_accepted(e, a)), in_axes=(0, None)))
    a = jnp.array([10.0, 40.0, 160.0])
    falling = np.abs(np.asarray(slope(a, jnp.array(0.8)) * a))
    assert np.all(falling[1:] < 0.6 * falling[:-1])


def test_what_is_accepted_comes_from_its_variable_and_makes_it_again(key):
    a = jnp.array([1.0, 7.0, 300.0])
    logs = log_gamma.log_gamma(key, a)
    again = log_gamma.from_normal(log_gamma.accepted_normal(logs, a), a)
    np.testing.assert_allclose(again, logs, rtol=1e-12, atol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="`RSVI` needs `augmentation >= 1`, got 0"):
        RSVI(augmentation=0)
    for estimator, words in [(GREP(), "a standardizable"), (RSVI(), "an acceptance rejection")]:
        assert f"needs {words} distribution, and `Normal`" in incompatibility(estimator, Normal([0.0], [0.0]), jnp.sum)
    assert "`ImplicitReparameterization` needs" in incompatibility(
        ImplicitReparameterization(), Normal([0.0], [0.0]), jnp.sum
    )
