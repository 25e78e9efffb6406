r"""Sum and sample: some events are summed, and one of the others stands for all the rest.

For any set $C$ of events,

$$\nabla E[f(x)] = \sum_{x \in C} p(x) f(x) \nabla \log p(x) + p(\text{not } C)\,
E[f(x) \nabla \log p(x) \mid x \notin C],$$

and one draw from the rest estimates the second term. How $C$ is chosen tells the estimators of this room apart; it must
not depend on what is drawn from the rest.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .base import AbstractStatelessEstimator, Grads, PRNGKey, weighted_score
from .distributions import AbstractDistribution, AbstractEnumerable
from .objectives import Objective
from .registration import ESTIMATORS
from .without_replacement import listed, sample_without_replacement


def summed_and_sampled(dist: Grads, f: Objective, indices: Int[Array, "samples"]) -> Grads:
    """The estimate at the head of this file: of `indices` the last was drawn from the rest, the others are summed."""
    events, log_probs = listed(dist)
    summed = indices[:-1]
    # The sum of what is left: one minus the sum of what is taken would cancel.
    rest = jnp.sum(jnp.exp(log_probs.at[summed].set(-jnp.inf)), keepdims=True)
    xs, weights = events[indices], jnp.concatenate([jnp.exp(log_probs[summed]), rest])
    return weighted_score(dist, xs, weights * jax.vmap(f)(xs))


def _require_summed(estimator: AbstractStatelessEstimator) -> None:
    if estimator.num_summed < 0:
        raise ValueError(f"`{type(estimator).__name__}` needs `num_summed >= 0`, got {estimator.num_summed}.")


@ESTIMATORS.register("sum-and-sample")
class SumAndSample(AbstractStatelessEstimator):
    r"""Sum and sample, with the most probable events summed (Rao-Blackwellized stochastic gradients).

    With $C$ the `num_summed` most probable events and $y$ a sample of `dist` given that it is not in $C$,

    $$\hat g = \sum_{x \in C} p(x)\, f(x)\, \nabla \log p(x) + \Big(1 - \sum_{x \in C} p(x)\Big) f(y)\, \nabla \log p(y).$$

    Unbiased: it is the conditional expectation given $y$ of a score function whose sample is $y$ if it is not in $C$, and
    no worse than that. With `num_summed` zero it is `ScoreFunction`; exact if one event or none is left to be drawn.
    Needs a finite support, all of which is listed; `num_summed + 1` evaluations of `f`, or one for each event if there
    are fewer.

    >>> from estimators import Bernoulli
    >>> SumAndSample(num_summed=3).evaluations(Bernoulli(logits=[0.0, 0.0, 0.0]))
    4
    >>> grads = SumAndSample().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]

    There is one sample of the rest and no baseline. Of equally probable events the first of the support are summed.

    **References:** Liu, Regier, Tripuraneni, Jordan and McAuliffe, Rao-Blackwellized stochastic gradients for discrete
    distributions, 2019, arXiv:1810.04777.
    """

    num_summed: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def __check_init__(self):
        _require_summed(self)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        _, log_probs = listed(dist)
        _, summed = jax.lax.top_k(log_probs, self.evaluations(dist) - 1)
        drawn, _ = sample_without_replacement(key, log_probs.at[summed].set(-jnp.inf), 1)
        return summed_and_sampled(dist, f, jnp.concatenate([summed, drawn]))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return min(self.num_summed + 1, dist.support_size)


@ESTIMATORS.register("stochastic-sum-and-sample")
class StochasticSumAndSample(AbstractStatelessEstimator):
    r"""Sum and sample, with the summed events sampled without replacement.

    For `num_summed + 1` events drawn without replacement, $C$ the first `num_summed` of them and $y$ the last,

    $$\hat g = \sum_{x \in C} p(x)\, f(x)\, \nabla \log p(x) + \Big(1 - \sum_{x \in C} p(x)\Big) f(y)\, \nabla \log p(y).$$

    Unbiased, for $y$ is a sample of `dist` given $C$ and that it is not in $C$. Its conditional expectation given the
    set of all events that were drawn is `UnorderedSet` without baseline. With `num_summed` zero it is `ScoreFunction`;
    exact if one event or none is left to be drawn last. Needs a finite support, all of which is listed;
    `num_summed + 1` evaluations of `f`, or one for each event if there are fewer.

    >>> from estimators import Bernoulli
    >>> StochasticSumAndSample(num_summed=3).evaluations(Bernoulli(logits=[0.0, 0.0, 0.0]))
    4

    There is one sample of the rest and no baseline, and the order of the draws is kept.

    **References:** Kool, van Hoof and Welling, Estimating gradients for discrete random variables by sampling without
    replacement, 2020, arXiv:2002.06043.
    """

    num_summed: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def __check_init__(self):
        _require_summed(self)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        _, log_probs = listed(dist)
        indices, _ = sample_without_replacement(key, log_probs, self.evaluations(dist))
        return summed_and_sampled(dist, f, indices)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return min(self.num_summed + 1, dist.support_size)
