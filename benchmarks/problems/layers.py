r"""Bayesian layers: the weights of a layer are normal variables, and the loss is a mean over a fixed minibatch.

The pre-activations $h_{nj} = \sum_i x_{ni} W_{ij}$ of an example are independent normal variables with mean `x_n loc`
and variance `x_n^2 scale^2`, so an expectation over all weights is one over a line for each example and unit: a closed
form for a squared error of `h` itself, one-dimensional quadrature behind a non-linearity. The divergence from the
prior, whose gradient needs no sample, is left out.

The data are normal quantiles of an additive recurrence (a low-discrepancy sequence): without a random number, the same
in every version of any library, and of a larger minibatch the smaller ones are the beginning. The first input is the
constant 1, so that a layer has biases, and examples have something in common.

**References:** Kingma, Salimans and Welling, Variational dropout and the local reparameterization trick, 2015,
arXiv:1506.02557. Wen, Vicol, Ba, Tran and Grosse, Flipout, 2018, arXiv:1803.04386.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

from estimators import AbstractLinearLayer, Normal
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, require_at_least


class SquaredError(AbstractLinearLayer):
    """`1/B sum_n |h_n - targets_n|^2` of pre-activations `h`."""

    inputs: Float[Array, "examples inputs"] = eqx.field(converter=as_floating)
    targets: Float[Array, "examples units"] = eqx.field(converter=as_floating)

    def loss(self, preactivations: Float[Array, "examples units"]) -> Scalar:
        return jnp.sum((preactivations - self.targets) ** 2) / len(self.targets)


class HiddenSquaredError(AbstractLinearLayer):
    """`1/B sum_n (tanh(h_n) . readout - targets_n)^2` of pre-activations `h`."""

    inputs: Float[Array, "examples inputs"] = eqx.field(converter=as_floating)
    targets: Float[Array, "examples"] = eqx.field(converter=as_floating)
    readout: Float[Array, "units"] = eqx.field(converter=as_floating)

    def loss(self, preactivations: Float[Array, "examples units"]) -> Scalar:
        return jnp.mean((jnp.tanh(preactivations) @ self.readout - self.targets) ** 2)


@jax.jit
def linear_truth(dist: Normal, f: SquaredError) -> Normal:
    """The gradient of `f(loc) + 1/B sum_n x_n^2 scale^2`, which is `E[f(W)]`."""
    return jax.grad(lambda d: f(d.loc) + jnp.sum(f.inputs**2 @ d.scale**2) / len(f.inputs))(dist)


@jax.jit
def hidden_truth(dist: Normal, f: HiddenSquaredError) -> Normal:
    """The gradient of `1/B sum_n (sum_j v_j m_nj - y_n)^2 + sum_j v_j^2 (s_nj - m_nj^2)`, where `m` and `s` are the
    means of `tanh(h)` and of its square, by quadrature."""
    line, weights = Normal([0.0], [0.0]).nodes(257)

    def expectation(d: Normal) -> Scalar:
        deviation = jnp.sqrt(f.inputs**2 @ d.scale**2)
        activations = jnp.tanh((f.inputs @ d.loc)[..., None] + deviation[..., None] * line[:, 0][None, None])
        mean, square = activations @ weights, activations**2 @ weights
        return jnp.mean((mean @ f.readout - f.targets) ** 2 + (square - mean**2) @ f.readout**2)

    return jax.grad(expectation)(dist)


def quasi_normal(count: int, dimension: int) -> np.ndarray:
    """Normal quantiles of the fractional parts of `1/2 + n g^-i`, for `n` from 1 to `count` and `i` from 1 to
    `dimension`, where `g` is the root of `g^(dimension + 1) = g + 1`."""
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dimension + 1))
    steps = np.arange(1, count + 1)[:, None] * root ** -np.arange(1, dimension + 1)
    return ndtri((0.5 + steps) % 1)


def minibatch(family: str, batch: int, inputs: int, units: int, scale: Number) -> tuple[Normal, np.ndarray, np.ndarray]:
    """Weights half-way to those of a teacher, the inputs, and the teacher's pre-activations."""
    require_at_least(1, family, batch=batch, inputs=inputs, units=units)
    if scale <= 0:
        raise ValueError(f"`{family}` needs `scale > 0`, got {scale}; it is the standard deviation of a weight.")
    examples = np.concatenate([np.ones((batch, 1)), quasi_normal(batch, inputs)[:, 1:]], axis=1)
    teacher = quasi_normal(inputs, units) / math.sqrt(inputs)
    return Normal(0.5 * teacher, np.full((inputs, units), math.log(scale))), examples, examples @ teacher


@PROBLEMS.register("bayesian-linear")
def bayesian_linear(batch: int = 16, inputs: int = 4, units: int = 2, scale: Number = 0.3) -> Expectation:
    """`f(W) = 1/B sum_n |x_n W - y_n|^2` of normal weights `W`, for `batch` examples of a teacher with the same shape.

    The gradient of `E[f(W)]` is `2/B x^T (x loc - y)` in `loc`, and `2/B scale^2 sum_n x_n^2` in `log_scale`.
    """
    dist, examples, targets = minibatch("bayesian-linear", batch, inputs, units, scale)
    return Expectation(dist, SquaredError(examples, targets), linear_truth)


@PROBLEMS.register("bayesian-hidden-layer")
def bayesian_hidden_layer(batch: int = 16, inputs: int = 4, units: int = 2, scale: Number = 0.3) -> Expectation:
    """`f(W) = 1/B sum_n (sum_j v_j tanh(x_n W)_j - y_n)^2` of normal weights `W`, for `batch` examples of a teacher.

    The readout `v` is fixed, its entries 1, -1, 1, ..., and `y_n` is the teacher's output. The truth is a quadrature
    over each pre-activation.
    """
    dist, examples, preactivations = minibatch("bayesian-hidden-layer", batch, inputs, units, scale)
    readout = np.where(np.arange(units) % 2 == 0, 1.0, -1.0)
    f = HiddenSquaredError(examples, np.tanh(preactivations) @ readout, readout)
    return Expectation(dist, f, hidden_truth, "quadrature")
