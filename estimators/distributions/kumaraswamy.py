"""The Kumaraswamy distribution on (0, 1): like a beta distribution, with quantiles in closed form.

**References:** Kumaraswamy, A generalized probability density function for double-bounded random processes, 1980.
Nalisnick and Smyth, Stick-breaking variational autoencoders, 2017, arXiv:1605.06197.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import betaln
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, Event, Noise, Scalar, as_floating
from .smoothly_invertible import AbstractSmoothlyInvertible, interior


class Kumaraswamy(AbstractSmoothlyInvertible, AbstractFixedSupport):
    """Independent events of (0, 1) with `P(x > t) = (1 - t^a)^b`, any shape; the leaves are `log(a)` and `log(b)`.

    An event that would be rounded to 0 or 1 is moved inside, where its density is finite.

    >>> dist = Kumaraswamy(log_a=[0.0, 1.0], log_b=[0.0, 0.0])
    >>> print((100 * dist.mean()).round())
    [50. 73.]
    """

    log_a: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_b: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_a.shape

    def mean(self) -> Event:
        """The expected event."""
        return self.moment(1.0)

    def variance(self) -> Event:
        """The variance of each variable."""
        return self.moment(2.0) - self.moment(1.0) ** 2

    def moment(self, power: float | int) -> Event:
        """`E[x^power] = b B(1 + power / a, b)`, for each variable."""
        a, b = jnp.exp(self.log_a), jnp.exp(self.log_b)
        return jnp.exp(self.log_b + betaln(1 + power / a, b))

    def log_prob(self, x: Event) -> Scalar:
        a, log_x = jnp.exp(self.log_a), jnp.log(x)
        log_rest = jnp.log(-jnp.expm1(a * log_x))
        return jnp.sum(self.log_a + self.log_b + (a - 1) * log_x + (jnp.exp(self.log_b) - 1) * log_rest)

    def quantile(self, u: Noise) -> Event:
        log_power = jnp.log(-jnp.expm1(jnp.log1p(-interior(u)) * jnp.exp(-self.log_b)))
        limits = jnp.finfo(u.dtype)
        return jnp.clip(jnp.exp(log_power * jnp.exp(-self.log_a)), limits.tiny, 1 - limits.eps / 2)
