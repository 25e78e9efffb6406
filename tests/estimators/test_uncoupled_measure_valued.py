"""The measure-valued estimator without its coupling: integrated over both draws, and as it draws them."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from prescribed import counted_evaluations, moments
from scipy import stats

from estimators import Bernoulli, Normal, UncoupledMeasureValued, incompatibility

POINTS = [(-1.5, 1.0), (0.4, 0.7)]


def rule(density, low, high):
    """Gauss-Legendre nodes and weights for a law on an interval that holds all but rounding of it."""
    line, weights = np.polynomial.legendre.leggauss(120)
    nodes = low + (high - low) * (line + 1) / 2
    return nodes, weights * (high - low) / 2 * density(nodes)


def over_pairs(plus, minus):
    """Nodes and weights of two independent draws."""
    (first, of_first), (second, of_second) = plus, minus
    return np.repeat(first, 120), np.tile(second, 120), np.outer(of_first, of_second).ravel()


def estimates(dist, f, plus, minus):
    """The estimates in one leaf that standardised draws from the two laws make, in the order in which they are asked for."""

    @jax.jit
    @jax.vmap
    def run(plus, minus):
        weights = Normal(1 / (dist.scale * math.sqrt(2 * math.pi)), jnp.ones(1))
        spoilt = Normal(jnp.full((1, 1), jnp.nan), jnp.full((1, 1), jnp.nan))
        first, second = (Normal(x, x) for x in ((dist.loc + dist.scale * e)[None] for e in (plus, minus)))
        draws = [(weights, first, spoilt), (weights, spoilt, second)]
        with mock.patch.object(Normal, "weak_derivative", lambda self, key: draws.pop(0)):
            return UncoupledMeasureValued().gradient(jax.random.key(0), dist, f)

    return run(jnp.asarray(plus), jnp.asarray(minus))


RAYLEIGH, NORMAL = rule(stats.rayleigh.pdf, 0.0, 12.0), rule(stats.norm.pdf, -12.0, 12.0)
MAXWELL = rule(lambda m: stats.maxwell.pdf(np.abs(m)) / 2, -12.0, 12.0)


@pytest.mark.parametrize(("k", "sigma"), POINTS)
def test_closed_forms_by_quadrature(k, sigma):
    """`(x - k)^2` under N(1, sigma^2), `a = 1 - k`; a derivative in `log_scale` is `sigma` times one in `sigma`."""
    a, dist = 1.0 - k, Normal(loc=[1.0], log_scale=[np.log(sigma)])
    forms = {
        "loc": (RAYLEIGH, (-RAYLEIGH[0], RAYLEIGH[1]), 2 * a, (8 / math.pi - 2) * a**2 + 4 * sigma**2 / math.pi),
        "log_scale": (MAXWELL, NORMAL, 2 * sigma**2, sigma**2 * (16 * a**2 + 8 * sigma**2)),
    }
    for leaf, (plus, minus, exact, exact_variance) in forms.items():
        first, second, weights = over_pairs(plus, minus)
        mean, variance = moments(
            weights, getattr(estimates(dist, lambda x: jnp.sum((x - k) ** 2), first, second), leaf)
        )
        np.testing.assert_allclose(mean, [exact], rtol=1e-10)
        np.testing.assert_allclose(variance, [exact_variance], rtol=1e-10)


def test_variances_as_the_two_are_drawn(key):
    """At `a = 1 / 2` and `sigma` 1, where the coupled ones are 0.27 and 5: a shared key would be seen."""
    dist, a = Normal(loc=[1.0], log_scale=[0.0]), 0.5
    run = jax.jit(jax.vmap(lambda key: UncoupledMeasureValued().gradient(key, dist, lambda x: jnp.sum((x - 0.5) ** 2))))
    grads = run(jax.random.split(key, 60_000))
    exact = {"loc": (2 * a, (8 / math.pi - 2) * a**2 + 4 / math.pi), "log_scale": (2.0, 16 * a**2 + 8)}
    for leaf, (mean, variance) in exact.items():
        assert_mean_equals(getattr(grads, leaf), [mean], detects=0.12)
        assert_mean_equals((getattr(grads, leaf) - mean) ** 2, [variance], detects=0.2 * variance)


def test_evaluations_and_refusals():
    dist = Normal(loc=np.zeros(2), log_scale=np.zeros(2))
    assert counted_evaluations(UncoupledMeasureValued(), dist) == UncoupledMeasureValued().evaluations(dist) == 8
    reason = incompatibility(UncoupledMeasureValued(), Bernoulli([0.0]), jnp.sum)
    assert reason == "`UncoupledMeasureValued` needs a `Normal` distribution, and `Bernoulli` is not one."
