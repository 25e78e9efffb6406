"""The counting toys by a second route: sums with the masses and the scores that scipy and a textbook give."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from benchmarks import Expectation
from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import sufficient_resolution
from estimators import Binomial, BlackBox, Geometric, Poisson, Summation, incompatibility

LOG_RATES = {rate: np.log(rate * 0.75 ** np.arange(3)) for rate in (2.0, 4.0)}
RISING = 0.5 * np.arange(3)
# For each family: parameters to laws, to scores `x` by `x`, and how many values are summed.
FAMILIES = {
    "poisson": (lambda eta: stats.poisson(np.exp(eta)), lambda x, eta: x - np.exp(eta), 36),
    "geometric": (
        lambda eta: stats.geom(special.expit(eta), loc=-1),
        lambda x, eta: special.expit(-eta) - x * special.expit(eta),
        90,
    ),
    "binomial": (lambda eta: stats.binom(5, special.expit(eta)), lambda x, eta: x - 5 * special.expit(eta), 6),
}


def second_route(family, parameters, f):
    """`sum_x p(x) f(x) score_i(x)` over every combination of values."""
    law, score, number = FAMILIES[family]
    axes = np.meshgrid(*[np.arange(number)] * len(parameters), indexing="ij")
    mass = np.prod([law(eta).pmf(x) for x, eta in zip(axes, parameters, strict=True)], axis=0)
    np.testing.assert_allclose(mass.sum(), 1, atol=1e-11)
    return [np.sum(mass * f(*axes) * score(x, eta)) for x, eta in zip(axes, parameters, strict=True)]


def weighted(target):
    return lambda a, b, c: ((a + 2 * b + 3 * c) / 6 - target) ** 2


def cosines(k):
    return lambda a, b, c: np.cos(k * a) + np.cos(k * b) + np.cos(k * c)


# Name, arguments, parameters and `f` written out again.
INSTANCES = [
    ("poisson-quadratic", {}, LOG_RATES[2.0][:1], lambda a: (a - 3.5) ** 2),
    ("poisson-quadratic", {"dimension": 2}, LOG_RATES[2.0][:2], lambda a, b: (a - 3.5) ** 2 + (b - 3.5) ** 2),
    ("poisson-nonseparable", {}, LOG_RATES[4.0], weighted(2.0)),
    ("geometric-quadratic", {"logit": 0.5}, [0.5], lambda a: (a - 1) ** 2),
    ("geometric-nonseparable", {}, RISING - 0.5, weighted(1.0)),
    ("binomial-quadratic", {"target": 1.5}, [-1.0], lambda a: (a - 1.5) ** 2),
    ("binomial-nonseparable", {}, RISING - 1.0, weighted(2.0)),
    ("poisson-cosine", {"k": 0.7}, LOG_RATES[4.0], cosines(0.7)),
    ("geometric-cosine", {"k": 1.3}, RISING - 0.5, cosines(1.3)),
    ("binomial-cosine", {}, RISING - 1.0, cosines(0.5)),
]


@pytest.mark.parametrize(
    "name, arguments, parameters, f", INSTANCES, ids=[f"{r[0]}-{i}" for i, r in enumerate(INSTANCES)]
)
def test_truth_is_the_sum_over_the_support(name, arguments, parameters, f):
    problem = PROBLEMS.create(name, **arguments)
    (truth,) = jax.tree.leaves(problem.truth().gradient)
    np.testing.assert_allclose(truth, second_route(name.split("-")[0], parameters, f), rtol=1e-8)
    np.testing.assert_allclose(jax.tree.leaves(problem.dist)[0], parameters, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["poisson-nonseparable", "geometric-nonseparable", "binomial-nonseparable"])
def test_without_its_closed_form_the_truth_is_summed(name):
    """And agrees; two variables, so that the window is small enough."""
    problem = PROBLEMS.create(name, dimension=2)
    summed = Expectation(problem.dist, problem.f).truth()
    assert (problem.truth().kind, summed.kind) == ("closed form", "enumeration")
    np.testing.assert_allclose(
        jax.tree.leaves(summed.gradient)[0], jax.tree.leaves(problem.truth().gradient)[0], rtol=1e-9
    )


def test_formulas_of_the_docstrings():
    def only(name, **arguments):
        return float(jax.tree.leaves(PROBLEMS.create(name, **arguments).truth().gradient)[0][0])

    rate, p, m = 2.0, special.expit(-1.0), np.exp(0.5)
    np.testing.assert_allclose(only("poisson-quadratic"), rate * (2 * (rate - 3.5) + 1), rtol=1e-12)
    np.testing.assert_allclose(only("geometric-quadratic"), -m * (4 * m + 1 - 2), rtol=1e-12)
    exact = 5 * p * (1 - p) * (2 * (5 * p - 2) + 1 - 2 * p)
    np.testing.assert_allclose(only("binomial-quadratic"), exact, rtol=1e-12)


def test_a_function_without_closed_form_is_summed_where_it_can_be():
    """`P(x > 0)` of two Poisson counts, the mean of a large one, and then windows that are too large."""
    f = BlackBox(lambda x: (jnp.sum(x) > 0).astype(x.dtype))
    truth = Expectation(Poisson(log_rate=[0.3, -1.0]), f).truth()
    rates = np.exp([0.3, -1.0])
    np.testing.assert_allclose(truth.gradient.log_rate, rates * np.exp(-rates.sum()), rtol=1e-11)
    truth = Expectation(Poisson(log_rate=[8.0]), BlackBox(lambda x: x[0])).truth()
    np.testing.assert_allclose(truth.gradient.log_rate, [np.exp(8.0)], rtol=1e-8)
    assert Expectation(Poisson(log_rate=np.zeros(4)), f).truth() is None
    assert Expectation(Geometric(logits=[-10.0]), f).truth() is None


def test_too_small_a_window_is_no_estimate():
    dist = Poisson(log_rate=[1.0])
    enough = sufficient_resolution(dist)
    assert enough & (enough - 1) == 0 and enough / 2 < float(dist.span()) <= enough
    values = [
        eqx.filter_jit(Summation(n).gradient)(jax.random.key(0), dist, lambda x: x[0]).log_rate
        for n in (enough // 4, enough)
    ]
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1], np.exp(1.0), rtol=1e-12)
    with pytest.raises(ValueError, match="`Summation` needs `resolution >= 1`, got 0"):
        Summation(0)
    reason = incompatibility(Summation(8), Binomial(np.zeros(1), 2), jnp.sum)
    assert reason == "`Summation` needs a summable distribution, and `Binomial` is not one."


def test_static_fields_of_a_distribution_are_no_parts():
    problem = PROBLEMS.create("binomial-quadratic")
    assert list(problem.parts(problem.dist)) == ["distribution"]
    assert list(PROBLEMS.create("gaussian-quadratic").parts(PROBLEMS.create("gaussian-quadratic").dist)) == [
        "distribution",
        "loc",
        "log_scale",
    ]


@pytest.mark.parametrize(
    "name, argument, value", [("poisson-quadratic", "rate", 0), ("geometric-quadratic", "dimension", 0)]
)
def test_impossible_arguments_are_refused_in_a_sentence(name, argument, value):
    with pytest.raises(ValueError, match=rf"^`{name}` needs `{argument} >=? \d`, got {value}"):
        PROBLEMS.create(name, **{argument: value})


def test_every_counting_toy_has_a_second_route():
    families = ("poisson-", "geometric-", "binomial-")
    assert {row[0] for row in INSTANCES} == {name for name in PROBLEMS if name.startswith(families)}
