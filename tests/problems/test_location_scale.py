"""The toys on laws that are not normal: closed forms against differences of expectations by scipy's quantiles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import law, split_rule

from benchmarks.problems import PROBLEMS, location_scale

# Name, arguments, `f` of one variable, and the law with its leaves.
INSTANCES = {
    "exponential-quadratic": ({"rate": 1.3, "target": 0.4}, lambda x: (x - 0.4) ** 2, "exponential"),
    "gumbel-exponential": ({"k": 0.7, "loc": 0.4, "scale": 1.2}, lambda x: np.exp(-0.7 * x), "gumbel"),
    "kumaraswamy-moment": ({"power": 1.5, "a": 0.8, "b": 1.7}, lambda x: x**1.5, "kumaraswamy"),
    "laplace-quadratic": ({"k": 0.3, "loc": -0.2, "scale": 1.4}, lambda x: (x - 0.3) ** 2, "laplace"),
    "logistic-cosine": ({"k": 1.3, "loc": 0.4, "scale": 0.6}, lambda x: np.cos(1.3 * x), "logistic"),
    "lognormal-moment": ({"power": 1.5, "loc": 0.2, "scale": 0.4}, lambda x: x**1.5, "lognormal"),
    "uniform-cosine": ({"k": 1.7, "loc": 0.6, "scale": 1.1}, lambda x: np.cos(1.7 * x), "uniform"),
    "weibull-moment": ({"power": 2, "scale": 1.2, "concentration": 1.4}, lambda x: x**2, "weibull"),
}


def difference(function, point, step=1e-2):
    """The gradient by central differences of the sixth order."""

    def along(unit):
        first, second, third = (
            (function(point + k * step * unit) - function(point - k * step * unit)) / (2 * k * step) for k in (1, 2, 3)
        )
        return 1.5 * first - 0.6 * second + 0.1 * third

    return np.array([along(unit) for unit in np.eye(len(point))])


@pytest.mark.parametrize("name", INSTANCES)
def test_closed_form_is_the_derivative_of_the_expectation(name):
    arguments, f, of = INSTANCES[name]
    problem = PROBLEMS.create(name, dimension=2, **arguments)
    leaves, structure = jax.tree.flatten(problem.dist)
    u, weights = split_rule()

    def expectation(point):
        dist = jax.tree.unflatten(structure, [np.array([number]) for number in point])
        return weights @ f(law(of, dist).ppf(u))

    truth = problem.truth()
    assert truth.kind == "closed form"
    exact = difference(expectation, np.array([leaf[0] for leaf in leaves], np.float64))
    assert np.abs(exact).min() > 1e-3
    for leaf, number in zip(jax.tree.leaves(truth.gradient), exact, strict=True):
        np.testing.assert_allclose(leaf, [number, number], rtol=1e-8)
    np.testing.assert_allclose(problem.f(jnp.array([0.3, 0.8])), f(0.3) + f(0.8), rtol=1e-6)


def test_a_quadratic_form_of_correlated_variables():
    """`E[x_i x_j] = m_i m_j + C_ij`, with the leaves moved one by one; and the numbers of the docstring."""
    problem = PROBLEMS.create("multivariate-normal-quadratic", correlation=0.4, scale=1.3, coupling=-0.3)
    apart = np.abs(np.subtract.outer(range(3), range(3)))
    a, b = (-0.3) ** apart.astype(float), np.array([1, 2, 3]) / 6
    np.testing.assert_allclose(problem.dist.covariance(), 1.3**2 * 0.4**apart, rtol=1e-12)
    np.testing.assert_allclose(
        problem.f(jnp.array([0.3, -1.0, 0.8])), _form(a, b, np.array([0.3, -1.0, 0.8])), rtol=1e-6
    )

    def expectation(point):
        factor = np.zeros((3, 3))
        factor[np.tril_indices(3)] = point[3:]
        np.fill_diagonal(factor, np.exp(np.diagonal(factor)))
        return _form(a, b, point[:3]) + np.sum(a * (factor @ factor.T))

    truth, dist = problem.truth(), problem.dist
    assert truth.kind == "closed form"
    np.testing.assert_allclose(dist.loc, [-1, 0, 1])
    exact = difference(expectation, np.concatenate([dist.loc, dist.triangle]))
    np.testing.assert_allclose(
        np.concatenate([truth.gradient.loc, truth.gradient.triangle]), exact, rtol=1e-9, atol=1e-11
    )


def _form(a, b, x):
    return x @ a @ x + b @ x


def test_formulas_of_the_docstrings():
    (gradient,) = jax.tree.leaves(PROBLEMS.create("exponential-quadratic", rate=2.0, target=0.7).truth().gradient)
    np.testing.assert_allclose(gradient, [2 * 0.5 * 0.7 - 4 * 0.25], rtol=1e-12)
    truth = PROBLEMS.create("lognormal-moment", power=1, loc=0.1, scale=0.3).truth().gradient
    np.testing.assert_allclose(truth.loc, [math.exp(0.1 + 0.045)], rtol=1e-12)


@pytest.mark.parametrize(
    "name, argument, value",
    [
        ("laplace-quadratic", "scale", 0),
        ("logistic-cosine", "k", -1),
        ("weibull-moment", "concentration", 0.0),
        ("kumaraswamy-moment", "dimension", 0),
    ],
)
def test_impossible_arguments_are_refused_in_a_sentence(name, argument, value):
    with pytest.raises(ValueError, match=rf"^`{name}` needs `{argument} >=? \d`, got {value}"):
        PROBLEMS.create(name, **{argument: value})


def test_a_correlation_beyond_one_is_refused():
    with pytest.raises(ValueError, match="needs `correlation` between -1 and 1, got 1.5"):
        PROBLEMS.create("multivariate-normal-quadratic", correlation=1.5)


def test_every_toy_has_a_second_route():
    found = {name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == location_scale.__name__}
    assert found == {*INSTANCES, "multivariate-normal-quadratic"}
