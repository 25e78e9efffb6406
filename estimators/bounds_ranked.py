r"""Path derivatives of log-weights, weighted by the ranks of the weights.

Along its path a divergence `E_q[f(w)]` of a convex `f` changes by

    d/dtheta E_q[f(w)] = E_q[(f(w) - w f'(w)) d/dtheta log q(z)] = -E[w^2 f''(w) (d log w / dz) (dz / dtheta)],

first because `dw / dtheta = -w d/dtheta log q`, and then by reparameterising that score, `w^2 f''(w)` being the derivative
of `w f'(w) - f(w)` in `log w`. The factor `w^2 f''(w)` may be any nonnegative function of `w`: 1 gives the evidence bound,
`w` the inclusive divergence and `w^2` the chi-squared one, which has no moments where weights have a heavy tail.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .bounds import ImportanceWeightedBound, LogWeights
from .bounds_pathwise import noises, path_weights
from .distributions import AbstractDistribution, AbstractReparameterizable
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable
from .registration import ESTIMATORS


@ESTIMATORS.register("tail-adaptive")
class TailAdaptive(AbstractStatelessEstimator):
    r"""The tail-adaptive f-divergence gradient: path derivatives of the log-weights, weighted by their ranks.

    $$\hat g = \sum_k v_k\, \frac{\partial \log w_k}{\partial z_k}\, \nabla_\theta z_k, \qquad
    v_k = \frac{\bar F(w_k)^\beta}{\sum_j \bar F(w_j)^\beta}, \qquad \bar F(w) = \frac1K \#\{j : w_j \ge w\}.$$

    Here $\bar F(w)^\beta$ stands for the factor $w^2 f''(w)$ of a divergence: its mean over the samples, $H_K$ for
    $\beta = -1$ and near $1 / (1 + \beta)$ above it, is the same however heavy the tail of the weights is.

    Biased: the factor is made from the samples, and the sum of the factors divides it, so that it follows the gradient of no
    fixed objective; it is measured against that of the bound it is given. For one sample it is `StickingTheLanding`, and for
    `beta` 0 the mean of that over the samples. Needs what `BoundPathwise` needs, of the importance-weighted bound; one
    evaluation of it. It vanishes where `dist` is the posterior, as the gradient does.

    >>> print(TailAdaptive().shares(jnp.log(jnp.array([1.0, 4.0, 2.0]))) * 11)
    [2. 6. 3.]

    At `beta` -1, the paper's choice, the weight of rank $r$ has the share $1 / (r H_K)$, however large it is. The sign is
    that of a bound, which is maximised.

    **References:** Wang, Liu and Liu, Variational inference with tail-adaptive f-divergence, 2018, arXiv:1810.11943.
    """

    beta: Float[Array, ""] = eqx.field(converter=as_floating, default=-1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, ImportanceWeightedBound, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: ImportanceWeightedBound) -> Grads:
        noise = noises(key, dist, f.num_samples)
        log_weights, pullback = jax.vjp(lambda d: path_weights(d, noise, dist, f), dist)
        (grads,) = pullback(self.shares(log_weights))
        return grads

    def shares(self, log_weights: LogWeights) -> LogWeights:
        """What each sample counts for."""
        below = jnp.searchsorted(jnp.sort(log_weights), log_weights)
        log_tail = jnp.log1p(-below.astype(log_weights.dtype) / len(log_weights))
        return jax.nn.softmax(self.beta.astype(log_weights.dtype) * log_tail)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
