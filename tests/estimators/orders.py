"""Samples without replacement, written by the test: every order in which events may be drawn, and its probability.

The estimators add Gumbel noise to the log-probabilities of all events and keep the largest. The noise is all that they draw, so it is
prescribed here: that which puts given events first, in a given order, and the next one at a given `kappa`. Probabilities come from drawing
events one after the other from what is left (Plackett and Luce), and know of no noise.

With exponential clocks `T = exp(-perturbed)` of the rates `p`, the set `S` and the threshold `t = exp(-kappa)` have the joint density
`r exp(-r t) prod_{x in S} (1 - exp(-p(x) t))`, with `r` the probability outside of `S`: all of `S` ring before `t`, and of the others the
first one rings at `t`.
"""

import itertools
from typing import NamedTuple
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from estimators import Bernoulli, Categorical

DISTRIBUTIONS = {
    "three bits": lambda: Bernoulli([-1.0, 0.4, 1.3]),
    "four categories": lambda: Categorical([0.3, -1.0, 0.8, 1.9]),
    "two of three": lambda: Categorical([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]]),
}


class Terms(NamedTuple):
    """Of every event `p`, `f` and the score, and the exact gradient: the sum over events, differentiated, no score in it."""

    p: np.ndarray
    f: np.ndarray
    scores: np.ndarray
    exact: np.ndarray


@eqx.filter_jit
def _terms(dist, f):
    events = dist.support()
    values = jax.vmap(f)(events)
    log_probs, pullback = jax.vjp(lambda d: jax.vmap(d.log_prob)(events), dist)
    (scores,) = jax.vmap(pullback)(jnp.eye(len(events), dtype=log_probs.dtype))
    exact = jax.grad(lambda d: jnp.vdot(jnp.exp(jax.vmap(d.log_prob)(events)), values))(dist)
    return jnp.exp(log_probs), values, scores.logits, exact.logits


def terms(dist, f):
    """What the exact gradient is made of, for formulas written in numpy."""
    return Terms(*map(np.asarray, _terms(dist, f)))


def orders(p, count):
    """Indices and probabilities of every ordered sample of `count` events without replacement."""
    indices = np.array(list(itertools.permutations(range(len(p)), count)))
    taken = np.cumsum(p[indices], axis=1) - p[indices]
    return indices, np.prod(p[indices] / (1 - taken), axis=1)


def integrated(p, count, step=0.25):
    """Sets of `count` events, thresholds `kappa` and weights that integrate over both.

    The trapezoidal rule in `kappa`: the density is analytic there and falls off on both sides, so that the error falls exponentially with
    the step."""
    kappas = np.arange(-9.0, 40.0, step)
    t, sets, weights = np.exp(-kappas), [], []
    for chosen in itertools.combinations(range(len(p)), count):
        r = np.delete(p, chosen).sum()
        sets.append(chosen)
        weights.append(step * r * t * np.exp(-r * t) * np.prod(-np.expm1(-np.outer(p[list(chosen)], t)), axis=0))
    return np.repeat(sets, len(kappas), axis=0), np.tile(kappas, len(sets)), np.ravel(weights)


def perturbed(events, indices, kappas=0.0):
    """Perturbed log-probabilities for each row of `indices`: its events are drawn in this order, and the next is at `kappa`."""
    rows, count = indices.shape
    values, every = np.full((rows, events), -1.0), np.arange(rows)
    for rank in range(count):
        values[every, indices[:, rank]] = count - rank
    if count < events:
        values[every, np.argmin(values, axis=1)] = 0
    return values + np.broadcast_to(kappas, rows)[:, None]


@eqx.filter_jit
def _estimates(estimator, dist, perturbed, f):
    log_probs = jax.vmap(dist.log_prob)(dist.support())

    def one(perturbed):
        def gumbel(key, shape, dtype):
            assert (shape, dtype) == (log_probs.shape, log_probs.dtype)
            return perturbed.astype(dtype) - log_probs

        with mock.patch.object(jax.random, "gumbel", gumbel):
            return estimator.gradient(jax.random.key(0), dist, f).logits

    return jax.vmap(one)(perturbed)


def estimates(estimator, dist, indices, f, kappas=0.0):
    """The estimates made of these draws, one a row."""
    return np.asarray(_estimates(estimator, dist, perturbed(dist.support_size, indices, kappas), f))
