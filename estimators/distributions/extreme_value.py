r"""The Gumbel and the Weibull distribution: logarithms and powers of exponential variables.

With `e` exponential, `loc - scale log(e)` is Gumbel and `scale e^(1 / concentration)` is Weibull, so minus the logarithm
of the one is the other. Weak derivatives, all with respect to leaves:

- along the leaf that multiplies, `loc` of the one and `log_scale` of the other, the score is a multiple of `1 - e`: a
  multiple of the difference of the laws with `e` itself and with the sum of two exponential variables in its place
  (Mohamed et al., Monte Carlo gradient estimation, 2020, table 1, has the latter);
- along the leaf that bends, `log_scale` of the one and `log_concentration` of the other, the score is plus or minus `1 -
  h(e)`, `h(e) = (e - 1) log(e)`, which is never negative, and of mean one: the difference of the laws with `e` itself
  and with a variable of density `h(e) exp(-e)`, of which the distribution function is `1 - exp(-e) (1 + e log(e))`.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .base import AbstractFixedSupport, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .bisection import turning_point
from .coordinates import replaced
from .location_scale import AbstractLocationScale
from .smoothly_invertible import AbstractSmoothlyInvertible, interior


class Gumbel(AbstractLocationScale, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent events with distribution function `exp(-exp(-(x - loc) / scale))`, any shape: the law of maxima.

    >>> dist = Gumbel(loc=[0.0, 1.0], log_scale=[0.0, 0.0])
    >>> print(dist.mean().round(3))
    [0.577 1.577]
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    standard_mean: ClassVar[float] = np.euler_gamma
    standard_variance: ClassVar[float] = math.pi**2 / 6

    def standard_quantile(self, u: Noise) -> Event:
        return -jnp.log(-jnp.log(u))

    def standard_log_prob(self, z: Event) -> Event:
        return -z - jnp.exp(-z)

    def weak_derivative(self, key: PRNGKey) -> tuple["Gumbel", "Gumbel", "Gumbel"]:
        """The laws above, at one `e`; along `log_scale` the other variable is as rare."""
        key_e, key_more = jax.random.split(key)
        e = -jnp.log(interior(self.noise(key_e)))
        more = e + jax.random.exponential(key_more, e.shape, e.dtype)
        x, lower, bent = (self.located(-jnp.log(value)) for value in (e, more, _bent(e)))
        weights = Gumbel(1 / self.scale, jnp.ones_like(self.log_scale))
        return weights, Gumbel(replaced(x, x), replaced(x, bent)), Gumbel(replaced(x, lower), replaced(x, x))


class Weibull(AbstractSmoothlyInvertible, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent positive events with `P(x > t) = exp(-(t / scale)^concentration)`, any shape.

    The leaves are the logarithms of `scale` and `concentration`.

    >>> dist = Weibull(log_scale=[0.0, 1.0], log_concentration=[0.0, 0.0])
    >>> print(dist.mean().round(2))
    [1.   2.72]
    """

    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_concentration: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_scale.shape

    @property
    def concentration(self) -> Float[Array, "*variables"]:
        """The power that makes an event exponential."""
        return jnp.exp(self.log_concentration)

    def mean(self) -> Event:
        """The expected event."""
        return self.moment(1.0)

    def variance(self) -> Event:
        """The variance of each variable."""
        return self.moment(2.0) - self.moment(1.0) ** 2

    def moment(self, power: float | int) -> Event:
        """`E[x^power]`, for each variable."""
        return jnp.exp(power * self.log_scale + jax.scipy.special.gammaln(1 + power / self.concentration))

    def log_prob(self, x: Event) -> Scalar:
        log_x = jnp.log(x)
        exponent = self.concentration * (log_x - self.log_scale)
        return jnp.sum(self.log_concentration + exponent - jnp.exp(exponent) - log_x)

    def quantile(self, u: Noise) -> Event:
        return self.stretched(-jnp.log1p(-interior(u)))

    def stretched(self, e: Event) -> Event:
        """`scale e^(1 / concentration)`."""
        return jnp.exp(self.log_scale + jnp.log(e) / self.concentration)

    def weak_derivative(self, key: PRNGKey) -> tuple["Weibull", "Weibull", "Weibull"]:
        """The laws above, at one `e`; along `log_concentration` the other variable is as rare."""
        key_e, key_more = jax.random.split(key)
        e = -jnp.log1p(-interior(self.noise(key_e)))
        more = e + jax.random.exponential(key_more, e.shape, e.dtype)
        x, longer, bent = (self.stretched(value) for value in (e, more, _bent(e)))
        weights = Weibull(self.concentration, jnp.ones_like(self.log_concentration))
        return weights, Weibull(replaced(x, longer), replaced(x, x)), Weibull(replaced(x, x), replaced(x, bent))


def _bent(e: Event) -> Event:
    """The variable of density `(t - 1) log(t) exp(-t)` that is as far up in its law as `e` is in the exponential one.

    Both are 1 together, and below the mass and above the tail is compared, lest digits be lost. For `e` down to 1e-16
    their ratio is between `exp(-4)` and `exp(1)`.
    """

    def beyond(log_t: Event) -> Bool[Array, "..."]:
        t = jnp.exp(log_t)
        product = t * log_t * jnp.exp(-t)
        above = jnp.exp(-t) + product < jnp.exp(-e)
        return jnp.where(log_t > 0, above, -jnp.expm1(-t) - product > -jnp.expm1(-e))

    return jnp.exp(turning_point(beyond, jnp.log(e) - 5, jnp.log(e) + 2))
