r"""Toy expectations over Gaussian variables: pathwise, score-function and measure-valued gradients of one `f`.

With `x ~ N(loc, scale^2)` and gradients with respect to `loc` and `log_scale`, every truth but one is a closed form.
The three costs of Mohamed et al., Monte Carlo gradient estimation in machine learning, 2020, section 3,
arXiv:1906.10652, have the expectations

$$E (x - k)^2 = (\mu - k)^2 + \sigma^2, \quad E \cos k x = \cos(k \mu)\, e^{-k^2 \sigma^2 / 2}, \quad
E\, e^{-k x^2} = c^{-1/2} e^{-k \mu^2 / c}, \; c = 1 + 2 k \sigma^2,$$

and a step has the normal distribution function.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, AbstractObjective, Normal
from estimators.distributions.base import as_floating
from estimators.elementary import cos

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, SquaredDistance, WeightedSquare, mean_of_quadratic, require_at_least, rising_weights


class Cosine(AbstractDifferentiable):
    """`f(x) = sum_i cos(k x_i)`."""

    k: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(cos(self.k * x))


class Bump(AbstractDifferentiable):
    """`f(x) = exp(-k sum_i x_i^2)`."""

    k: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.exp(-self.k * jnp.sum(x**2))


class Rosenbrock(AbstractDifferentiable):
    """`f(x) = (1 - x_1)^2 + steepness (x_2 - x_1^2)^2`."""

    steepness: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "2"]) -> Scalar:
        return (1 - x[0]) ** 2 + self.steepness * (x[1] - x[0] ** 2) ** 2


class Step(AbstractObjective):
    """`f(x) = sum_i 1[x_i >= threshold]`; it has a derivative almost everywhere, which says nothing."""

    threshold: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(x >= self.threshold).astype(x.dtype)


def normal(family: str, dimension: int, loc: Number, scale: Number) -> Normal:
    """Independent variables of one mean and one standard deviation."""
    require_at_least(1, family, dimension=dimension)
    if scale <= 0:
        raise ValueError(f"`{family}` needs `scale > 0`, got {scale}; it is a standard deviation.")
    return Normal(loc=[loc] * dimension, log_scale=[math.log(scale)] * dimension)


@jax.jit
def quadratic_truth(dist: Normal, f: AbstractDifferentiable) -> Normal:
    """The gradient of `f(loc) + 1/2 sum_i f_ii scale_i^2`, which is `E[f(x)]` for a quadratic `f`."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.loc, d.scale**2))(dist)


@jax.jit
def cosine_truth(dist: Normal, f: Cosine) -> Normal:
    """`-k sin(k loc) e` and `-(k scale)^2 cos(k loc) e`, with `e = exp(-(k scale)^2 / 2)`."""
    damping = jnp.exp(-((f.k * dist.scale) ** 2) / 2)
    along_scale = -((f.k * dist.scale) ** 2) * jnp.cos(f.k * dist.loc) * damping
    return Normal(-f.k * jnp.sin(f.k * dist.loc) * damping, along_scale)


@jax.jit
def bump_truth(dist: Normal, f: Bump) -> Normal:
    """With `c = 1 + 2 k scale^2`, `E[f(x)] = prod_i c_i^(-1/2) exp(-k loc_i^2 / c_i)`.

    The logarithm of this has the derivatives `-2 k loc / c` along `loc` and, since the derivative of `c` is
    `2 (c - 1)` there, `(2 k loc^2 / c - 1) (c - 1) / c` along `log_scale`.
    """
    c = 1 + 2 * f.k * dist.scale**2
    mean = jnp.exp(jnp.sum(-f.k * dist.loc**2 / c - jnp.log(c) / 2))
    return Normal(-2 * f.k * dist.loc / c * mean, (2 * f.k * dist.loc**2 / c - 1) * (c - 1) / c * mean)


@jax.jit
def step_truth(dist: Normal, f: Step) -> Normal:
    """`phi(a) / scale` and `-a phi(a)`, for `P(x >= threshold) = Phi(a)` with `a = (loc - threshold) / scale`."""
    a = (dist.loc - f.threshold) / dist.scale
    density = jnp.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
    return Normal(density / dist.scale, -a * density)


@PROBLEMS.register("gaussian-quadratic")
def gaussian_quadratic(k: Number = -1.5, loc: Number = 1.0, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i (x_i - k)^2`, the first cost of Mohamed et al. (figure 2), whose `k` runs from -3 to 3.

    The ranking depends on `a = loc - k`: along `loc` the pathwise variance is `4 scale^2`, that of the coupled
    measure-valued derivative `(16 / pi - 4) a^2`, and that of the score function grows as `a^4`.
    """
    dist = normal("gaussian-quadratic", dimension, loc, scale)
    return Expectation(dist, SquaredDistance(k), quadratic_truth)


@PROBLEMS.register("gaussian-cosine")
def gaussian_cosine(k: Number = 2.0, loc: Number = 1.0, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i cos(k x_i)`, a cost of Mohamed et al. (figure 3), whose `k` runs from 0.5 to 5.

    The values of `f` are bounded by 1 and its derivative by `k`: the pathwise variance along `loc` is a twelfth of the
    score function's at `k = 0.5`, and more than four times as large at `k = 2`.
    """
    return Expectation(normal("gaussian-cosine", dimension, loc, scale), Cosine(k), cosine_truth)


@PROBLEMS.register("gaussian-exponential")
def gaussian_exponential(k: Number = 1.0, loc: Number = 1.0, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = exp(-k sum_i x_i^2)`, a cost of Mohamed et al. (figure 3), whose `k` runs from 0.1 to 10.

    A bump that narrows as `k` grows until hardly any sample meets it. In more than one dimension it is a product, which
    is not separable.
    """
    if k < 0:
        raise ValueError(f"`gaussian-exponential` needs `k >= 0`, got {k}; its expectation need not be finite below.")
    return Expectation(normal("gaussian-exponential", dimension, loc, scale), Bump(k), bump_truth)


@PROBLEMS.register("gaussian-nonseparable")
def gaussian_nonseparable(
    dimension: int = 10, target: Number = 0.5, loc: Number = 1.0, scale: Number = 1.0
) -> Expectation:
    """`f(x) = (sum_i w_i x_i - target)^2` with weights in proportion to 1, 2, ..., D that sum to one.

    One value of `f` has to serve `2 D` parameters: the score function blames each coordinate for all the others, and a
    measure-valued derivative needs `4 D` evaluations.
    """
    dist = normal("gaussian-nonseparable", dimension, loc, scale)
    return Expectation(dist, WeightedSquare(rising_weights(dimension), target), quadratic_truth)


@PROBLEMS.register("gaussian-rosenbrock")
def gaussian_rosenbrock(steepness: Number = 100.0, loc: Number = 0.0, scale: Number = 0.5) -> Expectation:
    """`f(x) = (1 - x_1)^2 + steepness (x_2 - x_1^2)^2` in two dimensions, by quadrature.

    A curved valley: the curvature changes along it, which control variates built on one Taylor expansion do not see.

    **References:** Rosenbrock, An automatic method for finding the greatest or least value of a function, 1960.
    """
    return Expectation(normal("gaussian-rosenbrock", 2, loc, scale), Rosenbrock(steepness))


@PROBLEMS.register("gaussian-step")
def gaussian_step(threshold: Number = 0.0, loc: Number = 1.0, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i 1[x_i >= threshold]`.

    The derivative of `f` is zero wherever it exists, so a pathwise estimate would be zero too; pathwise is refused. A
    threshold far from `loc` makes it a rare event.
    """
    return Expectation(normal("gaussian-step", dimension, loc, scale), Step(threshold), step_truth)


def mohamed_grid(problem: str, points: int = 100) -> np.ndarray:
    """The values of `k` in figures 2 and 3 of Mohamed et al., at `loc` and `scale` 1.

    Equal steps for the quadratic, equal ratios between the stated ends for the others.

    >>> print(mohamed_grid("gaussian-exponential", points=3))
    [ 0.1  1.  10. ]
    """
    grids = {
        "gaussian-quadratic": np.linspace(-3.0, 3.0, points),
        "gaussian-exponential": np.geomspace(0.1, 10.0, points),
        "gaussian-cosine": np.geomspace(0.5, 5.0, points),
    }
    if problem not in grids:
        raise ValueError(f"Mohamed et al. have no grid for {problem!r}; they have one for {', '.join(grids)}.")
    return grids[problem]
