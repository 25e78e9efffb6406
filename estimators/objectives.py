"""Objectives: the `f` in `E[f(x)]`, and what an `f` may reveal beyond its values.

Any function of one event that returns a scalar is an objective. A plain function is taken at its word: it is
differentiable wherever an estimator evaluates it, inside the convex hull of the support included. One that is not says
so by being a module of this room: an `AbstractObjective` offers its values on the support and nothing else, and each
subclass below adds one capability that an estimator can require.
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .distributions.base import AbstractDistribution

Event = Float[Array, "..."]
Scalar = Float[Array, ""]
Objective = Callable[[Event], Scalar]


class AbstractObjective(eqx.Module):
    """A function of one event whose values on the support are all that may be asked of it."""

    @abstractmethod
    def __call__(self, x: Event) -> Scalar:
        """The value at the event `x`, a scalar."""


class AbstractDifferentiable(AbstractObjective):
    """An objective defined and differentiable on the convex hull of the support.

    This is what relaxations, straight-through and pathwise estimators need. A step function has a derivative almost
    everywhere and is *not* one: its derivative says nothing about its differences.
    """


class AbstractLogWeight(AbstractDifferentiable):
    """The integrand `f(z) = log p(x, z) - log q(z)` of an evidence bound, which reveals its two parts.

    `posterior` is a copy of `q` that belongs to `f`: an estimator differentiates its own `dist`, which has the same
    values, and never this one. What that leaves out, `E[d/d theta log q(z)]`, is zero.
    """

    posterior: eqx.AbstractVar[AbstractDistribution]

    @abstractmethod
    def log_joint(self, z: Event) -> Scalar:
        """`log p(x, z)` for the datum `x` that `f` is about."""

    def __call__(self, z: Event) -> Scalar:
        return self.log_joint(z) - self.posterior.log_prob(z)


class AbstractReturn(AbstractObjective):
    """The discounted return of a sequence of steps, `f(x) = sum_t discount^t rewards(x)_t`, which reveals its terms.

    Steps are the leading axis of the event, and the reward of a step depends on that step and those before it alone:
    what is decided later cannot change it. Discounting counts from the first step.
    """

    discount: eqx.AbstractVar[Float[Array, ""]]

    @abstractmethod
    def rewards(self, x: Event) -> Float[Array, "steps"]:
        """What each step earns, not discounted."""

    def __call__(self, x: Event) -> Scalar:
        rewards = self.rewards(x)
        return jnp.vdot(self.discounts(rewards), rewards)

    def discounts(self, rewards: Float[Array, "steps"]) -> Float[Array, "steps"]:
        """What a reward of one is worth at each step; one at the first."""
        return self.discount.astype(rewards.dtype) ** jnp.arange(rewards.size, dtype=rewards.dtype)


class BlackBox(AbstractObjective):
    """`function`, declared to have values on the support only: a simulator, a reward, a step.

    >>> import jax.numpy as jnp
    >>> print(BlackBox(lambda x: jnp.where(x.sum() > 0, 1.0, 0.0))(jnp.ones(2)))
    1.0
    """

    function: Objective

    def __call__(self, x: Event) -> Scalar:
        return self.function(x)


def offers(f: Objective, capability: type[AbstractObjective]) -> bool:
    """Whether `f` has `capability`; a plain function counts as differentiable."""
    if isinstance(f, AbstractObjective):
        return isinstance(f, capability)
    return capability is AbstractDifferentiable
