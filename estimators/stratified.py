"""Stratified samples of one discrete variable: evenly spread uniforms through the inverse distribution function.

`E[f(x) d/d theta log p(x)]` is the integral over `u` in `[0, 1)` of its integrand at `x(u)`, the event where the
cumulative probability passes `u`. Put one `u_k` into each of `n` equal strata, uniform within it, and the average over
them has the same mean: `x(u_k)` follows the law within the stratum, and the strata together are the law. How the `u_k`
depend on each other is free, and is what tells the estimators of this room apart.

The samples are not independent, so none may serve as another's baseline: `E[f(x_j) d/d theta log p(x_k)]` is not zero.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, weighted_score
from .distributions import AbstractDistribution, AbstractEnumerable
from .distributions.base import precision
from .objectives import Objective
from .registration import ESTIMATORS

Uniforms = Float[Array, "samples"]


def inverse_distribution(dist: AbstractEnumerable, u: Uniforms) -> Float[Array, "samples ..."]:
    """The events at which the cumulative probability, in the order of the support, passes each of `u`."""
    events = dist.support()
    cumulative = jnp.cumsum(jnp.exp(jax.vmap(dist.log_prob)(events)))
    # Rounding may put `u` at one. The total is first reached by the last event that has any probability.
    last = jnp.searchsorted(cumulative, cumulative[-1])
    return events[jnp.minimum(jnp.searchsorted(cumulative, u * cumulative[-1], side="right"), last)]


class AbstractStratified(AbstractStatelessEstimator):
    """The score function at one event from each of `num_samples` equal strata."""

    num_samples: eqx.AbstractVar[int]

    @abstractmethod
    def offsets(self, key: PRNGKey, dtype: jnp.dtype) -> Uniforms:
        """Where in its stratum each sample lies, a uniform variable of any joint law."""

    def __check_init__(self):
        if self.num_samples < 1:
            raise ValueError(f"`{type(self).__name__}` needs `num_samples >= 1`, got {self.num_samples}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        offsets = self.offsets(key, precision(dist))
        u = (jnp.arange(self.num_samples, dtype=offsets.dtype) + offsets) / self.num_samples
        xs = inverse_distribution(dist, u)
        return weighted_score(dist, xs, jax.vmap(f)(xs) / self.num_samples)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("stratified-score-function")
class StratifiedScoreFunction(AbstractStratified):
    r"""The score function with one sample from each of `num_samples` equal strata, drawn independently.

    With $F^{-1}$ the inverse distribution function of `dist` in the order of its `support()` and independent uniform
    $u_0, \dots, u_{n-1}$,

    $$\hat g = \frac1n \sum_{k=0}^{n-1} f(x_k)\, \nabla \log p(x_k), \qquad
    x_k = F^{-1}\!\left(\frac{k + u_k}{n}\right).$$

    Unbiased, and its variance is at most that of `ScoreFunction`, by the mean squared distance of the means of the
    strata from their mean, over $n$. Needs a finite support of at most $2^{20}$ events, which are listed, with their
    probabilities but without `f`, to form $F$; `num_samples` evaluations of `f`.

    >>> from estimators import Categorical
    >>> StratifiedScoreFunction(num_samples=4).evaluations(Categorical(logits=[0.0, 1.0, 2.0]))
    4

    The method is one for a single discrete variable. Several independent ones are taken as one, with all combinations
    of their values in a row; which combinations are neighbours decides what is gained, never the mean. There is no
    baseline: the leave-one-out mean would be biased, because the samples are not independent.

    **References:** Cochran, Sampling techniques, 1977. Kool, van Hoof and Welling, Estimating gradients for discrete
    random variables by sampling without replacement, 2020, arXiv:2002.06043.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def offsets(self, key: PRNGKey, dtype: jnp.dtype) -> Uniforms:
        return jax.random.uniform(key, (self.num_samples,), dtype)


@ESTIMATORS.register("systematic-score-function")
class SystematicScoreFunction(AbstractStratified):
    r"""The score function on an evenly spaced grid of `num_samples` points with one random offset.

    With $F^{-1}$ the inverse distribution function of `dist` in the order of its `support()` and one uniform $u$,

    $$\hat g = \frac1n \sum_{k=0}^{n-1} f(x_k)\, \nabla \log p(x_k), \qquad
    x_k = F^{-1}\!\left(\frac{k + u}{n}\right).$$

    Unbiased, because each $x_k$ follows the law within its stratum, as in `StratifiedScoreFunction`. An event of
    probability $p$ is drawn $n p$ times, rounded up or down. No bound holds for the variance: an integrand that repeats
    itself with the spacing of the grid is seen $n$ times at one place, and the variance is then $n$ times that of
    `ScoreFunction`. Needs a finite support of at most $2^{20}$ events, which are listed, with their probabilities but
    not with `f`, to form $F$; `num_samples` evaluations of `f`.

    >>> from estimators import Categorical
    >>> SystematicScoreFunction(num_samples=4).evaluations(Categorical(logits=[0.0, 1.0, 2.0]))
    4

    Several independent variables are taken as one, with all combinations of their values in a row, and there is no
    baseline.

    **References:** Madow and Madow, On the theory of systematic sampling, 1944. Kitagawa, Monte Carlo filter and
    smoother for non-Gaussian nonlinear state space models, 1996.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def offsets(self, key: PRNGKey, dtype: jnp.dtype) -> Uniforms:
        return jnp.broadcast_to(jax.random.uniform(key, (), dtype), (self.num_samples,))
