r"""A learned quadratic function as control variate of the pathwise estimator.

As in `taylor`, $\nabla_\theta E[f(x)] = \nabla_\theta E[f(x) - q(x)] + \nabla_\theta E[q(x)]$ with a quadratic $q$
about the mean, whose expectation needs two moments of the event only. A Taylor expansion is the best $q$ at one point;
which is best over the whole law is for the variance to say. So the slope and the curvature of $q$ are parameters here,
and `f` is differentiated once.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractReparameterizable, AbstractUncorrelated
from .distributions.base import as_floating, precision
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .taylor import Quadratic, corrected_path
from .validation import require_positive


class QuadraticSurrogate(eqx.Module):
    """What is trained: the slope at the mean, and a square matrix, of which only the symmetric part counts."""

    slope: Float[Array, "..."]
    matrix: Float[Array, "size size"]


@ESTIMATORS.register("quadratic-control-variate")
class QuadraticControlVariate(AbstractLearnedEstimator):
    r"""The pathwise estimator with a learned quadratic function as control variate.

    With $x = T(\varepsilon; \theta)$ of mean $\mu$ and $q(z) = b^\top (z - \mu) + \tfrac12 (z - \mu)^\top B (z - \mu)$,
    its $\mu$ held fixed,

    $$\hat g = \nabla_\theta [f(x) - q(x)] + \nabla_\theta E[q(x)].$$

    Unbiased for every $b$ and $B$. Both start at zero, where this is `Pathwise`, and are trained on the second moment
    of one estimate. Needs a reparameterizable distribution of uncorrelated variables with known moments and a
    differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Normal
    >>> QuadraticControlVariate().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    $B$ is any symmetric matrix, so that its size is the square of that of an event; for large events the paper
    restricts it. The paper also has a coefficient before the control variate, which $b$ and $B$ take in here, and
    it is for correlated variables too, whose moments are those of a covariance matrix.

    **References:** Geffner and Domke, Approximation based variance reduction for reparameterization gradients, 2020,
    arXiv:2007.14634.
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractUncorrelated, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> QuadraticSurrogate:
        del key
        dtype, size = precision(dist), math.prod(dist.event_shape)
        return QuadraticSurrogate(jnp.zeros(dist.event_shape, dtype), jnp.zeros((size, size), dtype))

    def gradient(self, key: PRNGKey, control: QuadraticSurrogate, dist: Grads, f: Objective) -> Grads:
        quadratic = Quadratic(dist.mean(), jnp.zeros((), control.slope.dtype), control.slope, control.matrix)
        return corrected_path(dist, f, quadratic, dist.noise(key))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
