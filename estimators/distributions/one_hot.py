"""One-hot variables: each event a corner of a simplex, and the largest of some perturbed logits.

What all such laws share whatever their noise: a list of their events, the replacement of one variable by each of its
categories, and a softmax for a relaxation.
"""

import itertools
import math
from abc import abstractmethod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..elementary import softmax
from .base import Event, Noise, PRNGKey, Scalar, precision
from .discrete import AbstractEnumerable, AbstractFactorized, AbstractRelaxable


class AbstractOneHot(AbstractEnumerable, AbstractFactorized, AbstractRelaxable):
    """Independent one-hot events along the last axis of an event; leading axes are independent variables."""

    @property
    @abstractmethod
    def log_probs(self) -> Float[Array, "*variables categories"]:
        """Log-probabilities of the categories."""

    def sample(self, key: PRNGKey) -> Event:
        return self.transform(self.noise(key))

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(x * self.log_probs)

    @property
    def support_size(self) -> int:
        *variables, categories = self.event_shape
        return categories ** math.prod(variables)

    def support(self) -> Float[Array, "events ..."]:
        *variables, categories = self.event_shape
        indices = np.array(list(itertools.product(range(categories), repeat=math.prod(variables))))
        return jax.nn.one_hot(indices, categories, dtype=precision(self)).reshape(-1, *self.event_shape)

    def marginals(self) -> Float[Array, "variables categories"]:
        return self.mean().reshape(-1, self.event_shape[-1])

    def replacements(self, x: Event) -> Float[Array, "variables categories ..."]:
        categories = x.shape[-1]
        variables = x.size // categories
        this = jnp.eye(variables, dtype=bool)[:, None, :, None]
        values = jnp.eye(categories, dtype=x.dtype)[None, :, None]
        events = jnp.where(this, values, x.reshape(1, 1, variables, categories))
        return events.reshape(variables, categories, *x.shape)

    def relax(self, z: Noise, temperature: Scalar) -> Event:
        return softmax(z / temperature)

    def harden(self, z: Noise) -> Event:
        return jax.nn.one_hot(jnp.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype)
