"""Estimators whose only randomness is one event, summed over all of them; Bernoulli and categorical alike.

A vector of logits is of Bernoulli variables, a matrix of categorical ones, a row each. The objective is one module with
array leaves, so that an affine, a quadratic and a quartic function share a program.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from prescribed import PrescribedBernoulli, moments

from estimators import AbstractDistribution, Bernoulli, Categorical

BITS = np.array([-1.0, 0.4, 1.3])
TWO_OF_THREE = np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])
ONE_OF_FOUR = np.array([[0.9, -0.4, 0.1, -1.6]])
SHAPES = [BITS, TWO_OF_THREE, ONE_OF_FOUR]


class PrescribedCategorical(Categorical):
    """Categorical variables whose event is given."""

    event: Float[Array, "*variables categories"]

    def sample(self, key):
        del key
        return self.event


class Polynomial(eqx.Module):
    """`linear . x + x^T matrix x / 2 + cubic . x^3 + (first . x)^2 (second . x)^2`, of any shape of `x`."""

    linear: Float[Array, "n"]
    matrix: Float[Array, "n n"]
    cubic: Float[Array, "n"]
    first: Float[Array, "n"]
    second: Float[Array, "n"]

    def __call__(self, x):
        v = x.ravel()
        squares = (jnp.vdot(self.first, v) * jnp.vdot(self.second, v)) ** 2
        return jnp.vdot(self.linear, v) + v @ self.matrix @ v / 2 + jnp.vdot(self.cubic, v**3) + squares


def polynomial(logits, *, affine=True, quadratic=False, cubic=False, squares=False):
    """A polynomial of fixed coefficients for events of the shape of `logits`, with the parts that are asked for.

    `squares` is quadratic in the first variable, quadratic in the others, and of degree four.
    """
    generator, n = np.random.default_rng(0), logits.size
    matrix = generator.normal(size=(n, n))
    linear, cubes, first, second = generator.normal(size=(4, n))
    owner = np.arange(n) // (logits.shape[-1] if logits.ndim > 1 else 1)
    return Polynomial(
        jnp.asarray(affine * linear),
        jnp.asarray(quadratic * (matrix + matrix.T)),
        jnp.asarray(cubic * cubes),
        jnp.asarray(squares * np.where(owner == 0, first, 0)),
        jnp.asarray(squares * np.where(owner == 1, second, 0)),
    )


def law(logits) -> AbstractDistribution:
    return Bernoulli(logits) if logits.ndim == 1 else Categorical(logits)


@eqx.filter_jit
def _enumerated(estimator, logits, f):
    def one(event):
        # No key matches an empty word list of a Bernoulli, so every key yields the event.
        dist = (
            PrescribedBernoulli(logits, event[None], jnp.zeros((1, 0)))
            if logits.ndim == 1
            else PrescribedCategorical(logits, event)
        )
        return estimator.gradient(jax.random.key(0), dist, f).logits

    dist = law(logits)
    events = dist.support()

    def expectation(dist):
        return jnp.vdot(jnp.exp(jax.vmap(dist.log_prob)(events)), jax.vmap(f)(events))

    probabilities = jnp.exp(jax.vmap(dist.log_prob)(events))
    return (
        events,
        probabilities,
        jax.vmap(one)(events),
        jax.vmap(jax.grad(f))(events),
        jax.grad(expectation)(dist).logits,
    )


class Enumerated(eqx.Module):
    """All events of a law, with the estimate that each makes, the slope of `f` there, and the exact gradient."""

    events: np.ndarray
    probabilities: np.ndarray
    estimates: np.ndarray
    slopes: np.ndarray
    exact: np.ndarray

    @property
    def mean(self):
        return moments(self.probabilities, self.estimates)[0]

    @property
    def variance(self):
        return moments(self.probabilities, self.estimates)[1]


def enumerated(estimator, logits, f) -> Enumerated:
    return Enumerated(*map(np.asarray, _enumerated(estimator, jnp.asarray(logits), f)))


def jacobian(q):
    """`diag(q) - q q^T` for one variable."""
    return np.diag(q) - np.outer(q, q)
