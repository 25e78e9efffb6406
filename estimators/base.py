"""The contract: what an estimator of `d/d theta E[f(x)], x ~ p_theta` is. Read this room first.

`estimate(key, state, dist, f)` returns a gradient with respect to the leaves of `dist`, as a module of the type of
`dist`. It is a gradient and not a surrogate loss, because a surrogate's second derivatives are wrong: a control variate
trained through a `stop_gradient` follows the wrong direction while every test of the mean stays green. Derivatives are
taken of explicit arguments.

State is read by `estimate` and changed only by `adapt`, so that an estimate never depends on a baseline that has seen
its own sample (which would shrink it), and so that replicates of a frozen state are independent and identically
distributed.

Two bases remove the boilerplate. A *stateless* estimator is one method, `gradient(key, dist, f)`. A *learned* one is
`gradient(key, control, dist, f)` and its first `control`, whose parameters follow the gradient of the second moment of
one estimate: the mean does not depend on them, so that is an unbiased gradient of the variance (Grathwohl et al.,
RELAX, 2018).
"""

import re
from abc import abstractmethod
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from .distributions.base import AbstractDistribution, AbstractFixedSupport, PRNGKey, Scalar
from .distributions.discrete import AbstractEnumerable
from .objectives import AbstractFunctional, AbstractObjective, AbstractSum, Objective, offers

Grads = TypeVar("Grads", bound=AbstractDistribution)
State = PyTree
Stats = PyTree

# An estimate that asks for more evaluations of `f`, or lists more events, than this is refused rather than tried.
MOST_EVALUATIONS = 2**20


class AbstractEstimator(eqx.Module):
    """An estimator of the gradient of `E[f(x)]` with respect to the leaves of `dist`.

    A subclass is final. Its numeric hyper-parameters are array fields (`eqx.field(converter=as_floating)`), so that one
    compiled program serves them all; integers that set shapes are `eqx.field(static=True)`. It declares

    - `unbiased`: whether the mean of an estimate is the gradient, for every `f` it accepts;
    - `requires`: the capabilities that it needs of the distribution and of the objective, as a tuple of classes.
    """

    unbiased: eqx.AbstractVar[bool]
    requires: eqx.AbstractVar[tuple[type, ...]]

    @abstractmethod
    def init(self, key: PRNGKey, dist: AbstractDistribution) -> State:
        """The state before any sample was seen; `None` if there is none."""

    @abstractmethod
    def estimate(self, key: PRNGKey, state: State, dist: Grads, f: Objective) -> tuple[Grads, Stats]:
        """One estimate, and statistics for `adapt` whose average over estimates is meaningful."""

    @abstractmethod
    def adapt(self, state: State, stats: Stats) -> State:
        """The next state, given the average of the statistics of some estimates made with this one."""

    @abstractmethod
    def evaluations(self, dist: AbstractDistribution) -> int:
        """How often one estimate calls `f`; a value with its derivative counts once. Of a functional, how many values of
        it could be made of what one estimate evaluates; of a sum, if that is required, how many of its terms it calls."""


class AbstractStatelessEstimator(AbstractEstimator):
    """An estimator with nothing to adapt: `gradient` is the whole of it."""

    @abstractmethod
    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        """One estimate of the gradient."""

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> None:
        del key, dist

    def estimate(self, key: PRNGKey, state: None, dist: Grads, f: Objective) -> tuple[Grads, None]:
        del state
        return self.gradient(key, dist, f), None

    def adapt(self, state: None, stats: None) -> None:
        del state, stats


class LearnedState(eqx.Module):
    """Parameters of a control variate or a baseline, and those of the optimiser that trains them."""

    control: PyTree
    optimizer: optax.OptState


class AbstractLearnedEstimator(AbstractEstimator):
    """An estimator with a control variate, trained by Adam on the second moment of one estimate."""

    learning_rate: eqx.AbstractVar[Float[Array, ""]]

    @abstractmethod
    def control(self, key: PRNGKey, dist: AbstractDistribution) -> PyTree:
        """The control parameters before training; every floating array in them is trained."""

    @abstractmethod
    def gradient(self, key: PRNGKey, control: PyTree, dist: Grads, f: Objective) -> Grads:
        """One estimate of the gradient, differentiable in `control`."""

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> LearnedState:
        return learned_state(self.control(key, dist))

    def estimate(self, key: PRNGKey, state: LearnedState, dist: Grads, f: Objective) -> tuple[Grads, PyTree]:
        def second_moment(control: PyTree) -> tuple[Scalar, Grads]:
            grads = self.gradient(key, control, dist, f)
            return squared_norm(grads), grads

        stats, grads = eqx.filter_grad(second_moment, has_aux=True)(state.control)
        return grads, stats

    def adapt(self, state: LearnedState, stats: PyTree) -> LearnedState:
        return learned_step(state, stats, self.learning_rate)


def learned_state(control: PyTree) -> LearnedState:
    """A control with a fresh Adam."""
    return LearnedState(control, optax.scale_by_adam().init(eqx.filter(control, eqx.is_inexact_array)))


def learned_step(state: LearnedState, slope: PyTree, learning_rate: Float[Array, ""]) -> LearnedState:
    """One step of Adam down `slope`, the gradient of a loss with respect to the control."""
    direction, optimizer = optax.scale_by_adam().update(slope, state.optimizer)
    # A learning rate may be more precise than the control, which keeps its own precision.
    step = jax.tree.map(lambda d: (-learning_rate * d).astype(d.dtype), direction)
    return LearnedState(eqx.apply_updates(state.control, step), optimizer)


def squared_norm(tree: PyTree) -> Scalar:
    """The sum of squares of all leaves."""
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def draw(key: PRNGKey, dist: AbstractDistribution, num_samples: int) -> Float[Array, "samples ..."]:
    """Independent events, stacked."""
    return jax.vmap(dist.sample)(jax.random.split(key, num_samples))


def score(dist: Grads, x: Float[Array, "..."]) -> Grads:
    """`d/d theta log p(x)`."""
    return jax.grad(lambda d: d.log_prob(x))(dist)


def weighted_score(dist: Grads, xs: Float[Array, "samples ..."], weights: Float[Array, "samples"]) -> Grads:
    """`sum_k weights_k d/d theta log p(xs_k)`, by one pullback."""
    return jax.grad(lambda d: jnp.vdot(weights, jax.vmap(d.log_prob)(xs)))(dist)


@jax.custom_vjp
def attach(value: Scalar, dist: Grads, grads: Grads) -> Scalar:
    """`value`, with `grads` as its derivative with respect to `dist`: how an estimate enters a training loop.

    Automatic differentiation of the result gives the estimate to whatever made `dist` (an encoder), and the ordinary
    derivative to whatever else made `value` (a decoder). `value` itself must not depend on `dist` differentiably, or
    that path is added.

    >>> from estimators import Bernoulli
    >>> grads = Bernoulli(logits=[7.0])
    >>> print(jax.grad(lambda w: attach(jnp.array(1.0), Bernoulli(logits=w * jnp.ones(1)), grads))(2.0))
    7.0
    """
    del dist, grads
    return value


def _attach_forward(value, dist, grads):
    return value, grads


def _attach_backward(grads, cotangent):
    return cotangent, jax.tree.map(lambda g: cotangent * g, grads), jax.tree.map(jnp.zeros_like, grads)


attach.defvjp(_attach_forward, _attach_backward)


def incompatibility(estimator: AbstractEstimator, dist: AbstractDistribution, f: Objective) -> str | None:
    """Why `estimator` cannot estimate the gradient of `E[f(x)]` under `dist`, as a sentence; `None` if it can.

    >>> from estimators import Bernoulli, Pathwise
    >>> incompatibility(Pathwise(), Bernoulli(logits=[0.0]), jnp.sum)
    '`Pathwise` needs a reparameterizable distribution, and `Bernoulli` is not one.'
    """
    name = type(estimator).__name__
    for capability in estimator.requires:
        if issubclass(capability, AbstractObjective):
            if not offers(f, capability):
                return f"`{name}` needs {_words(capability)} objective, and `{type(f).__name__}` does not declare to be one."
        elif not isinstance(dist, capability):
            return f"`{name}` needs {_words(capability)} distribution, and `{type(dist).__name__}` is not one."
    # Whoever asks nothing of the distribution has its density and samples only, and so multiplies by the score.
    if not _asks_of(estimator, AbstractDistribution) and not isinstance(dist, AbstractFixedSupport):
        return f"`{name}` asks nothing else of the distribution, so it needs a fixed support, and `{type(dist).__name__}` has none."
    if isinstance(f, AbstractFunctional) and not _asks_of(estimator, AbstractFunctional):
        return f"`{name}` asks for values at one event, and `{type(f).__name__}`, a functional of the law, has none."
    if calls(estimator, dist, f) > MOST_EVALUATIONS:
        return f"`{name}` would evaluate the objective more than {MOST_EVALUATIONS} times for one estimate, which is the limit."
    if AbstractEnumerable in estimator.requires and dist.support_size > MOST_EVALUATIONS:
        return f"`{name}` lists all events, and `{type(dist).__name__}` has more than {MOST_EVALUATIONS}, which is the limit."
    return None


def _asks_of(estimator: AbstractEstimator, kind: type) -> bool:
    """Whether one of the requirements is a capability of this kind."""
    return any(issubclass(capability, kind) for capability in estimator.requires)


def calls(estimator: AbstractEstimator, dist: AbstractDistribution, f: Objective) -> int:
    """How often one estimate calls `f`, or the function that `f` is made of if it is a functional, or the terms of a sum
    if the estimator asks for one.

    >>> from estimators import Bernoulli, ScoreFunction
    >>> calls(ScoreFunction(num_samples=3), Bernoulli(logits=[0.0]), jnp.sum)
    3
    """
    return estimator.evaluations(dist) * (f.arity if isinstance(f, AbstractFunctional) else 1)


def evaluations(estimator: AbstractEstimator, dist: AbstractDistribution, f: Objective) -> int:
    """What one estimate costs: its `calls`, where one of a sum costs as many as it has terms.

    So of a sum all is counted in terms, whether an estimator evaluates a few of them or `f` as a whole.

    >>> from estimators import Bernoulli, ScoreFunction
    >>> evaluations(ScoreFunction(num_samples=3), Bernoulli(logits=[0.0]), jnp.sum)
    3
    """
    as_a_whole = isinstance(f, AbstractSum) and not _asks_of(estimator, AbstractSum)
    return calls(estimator, dist, f) * (f.terms if as_a_whole else 1)


def _words(capability: type) -> str:
    """`AbstractWeaklyDifferentiable` as "a weakly differentiable"; a final class keeps its name."""
    if not capability.__name__.startswith("Abstract"):
        return f"a `{capability.__name__}`"
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", capability.__name__.removeprefix("Abstract")).lower()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
