"""Continuous laws with quantiles in closed form, and the multivariate normal one, against scipy and numpyro.

Every law is held against two oracles that share no code with it: scipy has the distribution functions, numpyro the densities and their
derivatives.
"""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as oracle
import pytest
from calibrated import assert_law, assert_mean_equals
from laws import UNIVARIATE, law
from scipy import stats

import estimators
from estimators import (
    AbstractDistribution,
    AbstractFixedSupport,
    AbstractWeaklyDifferentiable,
    Delta,
    Exponential,
    Kumaraswamy,
    MultivariateNormal,
    Uniform,
    Weibull,
)
from estimators.base import draw, score

MULTIVARIATE = MultivariateNormal([0.7, -1.2, 0.3], [-0.3, 0.8, 0.4, -0.5, 0.2, 0.1])
named = pytest.mark.parametrize("name", UNIVARIATE)
precisions = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)


def numpyro_law(dist):
    match dist:
        case Exponential():
            return oracle.Exponential(jnp.exp(dist.log_rate))
        case Kumaraswamy():
            return oracle.Kumaraswamy(jnp.exp(dist.log_a), jnp.exp(dist.log_b))
        case Weibull():
            return oracle.Weibull(jnp.exp(dist.log_scale), jnp.exp(dist.log_concentration))
        case Uniform():
            return oracle.Uniform(dist.loc - jnp.exp(dist.log_scale), dist.loc + jnp.exp(dist.log_scale))
        case MultivariateNormal():
            return oracle.MultivariateNormal(dist.loc, scale_tril=dist.factor)
    return getattr(oracle, type(dist).__name__)(dist.loc, jnp.exp(dist.log_scale))


GRID = np.concatenate([[1e-6, 1e-4], np.linspace(0.01, 0.99, 15), [1 - 1e-4, 1 - 1e-6]])
EVENTS = np.stack([GRID, np.roll(GRID, 5)], axis=1)


@jax.jit
def by_both(dists, events):
    """Of every law the log-densities with their scores, by us and by numpyro."""

    def both(dist, xs):
        theirs = jax.vmap(jax.value_and_grad(lambda d, x: jnp.sum(numpyro_law(d).log_prob(x))), in_axes=(None, 0))(
            dist, xs
        )
        return (jax.vmap(dist.log_prob)(xs), jax.vmap(lambda x: score(dist, x))(xs)), theirs

    return {name: both(dists[name], events[name]) for name in dists}


def test_log_densities_and_scores():
    events = {name: law(name, dist).ppf(EVENTS) for name, dist in UNIVARIATE.items()}
    found = by_both(UNIVARIATE, events)
    for name, ((log_probs, scores), theirs) in found.items():
        np.testing.assert_allclose(
            log_probs, law(name, UNIVARIATE[name]).logpdf(events[name]).sum(axis=1), rtol=1e-7, atol=1e-10, err_msg=name
        )
        if name != "uniform":
            for ours, other in zip(jax.tree.leaves((log_probs, scores)), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(ours, other, rtol=1e-7, atol=1e-7, err_msg=name)


@jax.jit
def quantiles(dists, u):
    return {name: jax.vmap(dist.quantile)(u) for name, dist in dists.items()}


@precisions
def test_quantiles_are_those_of_scipy(dtype):
    """Up to the rounding of `u`; the whole unit interval is in it, and at either end of it they are finite."""
    dists = jax.tree.map(lambda leaf: leaf.astype(dtype), UNIVARIATE)
    margin, tolerance = {jnp.float32: (1e-3, 2e-4), jnp.float64: (1e-9, 1e-6)}[dtype]
    u = np.linspace(margin, 1 - margin, 301).astype(dtype)
    ends = np.array([0.0, jnp.finfo(dtype).tiny, 1 - jnp.finfo(dtype).eps], dtype)
    line = np.concatenate([ends[:2], u, ends[2:]])
    for name, x in quantiles(dists, jnp.stack([line, line], axis=1)).items():
        assert x.dtype == dtype and np.all(np.isfinite(x)) and np.all(np.diff(x, axis=0) >= 0), name
        exact = law(name, dists[name]).ppf(np.stack([u, u], axis=1).astype(np.float64))
        spread = exact[-1] - exact[0]
        np.testing.assert_allclose(
            np.asarray(x)[2:-1] / spread, exact / spread, rtol=tolerance, atol=tolerance / 100, err_msg=name
        )


@jax.jit
def paths(dists, u):
    """The derivatives of events in the leaves at fixed noise, and the events."""
    return {
        name: (
            jax.vmap(lambda u, d=dist: jax.grad(lambda d: jnp.sum(d.reparameterize(u)))(d))(u),
            jax.vmap(dist.quantile)(u),
        )
        for name, dist in dists.items()
    }


def test_the_derivative_of_a_quantile_is_that_of_the_distribution_function_over_the_density():
    """`dx/dtheta = -(dF/dtheta) / p`, with `F` and `p` of scipy and a central difference of the fourth order."""
    step, u = 1e-3, np.stack([np.linspace(0.02, 0.97, 20)] * 2, axis=1)
    for name, (slopes, x) in paths(UNIVARIATE, u).items():
        x = np.asarray(x)
        leaves, structure = jax.tree.flatten(UNIVARIATE[name])
        for index, slope in enumerate(jax.tree.leaves(slopes)):

            def cdf(shift, index=index, leaves=leaves, structure=structure, x=x, name=name):
                moved = leaves[:index] + [leaves[index] + shift] + leaves[index + 1 :]
                return law(name, jax.tree.unflatten(structure, moved)).cdf(x)

            near, far = (cdf(k * step) - cdf(-k * step) for k in (1, 2))
            derivative = (8 * near - far) / (12 * step)
            density = np.exp(law(name, UNIVARIATE[name]).logpdf(np.asarray(x)))
            np.testing.assert_allclose(slope, -derivative / density, rtol=1e-7, atol=1e-9, err_msg=name)


@named
def test_means_and_variances(name):
    dist = UNIVARIATE[name]
    np.testing.assert_allclose(dist.mean(), law(name, dist).mean(), rtol=1e-9)
    np.testing.assert_allclose(dist.variance(), law(name, dist).var(), rtol=1e-8)


@jax.jit
def draw_all(key, dists):
    return {name: draw(key, dist, 100_000) for name, dist in dists.items()}


def test_samples_follow_the_laws_of_scipy(key):
    """In single precision, where uniform variables are coarse, and all made of the same; and other leaves are told apart."""
    with jax.debug_key_reuse(False):
        drawn = draw_all(key, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), UNIVARIATE))
    for name, xs in drawn.items():
        assert xs.dtype == jnp.float32
        assert_law(xs, law(name, UNIVARIATE[name]).cdf, detects=0.02)
        wrong = jax.tree.map(lambda leaf: leaf + 0.08, UNIVARIATE[name])
        with pytest.raises(AssertionError, match="Distances"):
            assert_law(xs, law(name, wrong).cdf, detects=0.02)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
@precisions
def test_shapes_and_precision(shape, dtype):
    leaf = jnp.linspace(-0.5, 0.5, math.prod(shape), dtype=dtype).reshape(shape)
    for dist in UNIVARIATE.values():
        dist = type(dist)(*[leaf] * len(jax.tree.leaves(dist)))

        def everything(keys, dist=dist):
            x = dist.sample(keys[0])
            noise, weights = dist.nodes(3)
            values = [dist.log_prob(x), *jax.tree.leaves(score(dist, x)), dist.mean(), dist.variance()]
            events = [x, dist.noise(keys[1]), dist.quantile(x), dist.reparameterize(x), noise[0]]
            weak = dist.weak_derivative(keys[2]) if isinstance(dist, AbstractWeaklyDifferentiable) else ()
            return values, events, weak, weights

        values, events, weak, weights = jax.eval_shape(everything, jax.random.split(jax.random.key(0), 3))
        assert {leaf.dtype for leaf in jax.tree.leaves((values, events, weak, weights))} == {jnp.dtype(dtype)}
        assert {leaf.shape for leaf in events} == {shape} and weights.shape == (3 ** max(math.prod(shape), 1),)
        for part, expected in zip(weak, [shape, 2 * shape, 2 * shape], strict=bool(weak)):
            assert type(part) is type(dist)
            assert {leaf.shape for leaf in jax.tree.leaves(part)} == {expected}


@jax.jit
def at_the_ends(dists, u):
    made = {name: jax.vmap(dist.quantile)(u) for name, dist in dists.items()}
    of = lambda name, dist: jax.vmap(lambda x: (dist.log_prob(x), score(dist, x)))(made[name])  # noqa: E731
    return made, {name: of(name, dist) for name, dist in dists.items()}, paths(dists, u)


def test_the_rarest_events_have_finite_densities_scores_and_paths():
    """Where the uniform variable is 0 or as near to 1 as it can be in single precision, with leaves that are small and large."""
    u = jnp.array([[0.0, 0.0], [1 - 2.0**-23] * 2], jnp.float32)
    for leaf in ([-2.0, 2.0], [2.0, -2.0]):
        dists = jax.tree.map(lambda _, leaf=leaf: jnp.asarray(leaf, jnp.float32), UNIVARIATE)
        for array in jax.tree.leaves(at_the_ends(dists, u)):
            assert np.all(np.isfinite(array))


@jax.jit
def integrals(dists):
    """Of the weights, of `x^2`, of the score and of the score times `x^2`, for one variable."""

    def of(dist):
        noise, weights = dist.nodes(257)
        x = jax.vmap(dist.reparameterize)(noise)
        scores = jnp.stack([leaf[:, 0] for leaf in jax.tree.leaves(jax.vmap(lambda x: score(dist, x))(x))])
        square = x[:, 0] ** 2
        return jnp.sum(weights), weights @ square, scores @ weights, scores @ (weights * square)

    return {name: of(dist) for name, dist in dists.items()}


def second_moments(name, leaves, structure):
    """`E x^2` by scipy, and its derivatives in the leaves by a central difference of the fourth order."""
    step = 1e-2

    def moment(*shifts):
        dist = jax.tree.unflatten(structure, [leaf + shift for leaf, shift in zip(leaves, shifts, strict=True)])
        return (law(name, dist).var() + np.square(law(name, dist).mean()))[0]

    along = [[moment(*(k * step * unit)) for k in (1, -1, 2, -2)] for unit in np.eye(len(leaves))]
    return moment(*np.zeros(len(leaves))), [(8 * (a - b) - (c - d)) / (12 * step) for a, b, c, d in along]


def test_nodes_integrate_moments_and_scores():
    """The score has mean zero, but for the uniform law, whose support is not fixed; and it carries the derivative of `E x^2`."""
    dists = {name: jax.tree.map(lambda leaf: leaf[:1], dist) for name, dist in UNIVARIATE.items()}
    for name, (total, square, means, products) in integrals(dists).items():
        exact, slopes = second_moments(name, *jax.tree.flatten(dists[name]))
        np.testing.assert_allclose(total, 1, rtol=1e-14)
        np.testing.assert_allclose(square, exact, rtol=1e-8, err_msg=name)
        if name == "uniform":
            np.testing.assert_allclose(means, [0, -1], rtol=1e-13)
            np.testing.assert_allclose(products, [0, -exact], rtol=1e-13)
        else:
            np.testing.assert_allclose(means, 0, atol=1e-11, err_msg=name)
            np.testing.assert_allclose(products, slopes, rtol=1e-6, err_msg=name)


def test_the_uniform_density_ends_at_its_edges_and_its_own_events_are_within():
    dist = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), Uniform([1000.0], [-5.0]))
    for edge in (0.0, 1 - 2.0**-23):
        np.testing.assert_allclose(
            dist.log_prob(dist.quantile(jnp.full(1, edge, jnp.float32))), 5 - math.log(2), rtol=1e-6
        )
    assert Uniform([0.0], [0.0]).log_prob(jnp.array([1.001])) == -jnp.inf


def test_the_multivariate_normal_is_that_of_both_oracles(key):
    dist, covariance = MULTIVARIATE, np.asarray(MULTIVARIATE.covariance())
    factor = np.array([[math.exp(-0.3), 0, 0], [0.8, math.exp(0.4), 0], [-0.5, 0.2, math.exp(0.1)]])
    np.testing.assert_allclose(covariance, factor @ factor.T, rtol=1e-13)
    np.testing.assert_allclose(
        MultivariateNormal.from_covariance(dist.loc, covariance).triangle, dist.triangle, rtol=1e-12
    )
    xs = draw_all(key, {"normal": dist})["normal"]
    (ours, theirs) = by_both({"normal": dist}, {"normal": xs[:20]})["normal"]
    np.testing.assert_allclose(ours[0], stats.multivariate_normal(dist.loc, covariance).logpdf(xs[:20]), rtol=1e-11)
    for leaf, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-9, atol=1e-11)
    white = np.linalg.solve(factor, (np.asarray(xs) - np.asarray(dist.loc)).T).T
    assert_law(white, stats.norm.cdf, detects=0.02)
    assert_mean_equals(white[:, [0, 0, 1]] * white[:, [1, 2, 2]], np.zeros(3), detects=0.03)


def substituted(factor, rights):
    """The solutions of triangular systems, in extended precision."""
    found = np.zeros(rights.shape, np.longdouble)
    for row in range(len(factor)):
        found[:, row] = (rights[:, row] - found[:, :row] @ factor[row, :row]) / factor[row, row]
    return found


@precisions
def test_the_density_of_an_ill_conditioned_law_is_as_accurate_as_by_substitution(dtype):
    """At a condition number of 1e6, of events and of a factor as they are in `dtype`. What would go through the inverse of the
    covariance loses the square of what a solution of a system with the factor loses."""
    size, generator = 8, np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(size, size)))[0]
    law = MultivariateNormal.from_covariance(generator.normal(size=size), basis * np.logspace(0, -6, size) @ basis.T)
    dist = jax.tree.map(lambda leaf: leaf.astype(dtype), law)

    @jax.jit
    def both(noise):
        xs = jax.vmap(dist.reparameterize)(noise)
        solve = lambda x: jax.scipy.linalg.solve_triangular(dist.factor, x - dist.loc, lower=True)  # noqa: E731
        return xs, jax.vmap(dist.whitened)(xs), jax.vmap(solve)(xs), jax.vmap(dist.log_prob)(xs)

    xs, found, solved, log_probs = map(np.asarray, both(generator.normal(size=(300, size)).astype(dtype)))
    exact = substituted(np.asarray(dist.factor).astype(np.longdouble), xs - np.asarray(dist.loc))
    errors = [np.abs(white - exact).max() for white in (found, solved)]
    assert errors[0] < 4 * errors[1] < 4000 * jnp.finfo(dtype).eps
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), dist)
    oracle_law = stats.multivariate_normal(wide.loc, wide.covariance())
    tolerance = {jnp.float32: 5e-4, jnp.float64: 1e-10}[dtype]
    np.testing.assert_allclose(log_probs, oracle_law.logpdf(xs.astype(np.float64)), atol=tolerance)


def test_the_nodes_of_the_multivariate_normal_have_its_moments():
    dist = MultivariateNormal([0.7, -1.2], [-0.3, 0.8, 0.4])
    noise, weights = dist.nodes(65)
    x, weights = np.asarray(jax.vmap(dist.reparameterize)(noise)), np.asarray(weights)
    np.testing.assert_allclose(weights @ x, dist.loc, rtol=1e-12)
    np.testing.assert_allclose(np.cov(x.T, aweights=weights, bias=True), dist.covariance(), rtol=1e-12)


@pytest.mark.parametrize("loc, triangle", [(np.zeros(2), np.zeros(2)), (np.zeros((2, 1)), np.zeros(3)), (0.0, [0.0])])
def test_a_triangle_of_the_wrong_size_is_refused(loc, triangle):
    with pytest.raises(ValueError, match="needs a `loc` of shape"):
        MultivariateNormal(loc, triangle)


def test_every_law_has_a_fixed_support_but_those_that_move():
    """A new distribution has to say so, or to be listed here: estimators that multiply by the score are refused without."""
    exported = {
        cls for cls in vars(estimators).values() if inspect.isclass(cls) and issubclass(cls, AbstractDistribution)
    }
    final = {cls for cls in exported if not inspect.isabstract(cls)}
    assert {cls for cls in final if not issubclass(cls, AbstractFixedSupport)} == {Delta, Uniform}
