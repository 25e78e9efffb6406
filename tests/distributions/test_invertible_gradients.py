"""Estimators on continuous laws that are not normal, integrated over their own randomness.

The draws are uniform and exponential variables. Prescribed on the nodes of a rule, they make every estimate there is, and the weighted
sum of these is the mean of the estimator, to be the derivative of an expectation that scipy's quantiles give.
"""

import math
from contextlib import contextmanager
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import smooth
from jax.flatten_util import ravel_pytree
from laws import UNIVARIATE, law, split_rule, tanh_sinh
from scipy import stats
from test_invertible import MULTIVARIATE

from estimators import (
    ESTIMATORS,
    Exponential,
    FiniteDifference,
    LogNormal,
    MeasureValued,
    MultivariateNormal,
    Normal,
    Pathwise,
    ScoreFunction,
    Uniform,
    incompatibility,
)
from estimators.distributions.extreme_value import _bent
from estimators.distributions.location_scale import _outer

ONE = {name: jax.tree.map(lambda leaf: leaf[:1], dist) for name, dist in UNIVARIATE.items()}
WITH_SCORE = {name: dist for name, dist in ONE.items() if name != "uniform"}
WEAK = {name: ONE[name] for name in ("exponential", "gumbel", "laplace", "logistic", "uniform", "weibull")}


def bump(x):
    return jnp.sum(jnp.exp(-0.5 * (x - 0.4) ** 2) + 0.3 * x)


def derivatives(name, f, step=1e-2):
    """Of the expectation by scipy's quantiles, central differences of the sixth order."""
    leaves, structure = jax.tree.flatten(ONE[name])
    u, weights = split_rule()

    def mean(shifts):
        dist = jax.tree.unflatten(structure, [leaf + shift for leaf, shift in zip(leaves, shifts, strict=True)])
        return weights @ np.asarray(jax.vmap(f)(law(name, dist).ppf(u[:, None])))

    def central(unit, step):
        return (mean(step * unit) - mean(-step * unit)) / (2 * step)

    def along(unit):
        first, second, third = (central(unit, step * k) for k in (1, 2, 3))
        return 1.5 * first - 0.6 * second + 0.1 * third

    return [along(unit) for unit in np.eye(len(leaves))]


@contextmanager
def draws(u, e=None):
    """Uniform variables are `u`, and exponential ones `e`."""

    def uniform(key, shape, dtype):
        return jnp.broadcast_to(u, shape)

    def exponential(key, shape, dtype):
        return jnp.broadcast_to(e, shape)

    with mock.patch.multiple(jax.random, uniform=uniform, exponential=exponential):
        yield


@eqx.filter_jit
def prescribed(estimators, dists, f, u, e):
    """For every estimator and law, the estimates that the draws make."""

    def one(estimator, dist):
        def estimate(u, e):
            with draws(u, e):
                return estimator.gradient(jax.random.key(0), dist, f)

        return jax.vmap(estimate)(u, e)

    return [{name: one(estimator, dist) for name, dist in dists.items()} for estimator in estimators]


def means(weights, grads):
    return [np.asarray(weights) @ np.asarray(leaf)[:, 0] for leaf in jax.tree.leaves(grads)]


def test_pathwise_and_score_function_have_the_gradient_for_mean():
    u, weights = split_rule()
    (pathwise,) = prescribed([Pathwise()], ONE, bump, u, u)
    (by_score,) = prescribed([ScoreFunction()], WITH_SCORE, bump, u, u)
    for name in ONE:
        exact = derivatives(name, bump)
        assert np.abs(exact).min() > 1e-3, name
        np.testing.assert_allclose(means(weights, pathwise[name]), exact, rtol=1e-7, err_msg=name)
        if name in by_score:
            np.testing.assert_allclose(
                means(weights, by_score[name]), means(weights, pathwise[name]), rtol=1e-8, err_msg=name
            )


def test_measure_valued_derivatives_have_the_gradient_for_mean():
    """Over a product of a uniform and an exponential variable."""
    (u, of_u), (v, of_e) = split_rule(), tanh_sinh(81)
    pairs = [np.ravel(part) for part in np.meshgrid(u, -np.log(v), indexing="ij")]
    (grads,) = prescribed([MeasureValued()], WEAK, bump, *pairs)
    weights = np.ravel(np.outer(of_u, of_e))
    for name in WEAK:
        np.testing.assert_allclose(means(weights, grads[name]), derivatives(name, bump), rtol=1e-7, err_msg=name)
    # The edges of a uniform law are where they are, whatever is drawn.
    assert np.ptp(grads["uniform"].loc) < 1e-14


def test_the_gradient_of_a_uniform_law_is_what_happens_at_its_edges():
    """`(f(b) - f(a)) / 2 s` and `(f(a) + f(b)) / 2 - E[f]`; half of it or more is not in the score."""
    dist, (loc, scale) = ONE["uniform"], (0.7, math.exp(-0.3))
    below, above = (float(bump(jnp.array([edge]))) for edge in (loc - scale, loc + scale))
    u, weights = split_rule()
    mean = weights @ np.asarray(jax.vmap(lambda u: bump(dist.quantile(u)))(u[:, None]))
    (grads,) = prescribed([Pathwise()], {"uniform": dist}, bump, u, u)
    exact = [(above - below) / (2 * scale), (above + below) / 2 - mean]
    np.testing.assert_allclose(means(weights, grads["uniform"]), exact, rtol=1e-12)


def quadratic(x):
    return jnp.sum((x - 0.4) ** 2)


@pytest.mark.parametrize("step", [0.05, 0.3])
def test_finite_differences_have_the_difference_for_mean(step):
    """Along `log_rate` `E[f] = 2 m^2 - 0.8 m + 0.16`, `m = exp(-log_rate)`; along `log_scale` it is `scale^2 / 3` and more."""
    u, weights = split_rule()
    dists = {"exponential": ONE["exponential"], "uniform": ONE["uniform"]}
    (grads,) = prescribed([FiniteDifference(step)], dists, quadratic, u, u)
    m, s = math.exp(-0.7), math.exp(-0.3)
    grown = [(2 * m**2 * math.sinh(-2 * step) - 0.8 * m * math.sinh(-step)) / step]
    np.testing.assert_allclose(means(weights, grads["exponential"]), grown, rtol=1e-10)
    grown = [2 * (0.7 - 0.4), s**2 / 3 * math.sinh(2 * step) / step]
    np.testing.assert_allclose(means(weights, grads["uniform"]), grown, rtol=1e-10)


def tangled(x):
    return jnp.sin(x[0] + 2 * x[1]) + x[0] * x[1] ** 2


@eqx.filter_jit
def integrated(dist, f):
    """The mean of pathwise and of score-function estimates of a law with nodes."""
    noise, weights = dist.nodes(65)

    def estimates(noise):
        with mock.patch.object(type(dist), "noise", lambda self, key: noise):
            pathwise = Pathwise().gradient(jax.random.key(0), dist, f)
            return pathwise, ScoreFunction().gradient(jax.random.key(1), dist, f)

    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), jax.vmap(estimates)(noise))


def test_a_full_covariance():
    """`E sin(a.x) = sin(a.m) exp(-a.C a / 2)`, and `E x y^2 = m n^2 + m C_22 + 2 n C_12`."""
    dist, a = MultivariateNormal([0.7, -1.2], [-0.3, 0.8, 0.4]), jnp.array([1.0, 2.0])

    def expectation(dist):
        (m, n), c = dist.loc, dist.covariance()
        return jnp.sin(a @ dist.loc) * jnp.exp(-a @ c @ a / 2) + m * n**2 + m * c[1, 1] + 2 * n * c[0, 1]

    exact = ravel_pytree(jax.jit(jax.grad(expectation))(dist))[0]
    for mean in integrated(dist, tangled):
        np.testing.assert_allclose(ravel_pytree(mean)[0], exact, rtol=1e-9)


@eqx.filter_jit
def of_both(key, loc, log_scale):
    log_normal = MeasureValued().gradient(key, LogNormal(loc, log_scale), smooth)
    return log_normal, MeasureValued().gradient(
        jax.random.clone(key), Normal(loc, log_scale), lambda y: smooth(jnp.exp(y))
    )


def test_measure_valued_derivatives_of_a_log_normal_law_are_those_of_the_normal_one(key):
    for one, other in zip(*map(jax.tree.leaves, of_both(key, *jax.tree.leaves(UNIVARIATE["lognormal"]))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_couplings_without_a_closed_form_are_equally_far_up(dtype):
    """The distribution function of the one at its variable is that of the other at its own; tails are compared above the median."""
    tolerance = 200 * float(jnp.finfo(dtype).eps)
    e = np.concatenate([np.geomspace(1e-7, 0.5, 40), np.linspace(0.51, 16, 60)]).astype(dtype)
    bent, outer = (np.asarray(jax.jit(function)(e)) for function in (_bent, _outer))
    assert bent.dtype == outer.dtype == dtype
    e, t, z = (array.astype(np.float64) for array in (e, bent, outer))
    np.testing.assert_allclose(-np.expm1(-t) - t * np.log(t) * np.exp(-t), -np.expm1(-e), rtol=tolerance)
    np.testing.assert_allclose(np.exp(-t) * (1 + t * np.log(t)), np.exp(-e), rtol=tolerance)
    np.testing.assert_allclose(stats.logistic.sf(z) + z * stats.logistic.pdf(z), stats.logistic.sf(e), rtol=tolerance)


@jax.jit
def drawn(dists, us, es):
    def one(dist, u, e):
        with draws(u, e):
            return dist.weak_derivative(jax.random.key(0))

    return {name: jax.vmap(one, in_axes=(None, 0, 0))(dist, us, es) for name, dist in dists.items()}


def test_a_weak_derivative_replaces_one_variable():
    """Plus and minus differ in the variable of their parameter alone, and all share the other one, which is as it was drawn."""
    us, es = np.array([[0.2, 0.9], [0.7, 0.1]]), np.array([[0.3, 1.2], [2.0, 0.5]])
    dists = {name: UNIVARIATE[name] for name in WEAK}
    for name, (_, plus, minus) in drawn(dists, us, es).items():
        other = np.asarray(jax.vmap(dists[name].quantile)(us))[:, ::-1]
        for a, b in zip(*map(jax.tree.leaves, (plus, minus)), strict=True):
            np.testing.assert_array_equal(np.asarray(a != b), np.broadcast_to(np.eye(2, dtype=bool), (2, 2, 2)), name)
            for array in (a, b):
                np.testing.assert_allclose(array[:, [0, 1], [1, 0]], other, rtol=1e-13)


def form(tree):
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", [*UNIVARIATE, "multivariate"])
def test_every_estimator_that_accepts_a_law_makes_a_gradient_of_its_form(name):
    """Traced, without a compilation."""
    dist = {**UNIVARIATE, "multivariate": MULTIVARIATE}[name]
    for estimator in map(ESTIMATORS.create, ESTIMATORS):
        if incompatibility(estimator, dist, smooth) is None:

            def estimate(keys, estimator=estimator):
                return estimator.estimate(keys[0], estimator.init(keys[1], dist), dist, smooth)[0]

            grads = jax.eval_shape(estimate, jax.random.split(jax.random.key(0), 2))
            assert form(grads) == form(dist), type(estimator).__name__


class Scoreless(Uniform):
    """A uniform law that does not let its density be looked at."""

    def log_prob(self, x):
        raise AssertionError("An estimator that accepts a moving support looks at the density.")


def test_no_estimator_that_accepts_a_moving_support_looks_at_the_density():
    dist, accepted = Scoreless([0.7, -1.2], [-0.3, 0.4]), []
    for name in ESTIMATORS:
        estimator = ESTIMATORS.create(name)
        if incompatibility(estimator, dist, smooth) is None:
            keys = jax.random.split(jax.random.key(0), 2)
            jax.eval_shape(lambda k, e=estimator: e.estimate(k[0], e.init(k[1], dist), dist, smooth)[0], keys)
            accepted.append(name)
    assert {"pathwise", "measure-valued", "finite-difference"} <= set(accepted)


@pytest.mark.parametrize("name", ["score-function", "leave-one-out", "optimal-baseline", "quadrature"])
def test_a_moving_support_is_refused_in_a_sentence(name):
    estimator = ESTIMATORS.create(name)
    reason = incompatibility(estimator, ONE["uniform"], smooth)
    assert reason == f"`{type(estimator).__name__}` needs a fixed support distribution, and `Uniform` is not one."
    assert incompatibility(estimator, Exponential([0.3]), smooth) is None
