"""Discrete distributions summed over all that they draw, up to a mass of 1e-15.

A count is the inverse of its distribution function at a uniform variable, so the middle of each interval between two values of that
function is a draw, and its length a weight. The functions are scipy's. Let the generator return these draws, make an estimate of each,
and mean and variance of the estimator come out to rounding.
"""

import itertools
from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from estimators import Bernoulli, Binomial, Categorical, Geometric, Poisson


def laws(dist):
    """For each variable of a distribution of counts its law by scipy."""
    if isinstance(dist, Poisson):
        return [stats.poisson(rate) for rate in np.exp(np.ravel(dist.log_rate))]
    probabilities = special.expit(np.ravel(dist.logits))
    if isinstance(dist, Geometric):
        return [stats.geom(p, loc=-1) for p in probabilities]
    return [stats.binom(dist.num_trials if isinstance(dist, Binomial) else 1, p) for p in probabilities]


def cells(law):
    """Values of one variable, their probabilities, and the middles of their intervals of the uniform variable."""
    values = np.arange(law.ppf(1 - 1e-15) + 1)
    upper = law.cdf(values)
    lower = np.concatenate([[0.0], upper[:-1]])
    return values, law.pmf(values), (lower + upper) / 2


def product(columns):
    """Every combination of one entry of each column."""
    return np.array(list(itertools.product(*columns)))


def outcomes(dist):
    """Every event, its probability, and the draw that makes it: uniform, or Gumbel for one-hot events."""
    if isinstance(dist, Categorical):
        p = special.softmax(np.asarray(dist.logits), axis=-1)
        events = np.asarray(dist.support())
        return events, np.prod(np.sum(events * p, axis=-1).reshape(len(events), -1), axis=1), 1e3 * events
    values, masses, middles = zip(*map(cells, laws(dist)), strict=True)
    shape = (-1, *dist.event_shape)
    return product(values).reshape(shape), np.prod(product(masses), axis=1), product(middles).reshape(shape)


def truth(dist, f, events):
    """The gradient of the sum over the events, differentiated."""
    return jax.jit(jax.grad(lambda d: jnp.exp(jax.vmap(d.log_prob)(events)) @ jax.vmap(f)(events)))(dist)


@contextmanager
def drawing(*draws):
    """Uniform and Gumbel draws are these, in order; logistic ones are made of them."""
    queue = list(draws)

    def draw(key, shape, dtype, **limits):
        assert queue[0].shape == shape
        return queue.pop(0)

    def logistic(key, shape, dtype):
        u = draw(key, shape, dtype)
        return jnp.log(u) - jnp.log1p(-u)

    with mock.patch.multiple(jax.random, uniform=draw, gumbel=draw, logistic=logistic):
        yield
    assert not queue, "Not all draws were made."


def prescribed(estimator, dist, f, *draws):
    """The estimates that the draws make, an array of each leaf."""

    @jax.jit
    @jax.vmap
    def estimates(*draws):
        with drawing(*draws):
            return estimator.gradient(jax.random.key(0), dist, f)

    return estimates(*map(jnp.asarray, draws))


def leaf(grads):
    """The one leaf of a distribution with one."""
    (only,) = jax.tree.leaves(grads)
    return np.asarray(only)


BERNOULLI = Bernoulli(np.array([-1.0, 0.4, 1.3]))
BINOMIAL = Binomial(np.array([-0.8, 0.5]), 3)
CATEGORICAL = Categorical(np.array([[0.3, -1.0, 0.8, 0.1], [np.log(0.98), np.log(0.01), np.log(0.005), np.log(0.005)]]))
GEOMETRIC = Geometric(np.array([1.8, 0.7]))
POISSON = Poisson(np.array([-0.4, 0.9]))
ALL = [BERNOULLI, BINOMIAL, CATEGORICAL, GEOMETRIC, POISSON]


def tangled(x):
    """Not a sum of functions of each variable, of any shape."""
    weights = jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype)).reshape(x.shape)
    return jnp.sin(1.0 + jnp.sum(weights * x)) + 0.1 * jnp.prod(1 + 0.3 * x) - 0.4 * x.ravel()[0] * x.ravel()[-1]
