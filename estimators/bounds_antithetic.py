r"""Bounds of importance weights over bits: every slot of the bound has antithetic candidates for its sample.

Given the other samples, a bound is a function of `z_k` like any other, whose gradient `ARMS` (with two members, `DisARM`)
estimates from coupled events that are exchanged in slot `k` alone; the slots are independent. Added to that is the
derivative inside the weights, which belongs to no slot's law.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .arms import AbstractCopula, DirichletCopula, coupled, uncoupling
from .base import AbstractStatelessEstimator, PRNGKey, weighted_score
from .bounds import AbstractMultiSampleBound, LogWeights, with_each
from .distributions import AbstractDistribution, Bernoulli
from .registration import ESTIMATORS
from .validation import require_at_least


@ESTIMATORS.register("local-disarm", num_members=2)
@ESTIMATORS.register("local-arms", num_members=4)
class LocalARMS(AbstractStatelessEstimator):
    r"""ARMS in every slot of a multi-sample bound; with two members to a slot it is local DisARM.

    For each slot $k$ of the bound, events $b_k^1, \dots, b_k^n$ of `dist` are coupled bit by bit by `copula`, independently
    of the other slots. With $B_k^{m i}$ the bound of the weights of $b_1^m, \dots, b_K^m$ in which $b_k^i$ stands in slot
    $k$, and $h_k^i = \nabla_\theta \log q(b_k^i)$,

    $$\hat g = \frac1n \sum_m \sum_k \left[ \frac{p (1 - p)}{p - P}\, \frac{1}{n - 1} \sum_i
    \Big( B_k^{m i} - \frac1n \sum_j B_k^{m j} \Big)\, h_k^i - b_k^m h_k^m \right], \qquad
    b_k^m = \frac{\partial B}{\partial \log w_k},$$

    with $P$ the probability that a bit is one in two members of a slot.

    Unbiased: given the other slots the sum over $i$ is `ARMS`, and $-b_k^m h_k^m$ is the derivative inside the weights.
    Needs a `Bernoulli`; `num_members` evaluations of the bound. Each of the `num_members` sets serves as the others of
    every slot, and the results are averaged, at no further evaluation of $\log p(x, z)$.

    >>> LocalARMS().evaluations(Bernoulli(logits=[0.0]))
    2

    `local-disarm` has two members, for which the factor is $\sigma(|\eta|) (b - b') / 2$ times the difference of the
    bounds with either copula; `local-arms` has four.

    **References:** Dong, Mnih and Tucker, DisARM: An antithetic gradient estimator for binary latent variables, 2020,
    arXiv:2006.10680. Dimitriev and Zhou, ARMS: Antithetic-REINFORCE-multi-sample gradient for binary variables, 2021,
    arXiv:2105.14141.
    """

    num_members: int = eqx.field(static=True, default=2)
    copula: AbstractCopula = DirichletCopula()

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli, AbstractMultiSampleBound)

    def __check_init__(self):
        require_at_least(self, "num_members", 2)

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: AbstractMultiSampleBound) -> Bernoulli:
        n, slots = self.num_members, f.num_samples
        keys = jax.random.split(key, slots)
        # Members first, then slots.
        zs = jnp.swapaxes(jax.vmap(lambda key: coupled(key, dist, self.copula, n))(keys), 0, 1)
        log_weights = jax.vmap(lambda zs: f.log_weights(dist, zs))(zs)
        advantages, slopes = _factors(f, log_weights)
        events = zs.reshape(n * slots, *zs.shape[2:])
        exchanged = weighted_score(dist, events, advantages.ravel() / (n - 1))
        inside = weighted_score(dist, events, slopes.ravel() / n)
        return Bernoulli(uncoupling(dist, self.copula, n) * exchanged.logits - inside.logits)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_members


def _factors(
    f: AbstractMultiSampleBound, log_weights: Float[Array, "members samples"]
) -> tuple[Float[Array, "members samples"], Float[Array, "members samples"]]:
    """For every member `i` of every slot, `B_k^{mi}` less its mean over `i`, averaged over the sets `m`; and the slopes."""

    def values(own: LogWeights, exchanged: LogWeights) -> LogWeights:
        return jax.vmap(f.value)(with_each(own, exchanged))

    # Sets, members, slots.
    every = jax.vmap(lambda own: jax.vmap(lambda other: values(own, other))(log_weights))(log_weights)
    return jnp.mean(every - jnp.mean(every, axis=1, keepdims=True), axis=0), jax.vmap(f.slopes)(log_weights)
