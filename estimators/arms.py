r"""ARMS: any number of mutually antithetic samples of Bernoulli variables.

Let the members of a group of events be coupled bit by bit: exchangeable in each variable, independent across variables,
each member with the law of `dist`. For two members `b`, `b'` and variable `i`, `(f(b) - f(b')) (b_i - b'_i)` vanishes
unless the bits differ, and where they do the other variables of each member still follow `dist`. Hence

    E[1/2 (f(b) - f(b')) (b_i - b'_i)] = P(b_i = 1, b'_i = 0) (E[f | x_i = 1] - E[f | x_i = 0]),

and the gradient is the same with `p (1 - p)` for that probability. So the average over pairs, which is leave-one-out,
needs one known factor a variable, `p (1 - p) / (p - P(b_i = b'_i = 1))`, and any copula may couple the bits.

A copula is asked about thresholds up to one half only. With `s = min(p, 1 - p)` it says which members have the *rarer*
value of a bit, so that a bit is `1[u < p]` for `p < 1/2` and `1[1 - u < p]` otherwise. Two members differ as often
either way, so `s` may stand for `p` in the factor.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .base import AbstractStatelessEstimator, PRNGKey, weighted_score
from .distributions import AbstractDistribution, Bernoulli
from .objectives import Objective
from .registration import ESTIMATORS

Members = Float[Array, "members *variables"]
Rarity = Float[Array, "*variables"]


class AbstractCopula(eqx.Module):
    """A law of exchangeable uniform variables, the members, independently for each of any number of variables."""

    @abstractmethod
    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Members:
        """What the members are made of; `shape` begins with their number."""

    @abstractmethod
    def below(self, noise: Members, s: Rarity) -> Bool[Array, "members *variables"]:
        """Whether each member is below `s`, at most one half."""

    @abstractmethod
    def both_below(self, members: int, s: Rarity) -> Rarity:
        """The probability that two of so many members are below `s`."""


class DirichletCopula(AbstractCopula):
    r"""`u_k = (1 - d_k)^(n - 1)` with `d` uniform on the simplex.

    As `P(d_1 > a, d_2 > b) = max(1 - a - b, 0)^(n - 1)`, each `u_k` is uniform, and two are below `s` with probability
    `max(2 s^(1 / (n - 1)) - 1, 0)^(n - 1)`, never for `s <= 2^(1 - n)`. The lower tails repel each other more than the
    upper ones.
    """

    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Members:
        """Exponential variables, in proportion to `d`."""
        return jax.random.exponential(key, shape, dtype)

    def below(self, noise: Members, s: Rarity) -> Bool[Array, "members *variables"]:
        members = len(noise)
        itself = jnp.eye(members, dtype=bool).reshape(members, members, *[1] * s.ndim)
        # Summed without the member itself: one minus its share would lose the small values of `u`.
        others = jnp.sum(jnp.where(itself, 0, noise[None]), axis=1)
        return others < (jnp.sum(noise, axis=0) * s ** (1 / (members - 1)))[None]

    def both_below(self, members: int, s: Rarity) -> Rarity:
        return jnp.maximum(2 * s ** (1 / (members - 1)) - 1, 0) ** (members - 1)


class GaussianCopula(AbstractCopula):
    r"""Normal scores with the least correlation that every two of `n` can have, `-1 / (n - 1)`; `u` is their
    distribution function. The law has no preferred tail.
    """

    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Members:
        """The scores: independent normal variables less their mean, scaled to variance one."""
        scores = jax.random.normal(key, shape, dtype)
        return math.sqrt(shape[0] / (shape[0] - 1)) * (scores - jnp.mean(scores, axis=0, keepdims=True))

    def below(self, noise: Members, s: Rarity) -> Bool[Array, "members *variables"]:
        return noise < jax.scipy.special.ndtri(s)[None]

    def both_below(self, members: int, s: Rarity) -> Rarity:
        """Plackett's identity, integrated from independence.

        The distribution function of two scores of correlation `r` has at `(h, h)` the derivative
        `exp(-h^2 / (1 + r)) / (2 pi sqrt(1 - r^2))` in `r`. With `1 + r = 2 cos(a)^2` it is `s^2` less the integral
        of `exp(-(h / cos a)^2 / 2) / pi` from `a = pi / 4` to `arctan sqrt(n / (n - 2))`, smooth enough for twenty
        nodes to be exact to rounding. Two scores alone are opposite, and never both below zero.
        """
        if members == 2:
            return jnp.zeros_like(s)
        start, end = math.pi / 4, math.atan(math.sqrt(members / (members - 2)))
        nodes, weights = np.polynomial.legendre.leggauss(20)
        cosines = jnp.asarray(np.cos(start + (end - start) * (nodes + 1) / 2), s.dtype)
        h = jax.scipy.special.ndtri(s)
        slopes = jax.vmap(lambda cosine, weight: weight * jnp.exp(-0.5 * (h / cosine) ** 2))
        integral = jnp.sum(slopes(cosines, jnp.asarray(weights, s.dtype)), axis=0) * (end - start) / 2
        return s**2 - integral / math.pi


def rarity(dist: Bernoulli) -> Rarity:
    """The probability of the rarer value of each bit."""
    # At a huge logit it underflows, and the factor of `uncoupling` would be zero by zero.
    return jnp.maximum(jax.nn.sigmoid(-jnp.abs(dist.logits)), jnp.finfo(dist.logits.dtype).tiny)


def coupled(key: PRNGKey, dist: Bernoulli, copula: AbstractCopula, members: int) -> Members:
    """So many events of `dist`, coupled bit by bit."""
    logits = dist.logits
    rarer = copula.below(copula.noise(key, (members, *logits.shape), logits.dtype), rarity(dist))
    return jnp.where((logits < 0)[None], rarer, ~rarer).astype(logits.dtype)


def uncoupling(dist: Bernoulli, copula: AbstractCopula, members: int) -> Rarity:
    """`p (1 - p) / P(b_i = 1, b'_i = 0)`, what undoes the coupling of two of so many members."""
    s = rarity(dist)
    return s * (1 - s) / (s - copula.both_below(members, s))


@ESTIMATORS.register("arms-d", copula=DirichletCopula())
@ESTIMATORS.register("arms-n", copula=GaussianCopula())
class ARMS(AbstractStatelessEstimator):
    r"""Antithetic REINFORCE multi-sample: leave-one-out over coupled samples, with the coupling divided out.

    For events $b_1, \dots, b_n$ of `dist` whose bits are coupled by `copula`, independently in each variable, and
    $\bar f$ the mean of $f(b_k)$,

    $$\hat g_i = \frac{p_i (1 - p_i)}{p_i - P_i}\; \frac{1}{n - 1} \sum_k (f(b_k) - \bar f)\, (b_{ki} - p_i), \qquad
    P_i = P(b_{1i} = b_{2i} = 1).$$

    Unbiased, for pairs: only the joint law of two bits enters, and $P_i$ is known exactly. Needs a `Bernoulli`;
    `num_samples` evaluations of `f`. Two samples are `DisARM` with either copula, and independent ones would be
    `LeaveOneOut`. For one variable the coupling takes variance away, whatever `f` is. With several it need not:
    opposite values of the other bits spread the values of `f`, and with two samples the coordinate of a rare bit may
    have nearly twice the variance that it has in `LeaveOneOut`.

    >>> from estimators import Bernoulli
    >>> ARMS(num_samples=5).evaluations(Bernoulli(logits=[0.0]))
    5

    `arms-d` has the copula $u_k = (1 - d_k)^{n - 1}$ of a Dirichlet variable $d$ that is uniform on the simplex, which
    makes $b_k = 1[u_k < p]$ for $p < 1/2$ and $1[1 - u_k < p]$ otherwise; `arms-n` has the Gaussian one with the least
    correlation.

    **References:** Dimitriev and Zhou, ARMS: Antithetic-REINFORCE-multi-sample gradient for binary variables, 2021,
    arXiv:2105.14141.
    """

    num_samples: int = eqx.field(static=True, default=4)
    copula: AbstractCopula = DirichletCopula()

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def __check_init__(self):
        if self.num_samples < 2:
            raise ValueError(
                f"`ARMS` needs `num_samples >= 2`, got {self.num_samples}; use `ScoreFunction` for a single sample."
            )

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        n = self.num_samples
        xs = coupled(key, dist, self.copula, n)
        values = jax.vmap(f)(xs)
        products = weighted_score(dist, xs, (values - jnp.mean(values)) / (n - 1))
        return Bernoulli(uncoupling(dist, self.copula, n) * products.logits)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
