"""Independent Poisson variables.

With rate `r`, `d/dr q(n) = q(n - 1) - q(n)`: the derivative of the law in the rate is the law of `x + 1` less that of `x`
(Pflug 1989; Mohamed et al., Monte Carlo gradient estimation, 2020, table 1), and that of the distribution function is
`-q`.

Masses far from the mode are bounded by `P(x - r >= t) <= exp(-r h(t / r))`, `h(z) = (1 + z) log(1 + z) - z`, and the
same below, where the bound is at most `exp(-t^2 / (2 r))` (Bennett 1962).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NEGLIGIBLE, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractInvertible
from .coordinates import grid, replaced
from .discrete import AbstractCount, AbstractSummable


class Poisson(AbstractCount, AbstractInvertible, AbstractSummable, AbstractWeaklyDifferentiable):
    """Independent counts 0, 1, 2, ... with rates `exp(log_rate)`, any shape.

    >>> dist = Poisson(log_rate=[0.0, 1.0])
    >>> print(dist.event_shape, dist.log_prob(jnp.zeros(2)).round(2))
    (2,) -3.72
    """

    log_rate: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_rate.shape

    def mean(self) -> Event:
        """The rates."""
        return jnp.exp(self.log_rate)

    def variance(self) -> Event:
        """The rates."""
        return self.mean()

    def log_masses(self, x: Event) -> Event:
        return x * self.log_rate - self.mean() - jax.scipy.special.gammaln(x + 1)

    def log_tail(self, n: int) -> Event:
        """The incomplete gamma function: more than `n - 1` events until now are an `n`-th one before now."""
        tail = jax.scipy.special.gammainc(float(n), self.mean())
        return jnp.log(jnp.maximum(tail, jnp.finfo(tail.dtype).tiny))

    def quantile(self, u: Noise) -> Event:
        """By adding up masses from below: from zero, or if the mass at zero underflows, from where the tail does not
        matter in this precision. It stops at the latest where a further mass no longer changes the sum."""
        rate, limits = self.mean(), jnp.finfo(u.dtype)
        first = jnp.floor(rate - _below(rate, 2.0 - math.log(limits.eps)))
        first = jnp.where(rate < -0.95 * math.log(limits.tiny), 0.0, first)
        mass = jnp.exp(jnp.where(first > 0, _log_mass_near(rate, jnp.maximum(first, 1.0)), -rate))

        def unfinished(n: Event, mass: Event, total: Event) -> Bool[Array, "..."]:
            return (total <= u) & ((n < rate) | (mass > limits.eps * total))

        def add(carry: tuple[Event, Event, Event]) -> tuple[Event, Event, Event]:
            n, mass, total = carry
            further = unfinished(*carry)
            mass = jnp.where(further, mass * rate / (n + 1), mass)
            return n + further, mass, jnp.where(further, total + mass, total)

        return jax.lax.while_loop(lambda carry: jnp.any(unfinished(*carry)), add, (first, mass, mass))[0]

    def span(self) -> Scalar:
        rate = self.mean()
        return jnp.max(jnp.floor(rate + _above(rate, NEGLIGIBLE)) - self._first() + 1)

    def window(self, resolution: int) -> Float[Array, "events ..."]:
        return grid(self._first(), resolution)

    def _first(self) -> Event:
        """The first value of the window."""
        rate = self.mean()
        return jnp.maximum(jnp.floor(rate - _below(rate, NEGLIGIBLE)), 0.0)

    @property
    def variables(self) -> tuple[int, ...]:
        return self.log_rate.shape

    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        return replaced(x, jnp.maximum(x + direction, 0.0))

    def rise(self, x: Event) -> "Poisson":
        del x
        return Poisson(self.mean())

    def fall(self, x: Event) -> "Poisson":
        return Poisson(-x)

    def weak_derivative(self, key: PRNGKey) -> tuple["Poisson", "Poisson", "Poisson"]:
        """Each count with one more and as it is, in one shared draw, with weight `rate`."""
        x = self.sample(key)
        return Poisson(self.mean()), Poisson(replaced(x, x + 1)), Poisson(replaced(x, x))


def _below(rate: Event, nats: float) -> Event:
    """A distance `t` with `P(x <= rate - t) <= exp(-nats)`."""
    return jnp.sqrt(2 * nats * rate)


def _above(rate: Event, nats: float) -> Event:
    """A distance `t` with `P(x >= rate + t) <= exp(-nats)`: Newton steps down a convex function from a larger one."""
    t = nats / 3 + jnp.sqrt(nats**2 / 9 + 2 * nats * rate)
    for _ in range(5):
        slope = jnp.log1p(t / rate)
        t = t - ((rate + t) * slope - t - nats) / slope
    return t


def _log_mass_near(rate: Event, n: Event) -> Event:
    """`log q(n)` by Stirling's series, without cancellation where `n` and `rate` are large and near (Loader 2000)."""
    z = (n - rate) / rate
    series = 1 / (12 * n) - 1 / (360 * n**3)
    return -rate * ((1 + z) * jnp.log1p(z) - z) - 0.5 * jnp.log(2 * math.pi * n) - series
