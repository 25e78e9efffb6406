"""Laws with quantiles in closed form, each by scipy as well, and quadrature rules for the uniform variable that they are made of."""

import math

import jax
import numpy as np
from scipy import stats

from estimators import Exponential, Gumbel, Kumaraswamy, Laplace, Logistic, LogNormal, Uniform, Weibull

A, B = np.array([0.7, -1.2]), np.array([-0.3, 0.4])
UNIVARIATE = {
    "exponential": Exponential(A),
    "gumbel": Gumbel(A, B),
    "kumaraswamy": Kumaraswamy(A, B),
    "laplace": Laplace(A, B),
    "logistic": Logistic(A, B),
    "lognormal": LogNormal(A, B),
    "uniform": Uniform(A, B),
    "weibull": Weibull(A, B),
}


class BetaPower:
    """The law of a power of a beta variable: Kumaraswamy's."""

    def __init__(self, a, b):
        self.a, self.beta = a, stats.beta(1, b)

    def cdf(self, x):
        return self.beta.cdf(x**self.a)

    def ppf(self, u):
        return self.beta.ppf(u) ** (1 / self.a)

    def logpdf(self, x):
        return self.beta.logpdf(x**self.a) + np.log(self.a) + (self.a - 1) * np.log(x)

    def mean(self):
        return [stats.beta(1, b).expect(lambda y, a=a: y ** (1 / a)) for a, b in self.pairs()]

    def var(self):
        squares = [stats.beta(1, b).expect(lambda y, a=a: y ** (2 / a)) for a, b in self.pairs()]
        return np.array(squares) - np.array(self.mean()) ** 2

    def pairs(self):
        return zip(self.a, self.beta.args[1], strict=True)


def law(name, dist):
    """By scipy, of all variables."""
    first, *others = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(dist))
    loc, a, b = first, np.exp(first), np.exp(others[0]) if others else None
    laws = {
        "exponential": lambda: stats.expon(scale=1 / a),
        "gumbel": lambda: stats.gumbel_r(loc, b),
        "kumaraswamy": lambda: BetaPower(a, b),
        "laplace": lambda: stats.laplace(loc, b),
        "logistic": lambda: stats.logistic(loc, b),
        "lognormal": lambda: stats.lognorm(b, scale=a),
        "uniform": lambda: stats.uniform(loc - b, 2 * b),
        "weibull": lambda: stats.weibull_min(b, scale=a),
    }
    return laws[name]()


def tanh_sinh(number):
    """Nodes and weights on (0, 1) whatever happens at its ends: equally spaced before `u = 1 / (1 + exp(-pi sinh t))`."""
    t = 3.3 * (2 * np.arange(number) + 1 - number) / number
    u = 1 / (1 + np.exp(-np.pi * np.sinh(t)))
    return u, 6.6 / number * np.pi * np.cosh(t) * u * (1 - u)


def split_rule(number=64):
    """A rule on (0, 1) cut wherever a coupling has a root for a singularity: where an exponential variable is one, and at the median."""
    ends = np.array([0, math.exp(-1), 0.5, 1 - math.exp(-1), 1])
    u, weights = tanh_sinh(number)
    widths = np.diff(ends)[:, None]
    return np.clip(np.ravel(ends[:-1, None] + widths * u), 1e-16, 1 - 2e-16), np.ravel(widths * weights)
