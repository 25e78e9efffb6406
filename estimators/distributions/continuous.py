"""What a continuous distribution can do: move its events with its leaves, in one way or another, or be integrated.

An event moves as a function of a noise that knows nothing of the leaves, as the root of an equation, or with a velocity
of its own; and where only a part of the dependence can be taken out of the noise, the rest is left to a score.
"""

from abc import abstractmethod

import jax
from jaxtyping import Array, Float

from .base import (
    AbstractDistribution,
    AbstractFixedSupport,
    AbstractStratifiable,
    AbstractTransformable,
    Event,
    Noise,
    PRNGKey,
    Scalar,
)


class AbstractInvertible(AbstractStratifiable):
    """Independent real variables, each the inverse of its distribution function at a uniform variable.

    The event is non-decreasing in its noise, and of all couplings of two parameters by one noise this keeps the events
    closest together.
    """

    @abstractmethod
    def quantile(self, u: Noise) -> Event:
        """For each variable the least value at which the distribution function exceeds `u`, of [0, 1)."""

    def noise(self, key: PRNGKey) -> Noise:
        (dtype,) = {leaf.dtype for leaf in jax.tree.leaves(self)}
        return jax.random.uniform(key, self.event_shape, dtype)

    def noise_at(self, u: Noise) -> Noise:
        return u

    def transform(self, noise: Noise) -> Event:
        return self.quantile(noise)

    def sample(self, key: PRNGKey) -> Event:
        return self.quantile(self.noise(key))


class AbstractReparameterizable(AbstractTransformable):
    """Events are a differentiable function of the leaves and of noise that does not depend on them."""

    @abstractmethod
    def reparameterize(self, noise: Noise) -> Event:
        """The event that `noise` becomes, differentiable in the leaves."""

    def transform(self, noise: Noise) -> Event:
        return self.reparameterize(noise)


class AbstractRotatable(AbstractReparameterizable):
    """The noise has the shape of an event, and all of its entries together have a law that no rotation changes, as
    independent standard normal ones have.

    So where the noise turns, at `A noise` with `A` antisymmetric, the law of the event stays: there are velocities along
    which an event moves and no probability is carried.
    """


class AbstractCorrelated(AbstractRotatable):
    """The event is a linear function of the noise, and parameters say with what weight a coordinate of the noise enters a
    coordinate of the event: each such parameter has a place in the matrix of weights."""

    @abstractmethod
    def entries(self, matrix: Float[Array, "size size"]) -> "AbstractDistribution":
        """Of a matrix with a row for each coordinate of the event and a column for each of the noise, the entry at the
        place of each parameter, as a module of this type; zero for the parameters that have no place."""


class AbstractImplicitlyReparameterizable(AbstractDistribution):
    """Events move with the leaves, although no noise of a fixed law need make them.

    An event is made of variates that are drawn under the leaves. As the leaves change, each variate moves so that it
    keeps to its law: where its distribution function is `F` and its density `q`, at the speed `-(d/d theta F) / q`, and
    several of them one after the other, by the law of each given those before. So `d/d theta E[f(x)]` is the mean of the
    derivative of `f(implicit(variates))` at fixed variates (Figurnov, Mohamed and Mnih, Implicit reparameterization
    gradients, 2018).
    """

    @abstractmethod
    def variates(self, key: PRNGKey) -> Noise:
        """What an event is made of, drawn under the leaves."""

    @abstractmethod
    def implicit(self, variates: Noise) -> Event:
        """The event that the variates make, differentiable in the leaves, with which they move; how they were drawn is
        not differentiated."""

    def sample(self, key: PRNGKey) -> Event:
        return self.implicit(self.variates(key))


class AbstractTransportable(AbstractDistribution):
    """Events move with the leaves at a velocity that their own position decides, along which probability is carried.

    For each parameter, `d/d theta p + div(p v) = 0` and nothing flows out of the support, so that `d/d theta E[f(x)] =
    E[<grad f(x), v(x)>]`. On the line there is one such velocity, `-(d/d theta F) / p`; elsewhere there are many, and
    the mean, given `x`, of any velocity that depends on more than `x` is another.
    """

    @abstractmethod
    def transport(self, x: Event) -> Event:
        """The event `x`, with the velocity there for its derivative in the leaves."""


class AbstractStandardizable(AbstractDistribution):
    """Events are a differentiable and invertible function of the leaves and of a noise that the leaves have been taken
    out of as far as its first two moments go: it has mean 0 and variance 1, in a law that still depends on them."""

    @abstractmethod
    def standardized(self, key: PRNGKey) -> Noise:
        """The noise, drawn under the leaves."""

    @abstractmethod
    def restore(self, noise: Noise) -> Event:
        """The event that it makes, differentiable in the leaves."""

    @abstractmethod
    def standardized_log_prob(self, noise: Noise) -> Scalar:
        """Its log-density, differentiable in the leaves."""


class AbstractAcceptanceRejection(AbstractDistribution):
    """Events are a differentiable function of the leaves and of what a rejection sampler accepts.

    The proposals have a fixed law, and which of them are accepted depends on the leaves. Some families are made easier
    to propose for, the more the larger `augmentation` is, and brought back by further noise of a fixed law.
    """

    @abstractmethod
    def accepted(self, key: PRNGKey, augmentation: int) -> Noise:
        """All of the noise that makes an event, drawn under the leaves; its shape reveals `augmentation`."""

    @abstractmethod
    def from_accepted(self, noise: Noise) -> Event:
        """The event that it makes, differentiable in the leaves."""

    @abstractmethod
    def accepted_log_prob(self, noise: Noise) -> Scalar:
        """Its log-density, differentiable in the leaves, up to what they have no part in."""


class AbstractMixture(AbstractDistribution):
    """An event is drawn from one of several reparameterizable laws, each with a probability of its own."""

    @abstractmethod
    def mixing(self) -> Float[Array, "components"]:
        """The probability of each component, differentiable in the leaves."""

    @abstractmethod
    def component_noise(self, key: PRNGKey) -> Noise:
        """Noise for every component, whose law does not depend on the leaves."""

    @abstractmethod
    def components(self, noise: Noise) -> Float[Array, "components ..."]:
        """One event of every component, differentiable in the leaves."""


class AbstractIntegrable(AbstractReparameterizable):
    """The law of the noise has a quadrature rule, so that a smooth expectation is a weighted sum."""

    @abstractmethod
    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
        """Noise values and their weights, `resolution` to a dimension; the weights sum to one up to rounding."""


class AbstractOverdispersible(AbstractFixedSupport):
    """An exponential family in which natural parameters may be divided by any number of at least one."""

    @abstractmethod
    def overdispersed(self, dispersion: Scalar) -> "AbstractDistribution":
        """The member of the family, a module of this type, with the natural parameters divided by `dispersion`; of the
        same values at a dispersion of one."""
