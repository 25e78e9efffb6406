r"""ReinMax: straight-through with Heun's method, a first-order step made second-order.

With $J(q) = \mathrm{diag}(q) - q q^\top$ within each variable, straight-through pulls $f'(x)$ back by $J(\pi)$; ReinMax
pulls it back by $2 J(m) - \tfrac12 J(\pi)$, where $m$ is half-way between the event and a softmax of the logits. Since

$$2 J\!\left(\tfrac12 (q + x)\right) = J(q) + J(x) + \tfrac12 (x - q) (x - q)^\top, \;\; J(x) = 0 \text{ at an event},$$

this is $J(q) - \tfrac12 J(\pi) + \tfrac12 (x - q) (x - q)^\top$, from which every statement below follows.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractLogitParameterized, AbstractRelaxable
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least
from .zgr import along_logits


@ESTIMATORS.register("reinmax")
class ReinMax(AbstractStatelessEstimator):
    r"""ReinMax: the straight-through estimator to second order, by Heun's method.

    For a sample $x$ of `dist`, $\theta$ its logits, $\pi$ its mean, $t$ the `temperature`,
    $J(q) = \mathrm{diag}(q) - q q^\top$ within each variable and $\pi_t = \mathrm{softmax}(\theta / t)$ (the sigmoid
    for Bernoulli variables),

    $$\hat g = 2 J\!\left(\tfrac12 (\pi_t + x)\right) f'(x) - \tfrac12 J(\pi) f'(x).$$

    Biased. At temperature 1 it is `ZGR`, and exact in the mean for an `f` that is quadratic in each variable while the
    others are fixed. At any other it is not exact for an affine `f` either: there its mean is
    $[J(\pi_t) + \tfrac12 (\pi - \pi_t) (\pi - \pi_t)^\top] f'$ in place of $J(\pi) f'$, a bias of direction and not of
    scale alone. Needs a relaxable distribution with logits and a differentiable `f`; one evaluation of `f` with its
    derivative.

    >>> from estimators import Bernoulli
    >>> grads = ReinMax().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [0.5]

    The sample is drawn at temperature 1 whatever `temperature` is, and the Jacobian is taken at a point, with no factor
    $1 / t$ from a chain rule. The temperature is at least 1, as its authors would have it. Their program subtracts from
    a gradient its mean over the categories; here nothing is left to subtract, for the column sums of $J(q)$ are zero.

    **References:** Liu, Dong, Liu, Yu and Gao, Bridging discrete and backpropagation: straight-through and beyond,
    2023, arXiv:2304.08612.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractLogitParameterized, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "temperature", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        slope = jax.grad(f)(x)
        middle = (dist.relax(dist.logits, self.temperature.astype(x.dtype)) + x) / 2
        return along_logits(dist, 2 * dist.covariance(middle, slope) - dist.covariance(dist.mean(), slope) / 2)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
