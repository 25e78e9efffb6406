r"""Baselines without memory: what one estimate can subtract from `f(x)` when nothing was learned before it.

$E[b\, \nabla_\theta \log p(x)] = 0$ for every $b$ that is independent of $x$, so $(f(x) - b)\, \nabla_\theta \log p(x)$
is unbiased. Here $b$ is a number given in advance, the expectation itself, the value at another sample, or the value at
the mode. The baselines that adapt live in `baselines`; the mean of all other samples is `LeaveOneOut`.

Every estimator here draws $x$ as `ScoreFunction(num_samples=1)` does, but for `TwoSampleBaseline`, which draws its pair
as `LeaveOneOut(num_samples=2)` does.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import AbstractAdditivelyPerturbed, AbstractDistribution, AbstractEnumerable, AbstractFixedSupport
from .distributions.base import Event, as_floating
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("constant-baseline")
class ConstantBaseline(AbstractStatelessEstimator):
    r"""The score function with a number as baseline.

    For a sample $x$ of `dist` and $b$ the hyper-parameter `baseline`,

    $$\hat g = (f(x) - b)\, \nabla \log p(x).$$

    Unbiased for every $b$. For one Bernoulli variable with success probability $p$ the variance is
    $p (1 - p) [(1 - p) f(1) + p f(0) - b]^2$: none is left at $b = (1 - p) f(1) + p f(0)$, the mean of `f` with the
    weights exchanged. With more variables no constant does that. Needs `log_prob` and a fixed support; one evaluation of
    `f`. The same number serves all parameters; `OptimalBaseline` learns one for each.

    >>> from estimators import Bernoulli
    >>> f = lambda x: (x.sum() - 0.45) ** 2
    >>> print(ConstantBaseline(baseline=0.2525).gradient(jax.random.key(0), Bernoulli(logits=[0.0]), f).logits.round(6))
    [0.025]

    **References:** Williams, Simple statistical gradient-following algorithms for connectionist reinforcement learning,
    1992.
    """

    baseline: Float[Array, ""] = eqx.field(converter=as_floating, default=0.0)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 1)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs, values - self.baseline.astype(values.dtype))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("exact-mean-baseline")
class ExactMeanBaseline(AbstractStatelessEstimator):
    r"""The score function with the exact expectation of `f` as baseline: an oracle, for comparison only.

    For a sample $x$ of `dist`,

    $$\hat g = (f(x) - E[f])\, \nabla \log p(x), \qquad E[f] = \sum_y p(y)\, f(y).$$

    Unbiased. It is what `MovingAverageBaseline` tends to on a fixed distribution, and not the constant of least
    variance: for one Bernoulli variable its variance is $p (1 - p) (1 - 2 p)^2 (f(1) - f(0))^2$, which a rare event
    makes larger than that of no baseline at all. Needs a finite support and one evaluation of `f` for each of its
    events, beside the one of the sample; whoever can afford that has the exact gradient too (`Enumeration`).

    >>> from estimators import Bernoulli
    >>> ExactMeanBaseline().evaluations(Bernoulli(logits=[0.0, 1.0]))
    5

    **References:** Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine learning, 2020,
    arXiv:1906.10652.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs, events = draw(key, dist, 1), dist.support()
        mean = jnp.vdot(jnp.exp(jax.vmap(dist.log_prob)(events)), jax.vmap(f)(events))
        return weighted_score(dist, xs, jax.vmap(f)(xs) - mean)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 1 + dist.support_size


@ESTIMATORS.register("two-sample-baseline")
class TwoSampleBaseline(AbstractStatelessEstimator):
    r"""The score function with the value at a second sample as baseline (REINFORCE+ in Liu et al.).

    For independent samples $x$ and $x'$ of `dist`,

    $$\hat g = (f(x) - f(x'))\, \nabla \log p(x).$$

    Unbiased, because $x'$ is independent of $x$. The second sample is used for its value only: with its score as well,
    this is `LeaveOneOut` with two samples, which is the mean over the two orders of the pair and so never worse, at the
    same cost. Needs `log_prob` and a fixed support; two evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> TwoSampleBaseline().evaluations(Bernoulli(logits=[0.0]))
    2

    **References:** Liu, Regier, Tripuraneni, Jordan and McAuliffe, Rao-Blackwellized stochastic gradients for discrete
    distributions, 2019, arXiv:1810.04777.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 2)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs[:1], values[:1] - values[1:])

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


@ESTIMATORS.register("self-critical")
class SelfCritical(AbstractStatelessEstimator):
    r"""The score function with the value at the mode, the greedy decision, as baseline.

    For a sample $x$ of `dist`,

    $$\hat g = (f(x) - f(m))\, \nabla \log p(x), \qquad m = \arg\max_x p(x).$$

    Unbiased, because $m$ does not depend on $x$. It is zero whenever the sample is the mode, so with a confident `dist`
    most estimates are zero and a few are large. Needs an additively perturbed distribution, whose unperturbed
    logits round to the mode; two evaluations of `f`, both at events. Of tied categories the first is taken, and failure
    at a logit of zero.

    >>> from estimators import Bernoulli
    >>> dist = Bernoulli(logits=[2.0, -1.0])
    >>> print(mode(dist))
    [1. 0.]

    **References:** Rennie, Marcheret, Mroueh, Ross and Goel, Self-critical sequence training for image captioning,
    2017, arXiv:1612.00563.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractAdditivelyPerturbed,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 1)
        return weighted_score(dist, xs, jax.vmap(f)(xs) - f(mode(dist)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


def mode(dist: AbstractAdditivelyPerturbed) -> Event:
    """The most probable event: logits without noise, rounded."""
    return dist.harden(dist.perturb(jnp.zeros_like(dist.mean())))
