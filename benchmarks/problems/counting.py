"""Toy expectations over counts: Poisson, geometric and binomial variables.

Of a quadratic objective with means `m` and variances `v` the expectation is `f(m) + 1/2 sum_i f_ii v_i`; that of a
cosine is the real part of the characteristic function. Any other makes as good a problem: `Expectation` sums over the
support, up to a tail that is lost in rounding. Quadratic objectives are declared to have values on counts alone, like a
simulator of queues or of photons; cosines are for estimators that pass between counts.

Parameters are logarithms of rates, and logits; they step from variable to variable, so that gradients differ.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from estimators import AbstractDistribution, Binomial, BlackBox, Geometric, Poisson

from .base import PROBLEMS, Expectation, Scalar
from .gaussian import Cosine
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


@jax.jit
def poisson_cosine_truth(dist: Poisson, f: Cosine) -> Poisson:
    """`E[exp(i k x)] = exp(r (exp(i k) - 1))` at the rate `r`."""

    def mean(d: Poisson) -> Scalar:
        return jnp.sum(jnp.exp(d.mean() * (jnp.cos(f.k) - 1)) * jnp.cos(d.mean() * jnp.sin(f.k)))

    return jax.grad(mean)(dist)


@jax.jit
def geometric_cosine_truth(dist: Geometric, f: Cosine) -> Geometric:
    """`E[exp(i k x)] = p / (1 - q exp(i k))`, with `q = 1 - p`; the real part has the denominator `(1 - q)^2 + 2 q (1 - cos
    k)`."""

    def mean(d: Geometric) -> Scalar:
        p, q = jax.nn.sigmoid(d.logits), jax.nn.sigmoid(-d.logits)
        return jnp.sum(p * (1 - q * jnp.cos(f.k)) / (p**2 + 2 * q * (1 - jnp.cos(f.k))))

    return jax.grad(mean)(dist)


@jax.jit
def binomial_cosine_truth(dist: Binomial, f: Cosine) -> Binomial:
    """`E[exp(i k x)] = (q + p exp(i k))^N`, with `q = 1 - p`, in polar coordinates."""

    def mean(d: Binomial) -> Scalar:
        p, q = jax.nn.sigmoid(d.logits), jax.nn.sigmoid(-d.logits)
        real, imaginary = q + p * jnp.cos(f.k), p * jnp.sin(f.k)
        power = jnp.hypot(real, imaginary) ** d.num_trials
        return jnp.sum(power * jnp.cos(d.num_trials * jnp.arctan2(imaginary, real)))

    return jax.grad(mean)(dist)


@PROBLEMS.register("poisson-cosine")
def poisson_cosine(k: Number = 0.5, rate: Number = 4.0, dimension: int = 3) -> Expectation:
    """`f(x) = sum_i cos(k x_i)`, differentiable between counts, of counts with rates `rate`, `0.75 rate`, ...

    `f` is periodic: at `k` and `2 pi - k` it has the same values on counts and so the same truth, but not between them.
    """
    return Expectation(Poisson(falling_log_rates("poisson-cosine", rate, dimension)), Cosine(k), poisson_cosine_truth)


@PROBLEMS.register("geometric-cosine")
def geometric_cosine(k: Number = 0.5, logit: Number = -0.5, dimension: int = 3) -> Expectation:
    """`f(x) = sum_i cos(k x_i)`, differentiable between counts, of numbers of failures at logits `logit`, `logit + 0.5`, ..."""
    return Expectation(
        Geometric(rising_logits("geometric-cosine", logit, dimension)), Cosine(k), geometric_cosine_truth
    )


@PROBLEMS.register("binomial-cosine")
def binomial_cosine(num_trials: int = 5, k: Number = 0.5, logit: Number = -1.0, dimension: int = 3) -> Expectation:
    """`f(x) = sum_i cos(k x_i)`, differentiable between counts, of successes in `num_trials` trials, at logits `logit`, `logit +
    0.5`, ..."""
    dist = Binomial(rising_logits("binomial-cosine", logit, dimension), num_trials)
    return Expectation(dist, Cosine(k), binomial_cosine_truth)


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
