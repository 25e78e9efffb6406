"""Expectations over gamma, Beta, Dirichlet, Student-t, von Mises, truncated normal and mixture variables: closed forms against integrals
by SciPy's densities, differentiated by differences; and heavy tails, which are flagged."""

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

from benchmarks import measure
from benchmarks.harness import stream_key
from benchmarks.problems import PROBLEMS
from benchmarks.problems.gamma import growing
from estimators import ESTIMATORS


def truth(name, **arguments):
    made = PROBLEMS.create(name, **arguments).truth()
    assert made.kind == "closed form"
    return made.gradient


def derivatives(expectation, *leaves, h=1e-3):
    """Of a function of several numbers, by five points along each."""
    found = []
    for index in range(len(leaves)):

        def along(step, index=index):
            return expectation(*(leaf + step * (i == index) for i, leaf in enumerate(leaves)))

        found.append((along(-2 * h) - 8 * along(-h) + 8 * along(h) - along(2 * h)) / (12 * h))
    return found


def integral(density, f, *edges):
    """Over the pieces between the edges."""
    return sum(
        integrate.quad(lambda x: density(x) * f(x), low, high, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    )


@pytest.mark.parametrize("power", [2, 0.7, -0.3])
def test_gamma_moment(power):
    gradient = truth("gamma-moment", concentration=1.3, rate=0.8, power=power)

    def expectation(log_a, log_rate):
        law = stats.gamma(np.exp(log_a), scale=np.exp(-log_rate))
        return integral(law.pdf, lambda x: x**power, 0, 1, 10, 100)

    exact = derivatives(expectation, np.log(1.3), np.log(0.8))
    np.testing.assert_allclose([gradient.log_concentration[0], gradient.log_rate[0]], exact, rtol=1e-7)


def test_gamma_logarithm():
    gradient = truth("gamma-logarithm", concentration=1.3, dimension=2)
    a = np.array([1.3, 1.95])
    np.testing.assert_allclose(gradient.log_concentration, a * special.polygamma(1, a), rtol=1e-12)
    np.testing.assert_allclose(gradient.log_rate, [-1, -1], rtol=1e-12)


def test_beta_moment():
    gradient = truth("beta-moment", alpha=0.7, beta=1.5, target=0.45, dimension=1)

    def expectation(log_alpha, log_beta):
        return stats.beta(np.exp(log_alpha), np.exp(log_beta)).expect(lambda x: (x - 0.45) ** 2, epsrel=1e-12)

    exact = derivatives(expectation, np.log(0.7), np.log(1.5))
    np.testing.assert_allclose([gradient.log_alpha[0], gradient.log_beta[0]], exact, rtol=1e-6)


def test_dirichlet_moment():
    """By the law of each coordinate and of the sum of two, which are Beta."""
    gradient = truth("dirichlet-moment", concentration=0.8, target=0.2)
    w = np.array([1, 2, 3]) / 6

    def expectation(*log_a):
        a = np.exp(log_a)
        second = np.diag([stats.beta(a_, a.sum() - a_).moment(2) for a_ in a])
        for i, j in ((0, 1), (0, 2), (1, 2)):
            both = stats.beta(a[i] + a[j], a.sum() - a[i] - a[j]).moment(2)
            second[i, j] = second[j, i] = (both - second[i, i] - second[j, j]) / 2
        return w @ second @ w - 0.4 * w @ a / a.sum() + 0.04

    np.testing.assert_allclose(gradient.log_concentration, derivatives(expectation, *growing(0.8, 3)), rtol=1e-7)


def test_student_t_quadratic():
    gradient = truth("student-t-quadratic", df=7, loc=0.6, scale=1.3, target=0.2)

    def expectation(log_df, loc, log_scale):
        law = stats.t(np.exp(log_df), loc, np.exp(log_scale))
        return law.var() + (law.mean() - 0.2) ** 2

    exact = derivatives(expectation, np.log(7), 0.6, np.log(1.3))
    np.testing.assert_allclose([gradient.log_df[0], gradient.loc[0], gradient.log_scale[0]], exact, rtol=1e-7)
    law = stats.t(7, 0.6, 1.3)
    whole = integral(law.pdf, lambda x: (x - 0.2) ** 2, -np.inf, -10, 0, 10, np.inf)
    np.testing.assert_allclose(whole, expectation(np.log(7), 0.6, np.log(1.3)), rtol=1e-9)


def test_von_mises_quadratic():
    gradient = truth("von-mises-quadratic", concentration=2, loc=0.8, target=0.3)

    def expectation(loc, log_k):
        return integral(stats.vonmises(np.exp(log_k)).pdf, lambda y: (np.cos(y + loc) - 0.3) ** 2, -np.pi, 0, np.pi)

    exact = derivatives(expectation, 0.8, np.log(2))
    np.testing.assert_allclose([gradient.loc[0], gradient.log_concentration[0]], exact, rtol=1e-7)


def test_truncated_normal_quadratic():
    gradient = truth("truncated-normal-quadratic", loc=1, scale=0.8, low=0, high=3, target=2.5)

    def expectation(loc, log_scale):
        scale = np.exp(log_scale)
        return integral(
            stats.truncnorm(-loc / scale, (3 - loc) / scale, loc, scale).pdf, lambda x: (x - 2.5) ** 2, 0, 1, 3
        )

    exact = derivatives(expectation, 1.0, np.log(0.8))
    np.testing.assert_allclose([gradient.loc[0], gradient.log_scale[0]], exact, rtol=1e-7)


def test_mixture_quadratic():
    gradient = truth("mixture-quadratic", separation=3, scale=0.9, target=0.5, dimension=1)

    def expectation(*leaves):
        first, second, m, n, s, t = leaves
        w = special.expit(first - second)
        laws = [stats.norm(m, np.exp(s)), stats.norm(n, np.exp(t))]
        return integral(
            lambda x: w * laws[0].pdf(x) + (1 - w) * laws[1].pdf(x), lambda x: (x - 0.5) ** 2, -14, -1, 1, 14
        )

    leaves = [np.log(2), 0.0, -1.5, 1.5, np.log(0.9), np.log(0.63)]
    found = np.concatenate([gradient.logits, gradient.loc[:, 0], gradient.log_scale[:, 0]])
    np.testing.assert_allclose(found, derivatives(expectation, *leaves), rtol=1e-6)


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("gamma-moment", {"concentration": 0.5, "power": -0.5}, "`concentration \\+ power > 0`, got 0.5 and -0.5"),
        ("gamma-logarithm", {"rate": 0}, "`gamma-logarithm` needs `rate > 0`, got 0"),
        ("beta-moment", {"beta": -1}, "`beta-moment` needs `beta > 0`, got -1"),
        ("dirichlet-moment", {"values": 1}, "`dirichlet-moment` needs `values >= 2`, got 1"),
        ("student-t-quadratic", {"df": 2}, "`df > 2` and `scale > 0`, got 2 and 1.0"),
        ("von-mises-quadratic", {"concentration": 0}, "`concentration > 0`, got 0"),
        ("truncated-normal-quadratic", {"scale": 0}, "`scale > 0`, got 0"),
        ("mixture-quadratic", {"scale": 0}, "`scale > 0`, got 0"),
    ],
)
def test_refusals(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        PROBLEMS.create(name, **arguments)


@pytest.mark.parametrize(
    "estimator, name, arguments",
    [
        ("score-function", "gamma-moment", {"concentration": 0.03}),
        ("implicit", "gamma-moment", {"concentration": 0.03}),
        ("implicit", "gamma-moment", {"concentration": 1.0, "power": -0.6}),
        ("implicit", "mixture-quadratic", {"separation": 8}),
    ],
)
def test_heavy_tails_are_flagged(estimator, name, arguments):
    """At concentration 0.03 a few draws in a hundred make up all of the second moment; at power -0.6 the variance is infinite; and between
    components far apart the velocity is as large as the density is small."""
    with jax.enable_x64(False):
        made = measure(
            ESTIMATORS.create(estimator), PROBLEMS.create(name, **arguments), stream_key(0, "tails"), replicates=10_000
        )
    assert made.summary()["heavy_tailed"]


def test_light_tails_are_not():
    """The same components, each with an event of its own."""
    with jax.enable_x64(False):
        problem = PROBLEMS.create("mixture-quadratic", separation=8)
        made = measure(ESTIMATORS.create("mixture-pathwise"), problem, stream_key(0, "tails"), replicates=10_000)
    assert not made.summary()["heavy_tailed"]
