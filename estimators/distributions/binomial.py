"""Independent binomial variables.

A count of successes in `N` trials is that of `N - 1` trials and one more, and the mean of `f` is linear in the
probability `p` of the one more, so for each of them and hence `N` times

    d/dp E[f(x)] = N (E[f(y + 1)] - E[f(y)]),

`y` the count of `N - 1` trials. It is `x` without one trial, chosen at random: a success with probability `x / N`.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from .base import AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, as_floating
from .continuous import AbstractInvertible
from .coordinates import replaced
from .discrete import AbstractCount, AbstractEnumerable


class Binomial(AbstractCount, AbstractEnumerable, AbstractInvertible, AbstractWeaklyDifferentiable):
    """Independent counts of successes in `num_trials` trials with success probabilities `sigmoid(logits)`, any shape.

    >>> dist = Binomial(logits=[0.0, 1.0], num_trials=3)
    >>> dist.event_shape, dist.support_size
    ((2,), 16)
    """

    logits: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    num_trials: int = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.num_trials, int) or self.num_trials < 1:
            raise ValueError(f"`Binomial` needs a whole number `num_trials >= 1`, got {self.num_trials}.")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

    def mean(self) -> Event:
        """`N p`."""
        return self.num_trials * jax.nn.sigmoid(self.logits)

    def variance(self) -> Event:
        """`N p (1 - p)`."""
        return self.mean() * jax.nn.sigmoid(-self.logits)

    def log_masses(self, x: Event) -> Event:
        choices = math.lgamma(self.num_trials + 1) - gammaln(x + 1) - gammaln(self.num_trials - x + 1)
        return choices + x * self.logits - self.num_trials * jax.nn.softplus(self.logits)

    def log_tail(self, n: int) -> Event:
        """The incomplete beta function; beyond the support nothing is left."""
        if n > self.num_trials:
            return jnp.full_like(self.logits, -jnp.inf)
        p = jax.nn.sigmoid(self.logits)
        tail = jax.scipy.special.betainc(float(n), self.num_trials + 1.0 - n, p)
        return jnp.log(jnp.maximum(tail, jnp.finfo(tail.dtype).tiny))

    @property
    def support_size(self) -> int:
        return (self.num_trials + 1) ** self.logits.size

    def support(self) -> Float[Array, "events ..."]:
        events = np.array(list(itertools.product(range(self.num_trials + 1), repeat=self.logits.size)))
        return jnp.asarray(events, self.logits.dtype).reshape(-1, *self.logits.shape)

    def quantile(self, u: Noise) -> Event:
        """How many of the counts below `num_trials` have a distribution function that does not exceed `u`."""
        counts, ones = range(self.num_trials), (1 for _ in self.logits.shape)
        choices = np.array([[math.log(math.comb(self.num_trials, n)), n] for n in counts]).T
        choices, n = jnp.asarray(choices, u.dtype).reshape(2, self.num_trials, *ones)
        masses = jnp.exp(choices + n * self.logits[None] - self.num_trials * jax.nn.softplus(self.logits)[None])
        return jnp.sum(jnp.cumsum(masses, axis=0) <= u[None], axis=0).astype(u.dtype)

    @property
    def variables(self) -> tuple[int, ...]:
        return self.logits.shape

    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        return replaced(x, jnp.clip(x + direction, 0, self.num_trials))

    def rise(self, x: Event) -> "Binomial":
        return Binomial((self.num_trials - x) * jax.nn.sigmoid(self.logits), self.num_trials)

    def fall(self, x: Event) -> "Binomial":
        return Binomial(-x * jax.nn.sigmoid(-self.logits), self.num_trials)

    def weak_derivative(self, key: PRNGKey) -> tuple["Binomial", "Binomial", "Binomial"]:
        """One trial of each count as a success and as a failure, in one shared draw, with weight `N p (1 - p)`."""
        key_x, key_trial = jax.random.split(key)
        x = self.sample(key_x)
        u = jax.random.uniform(key_trial, x.shape, x.dtype)
        others = x - (u < x / self.num_trials)
        parts = self.variance(), replaced(x, others + 1), replaced(x, others)
        return tuple(Binomial(part, self.num_trials) for part in parts)
