r"""Bounds of importance weights, differentiated through scores: no derivative of `log p(x, z)`, any `q`.

With `h_k = d/dtheta log q(z_k)` and `b_k = dB / d log w_k` the gradient of a bound is `E[sum_k (B - b_k) h_k]`, where
`-b_k h_k` is the derivative inside the weights. As `E[h_k] = 0` and the samples are independent, whatever does not depend
on `z_k` may be taken from the factor of `h_k`: the estimators of this room differ in what they take, and each is a
function of the log-weights alone.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .bounds import AbstractMultiSampleBound, ImportanceWeightedBound, LogWeights, with_each, without_each
from .distributions import AbstractDistribution, AbstractFixedSupport
from .distributions.base import Scalar, as_floating
from .registration import ESTIMATORS
from .validation import require_at_least


@ESTIMATORS.register("bound-score-function")
class BoundScoreFunction(AbstractStatelessEstimator):
    r"""The score-function estimator of a multi-sample bound, with no baseline.

    $$\hat g = \sum_k (B - b_k)\, \nabla_\theta \log q(z_k), \qquad b_k = \frac{\partial B}{\partial \log w_k}.$$

    Unbiased; $-b_k$ is the derivative inside the weights. Needs samples and `log_prob` only; one evaluation of the bound.

    >>> from estimators import Bernoulli
    >>> BoundScoreFunction().evaluations(Bernoulli(logits=[0.0]))
    1

    **References:** Mnih and Rezende, Variational inference for Monte Carlo objectives, 2016, arXiv:1602.06725.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractMultiSampleBound)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        zs = draw(key, dist, f.num_samples)
        log_weights = f.log_weights(dist, zs)
        return weighted_score(dist, zs, f.value(log_weights) - f.slopes(log_weights))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("vimco")
@ESTIMATORS.register("vimco-arithmetic", arithmetic=True)
class VIMCO(AbstractStatelessEstimator):
    r"""Variational inference for Monte Carlo objectives: each sample has the bound without it as its baseline.

    $$\hat g = \sum_k (B - B_{-k} - b_k)\, \nabla_\theta \log q(z_k), \qquad b_k = \frac{\partial B}{\partial \log w_k},$$

    where $B_{-k}$ is $B$ with $w_k$ replaced by the mean of the other weights: the geometric one in `vimco`, the arithmetic
    one in `vimco-arithmetic`, with which $B_{-k}$ is $\log \frac{1}{K - 1} \sum_{j \ne k} w_j$ for the importance-weighted
    bound.

    Unbiased: $B_{-k}$ does not depend on $z_k$. The term $-b_k$, the derivative inside the weights, has no baseline. Needs
    samples and `log_prob` only; one evaluation of the bound. With one sample there are no others and there is no
    baseline: it is `BoundScoreFunction`.

    >>> from estimators import Bernoulli
    >>> VIMCO().evaluations(Bernoulli(logits=[0.0]))
    1

    **References:** Mnih and Rezende, Variational inference for Monte Carlo objectives, 2016, arXiv:1602.06725.
    """

    arithmetic: bool = eqx.field(static=True, default=False)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractMultiSampleBound)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        zs = draw(key, dist, f.num_samples)
        log_weights = f.log_weights(dist, zs)
        baselines = jax.vmap(f.value)(with_each(log_weights, self._mean_of_others(log_weights)))
        return weighted_score(dist, zs, f.value(log_weights) - baselines - f.slopes(log_weights))

    def _mean_of_others(self, log_weights: LogWeights) -> LogWeights:
        number = len(log_weights)
        if number == 1:
            return jnp.zeros_like(log_weights)
        if self.arithmetic:
            return jax.nn.logsumexp(without_each(log_weights), axis=1) - math.log(number - 1)
        return jnp.sum(with_each(log_weights, jnp.zeros_like(log_weights)), axis=1) / (number - 1)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("ovis-mc")
class OVISMonteCarlo(AbstractStatelessEstimator):
    r"""Optimal variance control of an importance-weighted bound, with the baselines averaged over auxiliary samples.

    $$\hat g = \sum_k (d_k - c_k)\, \nabla_\theta \log q(z_k), \qquad d_k = B - b_k, \qquad
    c_k = \frac1S \sum_s d_k(z_1, \dots, z'_s, \dots, z_K),$$

    where $b_k = \partial B / \partial \log w_k$, and the auxiliary sample $z'_s$ of `dist` stands in place of $z_k$.

    Unbiased: $c_k$ does not depend on $z_k$, and estimates the mean of $d_k$ given the others. The $S$ auxiliary samples
    are shared by all $k$; their number is that of the bound, `num_sets` times. Needs samples and `log_prob` only;
    `num_sets + 1` evaluations of the bound.

    >>> from estimators import Bernoulli
    >>> OVISMonteCarlo().evaluations(Bernoulli(logits=[0.0]))
    2

    **References:** Liévin, Dittadi, Christensen and Winther, Optimal variance control of the score function gradient
    estimator for importance weighted bounds, 2020, arXiv:2008.01998.
    """

    num_sets: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractMultiSampleBound)

    def __check_init__(self):
        require_at_least(self, "num_sets", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        every = draw(key, dist, (self.num_sets + 1) * f.num_samples)
        zs, log_weights = every[: f.num_samples], f.log_weights(dist, every)
        own, auxiliary = log_weights[: f.num_samples], log_weights[f.num_samples :]

        def exchanged(log_weight: Scalar) -> LogWeights:
            """`d_k` with this log-weight in place of that of sample `k`, for every `k`."""
            rows = with_each(own, jnp.full_like(own, log_weight))
            return jax.vmap(f.value)(rows) - jnp.diagonal(jax.vmap(f.slopes)(rows))

        baselines = jnp.mean(jax.vmap(exchanged)(auxiliary), axis=0)
        return weighted_score(dist, zs, f.value(own) - f.slopes(own) - baselines)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_sets + 1


def factors_without_small_weights(log_weights: LogWeights) -> LogWeights:
    """`-log(1 - v_k) - v_k` for the shares `v_k`: what is left of `log Z - v_k` when `log` of the sum of the other
    weights, over `K`, is taken away."""
    if len(log_weights) == 1:
        return log_weights - 1
    others = jax.nn.logsumexp(without_each(log_weights), axis=1)
    return jax.nn.logsumexp(log_weights) - others - jax.nn.softmax(log_weights)


@ESTIMATORS.register("ovis-gamma-zero")
class OVISGammaZero(AbstractStatelessEstimator):
    r"""Optimal variance control of the importance-weighted bound in the limit where one weight outweighs the others.

    With the shares $v_k = w_k / \sum_j w_j$, the baseline $\log \frac1K \sum_{j \ne k} w_j$ of the factor
    $\log \frac1K \sum_j w_j - v_k$ leaves

    $$\hat g = \sum_k (-\log(1 - v_k) - v_k)\, \nabla_\theta \log q(z_k).$$

    Unbiased: the baseline does not depend on $z_k$. It is that of `vimco-arithmetic` and $\log(1 - \frac1K)$, and takes
    away the mean of the term $-v_k$ to first order, so that small weights count by the squares of their shares. Needs
    samples and `log_prob` only, of the importance-weighted bound; one evaluation of it. With one sample there are no
    others and it is `BoundScoreFunction`.

    >>> from estimators import Bernoulli
    >>> OVISGammaZero().evaluations(Bernoulli(logits=[0.0]))
    1

    It is `OVISAsymptotic` at `gamma` 0, the only value without bias.

    **References:** Liévin, Dittadi, Christensen and Winther, Optimal variance control of the score function gradient
    estimator for importance weighted bounds, 2020, arXiv:2008.01998.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, ImportanceWeightedBound)

    def gradient(self, key: PRNGKey, dist: Grads, f: ImportanceWeightedBound) -> Grads:
        zs = draw(key, dist, f.num_samples)
        return weighted_score(dist, zs, factors_without_small_weights(f.log_weights(dist, zs)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("ovis-asymptotic")
class OVISAsymptotic(AbstractStatelessEstimator):
    r"""Optimal variance control of the importance-weighted bound, with the baseline for many samples of like weight.

    With the shares $v_k = w_k / \sum_j w_j$, $\hat Z = \frac1K \sum_k w_k$ and $\hat Z_{-k}$ the mean of the other weights,

    $$\hat g = \sum_k (\log \hat Z - v_k - c_k)\, \nabla_\theta \log q(z_k), \qquad
    c_k = \log \hat Z_{-k} - \gamma v_k + (1 - \gamma) \log(1 - \tfrac1K).$$

    Biased unless `gamma` is 0, for $v_k$ depends on $z_k$: the mean is the gradient and `gamma` times
    $E[\sum_k v_k \nabla_\theta \log q(z_k)]$, which is what `WakePhi` estimates. At `gamma` 1, the limit of a large
    effective sample size, the derivative inside the weights is left out altogether. Needs samples and `log_prob` only,
    of the importance-weighted bound; one evaluation of it. With one sample $c_k$ is $-\gamma v_k$.

    >>> from estimators import Bernoulli
    >>> OVISAsymptotic().evaluations(Bernoulli(logits=[0.0]))
    1

    For `gamma` 0 see `OVISGammaZero`, which declares what it is.

    **References:** Liévin, Dittadi, Christensen and Winther, Optimal variance control of the score function gradient
    estimator for importance weighted bounds, 2020, arXiv:2008.01998.
    """

    gamma: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, ImportanceWeightedBound)

    def gradient(self, key: PRNGKey, dist: Grads, f: ImportanceWeightedBound) -> Grads:
        number = f.num_samples
        zs = draw(key, dist, number)
        log_weights = f.log_weights(dist, zs)
        shift = jax.nn.softmax(log_weights) + (math.log1p(-1 / number) if number > 1 else 0.0)
        factors = factors_without_small_weights(log_weights) + self.gamma.astype(log_weights.dtype) * shift
        return weighted_score(dist, zs, factors)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
