"""The point mass: an event that is its parameter, so that the gradient of `f` itself is the gradient of an expectation.

`E[f(x)] = f(loc)`, and `d/d loc E[f(x)]` is the gradient of `f` at `loc`. Estimators by perturbation of parameters
(simultaneous perturbation, forward gradients, evolution strategies) thereby keep the contract of all others.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractDistribution, Event, PRNGKey, Scalar, as_floating


class Delta(AbstractDistribution):
    """The event `loc`, with certainty, any shape.

    Every real array is the event of some `loc`, so an objective of it has values everywhere; whether it has derivatives
    is for the objective to say.

    >>> import jax
    >>> print(Delta(loc=[0.5, -1.0]).sample(jax.random.key(0)))
    [ 0.5 -1. ]
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    def sample(self, key: PRNGKey) -> Event:
        del key
        return self.loc

    def log_prob(self, x: Event) -> Scalar:
        """The logarithm of the mass at `x`: zero at `loc`, and minus infinity elsewhere."""
        return jnp.where(jnp.all(x == self.loc), 0.0, -jnp.inf).astype(self.loc.dtype)
