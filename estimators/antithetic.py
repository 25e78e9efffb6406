"""Antithetic pairs: two events from one noise and its mirror image.

With logistic noise `e` and `u = sigmoid(e)`, the events `b = 1[logits + e > 0] = 1[u > 1 - p]` and `b' = 1[logits - e >
0] = 1[u < p]` have the same law, and differ where `u` is below `min(p, 1 - p)` or above `max(p, 1 - p)`. So a
difference of two values of `f` estimates the gradient, and vanishes with the differences of `f`: no baseline is needed,
and none helps, for a constant cancels.

Each member alone has the gradient as the mean of `f(b) (2 u - 1)`; that is where the pairs come from (`AR`).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Bernoulli
from .objectives import Objective
from .registration import ESTIMATORS

Noises = Float[Array, "draws ..."]
Event = Float[Array, "..."]


def _noises(key: PRNGKey, dist: Bernoulli, number: int) -> Noises:
    return jax.vmap(dist.noise)(jax.random.split(key, number))


def _pair(dist: Bernoulli, noise: Event) -> tuple[Event, Event]:
    """The event that `noise` makes, and the one that its mirror image makes."""
    return dist.harden(dist.perturb(noise)), dist.harden(dist.perturb(-noise))


def require_pairs(estimator: AbstractEstimator) -> None:
    if estimator.num_pairs < 1:
        name = type(estimator).__name__
        raise ValueError(f"`{name}` needs `num_pairs >= 1`, got {estimator.num_pairs}; one pair is two samples.")


@ESTIMATORS.register("ar")
class AR(AbstractStatelessEstimator):
    r"""Augment-REINFORCE: the score of the noise that made the event, in place of the score of the event.

    For uniform $u$ and $b = 1[u < p]$, where $p$ are the probabilities of `dist`,

    $$\hat g = f(b)\, (1 - 2 u),$$

    averaged over `num_samples` independent samples.

    Unbiased for the gradient in the logits. Needs a `Bernoulli`; `num_samples` evaluations of `f`. Its mean given $b$
    is `ScoreFunction`, so it is the noisier of the two; it is here because the average of an estimate and of its mirror
    image, $u$ replaced by $1 - u$, is `ARM`.

    >>> AR(num_samples=3).evaluations(Bernoulli(logits=[0.0]))
    3

    **References:** Yin and Zhou, ARM: Augment-REINFORCE-merge gradient for stochastic binary networks, 2019,
    arXiv:1807.11143.
    """

    num_samples: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def __check_init__(self):
        if self.num_samples < 1:
            raise ValueError(f"`AR` needs `num_samples >= 1`, got {self.num_samples}.")

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        def one(noise: Event) -> Event:
            # `noise` is the logistic quantile of `1 - u`.
            return f(dist.harden(dist.perturb(noise))) * (2 * jax.nn.sigmoid(noise) - 1)

        return Bernoulli(jnp.mean(jax.vmap(one)(_noises(key, dist, self.num_samples)), axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("arm")
class ARM(AbstractStatelessEstimator):
    r"""Augment-REINFORCE-merge: the antithetic difference weighted by the noise that made it.

    For uniform $u$, $b = 1[u > 1 - p]$ and $b' = 1[u < p]$, where $p$ are the probabilities of `dist`,

    $$\hat g = (f(b) - f(b'))\, (u - 1/2),$$

    averaged over `num_pairs` independent pairs.

    Unbiased for the gradient in the logits. Needs a `Bernoulli`; `2 * num_pairs` evaluations of `f`. Published forms
    differ in which member of the pair is made of $u$ and which of $1 - u$, and with it in the sign; here it is as the
    formula says. Integrating out what $u$ says beyond the pair gives `DisARM`, which is never worse.

    >>> ARM(num_pairs=3).evaluations(Bernoulli(logits=[0.0]))
    6

    **References:** Yin and Zhou, ARM: Augment-REINFORCE-merge gradient for stochastic binary networks, 2019,
    arXiv:1807.11143.
    """

    num_pairs: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def __check_init__(self):
        require_pairs(self)

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        def one(noise: Event) -> Event:
            x, mirrored = _pair(dist, noise)
            return (f(x) - f(mirrored)) * (jax.nn.sigmoid(noise) - 0.5)

        return Bernoulli(jnp.mean(jax.vmap(one)(_noises(key, dist, self.num_pairs)), axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_pairs


@ESTIMATORS.register("disarm")
class DisARM(AbstractStatelessEstimator):
    r"""ARM with the noise integrated out given the pair (found twice: DisARM and U2G are the same estimator).

    For an antithetic pair $b$, $b'$ of events of `dist` with logits $\eta$,

    $$\hat g_i = \tfrac12 (f(b) - f(b'))\, (-1)^{b'_i}\, 1[b_i \ne b'_i]\, \sigma(|\eta_i|),$$

    averaged over `num_pairs` independent pairs. The sign and the indicator together are $b_i - b'_i$.

    Unbiased: it is the conditional expectation of `ARM` given the pair, so its variance is at most that of `ARM` for
    every `f`. Needs a `Bernoulli`; `2 * num_pairs` evaluations of `f`. Pairs are averaged without a baseline across
    them.

    >>> DisARM().evaluations(Bernoulli(logits=[0.0]))
    2

    **References:** Dong, Mnih and Tucker, DisARM: An antithetic gradient estimator for binary latent variables, 2020,
    arXiv:2006.10680. Yin, Ho, Yan, Qian and Zhou, Probabilistic best subset selection via gradient-based optimization,
    2020, arXiv:2006.06448.
    """

    num_pairs: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def __check_init__(self):
        require_pairs(self)

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        def one(noise: Event) -> Event:
            x, mirrored = _pair(dist, noise)
            return (f(x) - f(mirrored)) * (x - mirrored)

        products = jax.vmap(one)(_noises(key, dist, self.num_pairs))
        return Bernoulli(0.5 * jax.nn.sigmoid(jnp.abs(dist.logits)) * jnp.mean(products, axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_pairs
