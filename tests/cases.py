"""The pairs that the contract is tested on: every registered estimator with every small case that it accepts.

They are derived from `ESTIMATORS` and `incompatibility`, so a new estimator is in the list by being registered, and a case
may be added to `CASES` for a capability that no other case offers. A case is a function, lest arrays be made on import.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators import (
    ESTIMATORS,
    AbstractDistribution,
    AbstractLogWeight,
    Bernoulli,
    Binomial,
    BlackBox,
    Categorical,
    Gamma,
    Geometric,
    Normal,
    NormalMixture,
    Poisson,
    incompatibility,
)
from estimators.objectives import Objective


class Case(NamedTuple):
    """A distribution, another one of the same shape with extreme parameters, and an objective."""

    dist: AbstractDistribution
    extreme: AbstractDistribution
    f: Objective


def bernoulli() -> tuple[Bernoulli, Bernoulli]:
    return Bernoulli(np.array([-1.0, 0.4, 1.3])), Bernoulli(np.array([-10.0, 10.0, 10.0]))


def categorical() -> tuple[Categorical, Categorical]:
    extreme = np.array([[-10.0, 0.0, 10.0], [10.0, 10.0, -10.0]])
    return Categorical(np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])), Categorical(extreme)


def normal() -> tuple[Normal, Normal]:
    return Normal(np.array([0.7, -1.2]), np.array([-0.3, 0.4])), Normal(np.array([-10.0, 10.0]), np.array([-10.0, 2.0]))


def poisson() -> tuple[Poisson, Poisson]:
    return Poisson(np.array([-0.4, 0.9])), Poisson(np.array([-10.0, 10.0]))


def geometric() -> tuple[Geometric, Geometric]:
    return Geometric(np.array([0.8, -0.5])), Geometric(np.array([-10.0, 10.0]))


def binomial() -> tuple[Binomial, Binomial]:
    return Binomial(np.array([-1.0, 0.4]), 3), Binomial(np.array([-10.0, 10.0]), 3)


def gamma() -> tuple[Gamma, Gamma]:
    return Gamma(np.array([-0.4, 0.9]), np.array([0.3, -0.2])), Gamma(np.array([-10.0, 10.0]), np.array([1.0, 5.0]))


def mixture() -> tuple[NormalMixture, NormalMixture]:
    loc, log_scale = np.array([[-0.5, 0.3], [0.6, -0.4]]), np.array([[-0.3, 0.1], [0.2, -0.4]])
    return NormalMixture(np.array([0.5, -0.2]), loc, log_scale), NormalMixture(
        np.array([-10.0, 10.0]), 3 * loc, log_scale
    )


def smooth(x):
    """Non-separable and differentiable everywhere, of any shape."""
    weights = jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype))
    return (jnp.vdot(weights, x.ravel()) - 0.45) ** 2 + 0.3 * jnp.prod(1 + 0.3 * x)


def without_derivative(function: Callable) -> Callable:
    """`function`, with the derivative NaN, so that whoever differentiates it is found out."""
    guarded = jax.custom_jvp(function)
    guarded.defjvp(lambda primals, tangents: (function(*primals), jnp.nan * jnp.sum(tangents[0])))
    return guarded


@without_derivative
def stairs(x):
    """`smooth` rounded down to thirds."""
    return jnp.floor(3 * smooth(x)) / 3


@without_derivative
def stairs_at_bits(x):
    """`stairs`, and NaN off the support of discrete events."""
    return jnp.where(jnp.all((x == 0) | (x == 1)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


def single(dist: AbstractDistribution) -> AbstractDistribution:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), dist)


class Evidence(AbstractLogWeight):
    """`function` taken for the log-joint density of an evidence bound; a posterior in single precision leaves the precision of a value to
    the event."""

    function: Callable
    posterior: AbstractDistribution

    def log_joint(self, z):
        return self.function(z)


@without_derivative
def stairs_at_counts(x):
    """`stairs`, and NaN where an event does not count."""
    return jnp.where(jnp.all((x == jnp.floor(x)) & (x >= 0)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


@without_derivative
def stairs_up_to_three(x):
    """`stairs_at_counts`, and NaN above three."""
    return jnp.where(jnp.all((x == jnp.floor(x)) & (x >= 0) & (x <= 3)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


CASES: dict[str, tuple[Callable, Callable, Callable]] = {
    "bernoulli": (bernoulli, smooth, lambda f: f),
    "bernoulli-black-box": (bernoulli, stairs_at_bits, BlackBox),
    "categorical": (categorical, smooth, lambda f: f),
    "categorical-black-box": (categorical, stairs_at_bits, BlackBox),
    "poisson-black-box": (poisson, stairs_at_counts, BlackBox),
    "geometric-black-box": (geometric, stairs_at_counts, BlackBox),
    "binomial-black-box": (binomial, stairs_up_to_three, BlackBox),
    "gamma": (gamma, smooth, lambda f: f),
    "mixture": (mixture, smooth, lambda f: f),
    "normal": (normal, smooth, lambda f: f),
    "normal-black-box": (normal, stairs, BlackBox),
    "normal-log-weight": (normal, smooth, lambda f: Evidence(f, single(normal()[0]))),
}


def case(name: str, tap: Callable = lambda x: None) -> Case:
    """The case called `name`; its objective calls `tap(x)` with every event that it is evaluated at."""
    dists, function, declare = CASES[name]

    def f(x):
        tap(x)
        return function(x)

    return Case(*dists(), declare(f))


def pairs() -> Iterator[tuple[str, str]]:
    """The names of every registered estimator with every case that it accepts."""
    for estimator_name in ESTIMATORS:
        estimator = ESTIMATORS.create(estimator_name)
        for case_name in CASES:
            dist, _, f = case(case_name)
            if incompatibility(estimator, dist, f) is None:
                yield estimator_name, case_name
