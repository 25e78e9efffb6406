"""A Categorical whose events are written by the test: `prescribed`, for one-hot events, and for estimators with a control.

Two variables of three categories, lopsided, and a function of both that is not a sum; all events can be run through.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from prescribed import PrescribedBernoulli, prescribe

from estimators import Categorical

LOGITS = np.array([[1.0, 0.3, -0.8], [0.5, -0.4, -1.1]])


class PrescribedCategorical(Categorical):
    """As `PrescribedBernoulli`; compare `.logits` only."""

    draws: Float[Array, "draws *variables"]
    words: Float[Array, "draws words"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*variables"]:
        return PrescribedBernoulli._prescribed(self, key)


def tied(x):
    """Of two one-hot variables together, neither quadratic nor symmetric."""
    s = jnp.vdot(jnp.array([1.0, -0.4, 0.2, 0.7, 0.1, -0.9], x.dtype), x.ravel())
    return (s - 0.3) ** 2 + jnp.sin(2 * s) + 0.8 * x[0, 1] * x[1, 2]


def outcomes(logits=LOGITS):
    """Every event and its probability."""
    pi = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    events = np.eye(3)[np.array(list(itertools.product(range(3), repeat=len(logits))))]
    return events, np.prod(np.sum(events * pi, axis=-1), axis=-1)


def exact_gradient(f, logits=LOGITS):
    """The gradient of the sum over all events, differentiated."""
    events = jnp.array(outcomes(logits)[0])
    values = jax.vmap(f)(events)

    def expectation(logits):
        pi = jax.nn.softmax(logits)
        return jnp.vdot(jnp.prod(jnp.sum(events * pi[None], axis=-1), axis=-1), values)

    return np.asarray(jax.grad(expectation)(jnp.array(logits)))


@eqx.filter_jit
def categorical_estimates(gradient, draws, f, keys):
    """`gradient(key, dist, f)` for each case of `draws`, which the keys fetch; the key is `jax.random.key(0)`."""
    words = jax.random.key_data(keys).astype(jnp.float64)

    def one(draws):
        return gradient(jax.random.key(0), PrescribedCategorical(jnp.array(LOGITS), draws, words), f).logits

    return jax.vmap(one)(draws)


@eqx.filter_jit
def bernoulli_estimates(gradient, logits, draws, f, keys):
    """The same for Bernoulli variables."""
    return jax.vmap(lambda draws: gradient(jax.random.key(0), prescribe(logits, draws, keys), f).logits)(draws)
