"""Directions in the plane with a von Mises law.

An event is a point of the unit circle and not an angle, lest an `f` jump where angles begin. It is at an angle `y` from
the direction `loc`, with density `exp(k cos y) / (2 pi I_0(k))`. With the concentration `k` the angle moves at the speed
(Figurnov et al., Implicit reparameterization gradients, 2018, arXiv:1805.08498)

`-(1 / q(y)) int_0^y q(t) (cos t - A) dt = (1 / q(y)) int_y^pi q(t) (cos t - A) dt`, `A = I_1(k) / I_0(k)`,

and the first integrand is positive up to where `cos y = A`, the second negative from there on: neither cancels. Angles
are drawn by rejection (Best and Fisher, Efficient simulation of the von Mises distribution, 1979), in terms of what is
left of one, which keeps its digits where the concentration is large or small.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Bool, Float

from .base import NEGLIGIBLE, AbstractFixedSupport, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractImplicitlyReparameterizable

# From here on the series of `1 - A` in `1 / k` has an error below 1e-11.
LARGE = 100.0
SERIES = (1 / 2, 1 / 8, 1 / 8, 25 / 128, 13 / 32, 1073 / 1024)
NODES = 48


class VonMises(AbstractFixedSupport, AbstractImplicitlyReparameterizable):
    """Independent points of the unit circle, along a new last axis of two coordinates.

    The mean direction is at the angle `loc` and the concentration is `exp(log_concentration)`. The density is that of the
    angle.

    >>> dist = VonMises(loc=[0.0, 1.0], log_concentration=[0.0, 0.0])
    >>> print(dist.event_shape, f"{dist.mean()[0, 0]:.4f}")
    (2, 2) 0.4464
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_concentration: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (*self.loc.shape, 2)

    @property
    def concentration(self) -> Float[Array, "*variables"]:
        """One over the variance of the angle, if it is large."""
        return jnp.exp(self.log_concentration)

    def mean(self) -> Event:
        """The mean direction times `A`."""
        return (1 - shortfall(self.concentration))[..., None] * direction(self.loc)

    def log_prob(self, x: Event) -> Scalar:
        k = self.concentration
        # On the circle half the squared distance from the mean direction is one less the cosine.
        distance = jnp.sum((x - direction(self.loc)) ** 2, axis=-1) / 2
        return jnp.sum(-k * distance - _log_normalizer(k))

    def variates(self, key: PRNGKey) -> Noise:
        """Angles from the mean direction."""
        return _angles(key, self.concentration)

    def implicit(self, variates: Noise) -> Event:
        return direction(self.loc + _moving(variates, self.concentration))


def direction(angle: Float[Array, "*variables"]) -> Event:
    """The point of the unit circle at this angle."""
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def shortfall(k: Float[Array, "..."]) -> Float[Array, "..."]:
    """`1 - A`, what the mean resultant length lacks."""
    inverse = 1 / jnp.maximum(k, LARGE)
    series = sum(coefficient * inverse ** (power + 1) for power, coefficient in enumerate(SERIES))
    return jnp.where(k > LARGE, series, (i0e(k) - i1e(k)) / i0e(k))


@jax.custom_jvp
def _log_normalizer(k: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log(2 pi I_0(k)) - k`."""
    return jnp.log(2 * math.pi * i0e(k))


_log_normalizer.defjvps(lambda tangent, value, k: -shortfall(k) * tangent)


@jax.custom_jvp
def _moving(angle: Noise, k: Float[Array, "..."]) -> Noise:
    """`angle`, which moves with its concentration; how it was drawn is not differentiated."""
    del k
    return angle


@_moving.defjvp
def _moving_jvp(primals, tangents):
    return primals[0], _speed(*primals) * tangents[1]


def _speed(angle: Noise, k: Float[Array, "..."]) -> Noise:
    """The integrals above by Gauss's rule, the second up to where its integrand is negligible."""
    nodes, weights = (np.asarray(a, angle.dtype).reshape(NODES, *[1] * angle.ndim) for a in _rule())
    y, lack = jnp.abs(angle), shortfall(k)
    versine = jnp.sin(y / 2) ** 2
    inner = 2 * versine < lack
    end = jnp.where(inner, 0.0, 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(1.0, versine + NEGLIGIBLE / (2 * k)))))
    t = y[None] + (end - y)[None] * nodes
    exponent = 2 * k[None] * jnp.sin((y[None] - t) / 2) * jnp.sin((y[None] + t) / 2)
    integrand = jnp.exp(exponent) * (lack[None] - 2 * jnp.sin(t / 2) ** 2)
    return jnp.sign(angle) * (end - y) * jnp.sum(weights * integrand, axis=0)


def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss's rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (1 + nodes) / 2, weights / 2


def _angles(key: PRNGKey, k: Float[Array, "..."]) -> Noise:
    """Rejection from a wrapped Cauchy law until every angle is accepted."""

    def unfinished(carry: tuple[PRNGKey, Noise, Bool[Array, "..."]]) -> Bool[Array, ""]:
        return ~jnp.all(carry[2])

    def attempt(carry: tuple[PRNGKey, Noise, Bool[Array, "..."]]):
        key, angle, done = carry
        key, key_proposal = jax.random.split(key)
        proposal, accepted = _proposal(key_proposal, k)
        return key, jnp.where(done, angle, proposal), done | accepted

    return jax.lax.while_loop(unfinished, attempt, (key, jnp.zeros_like(k), jnp.zeros(k.shape, bool)))[1]


def _proposal(key: PRNGKey, k: Float[Array, "..."]) -> tuple[Noise, Bool[Array, "..."]]:
    """An angle, and whether it is accepted. With Best and Fisher's `rho`, `r` and `f`, this keeps `1 - rho`, `r - 1` and
    `1 - f`."""
    key_cauchy, key_sign, key_accept = jax.random.split(key, 3)
    half = math.pi / 2 * jax.random.uniform(key_cauchy, k.shape, k.dtype)
    root = jnp.sqrt(1 + 4 * k**2)
    tau = 1 + root
    denominator = tau + jnp.sqrt(2 * tau)
    rho, below_one = 2 * k / denominator, (1 + 1 / (root + 2 * k) + jnp.sqrt(2 * tau)) / denominator
    above_one = below_one**2 / (2 * rho)
    versine = 2 * above_one * jnp.sin(half) ** 2 / (above_one + 2 * jnp.cos(half) ** 2)
    c = k * (above_one + versine)
    log_u = -jax.random.exponential(key_accept, k.shape, k.dtype)
    angle = 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(versine / 2, 1.0)))
    return jax.random.rademacher(key_sign, k.shape, k.dtype) * angle, jnp.log(c) - log_u + 1 - c >= 0
