"""Baselines that adapt: the score function minus a prediction of `f(x)` made from samples of the past.

`d/d theta E[f(x)] = E[(f(x) - b) d/d theta log p(x)]` for every `b` that does not depend on `x`. The estimators of this
room learn `b` along the way. An estimate *uses* the baseline that the state holds and hands its own sample on as a
statistic; only `adapt` lets it in. The other order, update then use, shrinks the mean: `f(x)` differs from a moving
average that has already taken it in with weight `1 - c` by `c` times what it should.

Every estimator here draws its sample as `ScoreFunction(num_samples=1)` does: with a baseline of zero it is that one,
draw for draw.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .base import (
    AbstractEstimator,
    Grads,
    LearnedState,
    PRNGKey,
    draw,
    learned_state,
    learned_step,
    score,
    weighted_score,
)
from .distributions import AbstractDistribution, AbstractFixedSupport
from .distributions.base import Scalar, as_floating, precision
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_positive


class RunningMean(eqx.Module):
    """A mean of past values with geometric weights, zero before there are any, and the sum of those weights.

    The recursion is that of the weighted mean itself, so there is no start-up bias to divide out, and a constant is
    reproduced exactly.
    """

    mean: PyTree
    weight: Scalar

    def updated(self, value: PyTree, decay: Scalar | float) -> "RunningMean":
        """The mean with `value` at weight one and all older ones at `decay` times their weight."""
        weight = (decay * self.weight + 1).astype(self.weight.dtype)
        mean = jax.tree.map(lambda mean, new: mean + ((new - mean) / weight).astype(mean.dtype), self.mean, value)
        return RunningMean(mean, weight)


def _zero(dist: AbstractDistribution) -> Scalar:
    return jnp.zeros((), precision(dist))


def require_decay(estimator: AbstractEstimator) -> None:
    """Raise `ValueError` unless `decay` is in `[0, 1)`; a value that is traced passes."""
    decay = estimator.decay
    if not isinstance(decay, jax.core.Tracer) and not np.all((np.asarray(decay) >= 0) & (np.asarray(decay) < 1)):
        raise ValueError(
            f"`{type(estimator).__name__}` needs `0 <= decay < 1`, got {decay}; 0.99 remembers about a hundred steps."
        )


@ESTIMATORS.register("moving-average-baseline")
class MovingAverageBaseline(AbstractEstimator):
    r"""The score function with a moving average of past values of `f` as baseline.

    For a sample $x$ of `dist` and $m$ the mean of past values, the latest at weight one and each older one at `decay`
    times the next,

    $$\hat g = (f(x) - m)\, \nabla \log p(x), \qquad m = 0 \text{ before any value}.$$

    Unbiased, because $m$ has not seen $x$. Needs `log_prob` and a fixed support; one evaluation of `f`. Published code
    often updates the average before it uses it, which multiplies the mean by `decay`, or leaves the start-up bias
    towards zero in; this is neither.

    >>> from estimators import Bernoulli
    >>> estimator, dist = MovingAverageBaseline(decay=0.5), Bernoulli(logits=[0.0])
    >>> state = estimator.init(jax.random.key(0), dist)
    >>> for value in jnp.array([1.0, 4.0]):
    ...     state = estimator.adapt(state, value)
    >>> print(state.mean)
    3.0

    **References:** Williams, Simple statistical gradient-following algorithms for connectionist reinforcement learning,
    1992.
    """

    decay: Float[Array, ""] = eqx.field(converter=as_floating, default=0.99)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        require_decay(self)

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> RunningMean:
        del key
        return RunningMean(_zero(dist), _zero(dist))

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: Objective) -> tuple[Grads, Scalar]:
        xs = draw(key, dist, 1)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs, values - state.mean), values[0]

    def adapt(self, state: RunningMean, stats: Scalar) -> RunningMean:
        return state.updated(stats, self.decay)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


class LearnedBaselineState(eqx.Module):
    """The network with its optimiser, and the running mean and variance of `f` that its output is measured in."""

    learned: LearnedState
    signal: RunningMean


@ESTIMATORS.register("learned-baseline")
class LearnedBaseline(AbstractEstimator):
    r"""The score function with a neural network as baseline (NVIL, without its variance normalisation).

    For a sample $x$ of `dist`, the network $h_\psi$ of one hidden layer of `width` tanh units, and the mean $c$ and
    standard deviation $\sigma$ of past values of `f` with weights that fall by `decay`,

    $$\hat g = (f(x) - B_\psi)\, \nabla \log p(x), \qquad B_\psi = c + \sigma\, h_\psi(\theta),$$

    where $\theta$ are the leaves of `dist`. Wherever an encoder made them they are a function of its input, so this is
    an input-dependent baseline; on a single distribution it is a learned constant. Adam takes $\psi$ down the gradient
    of $(f(x) - B_\psi)^2 / \sigma^2$, which makes the whole equivariant to the scale of `f`.

    Unbiased, because $B_\psi$ has not seen $x$. The paper also divides the signal by a running estimate of its standard
    deviation; that rescales the gradient, and is left out here. Needs `log_prob` and a fixed support; one evaluation of
    `f`.

    >>> from estimators import Bernoulli
    >>> LearnedBaseline(width=8).evaluations(Bernoulli(logits=[0.0]))
    1

    **References:** Mnih and Gregor, Neural variational inference and learning in belief networks, 2014,
    arXiv:1402.0030.
    """

    width: int = eqx.field(static=True, default=100)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=1e-3)
    decay: Float[Array, ""] = eqx.field(converter=as_floating, default=0.99)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        require_positive(self, "width")
        require_positive(self, "learning_rate")
        require_decay(self)

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> LearnedBaselineState:
        zero = _zero(dist)
        network = eqx.nn.MLP(
            _features(dist).size, "scalar", self.width, depth=1, activation=jnp.tanh, dtype=zero.dtype, key=key
        )
        return LearnedBaselineState(learned_state(network), RunningMean((zero, zero), zero))

    def estimate(self, key: PRNGKey, state: LearnedBaselineState, dist: Grads, f: Objective) -> tuple[Grads, PyTree]:
        xs = draw(key, dist, 1)
        value = jax.vmap(f)(xs)[0]
        center, variance = state.signal.mean
        deviation, scale = value - center, jnp.sqrt(variance)
        # No spread was seen yet: the baseline is the constant `center`, and the network is held at zero.
        target = jnp.where(scale > 0, deviation / jnp.where(scale > 0, scale, 1), 0)
        network, features = state.learned.control, _features(dist)
        slope, prediction = eqx.filter_grad(_squared_error, has_aux=True)(network, features, target)
        grads = weighted_score(dist, xs, (deviation - scale * prediction)[None])
        return grads, (slope, (value, deviation**2))

    def adapt(self, state: LearnedBaselineState, stats: PyTree) -> LearnedBaselineState:
        slope, moments = stats
        signal = state.signal.updated(moments, self.decay)
        center, spread = signal.mean
        # The squares were taken about the mean before this update; about the new one they are smaller by the square of
        # its step.
        variance = jnp.maximum(spread - (center - state.signal.mean[0]) ** 2, 0)
        learned = learned_step(state.learned, slope, self.learning_rate.astype(variance.dtype))
        return LearnedBaselineState(learned, RunningMean((center, variance), signal.weight))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


def _features(dist: AbstractDistribution) -> Float[Array, "features"]:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(dist)])


def _squared_error(network: eqx.nn.MLP, features: Float[Array, "features"], target: Scalar) -> tuple[Scalar, Scalar]:
    prediction = network(features)
    return (target - prediction) ** 2, prediction


@ESTIMATORS.register("optimal-baseline")
class OptimalBaseline(AbstractEstimator):
    r"""The score function with the constant baseline of least variance, one for each parameter.

    For a sample $x$ of `dist` with score $s = \nabla \log p(x)$, and the means over all samples of the past,

    $$\hat g_i = (f(x) - b_i)\, s_i, \qquad b_i = \overline{f s_i^2} \,/\, \overline{s_i^2},$$

    with $b_i = 0$ before any sample; $b_i$ tends to the minimiser $E[f s_i^2] / E[s_i^2]$ of the variance of
    $(f(x) - b_i)\, s_i$. It is not the mean of `f`, which can be worse than no baseline at all.

    Unbiased, because $b$ has not seen $x$; estimated from the same sample it would not be. Needs `log_prob` and a fixed
    support; one evaluation of `f`.

    >>> from estimators import Bernoulli
    >>> estimator, dist = OptimalBaseline(), Bernoulli(logits=[0.0])
    >>> state = estimator.init(jax.random.key(0), dist)
    >>> print(estimator.baseline(state).logits)
    [0.]

    **References:** Greensmith, Bartlett and Baxter, Variance reduction techniques for gradient estimates in
    reinforcement learning, 2004. Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine
    learning, 2020, arXiv:1906.10652.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> RunningMean:
        del key
        zeros = jax.tree.map(jnp.zeros_like, dist)
        return RunningMean((zeros, zeros), _zero(dist))

    def baseline(self, state: RunningMean) -> AbstractDistribution:
        """The baseline of each parameter; zero where the score has been zero so far."""
        weighted, squares = state.mean
        return jax.tree.map(lambda a, b: a / jnp.where(b > 0, b, 1), weighted, squares)

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: Objective) -> tuple[Grads, PyTree]:
        xs = draw(key, dist, 1)
        value, slopes = jax.vmap(f)(xs)[0], score(dist, xs[0])
        squares = jax.tree.map(jnp.square, slopes)
        grads = jax.tree.map(lambda s, b: ((value - b) * s).astype(s.dtype), slopes, self.baseline(state))
        return grads, (jax.tree.map(lambda square: value * square, squares), squares)

    def adapt(self, state: RunningMean, stats: PyTree) -> RunningMean:
        return state.updated(stats, 1.0)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
