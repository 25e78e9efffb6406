"""Bit flips: one variable at a time, in a draw of the others.

For independent bits, `d/d logit_i E[f(x)] = p_i (1 - p_i) E[f(x with x_i = 1) - f(x with x_i = 0)]`: the measure-valued
gradient, where the difference of the two laws is a flip of bit `i`. All bits cost two evaluations each; here one bit,
chosen at random, stands for all.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Bernoulli
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("bitflip-1")
class BitFlip1(AbstractStatelessEstimator):
    r"""The difference that one bit makes, for a bit chosen at random.

    For an event $b$ of `dist` with $D$ bits and an index $i$ that is uniform among them, $b^{i=v}$ being $b$ with that
    bit set to $v$,

    $$\hat g_i = D\, p_i (1 - p_i)\, (f(b^{i=1}) - f(b^{i=0})), \qquad \hat g_j = 0 \text{ for } j \ne i.$$

    Unbiased: given $i$ the difference has the mean of $E[f \mid b_i = 1] - E[f \mid b_i = 0]$, and $D$ is one over the
    probability of the choice. Needs a `Bernoulli`; two evaluations of `f`, one at $b$ and the other at $b$ with the bit
    flipped. The factor $p_i (1 - p_i)$ quiets the rare bits, where antithetic pairs are noisy; the choice costs a
    variance that grows with $D$. One bit alone has its exact gradient.

    >>> from estimators import Bernoulli
    >>> grads = BitFlip1().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]

    The mean over all $i$ for one $b$ is `MeasureValued`, at $D$ times the cost.

    **References:** Kunes, Yin, Land, Haviv, Pe'er and Tavaré, Gradient estimation for binary latent variables via
    gradient variance clipping, 2022, arXiv:2208.06124.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        key_event, key_bit = jax.random.split(key)
        x, p, bits = dist.sample(key_event), dist.mean(), math.prod(dist.event_shape)
        chosen = jax.random.randint(key_bit, (), 0, bits) == jnp.arange(bits).reshape(x.shape)
        difference = jnp.diff(jax.vmap(lambda bit: f(jnp.where(chosen, bit, x)))(jnp.arange(2, dtype=x.dtype)))[0]
        return Bernoulli(jnp.where(chosen, bits * p * (1 - p) * difference, 0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2
