"""Toy expectations over Bernoulli variables, from the one-line classic to what it hides.

The scalar quadratic of REBAR and RELAX is degenerate: a constant baseline takes away all the variance of the score
function, and at logit 0 straight-through is exact. Hence the asymmetric logits, the non-separable objectives and the
many dimensions beside it.

Two identities for independent variables with means `m` and variances `v` are the closed forms here: `E[f(x)] = f(m)` if
`f` is affine in each variable (multilinear), and `E[f(x)] = f(m) + 1/2 sum_i f_ii v_i` if it is quadratic with second
derivatives `f_ii`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, AbstractObjective, Bernoulli
from estimators.distributions.base import as_floating
from estimators.objectives import Objective

from .base import PROBLEMS, Expectation, Scalar

# What a command line gives for a real argument: `logit=-2` is read as an integer.
Number = int | float


class SquaredDistance(AbstractDifferentiable):
    """`f(x) = sum_i (x_i - target_i)^2`; `target` is one number or one for each variable."""

    target: Float[Array, "..."] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum((x - self.target) ** 2)


class MeanPower(AbstractDifferentiable):
    """`f(x) = 1/D sum_i |x_i - target|^power`.

    The power is compiled in: a square is then one multiplication, where a power that the program does not know costs more
    than all else in an estimate.
    """

    target: Float[Array, ""] = eqx.field(converter=as_floating)
    power: Number = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.mean(jnp.abs(x - self.target) ** self.power)


class WeightedSquare(AbstractDifferentiable):
    """`f(x) = (sum_i weights_i x_i - target)^2`."""

    weights: Float[Array, "..."] = eqx.field(converter=as_floating)
    target: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return (jnp.vdot(self.weights, x) - self.target) ** 2


class QuadraticForm(AbstractDifferentiable):
    """`f(x) = x^T matrix x + vector . x`, for events of one axis."""

    matrix: Float[Array, "d d"] = eqx.field(converter=as_floating)
    vector: Float[Array, "d"] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "d"]) -> Scalar:
        return x @ self.matrix @ x + self.vector @ x


class Affine(AbstractDifferentiable):
    """`f(x) = sum_i weights_i x_i + offset`."""

    weights: Float[Array, "..."] = eqx.field(converter=as_floating)
    offset: Float[Array, ""] = eqx.field(converter=as_floating, default=0.0)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.vdot(self.weights, x) + self.offset


class Parity(AbstractDifferentiable):
    """`f(x) = prod_i (1 - 2 x_i)`: 1 for an even number of ones, -1 for an odd one, and multilinear in between."""

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.prod(1 - 2 * x)


class AtLeast(AbstractObjective):
    """`f(x) = 1 if sum_i x_i >= threshold, else 0`; its values on the support are all it has."""

    threshold: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return (jnp.sum(x) >= self.threshold).astype(x.dtype)


def require_at_least(least: int, family: str, **sizes: int) -> None:
    """Raise `ValueError` unless every size is at least `least`."""
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"`{family}` needs `{name} >= {least}`, got {size}.")


def spread_bits(family: str, dimension: int) -> Bernoulli:
    """Independent bits with logits from -1.5 to 1 in equal steps: all different, and lopsided."""
    require_at_least(1, family, dimension=dimension)
    return Bernoulli(logits=np.linspace(-1.5, 1.0, dimension))


def rising_weights(dimension: int) -> np.ndarray:
    """Weights in proportion to 1, 2, 3, ..., that sum to one."""
    return np.arange(1, dimension + 1) / (dimension * (dimension + 1) / 2)


def standard_normals(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays of standard normal numbers, drawn in this order.

    From NumPy's legacy generator, whose stream is frozen as that of `default_rng` is not: these numbers are part of a
    problem's definition, which must not change.
    """
    generator = np.random.RandomState(seed)
    return [generator.standard_normal(shape) for shape in shapes]


@jax.jit
def multilinear_truth(dist: Bernoulli, f: AbstractDifferentiable) -> Bernoulli:
    """The gradient of `f(m)`, which is `E[f(x)]` for an `f` that is affine in each of some independent variables."""
    return jax.grad(lambda d: f(d.mean()))(dist)


def mean_of_quadratic(f: Objective, mean: Float[Array, "d"], variance: Float[Array, "d"]) -> Scalar:
    """`E[f(x)] = f(m) + 1/2 sum_i f_ii v_i` for a quadratic `f` of independent variables."""
    return f(mean) + jnp.vdot(jnp.diagonal(jax.hessian(f)(mean)), variance) / 2


@jax.jit
def quadratic_truth(dist: Bernoulli, f: AbstractDifferentiable) -> Bernoulli:
    """The gradient of `E[f(x)]` for a quadratic `f`."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.mean(), d.mean() * (1 - d.mean())))(dist)


@jax.jit
def separable_truth(dist: Bernoulli, f: MeanPower) -> Bernoulli:
    """`p_i (1 - p_i) (|1 - target|^power - |target|^power) / D`: each bit on its own."""
    p = dist.mean()
    difference = jnp.abs(1 - f.target) ** f.power - jnp.abs(f.target) ** f.power
    return Bernoulli(p * (1 - p) * difference / p.size)


@jax.jit
def separable_term(dist: Bernoulli, f: MeanPower) -> Bernoulli:
    """`p_i (1 - p_i) E[f(b)]`: of two such values at either value of the bit, nearly equal, the gradient is the
    difference."""
    p = dist.mean()
    mean = jnp.mean(p * jnp.abs(1 - f.target) ** f.power + (1 - p) * jnp.abs(f.target) ** f.power)
    return Bernoulli(p * (1 - p) * mean)


@PROBLEMS.register("bernoulli-quadratic")
def bernoulli_quadratic(target: Number = 0.45, logit: Number = 0.0) -> Expectation:
    """One Bernoulli variable and `f(b) = (b - target)^2`.

    The toy of REBAR (target 0.45) and RELAX (0.499), where the gradient is `p (1 - p) (1 - 2 target)`.

    **References:** Tucker et al., REBAR, 2017, arXiv:1703.07370. Grathwohl et al., Backpropagation through the void,
    2018, arXiv:1711.00123.
    """
    return Expectation(Bernoulli(logits=[logit]), SquaredDistance(target))


@PROBLEMS.register("bernoulli-rare")
def bernoulli_rare(logit: Number = -4.0) -> Expectation:
    """Three variables of one logit and `f(b) = sum_i (b_i - t_i)^2` with targets 0.6, 0.51, 0.48.

    At logit -4 all three are 0 in 95 % of the samples, so that what distinguishes events is seldom seen and estimates
    have a heavy tail. The toy of Liu et al. and of Kool et al., who tie the three logits: their gradient is the sum of
    the three here, -0.045 at logit 0.

    **References:** Liu et al., Rao-Blackwellized stochastic gradients for discrete distributions, 2019,
    arXiv:1810.04777. Kool, van Hoof and Welling, Estimating gradients for discrete random variables by sampling without
    replacement, 2020, arXiv:2002.06043.
    """
    return Expectation(Bernoulli(logits=[logit] * 3), SquaredDistance([0.6, 0.51, 0.48]))


@PROBLEMS.register("bernoulli-separable")
def bernoulli_separable(dimension: int = 200, target: Number = 0.499, power: Number = 2) -> Expectation:
    """Many variables and `f(b) = 1/D sum_i |b_i - target|^power`, at logits from -1.5 to 1.

    What one bit does is drowned in the noise of the others unless the estimator sees that `f` is a sum. Power 2 is the
    quadratic of Double CV (target 0.499); powers 1.5, 2 and 3 with target 0.45 and 128 bits are the polynomial
    programming of ReinMax.

    **References:** Titsias and Shi, Double control variates for gradient estimation in discrete latent variable models,
    2022, arXiv:2111.05300. Liu et al., Bridging discrete and backpropagation, 2023, arXiv:2304.08612.
    """
    dist = spread_bits("bernoulli-separable", dimension)
    return Expectation(dist, MeanPower(target, power), separable_truth, term=separable_term)


@PROBLEMS.register("bernoulli-nonseparable")
def bernoulli_nonseparable(dimension: int = 4, target: Number = 0.5) -> Expectation:
    """`f(b) = (sum_i w_i b_i - target)^2` with weights in proportion to 1, 2, ..., D that sum to one.

    The logits run from -1.5 to 1. What a bit is worth depends on the others and the gradient has both signs, so that no
    constant baseline takes the variance away; and as `f` is not multilinear, straight-through is biased. Its truth is
    exact in any dimension.
    """
    dist = spread_bits("bernoulli-nonseparable", dimension)
    return Expectation(dist, WeightedSquare(rising_weights(dimension), target), quadratic_truth)


@PROBLEMS.register("bernoulli-qubo")
def bernoulli_qubo(dimension: int = 6, seed: int = 0) -> Expectation:
    """`f(b) = b^T Q b`, `Q = (G + G^T) / 2` with `G` standard normal, at logits from -1.5 to 1.

    Quadratic unconstrained binary optimisation: all bits interact, with either sign. `Q` depends on `dimension` and
    `seed` alone.
    """
    dist = spread_bits("bernoulli-qubo", dimension)
    (normals,) = standard_normals(seed, (dimension, dimension))
    return Expectation(dist, QuadraticForm((normals + normals.T) / 2, np.zeros(dimension)), quadratic_truth)


@PROBLEMS.register("bernoulli-linear")
def bernoulli_linear(dimension: int = 4) -> Expectation:
    """`f(b) = sum_i w_i b_i` with weights -1, 2, -3, 4, ..., at logits from -1.5 to 1.

    The gradient is `p_i (1 - p_i) w_i`. Straight-through is exact here, sample by sample; a relaxation is not, because
    the mean of a relaxed bit is not `p`.
    """
    steps = np.arange(1, dimension + 1)
    return Expectation(spread_bits("bernoulli-linear", dimension), Affine(steps * (-1.0) ** steps), multilinear_truth)


@PROBLEMS.register("bernoulli-parity")
def bernoulli_parity(dimension: int = 4) -> Expectation:
    """`f(b) = prod_i (1 - 2 b_i)`, at logits from -1.5 to 1.

    The gradient is `-2 p_i (1 - p_i) prod_{j != i} (1 - 2 p_j)` and fades exponentially with the dimension. `f` is 1 or
    -1, and no bit tells anything without all the others, so a baseline has nothing to hold on to. `f` is multilinear,
    so straight-through is unbiased.
    """
    return Expectation(spread_bits("bernoulli-parity", dimension), Parity(), multilinear_truth)


@PROBLEMS.register("bernoulli-step")
def bernoulli_step(dimension: int = 4, threshold: Number = 2.0) -> Expectation:
    """`f(b) = 1 if sum_i b_i >= threshold, else 0`, at logits from -1.5 to 1.

    A reward without a derivative: relaxations and straight-through are refused, and what remains must do with values on
    the support. The truth is a sum over the support, so at most 16 bits have one.
    """
    return Expectation(spread_bits("bernoulli-step", dimension), AtLeast(threshold))
