"""Toy expectations over Bernoulli variables, from the one-line classic to what it hides.

The scalar quadratic of REBAR and RELAX is degenerate: a constant baseline takes away all the variance of the score function, and at logit 0
straight-through is exact. Hence the asymmetric logits, the non-separable objectives and the several dimensions beside it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from estimators import AbstractDifferentiable, Bernoulli

from .base import PROBLEMS, Expectation, Scalar


class SquaredDistance(AbstractDifferentiable):
    """`f(x) = sum_i (x_i - target)^2`."""

    target: Float[Array, ""]

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum((x - self.target) ** 2)


@PROBLEMS.register("bernoulli-quadratic")
def bernoulli_quadratic(target: float = 0.45, logit: float = 0.0) -> Expectation:
    """One Bernoulli variable and `f(b) = (b - target)^2`.

    The toy of REBAR (target 0.45) and RELAX (0.499), where the gradient is `p (1 - p) (1 - 2 target)`.

    **References:** Tucker et al., REBAR, 2017, arXiv:1703.07370. Grathwohl et al., Backpropagation through the void, 2018, arXiv:1711.00123.
    """
    return Expectation(Bernoulli(logits=[logit]), SquaredDistance(jnp.asarray(target)))
