r"""Importance sampling for the score function: draw where the integrand is large, not where the density is.

For any $r$ that is positive where $p$ is,

$$\nabla_\theta E_p[f(x)] = E_r\!\left[\frac{p(x)}{r(x)}\, f(x)\, \nabla_\theta \log p(x)\right].$$

The score is zero in the middle of a law and large in its tails, and so is what the best $r$ favours. An exponential
family has a member at hand that is wider than $p$: the one whose natural parameters are smaller by a factor.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import AbstractDistribution, AbstractOverdispersible
from .distributions.base import as_floating
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_at_least


@ESTIMATORS.register("overdispersed")
class Overdispersed(AbstractStatelessEstimator):
    r"""The score function at samples of an overdispersed member of the same family, weighted (O-BBVI).

    With $r$ the member of the family whose natural parameters are those of `dist` divided by `dispersion`, and samples
    $x_1, \dots, x_n$ of $r$,

    $$\hat g = \frac1n \sum_i \frac{p(x_i)}{r(x_i)}\, f(x_i)\, \nabla \log p(x_i).$$

    Unbiased: nothing is normalised. Needs an exponential family with its overdispersed members; `num_samples`
    evaluations of `f`. At a dispersion of one it is `ScoreFunction`, draw for draw.

    >>> from estimators import Normal
    >>> Overdispersed(num_samples=3).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    3

    The weight is that of the whole event: with $t$ the dispersion, that of `D` normal variables has the second moment
    $(t / \sqrt{2 t - 1})^D$, so that in many dimensions the dispersion must be near one. The paper also adapts the
    dispersion along the way, draws from a mixture of two of them, and lets each variable see no more of `f` than
    concerns it; here the dispersion is given.

    **References:** Ruiz, Titsias and Blei, Overdispersed black-box variational inference, 2016, arXiv:1603.01140.
    """

    num_samples: int = eqx.field(static=True, default=1)
    dispersion: Float[Array, ""] = eqx.field(converter=as_floating, default=1.5)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractOverdispersible,)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)
        require_at_least(self, "dispersion", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        wide = dist.overdispersed(self.dispersion)
        xs = draw(key, wide, self.num_samples)
        ratios = jnp.exp(jax.vmap(lambda x: dist.log_prob(x) - wide.log_prob(x))(xs))
        return weighted_score(dist, xs, ratios * jax.vmap(f)(xs) / self.num_samples)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
