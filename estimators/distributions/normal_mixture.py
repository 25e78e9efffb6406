"""A mixture of diagonal normal laws.

Implicit gradients of an event of several coordinates take these one after the other. Given those before it, a coordinate
has a mixture law whose weights are those of the components given them, and whose distribution function is

`S_d(x) = sum_k w_k(x_1, ..., x_(d - 1)) Phi((x_d - loc_kd) / scale_kd)`.

`S(x)` is uniform on the cube under every parameter, so `dS/dx dx + dS/d theta d theta = 0` as an event moves with the
parameters (Graves, Stochastic backpropagation through mixture density distributions, 2016, arXiv:1607.05690; Figurnov et
al., Implicit reparameterization gradients, 2018, arXiv:1805.08498). Between components far apart there is hardly any
density and a velocity that grows as its inverse: the tails of the gradient in `logits` become heavy.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractImplicitlyReparameterizable, AbstractMixture


class NormalMixture(AbstractFixedSupport, AbstractImplicitlyReparameterizable, AbstractMixture):
    """One event of the shape `variables`, from component `k` with probability `softmax(logits)[k]`, whose coordinates
    are then independent normal variables with means `loc[k]` and standard deviations `exp(log_scale[k])`.

    >>> dist = NormalMixture(logits=[0.0, 0.0], loc=[[-1.0], [1.0]], log_scale=[[0.0], [0.0]])
    >>> print(dist.event_shape, f"{dist.log_prob(jnp.zeros(1)):.4f}")
    (1,) -1.4189
    """

    logits: Float[Array, "components"] = eqx.field(converter=as_floating)
    loc: Float[Array, "components *variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "components *variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape[1:]

    def log_prob(self, x: Event) -> Scalar:
        joint = self._log_densities(x.reshape(-1)).sum(axis=1) + jax.nn.log_softmax(self.logits)
        return jax.nn.logsumexp(joint)

    def variates(self, key: PRNGKey) -> Noise:
        """The event itself."""
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, self.logits)
        return self.components(self.component_noise(key_noise))[component]

    def implicit(self, variates: Noise) -> Event:
        return _moving(self, variates.reshape(-1)).reshape(self.event_shape)

    def mixing(self) -> Float[Array, "components"]:
        return jax.nn.softmax(self.logits)

    def component_noise(self, key: PRNGKey) -> Noise:
        return jax.random.normal(key, self.loc.shape, self.loc.dtype)

    def components(self, noise: Noise) -> Float[Array, "components ..."]:
        return self.loc + jnp.exp(self.log_scale) * noise

    def uniformized(self, x: Float[Array, "coordinates"]) -> Float[Array, "coordinates"]:
        """`S(x)`, of an event in one row."""
        log_densities = self._log_densities(x)
        before = jnp.cumsum(log_densities, axis=1) - log_densities
        weights = jax.nn.softmax(self.logits[:, None] + before, axis=0)
        return jnp.sum(weights * ndtr(self._standardised(x)), axis=0)

    def _standardised(self, x: Float[Array, "coordinates"]) -> Float[Array, "components coordinates"]:
        loc, log_scale = (leaf.reshape(self.logits.size, -1) for leaf in (self.loc, self.log_scale))
        return (x[None] - loc) * jnp.exp(-log_scale)

    def _log_densities(self, x: Float[Array, "coordinates"]) -> Float[Array, "components coordinates"]:
        log_scale = self.log_scale.reshape(self.logits.size, -1)
        return -(self._standardised(x) ** 2) / 2 - log_scale - 0.5 * math.log(2 * math.pi)


@jax.custom_jvp
def _moving(dist: NormalMixture, x: Float[Array, "coordinates"]) -> Float[Array, "coordinates"]:
    """`x`, which moves with the leaves; how it was drawn is not differentiated."""
    del dist
    return x


@_moving.defjvp
def _moving_jvp(primals, tangents):
    dist, x = primals
    _, along_leaves = jax.jvp(lambda d: d.uniformized(x), (dist,), (tangents[0],))
    slopes = jax.jacfwd(dist.uniformized)(x)
    return x, -jax.scipy.linalg.solve_triangular(slopes, along_leaves, lower=True)
