"""Student-t variables: a standard normal one over the root of an independent `g / (df / 2)`, `g` of gamma law with
concentration `df / 2`. With the degrees of freedom the gamma variable moves, and the normal one stays."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractImplicitlyReparameterizable
from .log_gamma import log_gamma, moving


class StudentT(AbstractFixedSupport, AbstractImplicitlyReparameterizable):
    """Independent events `loc + exp(log_scale) t`, `t` with `exp(log_df)` degrees of freedom, any shape.

    Moments exist below the order `df`. In float32 an event further than some 1e13 scales from `loc` stands as one at
    about that distance.

    >>> dist = StudentT(log_df=[0.0], loc=[0.0], log_scale=[0.0])
    >>> print(f"{dist.log_prob(jnp.ones(1)):.4f}")
    -1.8379
    """

    log_df: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def df(self) -> Float[Array, "*variables"]:
        """The degrees of freedom."""
        return jnp.exp(self.log_df)

    def mean(self) -> Event:
        """`loc`, for more than one degree of freedom."""
        return self.loc

    def variance(self) -> Event:
        """For more than two degrees of freedom."""
        return jnp.exp(2 * self.log_scale) * self.df / (self.df - 2)

    def log_prob(self, x: Event) -> Scalar:
        df, standardised = self.df, (x - self.loc) * jnp.exp(-self.log_scale)
        constant = gammaln((df + 1) / 2) - gammaln(df / 2) - (self.log_df + math.log(math.pi)) / 2 - self.log_scale
        return jnp.sum(constant - (df + 1) / 2 * jnp.log1p(standardised**2 / df))

    def variates(self, key: PRNGKey) -> Noise:
        """A normal variable and the logarithm of a gamma variable for each event."""
        key_normal, key_gamma = jax.random.split(key)
        normal = jax.random.normal(key_normal, self.loc.shape, self.loc.dtype)
        return jnp.stack([normal, log_gamma(key_gamma, self.df / 2)])

    def implicit(self, variates: Noise) -> Event:
        normal, log_g = variates
        widening = (self.log_df - math.log(2) - moving(log_g, self.df / 2)) / 2
        widest = 0.35 * math.log(jnp.finfo(log_g.dtype).max)
        return self.loc + jnp.exp(self.log_scale + jnp.minimum(widening, widest)) * normal
