r"""Sampling without replacement: different events, and importance weights that make up for it.

Whole events are drawn, as categories of one categorical variable. Add independent Gumbel noise to the log-probabilities
of all of them: the largest perturbed log-probabilities, in their order, are a sample without replacement (Gumbel
top-k). Let $\kappa$ be the largest of those that were left out. *Given* $\kappa$, event $x$ was drawn with probability
$q_\kappa(x) = P(\log p(x) + \mathrm{Gumbel} > \kappa) = 1 - \exp(-\exp(\log p(x) - \kappa))$, independently of the
other events, so that

$$E \sum_{x \in S} \frac{p(x)}{q_\kappa(x)} h(x) = \sum_x p(x) h(x) \quad \text{for every } h$$

(priority sampling), and likewise for pairs of different events with the product of their weights. What is done with
these weights tells the estimators of this room apart; `unordered_set` and `sum_and_sample` draw the same way and forget
$\kappa$. A weight is as large as $\exp(\kappa)$, whose tail is that of $T^{-1}$ with a density of $T$ that vanishes as
$T^n$, for $n$ samples: moments of order $n + 1$ and more are infinite.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import AbstractStatelessEstimator, Grads, PRNGKey, weighted_score
from .distributions import AbstractDistribution, AbstractEnumerable
from .distributions.base import Scalar
from .objectives import Objective
from .registration import ESTIMATORS

LogProbs = Float[Array, "events"]
Samples = Float[Array, "samples"]


def listed(dist: AbstractEnumerable) -> tuple[Float[Array, "events ..."], LogProbs]:
    """All events, and the logarithms of their probabilities."""
    events = dist.support()
    return events, jax.vmap(dist.log_prob)(events)


def sample_without_replacement(
    key: PRNGKey, log_probs: LogProbs, num_samples: int
) -> tuple[Int[Array, "samples"], Scalar]:
    """Indices of different events in the order in which they are drawn, and `kappa`: minus infinity if none is left.

    >>> indices, kappa = sample_without_replacement(jax.random.key(0), jnp.log(jnp.array([0.5, 0.3, 0.2])), 3)
    >>> print(jnp.sort(indices), kappa)
    [0 1 2] -inf
    """
    perturbed = log_probs + jax.random.gumbel(key, log_probs.shape, log_probs.dtype)
    largest, indices = jax.lax.top_k(jnp.pad(perturbed, (0, 1), constant_values=-jnp.inf), num_samples + 1)
    return indices[:-1], largest[-1]


def log_inclusion(gap: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log(1 - exp(-exp(gap)))`, without overflow or underflow: the log-probability of a Gumbel variable above `-gap`."""
    return jnp.where(gap < jnp.log(jnp.finfo(gap.dtype).eps), gap, jnp.log(-jnp.expm1(-jnp.exp(gap))))


def weighted_samples(
    key: PRNGKey, dist: AbstractEnumerable, num_samples: int
) -> tuple[Float[Array, "samples ..."], Samples, Samples]:
    """Different events, their probabilities `p` and their importance weights `p / q_kappa`."""
    events, log_probs = listed(dist)
    indices, kappa = sample_without_replacement(key, log_probs, num_samples)
    log_p = log_probs[indices]
    return events[indices], jnp.exp(log_p), jnp.exp(log_p - log_inclusion(log_p - kappa))


def _require_samples(estimator: AbstractStatelessEstimator, fewest: int, why: str) -> None:
    if estimator.num_samples < fewest:
        name, how = type(estimator).__name__, " with `baseline`" if estimator.baseline else ""
        raise ValueError(f"`{name}`{how} needs `num_samples >= {fewest}`, got {estimator.num_samples}; {why}.")


@ESTIMATORS.register("reinforce-without-replacement")
class ReinforceWithoutReplacement(AbstractStatelessEstimator):
    r"""REINFORCE without replacement: the score function on different events, with importance weights.

    For a sample $S$ of `num_samples` events without replacement, with $\kappa$ the largest perturbed log-probability
    outside of it and $w(x) = p(x) / q_\kappa(x)$,

    $$\hat g = \sum_{x \in S} w(x)\, f(x)\, \nabla \log p(x),$$

    and with `baseline`

    $$\hat g = \sum_{x \in S} w(x) \Big[ f(x)\, (1 - p(x) + w(x)) - \sum_{y \in S} w(y) f(y) \Big] \nabla \log p(x).$$

    Unbiased, both: of the baseline the terms of two different events have mean $E[f]\, \nabla \log p$ less those of
    one, and the factor of $f(x)$ restores them. Needs a finite support, all of which is listed; `num_samples`
    evaluations of `f`, or one for each event if there are fewer, and then it is exact.

    >>> from estimators import Bernoulli
    >>> ReinforceWithoutReplacement(num_samples=4).evaluations(Bernoulli(logits=[0.0, 0.0, 0.0]))
    4
    >>> grads = ReinforceWithoutReplacement().gradient(
    ...     jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2
    ... )
    >>> print(grads.logits.round(6))
    [0.025]

    With $n$ samples the moments of a weight are finite up to the order $n$, so the variance needs two samples, or four
    with `baseline`, which multiplies weights; fewer are refused. The sum is not divided by $n$ or by the sum of the
    weights; `NormalizedReinforceWithoutReplacement` divides, with less noise and a bias.

    **References:** Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free!, 2019. Duffield, Lund
    and Thorup, Priority sampling for estimation of arbitrary subset sums, 2007.
    """

    num_samples: int = eqx.field(static=True, default=4)
    baseline: bool = eqx.field(static=True, default=False)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def __check_init__(self):
        _require_samples(self, 4 if self.baseline else 2, "with fewer its variance is infinite")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs, p, weights = weighted_samples(key, dist, self.evaluations(dist))
        values = jax.vmap(f)(xs)
        if self.baseline:
            values = values * (1 - p + weights) - jnp.vdot(weights, values)
        return weighted_score(dist, xs, weights * values)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return min(self.num_samples, dist.support_size)


@ESTIMATORS.register("normalized-reinforce-without-replacement")
class NormalizedReinforceWithoutReplacement(AbstractStatelessEstimator):
    r"""REINFORCE without replacement, with importance weights that are normalised.

    For a sample $S$ of `num_samples` events without replacement, with $\kappa$ the largest perturbed log-probability
    outside of it, $w(x) = p(x) / q_\kappa(x)$ and $W = \sum_{x \in S} w(x)$,

    $$\hat g = \frac1W \sum_{x \in S} w(x)\, f(x)\, \nabla \log p(x),$$

    and with `baseline`

    $$\hat g = \sum_{x \in S} \frac{w(x)}{W - w(x) + p(x)} \Big[ f(x) - \frac1W \sum_{y \in S} w(y) f(y) \Big]
    \nabla \log p(x).$$

    Biased, for a ratio of two unbiased sums is; but no weight exceeds one, where those of `ReinforceWithoutReplacement`
    have no bound. Exact if every event is drawn, and the score function, unbiased, for one sample. Needs a finite
    support, all of which is listed; `num_samples` evaluations of `f`, or one for each event if there are fewer.

    >>> from estimators import Bernoulli
    >>> NormalizedReinforceWithoutReplacement(num_samples=4).evaluations(Bernoulli(logits=[0.0]))
    2

    With `baseline` the divisor is the sum with the event's own weight replaced by its mean, as published.

    **References:** Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free!, 2019.
    """

    num_samples: int = eqx.field(static=True, default=4)
    baseline: bool = eqx.field(static=True, default=False)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def __check_init__(self):
        _require_samples(self, 2 if self.baseline else 1, "the baseline of a single sample is its own value")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs, p, weights = weighted_samples(key, dist, self.evaluations(dist))
        values, total = jax.vmap(f)(xs), jnp.sum(weights)
        if self.baseline:
            centred = values - jnp.vdot(weights, values) / total
            return weighted_score(dist, xs, weights / (total - weights + p) * centred)
        return weighted_score(dist, xs, weights / total * values)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return min(self.num_samples, dist.support_size)
