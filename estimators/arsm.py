r"""Augment-REINFORCE-swap: the noises of two categories exchanged, and the difference that it makes.

With Gumbel noise `g`, `varpi = softmax(-g)` is uniform on the simplex of the `C` categories, and the event is
`z = argmin_c varpi_c exp(-logits_c) = argmax_c (logits_c + g_c)`. Its score given `varpi` is integrated out to

    d/d logits_c E[f(z)] = E[f(z) (1 - C varpi_c)].

Let `z^{cj}` be the event made of `g` with the noises of the categories `c` and `j` exchanged, in every variable at
once. The noise has the same law when exchanged, so that `f(z^{cj}) (1 - C varpi_j)` has that mean too, with one factor
for all `c`; and as gradients in the logits sum to zero over `c`, the mean of `f(z^{mj})` over `m` may be taken from
`f(z^{cj})`: a baseline that sees the sample, without bias.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .objectives import Objective
from .registration import ESTIMATORS

Noise = Float[Array, "*variables categories"]


def _values(dist: Categorical, noise: Noise, f: Objective, i: Int[Array, "swaps"], j: Int[Array, "swaps"]):
    """`f` at the events that are made of `noise` with the categories `i` and `j` exchanged, pair by pair."""

    def value(i: Int[Array, ""], j: Int[Array, ""]) -> Float[Array, ""]:
        each = jnp.arange(noise.shape[-1])
        exchanged = jnp.where(each == i, j, jnp.where(each == j, i, each))
        return f(dist.harden(dist.perturb(jnp.take(noise, exchanged, axis=-1))))

    return jax.vmap(value)(i, j)


@ESTIMATORS.register("ars")
class ARS(AbstractStatelessEstimator):
    r"""Augment-REINFORCE-swap: every category exchanged with one reference category.

    For `dist` with $C$ categories, $\varpi$ uniform on the simplex (for each variable), $z = \arg\min_c \varpi_c
    e^{-\phi_c}$ for its logits $\phi$, a reference category $j$ drawn uniformly, and $z^{cj}$ the event when $\varpi_c$
    and $\varpi_j$ are exchanged,

    $$\hat g_c = \Bigl(f(z^{cj}) - \frac1C \sum_m f(z^{mj})\Bigr) (1 - C \varpi_j).$$

    Unbiased, whatever the reference: exchanging does not change the law of $\varpi$, and a gradient in the logits sums
    to zero. Needs a `Categorical`; one evaluation of `f` for each category. Of several variables all are exchanged
    together, with the same $c$ and $j$, and each has the factor of its own $\varpi_j$.

    >>> ARS().evaluations(Categorical(logits=jnp.zeros((2, 5))))
    5

    Where exchanged events coincide, `f` is evaluated again: how many differ depends on the noise. `ARSM` is the mean
    over all references.

    **References:** Yin, Yue and Zhou, ARSM: Augment-REINFORCE-swap-merge estimator for gradient backpropagation through
    categorical variables, 2019, arXiv:1905.01413.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        key_noise, key_reference = jax.random.split(key)
        noise, categories = dist.noise(key_noise), dist.logits.shape[-1]
        reference = jax.random.randint(key_reference, (), 0, categories)
        values = _values(dist, noise, f, jnp.arange(categories), jnp.full(categories, reference))
        factors = 1 - categories * jax.nn.softmax(-noise)[..., reference]
        return Categorical(jnp.multiply.outer(factors, values - jnp.mean(values)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return dist.event_shape[-1]


@ESTIMATORS.register("arsm")
class ARSM(AbstractStatelessEstimator):
    r"""Augment-REINFORCE-swap-merge: `ARS` averaged over all reference categories.

    For `dist` with $C$ categories, $\varpi$ uniform on the simplex (for each variable), $z = \arg\min_c \varpi_c
    e^{-\phi_c}$ for its logits $\phi$, and $z^{cj}$ the event when $\varpi_c$ and $\varpi_j$ are exchanged,

    $$\hat g_c = \frac1C \sum_j \Bigl(f(z^{cj}) - \frac1C \sum_m f(z^{mj})\Bigr) (1 - C \varpi_j).$$

    Unbiased: it is the conditional expectation of `ARS` given $\varpi$, so its variance is at most that of `ARS`. With
    two categories it is `ARM`. Needs a `Categorical`; `C (C - 1) / 2 + 1` evaluations of `f`, one for each exchange and
    one for none, for $z^{cj} = z^{jc}$. Of several variables all are exchanged together, with the same $c$ and $j$, and
    each has the factors of its own $\varpi$.

    >>> ARSM().evaluations(Categorical(logits=jnp.zeros((2, 5))))
    11

    Where exchanged events coincide, `f` is evaluated again: how many differ depends on the noise, and a compiled
    program has one size. The paper counts the distinct ones only.

    **References:** Yin, Yue and Zhou, ARSM: Augment-REINFORCE-swap-merge estimator for gradient backpropagation through
    categorical variables, 2019, arXiv:1905.01413.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        noise, categories = dist.noise(key), dist.logits.shape[-1]
        i, j = np.triu_indices(categories, 1)
        # The first exchange is that of a category with itself; the others fill both triangles.
        where = np.zeros((categories, categories), int)
        where[i, j] = where[j, i] = 1 + np.arange(len(i))
        values = _values(dist, noise, f, jnp.append(0, i), jnp.append(0, j))[where]
        advantages = values - jnp.mean(values, axis=0, keepdims=True)
        factors = 1 / categories - jax.nn.softmax(-noise)
        return Categorical(jnp.einsum("cj,...j->...c", advantages, factors))

    def evaluations(self, dist: AbstractDistribution) -> int:
        categories = dist.event_shape[-1]
        return categories * (categories - 1) // 2 + 1
