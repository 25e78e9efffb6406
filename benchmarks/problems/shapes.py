r"""Toy expectations over Student-t, von Mises and truncated normal variables and over normal mixtures.

All objectives are quadratic, so a truth takes means and covariances. A von Mises point with its mean direction at the
angle $\mu$ and the concentration $k$ has, with $A = I_1(k) / I_0(k)$,

$$E\, x_1 = A \cos \mu, \quad E\, x_1^2 = (1 - A / k) \cos^2 \mu + (A / k) \sin^2 \mu.$$
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, NormalMixture, StudentT, TruncatedNormal, VonMises
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, SquaredDistance, WeightedSquare, mean_of_quadratic, require_at_least, rising_weights


class SquaredDistanceAcross(AbstractDifferentiable):
    """`f(x) = sum_i (x_i1 - target)^2`, of the first coordinates of points of the plane."""

    target: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "*variables 2"]) -> Scalar:
        return jnp.sum((x[..., 0] - self.target) ** 2)


@jax.jit
def student_t_truth(dist: StudentT, f: SquaredDistance) -> StudentT:
    """The gradient of `f(mean) + sum_i variance_i`."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.mean(), d.variance()))(dist)


@jax.jit
def truncated_normal_truth(dist: TruncatedNormal, f: SquaredDistance) -> TruncatedNormal:
    """The gradient of `f(mean) + sum_i variance_i`."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.mean(), d.variance()))(dist)


@jax.jit
def von_mises_truth(dist: VonMises, f: SquaredDistanceAcross) -> VonMises:
    """The gradient of the moments above."""

    def mean(d: VonMises) -> Scalar:
        first = d.mean()[..., 0]
        across = jax.scipy.special.i1e(d.concentration) / jax.scipy.special.i0e(d.concentration) / d.concentration
        second = (1 - across) * jnp.cos(d.loc) ** 2 + across * jnp.sin(d.loc) ** 2
        return jnp.sum(second - 2 * f.target * first + f.target**2)

    return jax.grad(mean)(dist)


@jax.jit
def mixture_truth(dist: NormalMixture, f: WeightedSquare) -> NormalMixture:
    """The gradient of the weighted sum of the components' means of `f`."""

    def mean(d: NormalMixture) -> Scalar:
        def of_component(loc: Float[Array, "d"], log_scale: Float[Array, "d"]) -> Scalar:
            return mean_of_quadratic(f, loc, jnp.exp(2 * log_scale))

        return jnp.vdot(d.mixing(), jax.vmap(of_component)(d.loc, d.log_scale))

    return jax.grad(mean)(dist)


@PROBLEMS.register("student-t-quadratic")
def student_t_quadratic(
    df: Number = 12.0, loc: Number = 1.0, scale: Number = 1.0, target: Number = 0.0, dimension: int = 1
) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2` of Student-t variables.

    The mean is finite for more than two degrees of freedom, and the variance of an estimate, as a rule, for more than
    four.
    """
    require_at_least(1, "student-t-quadratic", dimension=dimension)
    if df <= 2 or scale <= 0:
        raise ValueError(
            f"`student-t-quadratic` needs `df > 2` and `scale > 0`, got {df} and {scale}; the mean is infinite."
        )
    leaves = (np.full(dimension, value) for value in (math.log(df), loc, math.log(scale)))
    return Expectation(StudentT(*leaves), SquaredDistance(target), student_t_truth)


@PROBLEMS.register("von-mises-quadratic")
def von_mises_quadratic(
    concentration: Number = 2.0, loc: Number = 0.8, target: Number = 0.3, dimension: int = 1
) -> Expectation:
    """`f(x) = sum_i (cos y_i - target)^2` of von Mises angles `y_i` about `loc`, `loc + 0.5`, ..."""
    require_at_least(1, "von-mises-quadratic", dimension=dimension)
    if concentration <= 0:
        raise ValueError(f"`von-mises-quadratic` needs `concentration > 0`, got {concentration}.")
    dist = VonMises(loc + 0.5 * np.arange(dimension), np.full(dimension, math.log(concentration)))
    return Expectation(dist, SquaredDistanceAcross(target), von_mises_truth)


@PROBLEMS.register("truncated-normal-quadratic")
def truncated_normal_quadratic(
    loc: Number = 1.0,
    scale: Number = 1.0,
    low: Number = 0.0,
    high: Number = 3.0,
    target: Number = 2.5,
    dimension: int = 1,
) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2` of normal variables with mean `loc`, `loc - 0.5`, ..., given that they lie between
    `low` and `high`."""
    require_at_least(1, "truncated-normal-quadratic", dimension=dimension)
    if scale <= 0:
        raise ValueError(f"`truncated-normal-quadratic` needs `scale > 0`, got {scale}.")
    leaves = loc - 0.5 * np.arange(dimension), np.full(dimension, math.log(scale))
    dist = TruncatedNormal(*leaves, low=float(low), high=float(high))
    return Expectation(dist, SquaredDistance(target), truncated_normal_truth)


@PROBLEMS.register("mixture-quadratic")
def mixture_quadratic(
    separation: Number = 2.0, scale: Number = 1.0, target: Number = 0.5, dimension: int = 2
) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` under a mixture of two diagonal normal laws with weights in proportion to 2 and
    1, means `-separation / 2` and `separation / 2` in every coordinate, and standard deviations `scale` and
    `0.7 scale`.

    The weights of `f` are in proportion to 1, 2, ..., D and sum to one. As the components part, the score in their
    weights stays bounded and a velocity between them does not.
    """
    require_at_least(1, "mixture-quadratic", dimension=dimension)
    if scale <= 0:
        raise ValueError(f"`mixture-quadratic` needs `scale > 0`, got {scale}; it is a standard deviation.")
    signs, scales = np.array([-0.5, 0.5]), np.log([scale, 0.7 * scale])
    loc, log_scale = (np.repeat(values[:, None], dimension, axis=1) for values in (separation * signs, scales))
    dist = NormalMixture(np.log([2.0, 1.0]), loc, log_scale)
    return Expectation(dist, WeightedSquare(rising_weights(dimension), target), mixture_truth)
