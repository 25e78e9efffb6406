"""Bayesian logistic regression: the exact gradient by two routes, and optima that are optima.

The second route is in numpy. With `a = x . w` normal of mean `m` and variance `s^2`, Bonnet's and Price's theorems give the
derivatives of `E[log(1 + e^a)]` as `E[sigma(a)]` along `m` and `E[sigma'(a)] s` along `s`, and Gauss and Legendre the integrals.
"""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from benchmarks.data import load
from benchmarks.problems import PROBLEMS, logistic
from benchmarks.problems.base import exact_truth, in_float64
from benchmarks.problems.posterior import EvidenceBound
from estimators import Normal, Quadrature


def mean_under_normals(function, mean, deviation):
    """`E[function(mean + deviation e)]` for each row, over 120 panels of twelve nodes on nine deviations to either side."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(-9, 9, 121)
    e = (edges[:-1, None] + (nodes + 1) / 2 * (edges[1] - edges[0])).ravel()
    masses = np.tile(weights, 120) / 2 * (edges[1] - edges[0]) * stats.norm.pdf(e)
    return function(mean[:, None] + deviation[:, None] * e[None]) @ masses


def second_route(problem):
    """The gradient along `loc` and `log_scale`."""
    likelihood, dist = problem.likelihood, problem.dist
    x, y, c, loc, log_scale = (
        np.asarray(leaf, np.float64)
        for leaf in (likelihood.features, likelihood.labels, likelihood.multiplicity, dist.loc, dist.log_scale)
    )
    v = np.exp(2 * log_scale)
    m, s = x @ loc, np.sqrt(x**2 @ v)
    slope = mean_under_normals(special.expit, m, s)
    curvature = mean_under_normals(lambda a: special.expit(a) * special.expit(-a), m, s)
    return np.concatenate([c * (y - slope) @ x - loc, -c * curvature @ x**2 * v + 1 - v])


def leaves(truth):
    return np.concatenate([truth.gradient.loc, truth.gradient.log_scale])


@pytest.mark.parametrize("data", logistic.TABLES)
def test_truth_by_two_routes(data):
    for point in logistic.POINTS:
        problem = PROBLEMS.create("logistic-regression", data=data, point=point)
        truth = problem.truth()
        assert truth.kind == "quadrature"
        np.testing.assert_allclose(leaves(truth), second_route(problem), rtol=1e-10, atol=1e-8)


def test_truth_of_a_minibatch_by_two_routes():
    problem = PROBLEMS.create("logistic-regression", point="optimum", batch=32, kl="sampled")
    np.testing.assert_allclose(leaves(problem.truth()), second_route(problem), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_truth_of_two_weights_equals_quadrature_through_the_problem(kl):
    """In the plane, by the code that estimates run through."""
    x = np.array([[1.5, 1.0], [-0.3, 1.0], [0.8, 1.0], [-2.0, 1.0]])
    likelihood = logistic.Logistic(jnp.asarray(x), jnp.array([1.0, 0.0, 0.0, 1.0]), jnp.array(2.5))
    dist = Normal(np.array([0.4, -0.2]), np.array([-0.3, 0.2]))
    problem = EvidenceBound(dist, likelihood, Normal(np.zeros(2), np.zeros(2)), kl)
    np.testing.assert_allclose(leaves(problem.truth()), leaves(exact_truth(problem, Quadrature(97), "")), rtol=1e-10)


@pytest.mark.parametrize("data", logistic.TABLES)
def test_the_optimum_is_one(data):
    """The gradient is what float32 leaves of zero; a step of one hundredth any way costs something; the nats are those of the docstring."""
    problem = in_float64(PROBLEMS.create("logistic-regression", data=data, point="optimum"))
    assert np.linalg.norm(leaves(problem.truth())) < 3e-5
    best = float(problem.elbo(problem.dist))
    text = PROBLEMS.factory("logistic-regression").__doc__
    stated = [float(number) for number in re.findall(r"-\d+\.\d\d", text)]
    np.testing.assert_allclose(best, stated[logistic.TABLES.index(data)], atol=0.006)
    step = np.random.RandomState(0).standard_normal((2, problem.dist.loc.size)) / 100
    for sign in (1, -1):
        assert problem.elbo(Normal(problem.dist.loc + sign * step[0], problem.dist.log_scale + sign * step[1])) < best


@pytest.mark.parametrize("data", logistic.TABLES)
def test_deviations_are_within_reach_of_the_rule(data):
    for point in logistic.POINTS:
        problem = PROBLEMS.create("logistic-regression", data=data, point=point)
        assert np.sqrt(np.asarray(problem.likelihood.features) ** 2 @ np.asarray(problem.dist.scale) ** 2).max() < 30


def test_columns_are_standardised_and_the_last_is_one():
    for data in ("breast-cancer", "ionosphere"):
        x = np.asarray(PROBLEMS.create("logistic-regression", data=data).likelihood.features, np.float64)
        varied = np.ptp(load(data).features, axis=0) > 0
        np.testing.assert_allclose(x[:, :-1].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(x[:, :-1].std(axis=0), varied, atol=1e-6)
        assert np.all(x[:, -1] == 1)
    assert varied.tolist() == [True, False] + [True] * 32


def test_log_likelihood_is_that_of_the_rows():
    problem = in_float64(PROBLEMS.create("logistic-regression", data="sonar"))
    w = np.random.RandomState(1).standard_normal(61) / 3
    x, y = np.asarray(problem.likelihood.features), np.asarray(problem.likelihood.labels)
    p = special.expit(x @ w)
    np.testing.assert_allclose(
        problem.likelihood(jnp.asarray(w)), np.sum(np.log(np.where(y == 1, p, 1 - p))), rtol=1e-12
    )
    np.testing.assert_array_equal(y, load("sonar").labels)


def test_a_minibatch_is_evenly_spaced_and_stands_for_all():
    whole = PROBLEMS.create("logistic-regression", data="sonar").likelihood
    part = PROBLEMS.create("logistic-regression", data="sonar", batch=5).likelihood
    np.testing.assert_array_equal(part.features, whole.features[np.array([0, 41, 83, 124, 166])])
    assert float(part.multiplicity) == np.float32(208 / 5) and float(whole.multiplicity) == 1
    assert part.labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"data": "iris"}, "has the data breast-cancer, german, .*; got 'iris'"),
        ({"point": "late"}, "has the points initial, optimum; got 'late'"),
        ({"batch": 570}, "on 'breast-cancer' needs a `batch` of 1 to 569 rows, got 570"),
        ({"batch": 0}, "needs a `batch` of 1 to 569 rows, got 0"),
        ({"kl": "none"}, "needs `kl` to be 'analytic' or 'sampled', got 'none'"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PROBLEMS.create("logistic-regression", **arguments)
