"""Normal variables between two bounds, as a function of uniform ones.

With `a` and `b` the bounds in standard units and `Phi` the normal distribution function, the event for `u` is `loc +
scale z`, `Phi(z) = (1 - u) Phi(a) + u Phi(b)`. That is solved in logarithms and in the smaller of the two tails, where
bounds far from the mean keep their digits; its derivative is another line,

`dz = (1 - u) exp((z^2 - a^2) / 2) da + u exp((z^2 - b^2) / 2) db`.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Int

from .base import AbstractFixedSupport, Event, Noise, Scalar, as_floating
from .continuous import AbstractInvertible, AbstractReparameterizable

# Newton's method from the left of a concave increasing function converges from anywhere; so many steps do for float64.
STEPS = 6


class TruncatedNormal(AbstractFixedSupport, AbstractInvertible, AbstractReparameterizable):
    """Independent events of the normal law with parameters `loc` and `exp(log_scale)`, given that they lie between `low`
    and `high`, any shape.

    Bounds are part of the family and are not differentiated. They may lie some hundred scales away from `loc`.

    >>> dist = TruncatedNormal(loc=[0.0], log_scale=[0.0], low=0.0, high=2.0)
    >>> print(f"{dist.mean()[0]:.4f} {dist.quantile(jnp.array([0.5]))[0]:.4f}")
    0.7228 0.6391
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self):
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"`TruncatedNormal` needs finite bounds `low < high`, got {self.low} and {self.high}; where only one is "
                "meant, put the other far away."
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    def mean(self) -> Event:
        """The mean given the bounds."""
        below, above, _, _ = self._edges()
        return self.loc + jnp.exp(self.log_scale) * (below - above)

    def variance(self) -> Event:
        """The variance given the bounds."""
        below, above, a, b = self._edges()
        return jnp.exp(2 * self.log_scale) * (1 + a * below - b * above - (below - above) ** 2)

    def log_prob(self, x: Event) -> Scalar:
        standardised = (x - self.loc) * jnp.exp(-self.log_scale)
        return jnp.sum(_log_normal(standardised) - self.log_scale - _log_mass(*self._bounds()))

    def quantile(self, u: Noise) -> Event:
        z = _quantile(u, *self._bounds())
        return jnp.clip(self.loc + jnp.exp(self.log_scale) * z, self.low, self.high)

    def reparameterize(self, noise: Noise) -> Event:
        return self.quantile(noise)

    def _bounds(self) -> tuple[Event, Event]:
        """In standard units."""
        precision = jnp.exp(-self.log_scale)
        return (self.low - self.loc) * precision, (self.high - self.loc) * precision

    def _edges(self) -> tuple[Event, Event, Event, Event]:
        """Densities at the bounds, in standard units, and the bounds."""
        a, b = self._bounds()
        log_mass = _log_mass(a, b)
        return jnp.exp(_log_normal(a) - log_mass), jnp.exp(_log_normal(b) - log_mass), a, b


def _log_normal(z: Event) -> Event:
    return -(z**2) / 2 - 0.5 * math.log(2 * math.pi)


def _log_mass(a: Event, b: Event) -> Event:
    """`log(Phi(b) - Phi(a))`, from whichever tail is the smaller one."""
    mirrored = a + b > 0
    low, high = log_ndtr(jnp.where(mirrored, -b, a)), log_ndtr(jnp.where(mirrored, -a, b))
    return high + jnp.log1p(-jnp.exp(low - high))


@jax.custom_jvp
def _quantile(u: Noise, a: Event, b: Event) -> Event:
    """The `z` above."""
    lower = jnp.logaddexp(jnp.log1p(-u) + log_ndtr(a), jnp.log(u) + log_ndtr(b))
    upper = jnp.logaddexp(jnp.log1p(-u) + log_ndtr(-a), jnp.log(u) + log_ndtr(-b))
    tail = jnp.minimum(jnp.minimum(lower, upper), -math.log(2))

    def newton(_: Int[Array, ""], z: Event) -> Event:
        log_tail = log_ndtr(z)
        return z + (tail - log_tail) * jnp.exp(log_tail - _log_normal(z))

    # To the left of the solution, since `Phi(z) <= exp(-z^2 / 2) / 2` there.
    z = jax.lax.fori_loop(0, STEPS, newton, -jnp.sqrt(-2 * (tail + math.log(2))))
    return jnp.clip(jnp.where(lower < upper, z, -z), a, b)


@_quantile.defjvp
def _quantile_jvp(primals, tangents):
    (u, a, b), (du, da, db) = primals, tangents
    z = _quantile(u, a, b)
    at_a, at_b = jnp.exp((z**2 - a**2) / 2), jnp.exp((z**2 - b**2) / 2)
    along_u = jnp.exp(_log_mass(a, b) - _log_normal(z))
    return z, (1 - u) * at_a * da + u * at_b * db + along_u * du
