r"""Unrolled systems: a parameter that acts at every step of a long run, and is judged by all of it.

`f(x) = 1/T sum_t cost(s_t)` with `s_t = step(s_(t-1), x)`, in windows of equal length: what estimators see who cannot
wait for the end of the run, or do not keep it in memory. The distribution is a point mass, so that the truth is the
gradient of `f` itself.

Each comes with a guess of its gradient: truncated backpropagation, which takes the state at the beginning of a window
as given.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, AbstractSurrogate, AbstractUnrolled, Delta
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .toys import Number, require_at_least

State = Float[Array, "entries"]


class AbstractSystem(AbstractUnrolled, AbstractSurrogate, AbstractDifferentiable):
    """A state and how it moves; its mean cost over `windows * length` steps."""

    start: eqx.AbstractVar[State]
    length: eqx.AbstractVar[int]

    @abstractmethod
    def step(self, state: State, x: Float[Array, "..."]) -> State:
        """The next state under the parameter `x`."""

    @abstractmethod
    def cost(self, state: State) -> Scalar:
        """What it costs to be there."""

    def losses(self, xs: Float[Array, "windows ..."]) -> Float[Array, "windows"]:
        def one(state: State, x: Float[Array, "..."]) -> tuple[State, Scalar]:
            state = self.step(state, x)
            return state, self.cost(state)

        costs = jax.lax.scan(one, self.start.astype(xs.dtype), jnp.repeat(xs, self.length, axis=0))[1]
        return jnp.sum(costs.reshape(self.windows, self.length), axis=1) / (self.windows * self.length)

    def surrogates(self, x: Float[Array, "..."]) -> Float[Array, "1 ..."]:
        """What truncated backpropagation gives: the derivative of each window's loss in its own parameter."""
        jacobian = jax.jacrev(self.losses)(jnp.broadcast_to(x, (self.windows, *x.shape)))
        return jnp.trace(jacobian)[None]


class LinearSystem(AbstractSystem):
    """`s_t = matrix s_(t-1) + x`, at the cost `|s_t - target|^2`."""

    matrix: Float[Array, "entries entries"] = eqx.field(converter=as_floating)
    start: State = eqx.field(converter=as_floating)
    target: State = eqx.field(converter=as_floating)
    windows: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, state: State, x: State) -> State:
        return self.matrix @ state + x

    def cost(self, state: State) -> Scalar:
        return jnp.sum((state - self.target) ** 2)


class GradientDescent(AbstractSystem):
    """`s_t = s_(t-1) - sigmoid(x) matrix s_(t-1)`, at the cost `1/2 s_t . matrix s_t`."""

    matrix: Float[Array, "entries entries"] = eqx.field(converter=as_floating)
    start: State = eqx.field(converter=as_floating)
    windows: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, state: State, x: State) -> State:
        return state - jax.nn.sigmoid(x) * (self.matrix @ state)

    def cost(self, state: State) -> Scalar:
        return state @ self.matrix @ state / 2


@jax.jit
def linear_truth(dist: Delta, f: LinearSystem) -> Delta:
    """`2/T sum_t C_t^T (C_t loc + A^t s_0 - target)`, with `C_t = 1 + A + ... + A^(t-1) = (1 - A)^-1 (1 - A^t)`."""
    identity, steps = jnp.eye(len(f.start), dtype=f.start.dtype), f.windows * f.length
    inverse = jnp.linalg.inv(identity - f.matrix)

    def slope(power: Float[Array, "entries entries"], _: None) -> tuple[Float[Array, "entries entries"], State]:
        power = f.matrix @ power
        response = inverse @ (identity - power)
        return power, response.T @ (response @ dist.loc + power @ f.start - f.target)

    return Delta(2 * jnp.mean(jax.lax.scan(slope, identity, length=steps)[1], axis=0))


def windows_of(family: str, steps: int, window: int) -> int:
    """How many windows of `window` steps there are in `steps`."""
    require_at_least(1, family, steps=steps, window=window)
    if steps % window:
        raise ValueError(f"`{family}` needs `steps` to be a multiple of `window`, got {steps} and {window}.")
    return steps // window


@PROBLEMS.register("unrolled-linear")
def unrolled_linear(steps: int = 12, window: int = 3, memory: Number = 0.8, angle: Number = 0.5) -> Expectation:
    """`f(x) = 1/T sum_t |s_t - target|^2` of a planar system `s_t = A s_(t-1) + x` that turns by `angle` in a step.

    `A` is `memory` times a rotation, so that what a parameter does is felt for about `1 / (1 - memory)` steps, and a
    window much shorter than that misses most of it. The losses are quadratic in the parameters of all windows:
    smoothing by perturbation, with the same noise for all or noise for each, does not change the gradient. So
    truncation is the only bias that evolution strategies have here.

    **References:** Vicol, Metz and Sohl-Dickstein, Unbiased gradient estimation in unrolled computation graphs with
    persistent evolution strategies, 2021, arXiv:2112.13835.
    """
    windows = windows_of("unrolled-linear", steps, window)
    if not 0 <= memory < 1:
        raise ValueError(f"`unrolled-linear` needs `0 <= memory < 1`, got {memory}; the system would not come to rest.")
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    f = LinearSystem(memory * turn, [1.0, -0.5], [0.5, 1.0], windows, window)
    return Expectation(Delta(loc=[0.6, 0.2]), f, linear_truth)


@PROBLEMS.register("unrolled-gradient-descent")
def unrolled_gradient_descent(steps: int = 12, window: int = 3, rate: Number = 0.1) -> Expectation:
    """`f(x) = 1/T sum_t 1/2 s_t . H s_t` along `s_t = s_(t-1) - sigmoid(x) H s_(t-1)`, with `H = [[1, 1/2], [1/2, 1]]`.

    `x` holds the logits of the learning rates of two weights, both at `rate`: a hyper-parameter tuned by what training
    costs with it. Rates below one keep the descent stable whatever the perturbation. `f` is not quadratic, so what
    perturbs `x` by a finite amount is biased by that, in proportion to the truth the more, the larger `rate` is.
    """
    windows = windows_of("unrolled-gradient-descent", steps, window)
    if not 0 < rate < 1:
        raise ValueError(f"`unrolled-gradient-descent` needs `0 < rate < 1`, got {rate}; it is a learning rate.")
    f = GradientDescent([[1.0, 0.5], [0.5, 1.0]], [1.0, -0.5], windows, window)
    return Expectation(Delta(loc=[np.log(rate / (1 - rate))] * 2), f)
