r"""The GO gradient: differences of `f` where other estimators need derivatives of `f` or the score.

Let one variable have the distribution function $F$ and the masses $q$. Summing by parts,

$$\frac{\partial}{\partial\theta} \sum_x q(x) f(x) = \sum_x \frac{\partial (F(x) - F(x - 1))}{\partial\theta} f(x)
= -\sum_x \frac{\partial F(x)}{\partial\theta}\, [f(x + 1) - f(x)],$$

an expectation under $q$ of the difference of `f` to the next value, times `rise`. Every variable of an event
contributes so with the others as they were drawn.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractOrdered
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("go")
class GO(AbstractStatelessEstimator):
    r"""The General and One-sample gradient, for discrete variables.

    For one sample $x$ of `dist`, where $F_i$ and $q_i$ are the distribution and mass functions of the variable $x_i$ and
    $x^{(i)}$ is $x$ with $x_i$ moved to its next value,

    $$\hat g = \sum_i \frac{-\nabla F_i(x_i)}{q_i(x_i)}\, \big(f(x^{(i)}) - f(x)\big).$$

    Unbiased. Needs independent variables with an order; `1 + variables` evaluations of `f`, one for each variable and
    not for each parameter. The last value of a finite support has no next one and no weight: $F = 1$ there.

    >>> from estimators import Poisson
    >>> grads = GO().gradient(jax.random.key(0), Poisson(log_rate=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.log_rate)
    [2.]

    Of the paper's two cases this is the discrete one. In the other $f$ is differentiated instead of differenced, which
    is implicit reparameterization, and for a location and a scale the same as `Pathwise`. One-hot events are ordered as
    their categories are; another order makes another estimator with the same mean. For Bernoulli, Poisson and binomial
    variables the weight is never negative, and this is the mean over its alternatives of `StochasticTriples`. For
    Poisson variables it is `MeasureValued`, with one evaluation of $f(x)$ for all variables.

    **References:** Cong, Zhao, Bai and Carin, GO gradient for expectation-based objectives, 2019, arXiv:1901.06020.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractOrdered,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        events = dist.neighbours(x, 1).reshape(-1, *x.shape)
        values = jax.vmap(f)(jnp.concatenate([x[None], events]))
        return times(dist.rise(x), values[1:] - values[0])

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 1 + math.prod(dist.variables)


def times(rates: AbstractOrdered, factors: Float[Array, "variables"]) -> AbstractOrdered:
    """Every scalar parameter of `rates` times the factor of its variable."""

    def scaled(leaf: Float[Array, "..."]) -> Float[Array, "..."]:
        own = leaf.shape[len(rates.variables) :]
        return leaf * factors.reshape(*rates.variables, *(1 for _ in own))

    return jax.tree.map(scaled, rates)
