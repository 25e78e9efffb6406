"""Planted bugs: right estimators with one well-known slip each, by which the power of the suite's own tests is measured.

Each declares to be unbiased and is not. They are in no registry. A slip shrinks or turns the gradient, so that with the
truth `g` its bias is known: it is `shrinkage * g`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from estimators import AbstractDistribution, AbstractEstimator, AbstractStatelessEstimator
from estimators.base import Grads, draw, weighted_score
from estimators.distributions.base import PRNGKey, Scalar
from estimators.objectives import Objective

SLIPS = ("wrong sign", "no K / (K - 1)", "one sample twice", "mean of products")


class Slip(AbstractStatelessEstimator):
    """Two samples with each other's value as baseline, and one thing wrong."""

    slip: str = eqx.field(static=True)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = ()

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 2)
        if self.slip == "one sample twice":
            xs = jnp.stack([xs[0], xs[0]])
        values = jax.vmap(f)(xs)
        sign = -1.0 if self.slip == "wrong sign" else 1.0
        divisor = 2.0 if self.slip == "no K / (K - 1)" else 1.0
        centred = values - jnp.mean(values)
        if self.slip == "mean of products":
            # Averaging values and scores apart before multiplying them.
            return weighted_score(dist, xs, jnp.broadcast_to(jnp.mean(values) / 2, values.shape))
        return weighted_score(dist, xs, sign * centred / divisor)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2

    @property
    def shrinkage(self) -> float:
        """The bias as a multiple of the truth."""
        return {"wrong sign": -2.0, "no K / (K - 1)": -0.5, "one sample twice": -1.0, "mean of products": -0.5}[
            self.slip
        ]


class UpdateThenUse(AbstractEstimator):
    """A moving average that has already taken in the sample that it is the baseline of."""

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = ()
    shrinkage: ClassVar[float] = -0.1

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> Scalar:
        del key
        return jnp.zeros((), jnp.result_type(*jax.tree.leaves(dist)))

    def estimate(self, key: PRNGKey, state: Scalar, dist: Grads, f: Objective) -> tuple[Grads, Scalar]:
        xs = draw(key, dist, 1)
        value = f(xs[0])
        average = 0.9 * state + 0.1 * value
        return weighted_score(dist, xs, (value - average)[None]), value

    def adapt(self, state: Scalar, stats: Scalar) -> Scalar:
        return (0.9 * state + 0.1 * stats).astype(state.dtype)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


def planted() -> dict[str, AbstractEstimator]:
    """All of them, by what is wrong."""
    return {**{slip: Slip(slip) for slip in SLIPS}, "update before use": UpdateThenUse()}
