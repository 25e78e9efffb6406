"""Points of the simplex with a Dirichlet law.

Normalised gamma variables have it, so that an event is the softmax of their logarithms and moves as these do. How fast a
gamma variable moves depends on the sum of them all, of which the event knows nothing. The mean of that velocity given the
event is a velocity too: as `a_j` grows, `x_j` moves as the Beta variable that it is does with its first parameter, and
the others keep their proportions (Jankowiak and Obermeyer, Pathwise derivatives beyond the reparameterization trick,
2018, arXiv:1806.01851). With two values on the simplex it is the only one on their line.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, Event, Noise, PRNGKey, Scalar, as_floating
from .beta_transport import transported
from .continuous import AbstractAcceptanceRejection, AbstractImplicitlyReparameterizable, AbstractTransportable
from .log_gamma import accepted, accepted_log_density, from_accepted, log_gamma, moving


class Dirichlet(
    AbstractFixedSupport, AbstractImplicitlyReparameterizable, AbstractTransportable, AbstractAcceptanceRejection
):
    """Independent points of simplices, along the last axis, with concentrations `exp(log_concentration)`.

    The density is that of all coordinates but the last of each point. A coordinate too small for its precision stands as
    the smallest normal number.

    >>> dist = Dirichlet(log_concentration=[0.0, 0.0, 0.0])
    >>> print(f"{dist.mean()[0]:.4f} {jnp.exp(dist.log_prob(jnp.array([0.2, 0.3, 0.5]))):.4f}")
    0.3333 2.0000
    """

    log_concentration: Float[Array, "*variables values"] = eqx.field(converter=as_floating)

    def __check_init__(self):
        if self.log_concentration.ndim < 1 or self.log_concentration.shape[-1] < 2:
            raise ValueError(
                f"`Dirichlet` needs concentrations for two values or more along the last axis, got the shape "
                f"{self.log_concentration.shape}."
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_concentration.shape

    @property
    def concentration(self) -> Float[Array, "*variables values"]:
        """Near a face of the simplex the density is a power of one less."""
        return jnp.exp(self.log_concentration)

    def mean(self) -> Event:
        """Concentrations over their sums."""
        return jax.nn.softmax(self.log_concentration, axis=-1)

    def log_prob(self, x: Event) -> Scalar:
        a = self.concentration
        return jnp.sum((a - 1) * jnp.log(x) - gammaln(a)) + jnp.sum(gammaln(jnp.sum(a, axis=-1)))

    def variates(self, key: PRNGKey) -> Noise:
        """Logarithms of gamma variables."""
        return log_gamma(key, self.concentration)

    def implicit(self, variates: Noise) -> Event:
        return _normalised(moving(variates, self.concentration))

    def transport(self, x: Event) -> Event:
        a, log_x = self.concentration, jnp.log(x)
        logit = log_x - jnp.log(_others(x))
        return _normalised(log_x + transported(logit, a, _others(a)) - logit)

    def accepted(self, key: PRNGKey, augmentation: int) -> Noise:
        """Of every gamma variable."""
        return accepted(key, self.concentration, augmentation)

    def from_accepted(self, noise: Noise) -> Event:
        return _normalised(from_accepted(noise, self.concentration))

    def accepted_log_prob(self, noise: Noise) -> Scalar:
        return jnp.sum(accepted_log_density(noise, self.concentration))


def _normalised(log_g: Noise) -> Event:
    return jnp.maximum(jax.nn.softmax(log_g, axis=-1), jnp.finfo(log_g.dtype).tiny)


def _others(x: Event) -> Event:
    """For each coordinate the sum of the others, without the cancellation of a difference."""
    own = jnp.eye(x.shape[-1], dtype=bool)
    square = (*x.shape, x.shape[-1])
    return jnp.sum(jnp.where(jnp.broadcast_to(own, square), 0, jnp.broadcast_to(x[..., None, :], square)), axis=-1)
