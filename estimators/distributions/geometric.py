"""Independent geometric variables: numbers of failures before the first success.

With success probability `p` the mass function is `q(n) = p (1 - p)^n`, `n = 0, 1, 2, ...`, and `P(x > n) = (1 - p)^(n +
1)`. Its derivative is

    d/dp q(n) = (1 - p)^n - n p (1 - p)^(n - 1) = 1/p [q(n) - r(n)],

where `r(n) = n p^2 (1 - p)^(n - 1)` is the law of `x + y + 1` for independent `x` and `y` of law `q`: a weak derivative,
coupled through the shared `x`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import NEGLIGIBLE, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractInvertible
from .coordinates import grid, replaced
from .discrete import AbstractCount, AbstractSummable


class Geometric(AbstractCount, AbstractInvertible, AbstractSummable, AbstractWeaklyDifferentiable):
    """Independent counts 0, 1, 2, ... of failures before a success of probability `sigmoid(logits)`, any shape.

    The other law of this name counts the trials and starts at one; its expectations are those of `f(x + 1)` here.

    >>> dist = Geometric(logits=[0.0])
    >>> print(dist.mean(), jnp.exp(dist.log_prob(jnp.array([2.0]))).round(3))
    [1.] 0.125
    """

    logits: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

    def mean(self) -> Event:
        """`(1 - p) / p`."""
        return jnp.exp(-self.logits)

    def variance(self) -> Event:
        """`(1 - p) / p^2`."""
        return self.mean() * (1 + self.mean())

    def log_masses(self, x: Event) -> Event:
        return self.logits - (x + 1) * jax.nn.softplus(self.logits)

    def log_tail(self, n: int) -> Event:
        """The first `n` trials fail."""
        return -n * jax.nn.softplus(self.logits)

    def quantile(self, u: Noise) -> Event:
        """`P(x > n) = exp(-(n + 1) softplus(logits))`, so an exponential variable in units of `softplus(logits)`,
        rounded down."""
        return jnp.floor(-jnp.log1p(-u) / jax.nn.softplus(self.logits))

    def span(self) -> Scalar:
        return jnp.max(jnp.ceil(NEGLIGIBLE / jax.nn.softplus(self.logits)))

    def window(self, resolution: int) -> Float[Array, "events ..."]:
        return grid(jnp.zeros_like(self.logits), resolution)

    @property
    def variables(self) -> tuple[int, ...]:
        return self.logits.shape

    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        return replaced(x, jnp.maximum(x + direction, 0.0))

    def rise(self, x: Event) -> "Geometric":
        return Geometric(-(x + 1) * jax.nn.sigmoid(-self.logits))

    def fall(self, x: Event) -> "Geometric":
        return Geometric(x)

    def weak_derivative(self, key: PRNGKey) -> tuple["Geometric", "Geometric", "Geometric"]:
        """Each count as it is, and with one more and a fresh count added, in one shared draw; the weight is `1 - p`."""
        key_x, key_y = jax.random.split(key)
        x, y = self.sample(key_x), self.sample(key_y)
        weights = jax.nn.sigmoid(-self.logits)
        return Geometric(weights), Geometric(replaced(x, x)), Geometric(replaced(x, x + y + 1))
