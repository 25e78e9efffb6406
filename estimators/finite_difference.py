r"""Finite differences with common random numbers: simulate twice, at parameters a step apart.

With the events a function of the parameters and of noise, $x = T(\varepsilon; \theta)$, the same noise serves both
simulations, so that what they share cancels in the difference. Nothing is needed but a simulator that can be run again.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractTransformable
from .distributions.base import Scalar, as_floating
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("finite-difference")
class FiniteDifference(AbstractStatelessEstimator):
    r"""Central finite differences with common random numbers.

    With $h$ the `step`, $e_i$ the unit vector of the scalar parameter $\theta_i$ and one `noise` $\varepsilon$ for all,

    $$\hat g_i = \frac{f(T(\varepsilon; \theta + h e_i)) - f(T(\varepsilon; \theta - h e_i))}{2 h}.$$

    Biased: with $L(\theta) = E[f(x)]$ its mean is $(L(\theta + h e_i) - L(\theta - h e_i)) / 2 h$, which is off by $h^2 /
    6$ times the third derivative of $L$ to leading order. A smaller step has less bias and, if events are discrete, more
    variance: they differ with a probability of the order of $h$, and then the quotient is of the order of $1 / h$. Needs
    a transformable distribution, whose events are made of noise, and of `f` its values; two evaluations for each scalar
    parameter.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[0.0], log_scale=[0.0])
    >>> grads = FiniteDifference(step=0.5).gradient(jax.random.key(0), dist, lambda x: 3 * x.sum())
    >>> print(grads.loc.round(5))
    [3.]

    The step is taken in the unconstrained leaves of `dist`. How events at the two ends are coupled is for the
    distribution to say: counts are the inverse of their distribution function, one-hot events and bits the rounding of
    perturbed logits. The mean depends on none of that. With independent noise at the two ends the variance would be of
    the order of $1 / h^2$.

    **References:** Glasserman and Yao, Some guidelines and guarantees for common random numbers, 1992. L'Ecuyer and
    Perron, On the convergence rates of IPA and FDC derivative estimators, 1994.
    """

    step: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractTransformable,)

    def __check_init__(self):
        require_positive(self, "step")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        centre, rebuild = ravel_pytree(dist)
        step = self.step.astype(centre.dtype)

        def value(parameters: Float[Array, "parameters"]) -> Scalar:
            return f(rebuild(parameters).transform(noise))

        units = jnp.eye(centre.size, dtype=centre.dtype)
        ends = centre[None] + step * jnp.concatenate([units, -units])
        values = jax.vmap(value)(ends).reshape(2, -1)
        return rebuild((values[0] - values[1]) / (2 * step))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 2 * sum(leaf.size for leaf in jax.tree.leaves(dist))
