"""ReinMax-CV: draw by draw on the noise of a key, and its mean over that noise, integrated where there are two categories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from enumerated import BITS, TWO_OF_THREE, enumerated, jacobian, polynomial
from prescribed import counted_evaluations
from scipy import integrate, special

from estimators import Bernoulli, BlackBox, Categorical, incompatibility
from estimators.reinmax import ReinMax
from estimators.reinmax_cv import ReinMaxCV


def drawn(estimator, logits, f, keys):
    return np.asarray(jax.jit(jax.vmap(lambda key: estimator.gradient(key, Categorical(logits), f).logits))(keys))


@pytest.mark.parametrize("coefficient", [0.0, 0.5, -1.3])
def test_estimates_equal_the_formula_in_numpy(coefficient):
    f = polynomial(TWO_OF_THREE, quadratic=True, cubic=True)
    pi, log_pi = special.softmax(TWO_OF_THREE, axis=-1), special.log_softmax(TWO_OF_THREE, axis=-1)
    for seed in range(3):
        key_noise, key_inner = jax.random.split(jax.random.key(seed))
        noise = np.asarray(jax.random.gumbel(key_noise, (2, 3)))
        x = np.eye(3)[np.argmax(log_pi + noise, axis=-1)]
        slope = np.asarray(jax.grad(f)(jnp.asarray(x)))
        m, inner = (
            np.log((pi + x) / 2),
            np.stack([jax.random.gumbel(k, (2, 3)) for k in jax.random.split(key_inner, 4)]),
        )
        top = np.sum(x * inner, axis=-1, keepdims=True)
        given = np.where(x > 0, top, -np.logaddexp(-(m + inner), -top))
        expected = np.zeros((2, 3))
        for v in range(2):
            relaxed = jacobian(special.softmax((m + noise)[v] / 0.7)) / 0.7
            averaged = np.mean([jacobian(special.softmax(z / 0.7)) / 0.7 for z in given[:, v]], axis=0)
            reinmax = 2 * jacobian((pi[v] + x[v]) / 2) - jacobian(pi[v]) / 2
            expected[v] = (reinmax + coefficient * (averaged - relaxed)) @ slope[v]
        estimator = ReinMaxCV(num_inner=4, temperature=0.7, coefficient=coefficient)
        np.testing.assert_allclose(
            drawn(estimator, TWO_OF_THREE, f, jax.random.key(seed)[None])[0], expected, rtol=1e-9, atol=1e-12
        )


def test_without_its_control_variate_it_is_reinmax(key):
    """At temperature 1, whatever its own: the mean is that of ReinMax over its events, exact for a quadratic."""
    f = polynomial(TWO_OF_THREE, quadratic=True, squares=True)
    made = enumerated(ReinMax(), TWO_OF_THREE, f)
    found = drawn(ReinMaxCV(num_inner=1, coefficient=0.0), TWO_OF_THREE, f, jax.random.split(key, 200))
    distance = np.abs(found[:, None] - np.asarray(made.estimates)[None]).max(axis=(2, 3)).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-12)
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11)


def slope_over(low, location, temperature):
    """The integral of `sigma'(z / t) / t`, `z = location + d` for logistic `d`, over `d > low`."""

    def integrand(d):
        s, density = special.expit((location + d) / temperature), special.expit(d) * special.expit(-d)
        return s * (1 - s) / temperature * density

    edges = np.unique(np.clip([low, -location - 3 * temperature, -location + 3 * temperature, low + 40], low, low + 40))
    return sum(integrate.quad(integrand, a, b)[0] for a, b in zip(edges[:-1], edges[1:], strict=True))


def control_variate(pi, temperature):
    """The mean of the bracket for two categories and unit slopes of each event, as the factor of `f'_0 - f'_1`."""
    means = []
    for p in pi:
        half = (1 + p) / 2
        # Of the middle, the larger logit is that of the event; the noise of the event has `logit(p) + d > 0`.
        averaged = slope_over(-special.logit(half), special.logit(half), temperature) / half
        relaxed = slope_over(-special.logit(p), special.logit(half), temperature) / p
        means.append(averaged - relaxed)
    return np.array(means)


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_the_mean_of_two_categories_is_that_of_quadrature(temperature, key):
    """Of an affine `f`, where ReinMax is exact, so that all of the bias is the mean of the bracket; it is not zero."""
    logits = np.array([[0.4, -0.9]])
    f, pi = polynomial(logits), special.softmax(logits[0])
    slope = np.asarray(jax.grad(f)(jnp.asarray(np.eye(2)[:1])))[0]
    bias = pi @ control_variate(pi, temperature)
    expected = (pi[0] * pi[1] + 0.8 * bias) * (slope[0] - slope[1]) * np.array([1, -1])
    assert abs(bias) > 0.01
    estimator = ReinMaxCV(num_inner=3, temperature=temperature, coefficient=0.8)
    found = drawn(estimator, jnp.asarray(logits), f, jax.random.split(key, 40_000))
    assert_mean_equals(found[:, 0], expected, detects=0.4 * abs(bias) * abs(slope[0] - slope[1]))


def test_evaluations_and_refusals():
    dist = Categorical(TWO_OF_THREE)
    assert counted_evaluations(ReinMaxCV(num_inner=3), dist) == ReinMaxCV().evaluations(dist) == 1
    reason = incompatibility(ReinMaxCV(), Bernoulli(BITS), np.sum)
    assert reason == "`ReinMaxCV` needs a `Categorical` distribution, and `Bernoulli` is not one."
    assert "differentiable" in incompatibility(ReinMaxCV(), dist, BlackBox(np.sum))
    with pytest.raises(ValueError, match="`ReinMaxCV` needs `num_inner > 0`, got 0"):
        ReinMaxCV(num_inner=0)
    with pytest.raises(ValueError, match="`ReinMaxCV` needs `temperature > 0`, got 0.0"):
        ReinMaxCV(temperature=0.0)
