"""Independent categorical variables as one-hot events.

With Gumbel noise `g` and `l = log_softmax(logits)`, the perturbed logits `z = l + g` have their maximum at category `k`
with probability `exp(l_k)` (Gumbel-max). Given that it is at `k`, the maximum is a standard Gumbel variable independent
of `k`, and each other `z_j` is Gumbel at `l_j` truncated below it: `-logaddexp(-(l_j + g_j), -z_k)` (Maddison et al.,
A* sampling, 2014).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..elementary import log_softmax, softmax
from .base import AbstractStratifiable, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .coordinates import replaced
from .discrete import (
    AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable,
    AbstractLatentDensity,
    AbstractLogitParameterized,
    AbstractOrdered,
)
from .one_hot import AbstractOneHot


class Categorical(
    AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable,
    AbstractLatentDensity,
    AbstractLogitParameterized,
    AbstractOneHot,
    AbstractOrdered,
    AbstractStratifiable,
    AbstractWeaklyDifferentiable,
):
    """Independent one-hot events along the last axis of `logits`; leading axes are independent variables.

    >>> dist = Categorical(logits=jnp.zeros((2, 3)))
    >>> dist.event_shape, dist.support_size
    ((2, 3), 9)
    """

    logits: Float[Array, "*variables categories"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

    @property
    def log_probs(self) -> Float[Array, "*variables categories"]:
        """Normalised logits."""
        return log_softmax(self.logits)

    def noise(self, key: PRNGKey) -> Noise:
        return jax.random.gumbel(key, self.logits.shape, self.logits.dtype)

    def noise_at(self, u: Noise) -> Noise:
        return -jnp.log(-jnp.log(u))

    def perturb(self, noise: Noise) -> Noise:
        return self.log_probs + noise

    def latent_log_prob(self, z: Noise) -> Scalar:
        noise = z - self.log_probs
        return -jnp.sum(noise + jnp.exp(-noise))

    def conditional(self, x: Event, noise: Noise) -> Noise:
        top = jnp.sum(x * noise, axis=-1, keepdims=True)
        rest = -jnp.logaddexp(-(self.log_probs + noise), jnp.broadcast_to(-top, noise.shape))
        # The difference may round to zero, and of tied categories the first would win, be it `x` or not.
        return jnp.where(x > 0, top, jnp.minimum(rest, jnp.nextafter(top, -jnp.inf)))

    def mean(self) -> Event:
        return softmax(self.logits)

    def inner(self, u: Event, v: Event) -> Float[Array, "..."]:
        return jnp.sum(u * v, axis=-1, keepdims=True)

    def noise_score(self, noise: Noise) -> Noise:
        """`1 - exp(-noise)`, where `exp(-noise)` is a standard exponential variable."""
        return -jnp.expm1(-noise)

    def switched(self, x: Event) -> Float[Array, "..."]:
        """Each variable moved to each of its categories, the one that it is at included."""
        categories = x.shape[-1]
        variables = x.size // categories
        shape = (variables, categories, variables, categories)
        this = jnp.eye(variables, dtype=bool)[:, None, :, None]
        each = jnp.broadcast_to(jnp.eye(categories, dtype=x.dtype)[None, :, None], shape)
        events = jnp.where(this, each, jnp.broadcast_to(x.reshape(variables, categories), shape))
        return events.reshape(*x.shape, *x.shape)

    def weak_derivative(self, key: PRNGKey) -> tuple["Categorical", "Categorical", "Categorical"]:
        """Each category in turn against a draw from the others, in one shared draw of the other variables.

        `d pi / d logits_c = pi_c (1 - pi_c) (delta_c - pi(. | not c))`, the two parts of which have disjoint supports.
        """
        key_x, key_rest = jax.random.split(key)
        p, categories = self.mean(), self.logits.shape[-1]
        variables = self.logits.size // categories
        x = self.sample(key_x).reshape(variables, categories)
        each = jnp.eye(categories, dtype=x.dtype)
        z = self.perturb(self.noise(key_rest)).reshape(variables, 1, categories)
        rest = self.harden(
            jnp.where(each[None] > 0, -jnp.inf, jnp.broadcast_to(z, (variables, categories, categories)))
        )
        this = jnp.eye(variables, dtype=bool)[:, None, :, None]

        def place(replacement: Float[Array, "variables categories categories"]) -> Float[Array, "..."]:
            """Events with one variable replaced: axes (variable, category) of the parameter, then those of the
            event."""
            shape = (variables, categories, variables, categories)
            events = jnp.where(this, jnp.broadcast_to(replacement[:, :, None], shape), jnp.broadcast_to(x, shape))
            return events.reshape(*self.logits.shape, *self.logits.shape)

        plus = place(jnp.broadcast_to(each, (variables, categories, categories)))
        return Categorical(p * (1 - p)), Categorical(plus), Categorical(place(rest))

    @property
    def variables(self) -> tuple[int, ...]:
        return self.logits.shape[:-1]

    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        """The order is that of the categories, and after the last comes the first."""
        return replaced(x, jnp.roll(x, direction, axis=-1), self.variables)

    def rise(self, x: Event) -> "Categorical":
        """`pi_c / pi_k` times `-P(after k)` for the categories `c` up to `k`, and `P(up to k)` for those after it."""
        p = self.mean()
        return Categorical(self._flow(x, -_after(p), _before(p) + p, _after(x) + x))

    def fall(self, x: Event) -> "Categorical":
        """`pi_c / pi_k` times `P(k and after)` for the categories `c` before `k`, and `-P(before k)` for the others."""
        p = self.mean()
        return Categorical(self._flow(x, _after(p) + p, -_before(p), _after(x)))

    def _flow(self, x: Event, lower: Event, upper: Event, is_lower: Event) -> Event:
        """`lower` at the category `k` of `x` for the categories that `is_lower` marks, `upper` for the rest, times
        `pi_c / pi_k`."""
        lower, upper, here = (jnp.sum(x * a, axis=-1, keepdims=True) for a in (lower, upper, self.log_probs))
        return jnp.exp(self.log_probs - here) * jnp.where(is_lower > 0, lower, upper)


def _before(x: Event) -> Event:
    """The sum of what is at the categories before each."""
    shifted = jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)
    return jnp.cumsum(shifted, axis=-1)


def _after(x: Event) -> Event:
    """The sum of what is at the categories after each."""
    return jnp.flip(_before(jnp.flip(x, axis=-1)), axis=-1)
