"""The diagonal normal distribution.

Weak derivatives (Pflug 1989; Heidergott and Vazquez-Abad 2000; Mohamed et al., Monte Carlo gradient estimation, 2020,
table 1): along the mean, `1 / (scale sqrt(2 pi))` times the difference of `loc + scale w` and `loc - scale w`, `w`
Rayleigh; along the scale, `1 / scale` times the difference of `loc + scale m` and `loc + scale u m`, `m` double-sided
Maxwell and `u` uniform, for then `u m` is standard normal.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..elementary import erfinv
from .base import (
    AbstractStratifiable,
    AbstractUncorrelated,
    AbstractWeaklyDifferentiable,
    Event,
    Noise,
    PRNGKey,
    Scalar,
    as_floating,
)
from .continuous import AbstractIntegrable, AbstractOverdispersible, AbstractRotatable
from .coordinates import product_rule, replaced

# The trapezoidal rule on [-9, 9] leaves out less than 1e-18 of the standard normal law.
HALF_WIDTH = 9.0


def standard_normal(key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Noise:
    """What `jax.random.normal` draws, with an inverse error function that vectorises on CPU."""
    low = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    return math.sqrt(2) * erfinv(jax.random.uniform(key, shape, dtype, minval=low, maxval=1))


class Normal(
    AbstractIntegrable,
    AbstractOverdispersible,
    AbstractRotatable,
    AbstractStratifiable,
    AbstractUncorrelated,
    AbstractWeaklyDifferentiable,
):
    """Independent normal events with mean `loc` and standard deviation `exp(log_scale)`, any shape.

    >>> Normal(loc=[0.0, 1.0], log_scale=[0.0, 0.0]).event_shape
    (2,)
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def scale(self) -> Float[Array, "*variables"]:
        """The standard deviation."""
        return jnp.exp(self.log_scale)

    def sample(self, key: PRNGKey) -> Event:
        return self.reparameterize(self.noise(key))

    def log_prob(self, x: Event) -> Scalar:
        # A product, for the derivative of a quotient divides twice for every number.
        standardised = (x - self.loc) * jnp.exp(-self.log_scale)
        return jnp.sum(-0.5 * standardised**2 - self.log_scale - 0.5 * math.log(2 * math.pi))

    def noise(self, key: PRNGKey) -> Noise:
        return standard_normal(key, self.loc.shape, self.loc.dtype)

    def noise_at(self, u: Noise) -> Noise:
        return math.sqrt(2) * erfinv(2 * u - 1)

    def reparameterize(self, noise: Noise) -> Event:
        return self.loc + self.scale * noise

    def mean(self) -> Event:
        return self.loc

    def variance(self) -> Event:
        return self.scale**2

    def overdispersed(self, dispersion: Scalar) -> "Normal":
        """The natural parameters are `loc / scale^2` and `-1 / (2 scale^2)`: one mean, `dispersion` times the variance."""
        return Normal(self.loc, self.log_scale + jnp.log(dispersion).astype(self.loc.dtype) / 2)

    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
        """The trapezoidal rule, which converges faster than any power of the spacing for an integrand analytic near the
        real axis (Trefethen and Weideman 2014), whatever its shape; Gauss-Hermite needs it to be nearly polynomial."""
        line = jnp.linspace(-HALF_WIDTH, HALF_WIDTH, resolution, dtype=self.loc.dtype)
        density = jnp.exp(-0.5 * line**2) * (2 * HALF_WIDTH / (resolution - 1) / math.sqrt(2 * math.pi))
        return product_rule(line, density, self.loc.shape)

    def weak_derivative(self, key: PRNGKey) -> tuple["Normal", "Normal", "Normal"]:
        """One coordinate at a time replaced in one shared draw of the others. `log_scale` carries the factor
        `scale`."""
        key_x, key_rayleigh, key_maxwell, key_sign, key_u = jax.random.split(key, 5)
        shape, dtype = self.loc.shape, self.loc.dtype
        # Half the square of a Rayleigh variable is exponential; `jax.random.rayleigh` itself may return infinity.
        rayleigh = jnp.sqrt(2 * jax.random.exponential(key_rayleigh, shape, dtype))
        maxwell = jax.random.maxwell(key_maxwell, shape, dtype) * jax.random.rademacher(key_sign, shape, dtype)
        u = jax.random.uniform(key_u, shape, dtype)
        x = self.sample(key_x)

        def place(noise: Noise) -> Float[Array, "..."]:
            return replaced(x, self.reparameterize(noise))

        weights = Normal(1 / (self.scale * math.sqrt(2 * math.pi)), jnp.ones_like(self.log_scale))
        return weights, Normal(place(rayleigh), place(maxwell)), Normal(place(-rayleigh), place(u * maxwell))
