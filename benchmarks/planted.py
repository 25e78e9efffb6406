"""Planted bugs: right estimators with one well-known slip each, by which the power of the suite's own tests is measured.

Each declares to be unbiased and is not. They are in no registry. A slip shrinks or turns the gradient, so that with the
truth `g` its bias is known: it is `shrinkage * g`, with a negative `shrinkage`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from estimators import AbstractDistribution, AbstractEstimator, AbstractStatelessEstimator
from estimators.base import Grads, draw, weighted_score
from estimators.distributions.base import PRNGKey, Scalar
from estimators.objectives import Objective

# What is wrong, and the bias that it makes as a multiple of the truth.
SLIPS = {"wrong sign": -2.0, "no K / (K - 1)": -1 / 2, "one sample twice": -1 / 3, "mean of products": -1 / 2}


class Slip(AbstractStatelessEstimator):
    """Leave-one-out with two samples, and one thing wrong: with three of which two are the same, where a sample is drawn
    twice and is a part of its own baseline."""

    slip: str = eqx.field(static=True)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = ()

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 2)
        if self.slip == "one sample twice":
            xs = jnp.stack([xs[0], *xs])
        values = jax.vmap(f)(xs)
        sign = -1.0 if self.slip == "wrong sign" else 1.0
        divisor = len(xs) - (0 if self.slip == "no K / (K - 1)" else 1)
        if self.slip == "mean of products":
            # Averaging values and scores apart before multiplying them.
            return weighted_score(dist, xs, jnp.broadcast_to(jnp.mean(values) / 2, values.shape))
        return weighted_score(dist, xs, sign * (values - jnp.mean(values)) / divisor)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2

    @property
    def shrinkage(self) -> float:
        """The bias as a multiple of the truth.

        One sample twice: the sum of products has mean `3 g`, that of the samples with their mean `(2 * 2 + 1) / 3 g`, and
        half of the difference is `2 / 3 g`.
        """
        return SLIPS[self.slip]


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
