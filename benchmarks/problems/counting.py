"""Toy expectations over counts: Poisson, geometric and binomial variables.

Every objective here is quadratic, so with means `m` and variances `v` the expectation is `f(m) + 1/2 sum_i f_ii v_i`, a
closed form. One that is not quadratic makes as good a problem: `Expectation` sums over the support, up to a tail that
is lost in rounding. Objectives are declared to have values on counts alone, like a simulator of queues or of photons.

Parameters are logarithms of rates, and logits; they step from variable to variable, so that gradients differ.
"""

import math

import jax
import numpy as np

from estimators import AbstractDistribution, Binomial, BlackBox, Geometric, Poisson

from .base import PROBLEMS, Expectation
from .toys import Number, SquaredDistance, WeightedSquare, mean_of_quadratic, require_at_least, rising_weights


@jax.jit
def quadratic_truth(dist: AbstractDistribution, f: BlackBox) -> AbstractDistribution:
    """The gradient of `E[f(x)]` for a quadratic `f` of independent counts."""
    return jax.grad(lambda d: mean_of_quadratic(f.function, d.mean(), d.variance()))(dist)


def falling_log_rates(family: str, rate: Number, dimension: int) -> np.ndarray:
    """Logarithms of rates from `rate` downwards, each three quarters of the one before."""
    require_at_least(1, family, dimension=dimension)
    if rate <= 0:
        raise ValueError(f"`{family}` needs `rate > 0`, got {rate}; it is the mean of a count.")
    return math.log(rate) + math.log(0.75) * np.arange(dimension)


def rising_logits(family: str, logit: Number, dimension: int) -> np.ndarray:
    """Logits from `logit` upwards in steps of one half."""
    require_at_least(1, family, dimension=dimension)
    return logit + 0.5 * np.arange(dimension)


def separable(dist: AbstractDistribution, target: Number) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2`."""
    return Expectation(dist, BlackBox(SquaredDistance(target)), quadratic_truth)


def nonseparable(dist: AbstractDistribution, target: Number) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` with weights in proportion to 1, 2, ..., D that sum to one."""
    f = WeightedSquare(rising_weights(dist.event_shape[0]), target)
    return Expectation(dist, BlackBox(f), quadratic_truth)


@PROBLEMS.register("poisson-quadratic")
def poisson_quadratic(rate: Number = 2.0, target: Number = 3.5, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2` of counts with rates `rate`, `0.75 rate`, ...

    The gradient in the logarithm of a rate `r` is `r (2 (r - target) + 1)`.
    """
    return separable(Poisson(falling_log_rates("poisson-quadratic", rate, dimension)), target)


@PROBLEMS.register("poisson-nonseparable")
def poisson_nonseparable(rate: Number = 4.0, target: Number = 2.0, dimension: int = 3) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` of counts with rates `rate`, `0.75 rate`, ...

    The weights are in proportion to 1, 2, ..., D and sum to one.
    """
    return nonseparable(Poisson(falling_log_rates("poisson-nonseparable", rate, dimension)), target)


@PROBLEMS.register("geometric-quadratic")
def geometric_quadratic(logit: Number = -0.5, target: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2` of numbers of failures before a success, at logits `logit`, `logit + 0.5`, ...

    With the mean `m = exp(-logit)` the gradient in the logit is `-m (4 m + 1 - 2 target)`. The law has a long tail, and
    the score and most estimators grow along it.
    """
    return separable(Geometric(rising_logits("geometric-quadratic", logit, dimension)), target)


@PROBLEMS.register("geometric-nonseparable")
def geometric_nonseparable(logit: Number = -0.5, target: Number = 1.0, dimension: int = 3) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` of numbers of failures, at logits `logit`, `logit + 0.5`, ...

    The weights are in proportion to 1, 2, ..., D and sum to one.
    """
    return nonseparable(Geometric(rising_logits("geometric-nonseparable", logit, dimension)), target)


@PROBLEMS.register("binomial-quadratic")
def binomial_quadratic(
    num_trials: int = 5, logit: Number = -1.0, target: Number = 2.0, dimension: int = 1
) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2` of successes in `num_trials` trials, at logits `logit`, `logit + 0.5`, ...

    With success probability `p` the gradient in the logit is `N p (1 - p) (2 (N p - target) + 1 - 2 p)`.
    """
    return separable(Binomial(rising_logits("binomial-quadratic", logit, dimension), num_trials), target)


@PROBLEMS.register("binomial-nonseparable")
def binomial_nonseparable(
    num_trials: int = 5, logit: Number = -1.0, target: Number = 2.0, dimension: int = 3
) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` of successes in `num_trials` trials, at logits `logit`, `logit + 0.5`, ...

    The weights are in proportion to 1, 2, ..., D and sum to one.
    """
    return nonseparable(Binomial(rising_logits("binomial-nonseparable", logit, dimension), num_trials), target)
