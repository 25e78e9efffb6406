"""Where the ranking of pathwise, score-function and measure-valued gradients turns, along the costs of Mohamed et al. (2020).

Variances at `loc` and `scale` 1 are integrated without any code of the estimators; at scale 1 a derivative in `log_scale` is one in the
scale. Where two of them cross is found by a root finder, and on either side of it the estimators themselves are drawn.
"""

import functools
import math

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy import optimize, stats

from benchmarks.problems import PROBLEMS, mohamed_grid
from benchmarks.suites import SUITES
from estimators import MeasureValued, Pathwise, ScoreFunction

COSTS = {
    "gaussian-quadratic": (lambda x, k: (x - k) ** 2, lambda x, k: 2 * (x - k)),
    "gaussian-cosine": (lambda x, k: np.cos(k * x), lambda x, k: -k * np.sin(k * x)),
    "gaussian-exponential": (lambda x, k: np.exp(-k * x**2), lambda x, k: -2 * k * x * np.exp(-k * x**2)),
}
ESTIMATORS = {"pathwise": Pathwise(), "score-function": ScoreFunction(), "measure-valued": MeasureValued()}


@functools.cache
def rule(low, high, number):
    line, weights = np.polynomial.legendre.leggauss(number)
    return low + (high - low) * (line + 1) / 2, weights * (high - low) / 2


def spread(weights, values):
    """The variance of `values` that occur with `weights`."""
    return float(np.sum(weights * values**2) - np.sum(weights * values) ** 2)


def exact(estimator, cost, leaf, k):
    """The variance of one estimate in one leaf."""
    f, slope = COSTS[cost]
    noise, weights = rule(-10.0, 10.0, 400)
    density = weights * stats.norm.pdf(noise)
    if estimator == "pathwise":
        return spread(density, slope(1 + noise, k) * (1 if leaf == "loc" else noise))
    if estimator == "score-function":
        return spread(density, f(1 + noise, k) * (noise if leaf == "loc" else noise**2 - 1))
    if leaf == "loc":
        radius, weights = rule(0.0, 10.0, 400)
        return spread(
            weights * stats.rayleigh.pdf(radius), (f(1 + radius, k) - f(1 - radius, k)) / math.sqrt(2 * math.pi)
        )
    u, of_u = rule(0.0, 1.0, 60)
    maxwell = weights * noise**2 * stats.norm.pdf(noise)
    return spread(np.outer(maxwell, of_u), f(1 + noise[:, None], k) - f(1 + u * noise[:, None], k))


# Cost, leaf, the two that cross, and between which values of k; the first is the better one below.
CROSSINGS = [
    ("gaussian-quadratic", "loc", "pathwise", "measure-valued", (-3.0, 0.9)),
    ("gaussian-quadratic", "loc", "measure-valued", "pathwise", (1.1, 3.5)),
    ("gaussian-cosine", "loc", "pathwise", "score-function", (0.5, 5.0)),
    ("gaussian-cosine", "log_scale", "pathwise", "score-function", (0.5, 5.0)),
    ("gaussian-exponential", "loc", "pathwise", "score-function", (0.1, 10.0)),
    ("gaussian-exponential", "log_scale", "pathwise", "score-function", (0.1, 10.0)),
    ("gaussian-exponential", "log_scale", "measure-valued", "score-function", (0.1, 10.0)),
]


def crossing(cost, leaf, first, second, between):
    """The value of k at which the two variances are equal."""
    return optimize.brentq(lambda k: exact(first, cost, leaf, k) - exact(second, cost, leaf, k), *between)


@eqx.filter_jit
def drawn(dist, f, keys):
    """Estimates of all three, each from keys of its own."""
    return {
        name: jax.vmap(lambda key, e=estimator: e.gradient(key, dist, f))(keys[index])
        for index, (name, estimator) in enumerate(ESTIMATORS.items())
    }


@pytest.mark.parametrize("cost, leaf, first, second, between", CROSSINGS)
def test_the_estimators_change_places_where_the_exact_variances_cross(cost, leaf, first, second, between):
    k = crossing(cost, leaf, first, second, between)
    for place, sign in ((k - 0.25, -1), (k + 0.25, 1)):
        problem = PROBLEMS.create(cost, k=place)
        keys = jax.random.split(jax.random.key(7), (3, 40_000))
        samples = drawn(problem.dist, problem.f, keys)
        truth = getattr(problem.truth().gradient, leaf)
        squares = [(np.asarray(getattr(samples[name], leaf)) - truth) ** 2 for name in (first, second)]
        for name, square in zip((first, second), squares, strict=True):
            error = square.std() / math.sqrt(len(square))
            assert abs(square.mean() - exact(name, cost, leaf, place)) < 5 * error
        apart = (squares[0] - squares[1]).ravel()
        assert sign * apart.mean() > 4.9 * apart.std() / math.sqrt(len(apart))


def test_crossings_in_closed_form_and_as_documented():
    """Pathwise and measure-valued on a quadratic: `4 = (16 / pi - 4) (1 - k)^2`. The others to the digits that a figure shows."""
    found = [crossing(*case) for case in CROSSINGS]
    distance = math.sqrt(4 / (16 / math.pi - 4))
    np.testing.assert_allclose(found[:2], [1 - distance, 1 + distance], rtol=1e-10)
    np.testing.assert_allclose(found[2:], [1.06, 1.30, 0.87, 1.00, 1.73], atol=0.005)


def test_the_suite_runs_along_the_grids_of_the_paper():
    cells = SUITES.create("crossovers").cells()
    assert len(cells) == 3 * 3 * 25
    for cost in COSTS:
        values = {dict(cell.problem.arguments)["k"] for cell in cells if cell.problem.name == cost}
        np.testing.assert_allclose(sorted(values), mohamed_grid(cost, points=25), rtol=5e-4, atol=1e-12)
