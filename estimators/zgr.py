r"""ZGR and DARN: what a derivative at the sample says about the other events, to second order.

For one variable with one-hot events $e_c$ of probability $\pi_c$, $J = \mathrm{diag}(\pi) - \pi \pi^\top$, the gradient
in the logits is a sum over pairs of categories,

$$\nabla = \tfrac12 \sum_{c, k} \pi_c \pi_k\, (e_c - e_k)\, (f(e_c) - f(e_k)).$$

An $f'$ at one end of a pair gives the difference of values to first order, and the mean of those at both ends
(the trapezoidal rule) gives it exactly for a quadratic. With either end sampled in turn, the first is

$$\tfrac12 \sum_k \pi_k\, (x - e_k)\, f'(x)^\top (x - e_k) = \tfrac12 [J + (x - \pi) (x - \pi)^\top] f'(x),$$

which is ZGR. Straight-through is its first part, doubled, and DARN the second. Given the other variables each sees its
own problem of this kind, so that what holds for quadratics of one variable holds for every `f` that is quadratic in
each variable while the others are fixed: products across variables, of any number of them, do no harm.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractLogitParameterized, AbstractRelaxable
from .distributions.base import Event
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


def along_logits(dist: Grads, direction: Event) -> Grads:
    """The gradient whose part in the logits is `direction`."""
    return jax.grad(lambda d: jnp.vdot(direction, d.logits))(dist)


@ESTIMATORS.register("zgr")
class ZGR(AbstractStatelessEstimator):
    r"""ZGR: the limit of the Rao-Blackwellised straight-through Gumbel-Softmax at temperature zero.

    For a sample $x$ of `dist`, $\pi$ its mean and $J = \mathrm{diag}(\pi) - \pi \pi^\top$ within each variable,

    $$\hat g = \tfrac12 \left[ J f'(x) + (x - \pi)\, (x - \pi)^\top f'(x) \right].$$

    Biased, but exact in the mean for an `f` that is quadratic in each variable while the others are fixed, all
    quadratics among them. Beyond, its mean takes $\tfrac12 (f'(e_c) + f'(e_k))^\top (e_c - e_k)$ for each
    difference $f(e_c) - f(e_k)$. Needs a relaxable distribution with logits and a differentiable `f`; one evaluation of
    `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> grads = ZGR().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [0.5]

    It is the average of `StraightThrough` and `DARN` and, algebraically, `ReinMax` at temperature 1. For a bit $b$ it
    is $\tfrac12 (1 - \Pr(b)) f'(b) = (b - p)(b - \tfrac12) f'(b)$: there it is also the estimator of Gregor et al. with
    the baseline at one half, and the only one linear in $f'$ that is exact for quadratics.

    **References:** Shekhovtsov, Cold analysis of Rao-Blackwellized straight-through Gumbel-Softmax gradient estimator,
    2023.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractLogitParameterized, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x, mean = dist.sample(key), dist.mean()
        slope = jax.grad(f)(x)
        outer = (x - mean) * dist.inner(x - mean, slope)
        return along_logits(dist, (dist.covariance(mean, slope) + outer) / 2)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("darn")
class DARN(AbstractStatelessEstimator):
    r"""DARN: the score function with a Taylor expansion about the sample itself as baseline, taken at the mean.

    For a sample $x$ of `dist` and $\pi$ its mean, the baseline $f(x) + f'(x)^\top (\pi - x)$ of each variable leaves

    $$\hat g = (x - \pi)\, (x - \pi)^\top f'(x).$$

    Biased: the baseline depends on the sample. Exact in the mean for an `f` that is affine in each variable while the
    others are fixed; on quadratics its bias is that of `StraightThrough` with the other sign, which is why their
    average, `ZGR`, has none. For one Bernoulli variable the mean is $p (1 - p) [(1 - p) f'(1) + p f'(0)]$. Needs a
    relaxable distribution with logits and a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> grads = DARN().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [0.5]

    Gregor et al. treat bits and take the baseline at one half, not at the mean: $(b - p)(b - \tfrac12) f'(b)$, exact
    for quadratics, and equal to `ZGR`. This is the form for any number of categories; for more than two, no point
    does the same.

    **References:** Gregor, Danihelka, Mnih, Blundell and Wierstra, Deep autoregressive networks, 2014, arXiv:1310.8499.
    Shekhovtsov, Cold analysis of Rao-Blackwellized straight-through Gumbel-Softmax gradient estimator, 2023.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractLogitParameterized, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x, mean = dist.sample(key), dist.mean()
        return along_logits(dist, (x - mean) * dist.inner(x - mean, jax.grad(f)(x)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
