r"""Toy expectations over gamma, Beta and Dirichlet variables, with truths in closed form.

With concentrations $a$ and rates $r$,

$$E\, x^p = \frac{\Gamma(a + p)}{\Gamma(a)}\, r^{-p}, \quad E \log x = \psi(a) - \log r,$$

and a Dirichlet point with the mean $m$ has the covariance $(\mathrm{diag}(m) - m m^T) / (\sum_i a_i + 1)$. Where the
concentration is small, most gamma variables are nearly zero and a few are not; where a negative power is averaged, moments
of a gradient may be infinite though the gradient is not.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, Beta, Dirichlet, Gamma
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, WeightedSquare, mean_of_quadratic, require_at_least, rising_weights


class Power(AbstractDifferentiable):
    """`f(x) = sum_i x_i^power`."""

    power: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(x**self.power)


class Logarithm(AbstractDifferentiable):
    """`f(x) = sum_i log x_i`."""

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(jnp.log(x))


def require_positive(family: str, **numbers: Number) -> None:
    """Raise `ValueError` unless every number is positive."""
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"`{family}` needs `{name} > 0`, got {number}.")


def growing(first: Number, dimension: int) -> np.ndarray:
    """Logarithms of numbers from `first` upwards, each half as large again as the one before."""
    return math.log(first) + math.log(1.5) * np.arange(dimension)


@jax.jit
def power_truth(dist: Gamma, f: Power) -> Gamma:
    """The gradient of `sum_i Gamma(a_i + p) / Gamma(a_i) r_i^-p`."""

    def mean(d: Gamma) -> Scalar:
        log_mean = gammaln(d.concentration + f.power) - gammaln(d.concentration) - f.power * d.log_rate
        return jnp.sum(jnp.exp(log_mean))

    return jax.grad(mean)(dist)


@jax.jit
def logarithm_truth(dist: Gamma, f: Logarithm) -> Gamma:
    """The gradient of `sum_i digamma(a_i) - log r_i`."""
    del f
    return jax.grad(lambda d: jnp.sum(digamma(d.concentration) - d.log_rate))(dist)


@jax.jit
def beta_truth(dist: Beta, f: WeightedSquare) -> Beta:
    """The gradient of `E[f(x)]` for a quadratic `f` of independent variables."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.mean(), d.variance()))(dist)


@jax.jit
def dirichlet_truth(dist: Dirichlet, f: WeightedSquare) -> Dirichlet:
    """The gradient of `f(m) + w^T (diag(m) - m m^T) w / (sum_i a_i + 1)`."""

    def mean(d: Dirichlet) -> Scalar:
        m = d.mean()
        spread = jnp.vdot(f.weights**2, m) - jnp.vdot(f.weights, m) ** 2
        return f(m) + spread / (jnp.sum(d.concentration) + 1)

    return jax.grad(mean)(dist)


@PROBLEMS.register("gamma-moment")
def gamma_moment(
    concentration: Number = 2.0, rate: Number = 2.0, power: Number = 2.0, dimension: int = 1
) -> Expectation:
    """`f(x) = sum_i x_i^power` of gamma variables with concentrations `concentration`, 1.5 times that, ... and one rate.

    For power 2 the mean is `a (a + 1) / r^2`. For a negative power it is finite while `concentration + power > 0`, and
    the variance of an estimate, as a rule, while `concentration + 2 power > 0`.
    """
    require_at_least(1, "gamma-moment", dimension=dimension)
    require_positive("gamma-moment", concentration=concentration, rate=rate)
    if concentration + power <= 0:
        raise ValueError(
            f"`gamma-moment` needs `concentration + power > 0`, got {concentration} and {power}; the mean is infinite."
        )
    dist = Gamma(growing(concentration, dimension), np.full(dimension, math.log(rate)))
    return Expectation(dist, Power(power), power_truth)


@PROBLEMS.register("gamma-logarithm")
def gamma_logarithm(concentration: Number = 2.0, rate: Number = 2.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i log x_i` of gamma variables with concentrations `concentration`, 1.5 times that, ... and one rate.

    The gradient is `a trigamma(a)` along the logarithm of a concentration `a` and -1 along that of a rate.
    """
    require_at_least(1, "gamma-logarithm", dimension=dimension)
    require_positive("gamma-logarithm", concentration=concentration, rate=rate)
    dist = Gamma(growing(concentration, dimension), np.full(dimension, math.log(rate)))
    return Expectation(dist, Logarithm(), logarithm_truth)


@PROBLEMS.register("beta-moment")
def beta_moment(alpha: Number = 0.7, beta: Number = 1.5, target: Number = 0.45, dimension: int = 2) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` of Beta variables with first parameters `alpha`, 1.5 times that, ... and one
    second parameter.

    The weights are in proportion to 1, 2, ..., D and sum to one.
    """
    require_at_least(1, "beta-moment", dimension=dimension)
    require_positive("beta-moment", alpha=alpha, beta=beta)
    dist = Beta(growing(alpha, dimension), np.full(dimension, math.log(beta)))
    return Expectation(dist, WeightedSquare(rising_weights(dimension), target), beta_truth)


@PROBLEMS.register("dirichlet-moment")
def dirichlet_moment(concentration: Number = 0.8, target: Number = 0.2, values: int = 3) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` of one point of the simplex, with concentrations `concentration`, 1.5 times
    that, ...

    The weights are in proportion to 1, 2, ... and sum to one.
    """
    require_at_least(2, "dirichlet-moment", values=values)
    require_positive("dirichlet-moment", concentration=concentration)
    dist = Dirichlet(growing(concentration, values))
    return Expectation(dist, WeightedSquare(rising_weights(values), target), dirichlet_truth)
