"""A world so small that every trajectory can be listed, and an estimator summed over all of them.

Probabilities, scores, returns and values are written out step by step in NumPy, from indices of states and actions; the
exact gradient is that of a sum of products, with no score in it. No code of the estimators is in them.
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import tuples

from estimators import AbstractReturn, TabularPolicy

LOGITS = np.array([[0.3, -1.0], [0.8, 0.1]])
INITIAL = np.array([0.3, 0.7])
TRANSITIONS = np.array([[[0.1, 0.9], [0.6, 0.4]], [[0.5, 0.5], [0.8, 0.2]]])
TABLE = np.array([[1.0, -0.4], [0.3, 2.0]])


class Earnings(AbstractReturn):
    """A step earns `table[s, a]`, and `memory` times how often its action was taken before: no function of the
    state."""

    table: Float[Array, "states actions"] = eqx.field(converter=jnp.asarray)
    discount: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=0.8)
    memory: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=0.0)

    def rewards(self, x):
        actions = jnp.sum(x, axis=1)
        before = jnp.sum(actions * (jnp.cumsum(actions, axis=0) - actions), axis=1)
        return jnp.sum(x * self.table[None], axis=(1, 2)) + self.memory * before


MARKOV, REMEMBERING = Earnings(TABLE), Earnings(TABLE, memory=0.7)


def policy(horizon: int, logits=LOGITS, initial=INITIAL, transitions=TRANSITIONS) -> TabularPolicy:
    return TabularPolicy(logits, initial, transitions, horizon)


def softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def indices(x):
    """States and actions of each step of an event."""
    return [tuple(map(int, np.argwhere(step)[0])) for step in np.asarray(x)]


def world_probability(dist, x):
    """The part of the probability of a trajectory that the policy does not decide."""
    path = indices(x)
    moves = [dist.transitions[s][a][z] for (s, a), (z, _) in zip(path, path[1:], strict=False)]
    return dist.initial[path[0][0]] * np.prod(moves)


def rewards(f, x):
    path, earned = indices(x), []
    for t, (s, a) in enumerate(path):
        before = sum(action == a for _, action in path[:t])
        earned.append(float(f.table[s, a]) + float(f.memory) * before)
    return np.array(earned)


def to_go(f, x):
    """The return from each step on, discounted to that step."""
    earned, discount = rewards(f, x), float(f.discount)
    return np.array([sum(discount ** (k - t) * earned[k] for k in range(t, len(earned))) for t in range(len(earned))])


def scores(dist, x):
    """The score of each step: in the row of its state, what was chosen less the probability of choosing it."""
    pi, rows = softmax(np.asarray(dist.logits)), []
    for s, a in indices(x):
        row = np.zeros_like(pi)
        row[s] = np.eye(pi.shape[1])[a] - pi[s]
        rows.append(row)
    return np.array(rows)


def outcomes(dist) -> tuple[np.ndarray, np.ndarray]:
    """Every trajectory and its probability."""
    events = np.asarray(dist.support())
    pi = softmax(np.asarray(dist.logits))
    return events, np.array([world_probability(dist, x) * np.prod([pi[p] for p in indices(x)]) for x in events])


@jax.jit
def _exact_gradient(logits, events, weights):
    def expectation(logits):
        policy = jax.nn.softmax(logits)
        return jnp.vdot(weights, jnp.prod(jnp.sum(events * policy[None, None], axis=(2, 3)), axis=1))

    return jax.grad(expectation)(logits)


def exact_gradient(dist, f) -> np.ndarray:
    """The gradient of `E[f(x)]` in the logits: the sum over all trajectories, differentiated."""
    events = np.asarray(dist.support())
    weights = np.array([world_probability(dist, x) * to_go(f, x)[0] for x in events])
    return np.asarray(_exact_gradient(dist.logits, jnp.asarray(events), jnp.asarray(weights)))


def state_values(dist, f) -> np.ndarray:
    """`V_t(s)` by dynamic programming, for rewards without memory."""
    pi, transitions = softmax(np.asarray(dist.logits)), np.asarray(dist.transitions)
    value, rows = np.zeros(len(pi)), []
    for _ in range(dist.horizon):
        value = np.sum(pi * (np.asarray(f.table) + float(f.discount) * transitions @ value), axis=1)
        rows.append(value)
    return np.array(rows[::-1])


@eqx.filter_jit
def _every_estimate(estimator, state, dist, groups, f):
    def one(xs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[type(estimator).__module__], "draw", lambda key, dist, num_samples: xs)
            return estimator.estimate(jax.random.key(0), state, dist, f)

    return jax.vmap(one)(groups)


def every_estimate(estimator, state, dist, f, count=1):
    """The probabilities of all tuples of `count` trajectories, with the gradient and the statistics that each makes."""
    events, probabilities = outcomes(dist)
    chosen, weights = tuples(probabilities, count)
    grads, stats = _every_estimate(estimator, state, dist, jnp.asarray(events[chosen]), f)
    return weights, np.asarray(grads.logits), stats
