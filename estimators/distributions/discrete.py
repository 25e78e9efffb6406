"""What a discrete distribution can do: sum over its events, take variables one at a time, or be relaxed.

The relaxable ones are the hard values of a perturbed variable that is continuous; the ordered ones have values with
neighbours, between which differences take the place of derivatives.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractDistribution, AbstractFixedSupport, AbstractTransformable, Event, Noise, Scalar


class AbstractEnumerable(AbstractFixedSupport):
    """A finite support, so that an expectation is a sum."""

    @property
    @abstractmethod
    def support_size(self) -> int:
        """The number of events."""

    @abstractmethod
    def support(self) -> Float[Array, "events ..."]:
        """Every event once, stacked along a new leading axis."""


class AbstractFactorized(AbstractDistribution):
    """An event is made of independent variables, and each of them has a finite support of its own.

    All variables have equally many values, in an order that the two methods share: value `c` of variable `i` has the
    probability `marginals()[i, c]`, and `replacements(x)[i, c]` is `x` with that value in place of its own.
    """

    @abstractmethod
    def marginals(self) -> Float[Array, "variables values"]:
        """The probability of each value of each variable, differentiable in the leaves."""

    @abstractmethod
    def replacements(self, x: Event) -> Float[Array, "variables values ..."]:
        """`x` with each variable in turn set to each of its values, and the others as they are."""


class AbstractSequential(AbstractFixedSupport):
    """An event is a sequence of decisions along its leading axis.

    A step is a state, whose law given the steps before does not depend on the leaves, and an action, whose law given
    the state is the policy. So `log p(x) = sum_t log pi(a_t | s_t)` up to what has no derivative, and given the steps
    before and the state, `d/d theta log pi(a_t | s_t)` has mean zero: it may be multiplied by anything that they decide.
    """

    @abstractmethod
    def states(self, x: Event) -> Float[Array, "steps states"]:
        """Which state each step found itself in, one-hot."""

    @abstractmethod
    def log_policy(self, x: Event) -> Float[Array, "steps"]:
        """The log-probability of each action given its state, differentiable in the leaves."""


class AbstractSummable(AbstractFixedSupport):
    """Variables that count, without an upper limit but with tails so light that an expectation is a finite sum up to
    rounding.

    What a window has to hold depends on the parameters, and its size is a shape: `span` says how large it should be,
    and whoever knows the parameters' values chooses `resolution` accordingly.
    """

    @abstractmethod
    def span(self) -> Scalar:
        """How many consecutive values hold each variable with probability `1 - 1e-18` or more."""

    @abstractmethod
    def window(self, resolution: int) -> Float[Array, "events ..."]:
        """The likeliest events: every combination of `resolution` consecutive values of each variable, once."""


class AbstractRelaxable(AbstractTransformable):
    """Discrete events are the rounding of a continuous latent, which can be smoothed instead of rounded.

    With `z = perturb(noise(key))`, the *perturbed logits*, `harden(z)` has the law of the events and `relax(z, t)`
    tends to it as the temperature falls. All but `harden` are differentiable in the leaves. The latent itself is passed
    on, not the noise it came from: near the rounding threshold `z` keeps its sign in floating point where `z - logits`
    would lose it.
    """

    @abstractmethod
    def perturb(self, noise: Noise) -> Noise:
        """The perturbed logits `z`."""

    @abstractmethod
    def relax(self, z: Noise, temperature: Scalar) -> Event:
        """A point in the convex hull of the support."""

    @abstractmethod
    def harden(self, z: Noise) -> Event:
        """The event that `z` rounds to."""

    @abstractmethod
    def mean(self) -> Event:
        """The expected event, a point in the convex hull of the support."""

    def transform(self, noise: Noise) -> Event:
        return self.harden(self.perturb(noise))


class AbstractConditionallyRelaxable(AbstractRelaxable):
    """The perturbed logits can be drawn from their law given the event that they round to: the coupling that REBAR rests
    on."""

    @abstractmethod
    def conditional(self, x: Event, noise: Noise) -> Noise:
        """Perturbed logits given that they round to `x`, made from fresh `noise`; differentiable in the leaves."""


class AbstractLatentDensity(AbstractRelaxable):
    """The perturbed logits of a relaxable distribution have a density that can be written down."""

    @abstractmethod
    def latent_log_prob(self, z: Noise) -> Scalar:
        """The log-density of `z = perturb(noise(key))`, differentiable in the leaves at fixed `z`."""


class AbstractAdditivelyPerturbed(AbstractRelaxable):
    """The perturbed logits are logits plus independent noise, and the event is the one that they favour.

    `perturb(noise)` is `perturb(0) + noise`, each entry of the noise has one density, positive on the whole line, and
    `harden(z)` maximises `<z, x>` over the events `x`: a linear programme. So another noise may be added to the logits,
    and a slope may be added to `z` to see where the event moves.
    """

    @abstractmethod
    def noise_score(self, noise: Noise) -> Noise:
        """Minus the derivative of the log-density of the noise, entry by entry; its mean is zero."""

    @abstractmethod
    def switched(self, x: Event) -> Float[Array, "..."]:
        """For every entry of an event (the leading axes), `x` with that entry switched and the other variables left
        alone."""


class AbstractOrdered(AbstractDistribution):
    """Independent discrete variables whose values have an order, and a distribution function differentiable in the
    leaves.

    Let `F` and `q` be the distribution and mass functions of one variable. As a parameter moves, probability flows
    across the boundary between `x` and the next value at the rate `-d/d theta F(x)`, upwards if that is positive.
    Divided by what is there, `rise = -d/d theta F(x) / q(x)` is the rate at which `x` turns into the next value, and
    `fall = d/d theta F(x - 1) / q(x)` the rate at which it turns into the one before. A negative rate is a flow the
    other way. The score is `-(rise + fall)`.
    """

    @property
    @abstractmethod
    def variables(self) -> tuple[int, ...]:
        """The shape of the independent variables: the leading axes of an event and of every leaf."""

    @abstractmethod
    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        """For each variable the event `x` with that variable moved to its next value (`direction` 1) or the one before
        (-1): axes of the variables, then those of the event. Where there is no such value it is another of the
        support."""

    @abstractmethod
    def rise(self, x: Event) -> "AbstractDistribution":
        """For each scalar parameter the rate above, of the one variable that depends on it; zero at a last value."""

    @abstractmethod
    def fall(self, x: Event) -> "AbstractDistribution":
        """For each scalar parameter the rate above, of the one variable that depends on it; zero at a first value."""


class AbstractCount(AbstractOrdered, AbstractFixedSupport):
    """Independent counts, one to each entry of the leaves: their values are 0, 1, 2, ... and have masses of their own."""

    @abstractmethod
    def log_masses(self, x: Event) -> Event:
        """The log-mass of each count of `x` under the law of its variable, differentiable in the leaves."""

    @abstractmethod
    def log_tail(self, n: int) -> Event:
        """For each variable `log P(x >= n)`, `n` at least 1, differentiable in the leaves: of small tails too, which are lost
        in one minus the masses below. Where it is beyond the range of the precision, it is a very negative constant."""

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(self.log_masses(x))


class AbstractLogitParameterized(AbstractDistribution):
    """Independent variables that each choose at most one of their coordinates, with a logit for every coordinate.

    A one-hot vector is such a variable, and so is a bit: the other coordinate of the choice, with logit zero, is left
    out. Coordinates are 0 or 1 and exclude each other, so that within a variable the covariance of an event with mean
    `q` is `diag(q) - q q^T`; and logits being natural parameters, that is the derivative of the mean in the logits.
    """

    logits: eqx.AbstractVar[Float[Array, "..."]]

    @abstractmethod
    def inner(self, u: Event, v: Event) -> Float[Array, "..."]:
        """The inner product of `u` and `v` within each variable, in a shape that broadcasts to that of the event."""

    def covariance(self, mean: Event, v: Event) -> Event:
        """The covariance of an event with mean `mean` times `v`; any point in the convex hull of the support may be
        `mean`."""
        return mean * (v - self.inner(mean, v))
