"""Independent exponential variables.

With rate `r`, `d/dr r exp(-r x) = (1 - r x) exp(-r x)` is `1 / r` times the difference of the law itself and that of the
sum of two such variables (Mohamed et al., Monte Carlo gradient estimation, 2020, table 1).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .coordinates import replaced
from .smoothly_invertible import AbstractSmoothlyInvertible, interior


class Exponential(AbstractSmoothlyInvertible, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent positive events of density `rate exp(-rate x)` with `rate = exp(log_rate)`, any shape.

    >>> dist = Exponential(log_rate=[0.0, 1.0])
    >>> print(dist.log_prob(jnp.zeros(2)), dist.mean().round(2))
    1.0 [1.   0.37]
    """

    log_rate: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_rate.shape

    def mean(self) -> Event:
        """One over the rates."""
        return jnp.exp(-self.log_rate)

    def variance(self) -> Event:
        """The squares of the means."""
        return jnp.exp(-2 * self.log_rate)

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(self.log_rate - jnp.exp(self.log_rate) * x)

    def quantile(self, u: Noise) -> Event:
        return -jnp.log1p(-interior(u)) * self.mean()

    def weak_derivative(self, key: PRNGKey) -> tuple["Exponential", "Exponential", "Exponential"]:
        """The event as it is, less the event with another added; `log_rate` carries the factor `rate`, so the weight is
        one."""
        key_x, key_more = jax.random.split(key)
        x = self.sample(key_x)
        longer = x + jax.random.exponential(key_more, x.shape, x.dtype) * self.mean()
        return Exponential(jnp.ones_like(x)), Exponential(replaced(x, x)), Exponential(replaced(x, longer))
