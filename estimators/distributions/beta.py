"""Beta variables.

Two gamma variables `g` and `h` make one, `g / (g + h)`, whose logit is `log g - log h` and moves as these do. On the line
there is but one velocity that depends on the event alone, `-(d/d theta F) / q`; it is the mean of that one given the event.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, polygamma
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, Event, Noise, PRNGKey, Scalar, as_floating
from .beta_transport import transported
from .continuous import AbstractImplicitlyReparameterizable, AbstractStandardizable, AbstractTransportable
from .log_gamma import log_gamma, moving


class Beta(AbstractFixedSupport, AbstractImplicitlyReparameterizable, AbstractTransportable, AbstractStandardizable):
    """Independent variables between 0 and 1 with density `x^(alpha - 1) (1 - x)^(beta - 1) / B(alpha, beta)`, any shape.

    The parameters are `exp(log_alpha)` and `exp(log_beta)`. An event that would be 0 or 1 in its precision stands as the
    number next to that.

    >>> dist = Beta(log_alpha=[0.0], log_beta=[0.0])
    >>> print(dist.mean(), f"{dist.variance()[0]:.4f} {jnp.exp(dist.log_prob(jnp.array([0.3]))):.4f}")
    [0.5] 0.0833 1.0000
    """

    log_alpha: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_beta: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_alpha.shape

    @property
    def alpha(self) -> Float[Array, "*variables"]:
        """Near 0 the density is a power of one less."""
        return jnp.exp(self.log_alpha)

    @property
    def beta(self) -> Float[Array, "*variables"]:
        """Near 1 the density is a power of one less."""
        return jnp.exp(self.log_beta)

    def mean(self) -> Event:
        """`alpha / (alpha + beta)`."""
        return jax.nn.sigmoid(self.log_alpha - self.log_beta)

    def variance(self) -> Event:
        """`m (1 - m) / (alpha + beta + 1)` with the mean `m`."""
        mean = self.mean()
        return mean * (1 - mean) / (self.alpha + self.beta + 1)

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(self._log_density(jnp.log(x), jnp.log1p(-x)) - jnp.log(x) - jnp.log1p(-x))

    def variates(self, key: PRNGKey) -> Noise:
        """Logarithms of two gamma variables for each event."""
        return log_gamma(key, jnp.stack([self.alpha, self.beta]))

    def implicit(self, variates: Noise) -> Event:
        return _event(moving(variates[0], self.alpha) - moving(variates[1], self.beta))

    def transport(self, x: Event) -> Event:
        logit, alpha, beta = jnp.log(x) - jnp.log1p(-x), self.alpha, self.beta
        # The complement is a Beta variable too, with the parameters exchanged and minus the logit.
        return _event(transported(logit, alpha, beta) - transported(-logit, beta, alpha) - logit)

    def standardized(self, key: PRNGKey) -> Noise:
        """The logit of the event, less its mean, over its standard deviation."""
        mean, scale = self._logit_moments()
        log_g, log_h = self.variates(key)
        return (log_g - log_h - mean) / scale

    def restore(self, noise: Noise) -> Event:
        mean, scale = self._logit_moments()
        return _event(mean + scale * noise)

    def standardized_log_prob(self, noise: Noise) -> Scalar:
        mean, scale = self._logit_moments()
        logit = mean + scale * noise
        density = self._log_density(jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))
        return jnp.sum(density + jnp.log(scale))

    def _log_density(self, log_x: Event, log_rest: Event) -> Event:
        """Of the logit."""
        alpha, beta = self.alpha, self.beta
        return alpha * log_x + beta * log_rest + gammaln(alpha + beta) - gammaln(alpha) - gammaln(beta)

    def _logit_moments(self) -> tuple[Event, Event]:
        alpha, beta = self.alpha, self.beta
        return digamma(alpha) - digamma(beta), jnp.sqrt(polygamma(1, alpha) + polygamma(1, beta))


def _event(logit: Noise) -> Event:
    limits = jnp.finfo(logit.dtype)
    return jnp.clip(jax.nn.sigmoid(logit), limits.tiny, 1 - limits.epsneg)
