"""The log-normal distribution: exponentials of normal variables.

An expectation of `f(x)` is one of `f(exp(y))`, `y` normal with the same leaves, and so are its derivatives: the weak
derivatives are the images of those of `Normal`.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..elementary import erfinv
from .base import AbstractFixedSupport, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .normal import Normal
from .smoothly_invertible import AbstractSmoothlyInvertible, interior


class LogNormal(AbstractSmoothlyInvertible, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent positive events whose logarithms have mean `loc` and standard deviation `exp(log_scale)`, any shape.

    >>> dist = LogNormal(loc=[0.0, 1.0], log_scale=[0.0, 0.0])
    >>> print(dist.mean().round(2), dist.quantile(jnp.array([0.5, 0.5])).round(2))
    [1.65 4.48] [1.   2.72]
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def logarithm(self) -> Normal:
        """The law of the logarithms."""
        return Normal(self.loc, self.log_scale)

    def mean(self) -> Event:
        """The expected event."""
        return self.moment(1.0)

    def variance(self) -> Event:
        """The variance of each variable."""
        return self.moment(1.0) ** 2 * jnp.expm1(self.logarithm.scale**2)

    def moment(self, power: float | int) -> Event:
        """`E[x^power]`, for each variable."""
        return jnp.exp(power * self.loc + (power * self.logarithm.scale) ** 2 / 2)

    def log_prob(self, x: Event) -> Scalar:
        log_x = jnp.log(x)
        return self.logarithm.log_prob(log_x) - jnp.sum(log_x)

    def quantile(self, u: Noise) -> Event:
        return jnp.exp(self.logarithm.reparameterize(math.sqrt(2) * erfinv(2 * interior(u) - 1)))

    def weak_derivative(self, key: PRNGKey) -> tuple["LogNormal", "LogNormal", "LogNormal"]:
        """With the weights of the normal law."""
        weights, plus, minus = self.logarithm.weak_derivative(key)
        events = (LogNormal(*map(jnp.exp, jax.tree.leaves(part))) for part in (plus, minus))
        return LogNormal(weights.loc, weights.log_scale), *events
