"""The Gaussian toys: closed forms against quadrature and against adaptive integration of the score identity by SciPy.

The second route knows nothing of `Normal`: `d/d loc E[f] = E[f(x) (x - loc) / scale^2]` and
`d/d log_scale E[f] = E[f(x) (((x - loc) / scale)^2 - 1)]`.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks.problems import PROBLEMS, gaussian, mohamed_grid
from benchmarks.problems.base import exact_truth
from estimators import Quadrature

POINT = {"loc": 0.7, "scale": 1.3}
ONE_DIMENSIONAL = {
    "gaussian-quadratic": lambda k: lambda x: (x - k) ** 2,
    "gaussian-cosine": lambda k: lambda x: math.cos(k * x),
    "gaussian-exponential": lambda k: lambda x: math.exp(-k * x * x),
}


def integrated(f, loc, scale, low=-np.inf):
    """The two derivatives of `E[f(x)]`, integrated in the standardised variable."""

    def integral(score):
        start = max((low - loc) / scale, -12.0)
        pieces = np.linspace(start, 12.0, 13)
        values = [
            integrate.quad(
                lambda e: stats.norm.pdf(e) * f(loc + scale * e) * score(e), a, b, epsabs=1e-14, epsrel=1e-13
            )[0]
            for a, b in zip(pieces[:-1], pieces[1:], strict=True)
        ]
        return math.fsum(values)

    return integral(lambda e: e / scale), integral(lambda e: e * e - 1)


def leaves(truth):
    return np.concatenate([truth.gradient.loc, truth.gradient.log_scale])


@pytest.mark.parametrize("name", ONE_DIMENSIONAL)
@pytest.mark.parametrize("k", [0.5, 3.0])
def test_closed_form_equals_adaptive_integration_and_quadrature(name, k):
    problem = PROBLEMS.create(name, k=k, **POINT)
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(leaves(truth), integrated(ONE_DIMENSIONAL[name](k), **POINT), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        leaves(truth), leaves(exact_truth(problem, Quadrature(), "quadrature")), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("threshold", [-1.0, 0.9, 6.0])
def test_step_has_the_derivatives_of_the_normal_distribution_function(threshold):
    problem = PROBLEMS.create("gaussian-step", threshold=threshold, **POINT)
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(leaves(truth), integrated(lambda x: 1.0, low=threshold, **POINT), rtol=1e-9, atol=1e-13)
    step = 1e-6
    above = [stats.norm.sf(threshold, POINT["loc"] + h, POINT["scale"]) for h in (-step, step)]
    np.testing.assert_allclose(truth.gradient.loc, [(above[1] - above[0]) / (2 * step)], rtol=1e-7)


def test_step_counts_from_the_threshold_on():
    f = PROBLEMS.create("gaussian-step", threshold=0.5, dimension=4).f
    assert f(jnp.array([0.4999, 0.5, 0.5001, -3.0])) == 2


@pytest.mark.parametrize("name", [*ONE_DIMENSIONAL, "gaussian-step"])
def test_separable_toys_repeat_themselves_in_more_dimensions(name):
    one = PROBLEMS.create(name, **POINT).truth().gradient
    three = PROBLEMS.create(name, dimension=3, **POINT).truth().gradient
    # The bump is a product: the other two coordinates multiply by their mean.
    c = 1 + 2 * POINT["scale"] ** 2
    others = math.exp(-(POINT["loc"] ** 2) / c) / math.sqrt(c) if name == "gaussian-exponential" else 1.0
    np.testing.assert_allclose(three.loc, np.repeat(one.loc * others**2, 3), rtol=1e-12)
    np.testing.assert_allclose(three.log_scale, np.repeat(one.log_scale * others**2, 3), rtol=1e-12)


@pytest.mark.parametrize("name", ["gaussian-exponential", "gaussian-nonseparable"])
def test_nonseparable_toys_equal_quadrature_in_two_dimensions(name):
    problem = PROBLEMS.create(name, dimension=2, **POINT)
    np.testing.assert_allclose(
        leaves(problem.truth()), leaves(exact_truth(problem, Quadrature(), "quadrature")), rtol=1e-11, atol=1e-13
    )


def test_nonseparable_truth_in_ten_dimensions():
    """`w . x` is one normal variable with mean `loc` and variance `scale^2 |w|^2`."""
    truth = PROBLEMS.create("gaussian-nonseparable", target=0.2, **POINT).truth().gradient
    weights = np.arange(1, 11) / 55
    np.testing.assert_allclose(truth.loc, 2 * weights * (0.7 - 0.2), rtol=1e-12)
    np.testing.assert_allclose(truth.log_scale, 2 * weights**2 * 1.3**2, rtol=1e-12)


def test_rosenbrock_quadrature_equals_the_moments():
    """With `x_2` of mean `n` and deviation `t`, and `x_1^2` of mean `m^2 + s^2` and variance `2 s^4 + 4 m^2 s^2`,
    `E[f] = (1 - m)^2 + s^2 + b ((n - m^2 - s^2)^2 + t^2 + 2 s^4 + 4 m^2 s^2)` at steepness `b`."""
    b, m, s = 7.0, 0.7, 1.3
    truth = PROBLEMS.create("gaussian-rosenbrock", steepness=b, loc=m, scale=s).truth()
    assert truth.kind == "quadrature"
    gap = m - m**2 - s**2
    along_loc = [-2 * (1 - m) + b * (-4 * m * gap + 8 * m * s**2), 2 * b * gap]
    along_log_scale = [s * (2 * s + b * (-4 * s * gap + 8 * s**3 + 8 * m**2 * s)), 2 * b * s**2]
    np.testing.assert_allclose(leaves(truth), [*along_loc, *along_log_scale], rtol=1e-11)


def variances_along_loc(k):
    """Pathwise and score-function variance of one sample at `loc` and `scale` 1, for `cos(k x)`."""

    def moment(g, power):
        return integrate.quad(lambda e: stats.norm.pdf(e) * g(1 + e, e) ** power, -9, 9, limit=200)[0]

    estimates = lambda x, e: -k * math.sin(k * x), lambda x, e: math.cos(k * x) * e
    return [moment(g, 2) - moment(g, 1) ** 2 for g in estimates]


def test_cosine_turns_the_ranking_over_as_its_docstring_says():
    pathwise, score = variances_along_loc(0.5)
    assert 11 < score / pathwise < 12.5
    pathwise, score = variances_along_loc(2.0)
    assert 4 < pathwise / score < 5


def test_grids_are_those_of_the_paper():
    quadratic = mohamed_grid("gaussian-quadratic")
    np.testing.assert_allclose(quadratic, [-3 + 6 * i / 99 for i in range(100)], atol=1e-14)
    for name, low, high in [("gaussian-exponential", 0.1, 10.0), ("gaussian-cosine", 0.5, 5.0)]:
        grid = mohamed_grid(name)
        np.testing.assert_allclose(grid, [low * (high / low) ** (i / 99) for i in range(100)], rtol=1e-13)
        PROBLEMS.create(name, k=grid[0])


def test_a_problem_without_a_grid_is_named():
    with pytest.raises(ValueError, match="no grid for 'gaussian-step'; they have one for gaussian-quadratic"):
        mohamed_grid("gaussian-step")


def test_every_gaussian_toy_has_a_second_route():
    covered = {*ONE_DIMENSIONAL, "gaussian-step", "gaussian-nonseparable", "gaussian-rosenbrock"}
    assert covered == {name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == gaussian.__name__}
