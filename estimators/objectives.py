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
from jaxtyping import Array, Float, Int

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


class AbstractLinearLayer(AbstractDifferentiable):
    """A loss of the weights of a linear layer, averaged over a minibatch, that sees them through pre-activations only.

    The event is a matrix `weights` with a row for each input and a column for each unit, and `f(weights) = loss(inputs
    @ weights)`. `loss` promises to be a sum of one term for each example, which depends on that example's row of the
    pre-activations alone. So its expectation depends on the law of each row and not on how rows are coupled.
    """

    inputs: eqx.AbstractVar[Float[Array, "examples inputs"]]

    @abstractmethod
    def loss(self, preactivations: Float[Array, "examples units"]) -> Scalar:
        """The mean loss of the examples at their pre-activations, differentiable in them."""

    def __call__(self, weights: Event) -> Scalar:
        return self.loss(self.inputs @ weights)


class AbstractSum(AbstractObjective):
    """A sum of `terms` functions of one event, `f(x) = sum_n term(n, x)`, of which an estimator may evaluate a few.

    Which are evaluated is then a second source of noise beside the event. The terms are numbered from zero. `f(x)`
    itself may be made in any way that is faster than term by term.
    """

    terms: eqx.AbstractVar[int]

    @abstractmethod
    def term(self, n: Int[Array, ""], x: Event) -> Scalar:
        """The value of term `n` at the event `x`; `n` may be traced."""


class AbstractSurrogate(AbstractObjective):
    """An objective that comes with guesses of its gradient: directions that are likely to have a part of it in them.

    Nothing is promised about them but that they are finite.
    """

    @abstractmethod
    def surrogates(self, x: Event) -> Float[Array, "directions ..."]:
        """Guesses of the gradient at the event `x`, stacked: at most as many as an event has entries."""


class AbstractUnrolled(AbstractObjective):
    """What a system costs that runs under one parameter, in windows of time: `f(x) = sum_w losses([x, ..., x])_w`.

    In each window another parameter may be in force. A window inherits the state of the one before, so the loss of
    window `w` depends on the parameters of the windows up to and including `w`, and on no later one.
    """

    windows: eqx.AbstractVar[int]

    @abstractmethod
    def losses(self, xs: Float[Array, "windows ..."]) -> Float[Array, "windows"]:
        """The loss of each window, with the parameter `xs[w]` in force in window `w`."""

    def __call__(self, x: Event) -> Scalar:
        return jnp.sum(self.losses(jnp.broadcast_to(x, (self.windows, *x.shape))))


class AbstractFunctional(AbstractObjective):
    """A functional of the law of the event that is no expectation of a function of one event.

    A bound `E[log mean_k p(x, z_k) / q(z_k)]`, say, takes several events at once and has `q` inside. An estimator for
    `E[f(x)]` that was handed a frozen copy of `q` would leave out a part of the derivative, without a sign that it did;
    so a functional has no value at an event, and is accepted only by estimators that require it by name. Its derivative
    is the total one, through the events and through everything else.
    """

    @property
    @abstractmethod
    def inner(self) -> Objective:
        """The function of one event that it is made of; what that offers (a derivative) the functional offers."""

    @property
    @abstractmethod
    def arity(self) -> int:
        """How many values of `inner` one value takes; 1 where the estimator chooses how many events it spends."""

    def __call__(self, x: Event) -> Scalar:
        raise TypeError(
            f"`{type(self).__name__}` is a functional of the law of the event and has no value at one event; "
            "use an estimator that requires it."
        )


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


class AbstractRegularizedLogWeight(AbstractLogWeight):
    """A log-weight whose model has a prior, `log p(x, z) = log p(x | z) + log p(z)`, and whose divergence of `q` from that
    prior has a closed form: the bound is `E[log p(x | z)] - KL(q || p)`."""

    prior: eqx.AbstractVar[AbstractDistribution]

    @abstractmethod
    def log_likelihood(self, z: Event) -> Scalar:
        """`log p(x | z)` for the datum `x` that `f` is about."""

    @abstractmethod
    def divergence(self, dist: AbstractDistribution) -> Scalar:
        """`KL(dist || prior) = E[log dist(z) - log p(z)], z ~ dist`, differentiable in the leaves of `dist`."""

    def log_joint(self, z: Event) -> Scalar:
        return self.log_likelihood(z) + self.prior.log_prob(z)


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
    """Whether `f` has `capability`; a plain function counts as differentiable, a functional as what it is made of."""
    if isinstance(f, AbstractFunctional) and capability is AbstractDifferentiable:
        return offers(f.inner, capability)
    if isinstance(f, AbstractObjective):
        return isinstance(f, capability)
    return capability is AbstractDifferentiable
