r"""Doubly stochastic gradients: of an objective that is a sum, an estimate sees a few terms at one event.

For $f = \sum_n f_n$ with `N` terms, a set $S$ of `b` different ones, drawn uniformly, and $x = T(\varepsilon; \theta)$,

$$F_S(x) = \frac Nb \sum_{n \in S} f_n(x), \qquad E_S F_S(x) = f(x),$$

so that what is unbiased for the gradient of $E[F_S(x)]$, for every $S$, is unbiased for that of $E[f(x)]$, at the price
of `b` terms. Its variance has two parts, one for each source of noise,

$$\mathrm{Var}(\hat g) = E_S \mathrm{Var}_\varepsilon(\hat g) + \mathrm{Var}_S E_\varepsilon(\hat g).$$

The first is the Monte Carlo part. The second is the subsampling part; with $g_n = \nabla_\theta E[f_n(x)]$, of mean
$\bar g$, it is (Cochran, Sampling techniques, 1977, theorem 2.2)

$$\frac{N (N - b)}{b}\, \frac{1}{N - 1} \sum_n (g_n - \bar g)^2$$

for both estimators of this file, as no control variate of $\varepsilon$ alone touches it. Those of `joint_control` do.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import AbstractEstimator, AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractReparameterizable, AbstractUncorrelated
from .distributions.base import Event, Noise, Scalar
from .objectives import AbstractDifferentiable, AbstractSum, Objective
from .registration import ESTIMATORS
from .taylor import corrected_path, expansion
from .validation import require_at_least

# What it takes to expand the terms that are drawn, and to know the expectation of the expansion.
EXPANDED = (AbstractReparameterizable, AbstractUncorrelated, AbstractSum, AbstractDifferentiable)


class AbstractSubsampled(AbstractEstimator):
    """An estimator that sees `batch` different terms of a sum, each set of that size as likely as any other."""

    batch: eqx.AbstractVar[int]

    def __check_init__(self):
        require_at_least(self, "batch", 1)

    def drawn(self, key: PRNGKey, f: AbstractSum) -> Int[Array, "batch"]:
        """The numbers of the terms."""
        if self.batch > f.terms:
            raise ValueError(
                f"`{type(self).__name__}` draws {self.batch} different terms, and this `{type(f).__name__}` has "
                f"{f.terms}; give a smaller `batch`."
            )
        last = jnp.arange(f.terms - self.batch, f.terms, dtype=jnp.int32)
        return distinct(jax.random.randint(key, (self.batch,), 0, last + 1, jnp.int32), last)

    def scale(self, f: AbstractSum) -> float:
        """What makes the sum of the terms that are drawn stand for that of all."""
        return f.terms / self.batch


def distinct(numbers: Int[Array, "batch"], last: Int[Array, "batch"]) -> Int[Array, "batch"]:
    """The numbers, but the last that was possible in the place of one that came before.

    Where number `i` is uniform from 0 to `last_i`, and these are the last `batch` of so many terms, every set of terms is
    as likely as any other (Floyd; Bentley and Floyd, A sample of brilliance, 1987). It takes the square of `batch`
    comparisons, and no pass over all terms.
    """

    def place(i: Int[Array, ""], chosen: Int[Array, "batch"]) -> Int[Array, "batch"]:
        taken = jnp.any(chosen == numbers[i])
        return chosen.at[i].set(jnp.where(taken, last[i], numbers[i]))

    return jax.lax.fori_loop(0, len(numbers), place, jnp.full_like(numbers, -1))


def weighted_terms(f: AbstractSum, terms: Int[Array, "batch"], weights: Float[Array, "batch"] | float) -> Objective:
    """The objective `sum_i weights_i term(terms_i, x)`."""

    def part(x: Event) -> Scalar:
        return jnp.sum(weights * jax.vmap(f.term, in_axes=(0, None))(terms, x))

    return part


def path(dist: Grads, f: Objective, noise: Noise) -> Grads:
    """The pathwise estimate that `noise` makes."""
    return jax.grad(lambda d: f(d.reparameterize(noise)))(dist)


@ESTIMATORS.register("doubly-stochastic")
class DoublyStochastic(AbstractSubsampled, AbstractStatelessEstimator):
    r"""The pathwise estimator of a few terms of a sum, scaled up to all of them.

    With `noise` drawn, $x = T(\varepsilon)$ the event it becomes, and $S$ a set of `batch` different terms of $f =
    \sum_n f_n$, drawn uniformly from all `terms`,

    $$\hat g = \frac{\texttt{terms}}{\texttt{batch}} \sum_{n \in S} \nabla_\theta f_n(T(\varepsilon; \theta)).$$

    Unbiased: a term is in $S$ with the probability by which it is divided. Needs a reparameterizable distribution and a
    differentiable sum; `batch` evaluations of a term with its derivative, where one of `f` has `terms`. All terms of
    an estimate see one event, so that with `batch = terms` this is `Pathwise`, noise by noise.

    >>> from estimators import Normal
    >>> DoublyStochastic(batch=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    4

    **References:** Titsias and Lazaro-Gredilla, Doubly stochastic variational Bayes for non-conjugate inference, 2014.
    """

    batch: int = eqx.field(static=True, default=8)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractSum, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractSum) -> Grads:
        key_noise, key_terms = jax.random.split(key)
        part = weighted_terms(f, self.drawn(key_terms, f), self.scale(f))
        return path(dist, part, dist.noise(key_noise))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.batch


@ESTIMATORS.register("monte-carlo-control-variate")
class MonteCarloControlVariate(AbstractSubsampled, AbstractStatelessEstimator):
    r"""The doubly stochastic estimator with a control variate of the noise, and none of the draw of the terms.

    With $S$ and $x$ as for `DoublyStochastic`, and $q_n$ the second-order Taylor expansion of $f_n$ about the mean of
    `dist`, held fixed,

    $$\hat g = \frac{\texttt{terms}}{\texttt{batch}} \sum_{n \in S} \left(\nabla_\theta [f_n(x) - q_n(x)] +
    \nabla_\theta E[q_n(x)]\right).$$

    Unbiased; it is `RVRGE` on the terms that are drawn, and with `batch = terms` on all, noise by noise. On a sum of
    quadratic functions the subsampling part of the variance is all that is left, and nowhere is that part reduced.
    Needs a reparameterizable distribution of uncorrelated variables with known moments, and a sum that is
    differentiable twice; two evaluations of `batch` terms with their derivatives, and at the mean as many
    Hessian-vector products as an event has numbers.

    >>> from estimators import Normal
    >>> MonteCarloControlVariate(batch=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    8

    **References:** Miller, Foti, D'Amour and Adams, Reducing reparameterization gradient variance, 2017,
    arXiv:1705.07880. Wang, Geffner and Domke, Joint control variate for faster black-box variational inference, 2024,
    arXiv:2210.07290, to which it is what control variates did before.
    """

    batch: int = eqx.field(static=True, default=8)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = EXPANDED

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractSum) -> Grads:
        key_noise, key_terms = jax.random.split(key)
        part = weighted_terms(f, self.drawn(key_terms, f), self.scale(f))
        return corrected_path(dist, part, expansion(part, dist.mean()), dist.noise(key_noise))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.batch
