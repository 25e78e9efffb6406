"""Expectations over categorical variables, summed: what estimators of categorical gradients are compared with.

An estimator's own randomness is written by the test (see `prescribed`); here are the objectives, the exact gradient,
and the law of leave-one-out, from nothing but the probabilities.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import Categorical

ONE = np.array([[0.6, -0.9, 1.1]])
TWO = np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])
SKEWED = np.log([[0.01, 0.98, 0.01]])
EXTREME = np.array([[-10.0, 10.0, 0.0]])
FIVE = np.array([[0.4, -1.3, 1.0, -0.2, 0.7]])


class Table(eqx.Module):
    """Any function of categorical variables at all: a value for each event."""

    values: Float[Array, "..."]

    def __call__(self, x: Float[Array, "variables categories"]) -> Float[Array, ""]:
        return self.values[tuple(jnp.argmax(x, axis=-1))]


def table(logits: np.ndarray, seed: int = 0) -> Table:
    """Standard normal values, one for each event: nothing separable about them."""
    variables, categories = logits.shape
    return Table(jnp.asarray(np.random.default_rng(seed).normal(size=(categories,) * variables)))


def probabilities(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


def exact_gradient(logits: np.ndarray, f: Table) -> np.ndarray:
    """The gradient of `E[f(x)]` in the logits: the table contracted with the probabilities, differentiated by hand."""
    p, grads = probabilities(logits), []
    for variable in range(len(p)):
        given = np.moveaxis(np.asarray(f.values), variable, 0)
        for other in reversed([q for number, q in enumerate(p) if number != variable]):
            given = given @ other
        grads.append(p[variable] * (given - p[variable] @ given))
    return np.array(grads)


def events(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every event, and its probability."""
    p, (variables, categories) = probabilities(logits), logits.shape
    indices = np.array(list(itertools.product(range(categories), repeat=variables)))
    return np.eye(categories)[indices], np.prod(p[np.arange(variables), indices], axis=1)


@eqx.filter_jit
def at(dist: Categorical, f: Table, estimate, *draws: Array) -> Array:
    """`estimate(dist, f, *draw)` of each of the draws."""
    return jax.vmap(lambda *draw: estimate(dist, f, *draw).logits)(*draws)


def assert_unbiased(logits: np.ndarray, f: Table, weights: np.ndarray, estimates: np.ndarray) -> None:
    """The mean is the gradient, to rounding; and each estimate sums to zero over the categories (the gauge)."""
    mean = np.tensordot(weights, estimates, axes=1)
    np.testing.assert_allclose(mean, exact_gradient(logits, f), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(estimates.sum(axis=-1), 0, atol=1e-12)
