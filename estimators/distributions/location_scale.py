r"""Laws of one shape, moved and stretched: `x = loc + scale z`, with `z` of a law without parameters.

The Laplace and the logistic distribution live here, and what they share with others of the kind. Weak derivatives follow
from the scores, with `p` the density of `z`:

- Laplace. Along `loc`, `sign(z) p / scale` is `1 / (2 scale)` times the difference of the laws of `loc + scale e` and
  `loc - scale e`, `e` exponential. Along `log_scale`, `(|z| - 1) p` is the difference of two double-sided laws, in which
  `|z|` is the sum of two exponential variables and one of them.
- Logistic. Along `loc`, `tanh(z / 2) p / scale`, where `tanh(z / 2) = 2 u - 1` at `z = log(u / (1 - u))`: `1 / (4 scale)`
  times the difference of two laws with `|2 u - 1|` the square root of a uniform variable, above and below `loc`. Along
  `log_scale`, `(z tanh(z / 2) - 1) p`: the law of density `z tanh(z / 2) p` less that of `z`.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import (
    NEGLIGIBLE,
    AbstractFixedSupport,
    AbstractWeaklyDifferentiable,
    Event,
    Noise,
    PRNGKey,
    Scalar,
    as_floating,
)
from .bisection import turning_point
from .coordinates import replaced
from .smoothly_invertible import AbstractSmoothlyInvertible, interior


class AbstractLocationScale(AbstractSmoothlyInvertible):
    """Independent variables `loc + exp(log_scale) z`, where all `z` have one law: the standard member of the family."""

    loc: eqx.AbstractVar[Float[Array, "*variables"]]
    log_scale: eqx.AbstractVar[Float[Array, "*variables"]]
    standard_mean: eqx.AbstractClassVar[float]
    standard_variance: eqx.AbstractClassVar[float]

    @abstractmethod
    def standard_quantile(self, u: Noise) -> Event:
        """The quantile of `z` at `u`, of (0, 1)."""

    @abstractmethod
    def standard_log_prob(self, z: Event) -> Event:
        """The log-density of each `z`."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def scale(self) -> Float[Array, "*variables"]:
        """What `z` is multiplied by."""
        return jnp.exp(self.log_scale)

    def mean(self) -> Event:
        """The expected event."""
        return self.loc + self.scale * self.standard_mean

    def variance(self) -> Event:
        """The variance of each variable."""
        return self.scale**2 * self.standard_variance

    def quantile(self, u: Noise) -> Event:
        return self.located(self.standard_quantile(interior(u)))

    def located(self, z: Event) -> Event:
        """`loc + scale z`."""
        return self.loc + self.scale * z

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(self.standard_log_prob((x - self.loc) / self.scale) - self.log_scale)


class Laplace(AbstractLocationScale, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent events of density `exp(-|x - loc| / scale) / (2 scale)`, any shape.

    >>> dist = Laplace(loc=[0.0, 1.0], log_scale=[0.0, 0.0])
    >>> print(dist.quantile(jnp.array([0.5, 0.5])), dist.variance())
    [0. 1.] [2. 2.]
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    standard_mean: ClassVar[float] = 0.0
    standard_variance: ClassVar[float] = 2.0

    def standard_quantile(self, u: Noise) -> Event:
        return jnp.where(u < 0.5, jnp.log(2 * u), -jnp.log(2 - 2 * u))

    def standard_log_prob(self, z: Event) -> Event:
        return -jnp.abs(z) - math.log(2)

    def weak_derivative(self, key: PRNGKey) -> tuple["Laplace", "Laplace", "Laplace"]:
        """The laws above: mirror images along `loc`, and along `log_scale` the event as it is, and one farther out."""
        key_x, key_more = jax.random.split(key)
        z = self.standard_quantile(interior(self.noise(key_x)))
        x, farther = self.located(z), z + jnp.sign(z) * jax.random.exponential(key_more, z.shape, z.dtype)
        weights = Laplace(1 / (2 * self.scale), jnp.ones_like(self.log_scale))
        plus = Laplace(*[replaced(x, self.located(other)) for other in (jnp.abs(z), farther)])
        return weights, plus, Laplace(replaced(x, self.located(-jnp.abs(z))), replaced(x, x))


class Logistic(AbstractLocationScale, AbstractFixedSupport, AbstractWeaklyDifferentiable):
    """Independent events with distribution function `1 / (1 + exp(-(x - loc) / scale))`, any shape.

    >>> dist = Logistic(loc=[0.0, 1.0], log_scale=[0.0, 0.0])
    >>> print(dist.quantile(jnp.array([0.5, 0.5])), dist.variance().round(2))
    [0. 1.] [3.29 3.29]
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    standard_mean: ClassVar[float] = 0.0
    standard_variance: ClassVar[float] = math.pi**2 / 3

    def standard_quantile(self, u: Noise) -> Event:
        return jnp.log(u) - jnp.log1p(-u)

    def standard_log_prob(self, z: Event) -> Event:
        return -z - 2 * jax.nn.softplus(-z)

    def weak_derivative(self, key: PRNGKey) -> tuple["Logistic", "Logistic", "Logistic"]:
        """The laws above: mirror images along `loc`, and along `log_scale` the quantiles of both laws at one `u`."""
        u = interior(self.noise(key))
        z = self.standard_quantile(u)
        x, apart = self.located(z), self.standard_quantile(interior((1 + jnp.sqrt(u)) / 2))
        weights = Logistic(1 / (4 * self.scale), jnp.ones_like(self.log_scale))
        plus = Logistic(*[replaced(x, self.located(other)) for other in (apart, jnp.sign(z) * _outer(jnp.abs(z)))])
        return weights, plus, Logistic(replaced(x, self.located(-apart)), replaced(x, x))


def _outer(size: Event) -> Event:
    """The size of a variable of density `z tanh(z / 2) p(z)` that is as rare as `size` is for a logistic one.

    They are beyond `z` with probabilities `2 (1 - F(z) + z p(z))`, of which the derivative is minus twice that density,
    and `2 (1 - F(z))`.
    """

    def tail(z: Event) -> Event:
        return jax.nn.sigmoid(-z)

    def beyond(z: Event) -> Bool[Array, "..."]:
        return tail(z) * (1 + z * jax.nn.sigmoid(z)) < tail(size)

    return turning_point(beyond, size, size + math.log(NEGLIGIBLE) + 1)
