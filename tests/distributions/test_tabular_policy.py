"""Trajectories of a tabular policy: probabilities written out step by step, and the sampler against them."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals

from benchmarks.problems import Expectation
from benchmarks.problems.base import in_float64
from estimators import TabularPolicy
from estimators.base import draw, score

LOGITS = np.array([[0.3, -1.0], [0.8, 0.1], [-0.4, 1.1]])
INITIAL = [0.4, 0.0, 0.6]
# State 1 cannot be reached from state 2 by the action 0, state 2 is never left by it, and so on.
TRANSITIONS = np.array(
    [[[0.0, 1.0, 0.0], [0.5, 0.2, 0.3]], [[0.1, 0.2, 0.7], [0.0, 0.5, 0.5]], [[0.0, 0.0, 1.0], [0.3, 0.3, 0.4]]]
)


def policy(dtype=jnp.float64, horizon=3):
    return TabularPolicy(jnp.asarray(LOGITS, dtype), INITIAL, TRANSITIONS, horizon)


def probability(path):
    """Of a trajectory given as pairs of state and action."""
    p, pi = INITIAL[path[0][0]], np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for (s, a), (z, _) in itertools.pairwise(path):
        p *= TRANSITIONS[s, a, z]
    return p * np.prod([pi[pair] for pair in path])


def events(paths):
    return np.array([[np.outer(np.eye(3)[s], np.eye(2)[a]) for s, a in path] for path in paths])


PAIRS = list(itertools.product(range(3), range(2)))
PATHS = list(itertools.product(PAIRS, repeat=3))
PROBABILITIES = np.array([probability(path) for path in PATHS])


def test_the_probability_of_every_sequence_of_pairs():
    """Those that the world does not admit included."""
    log_probs = jax.jit(jax.vmap(policy().log_prob))(events(PATHS))
    np.testing.assert_allclose(np.exp(log_probs), PROBABILITIES, rtol=1e-12)
    np.testing.assert_allclose(PROBABILITIES.sum(), 1)


def test_the_support_is_every_trajectory_that_the_world_admits_once():
    dist = policy()
    support = np.asarray(dist.support())
    admitted = events([path for path, p in zip(PATHS, PROBABILITIES, strict=True) if p > 0])
    assert len(support) == dist.support_size == len(admitted) < len(PATHS)
    assert {x.tobytes() for x in support} == {x.tobytes() for x in admitted}
    assert policy(horizon=1).support_size == 4
    assert TabularPolicy(np.zeros((5, 4)), np.full(5, 0.2), np.full((5, 4, 5), 0.2), 50).support_size == 20**50


def test_the_sampler_has_that_law(key):
    """The frequency of every trajectory, drawn in single precision; what has no probability never happens."""
    xs = np.asarray(jax.jit(lambda key: draw(key, policy(jnp.float32), 40_000))(key))
    assert xs.dtype == np.float32 and xs.shape[1:] == policy().event_shape
    pairs = xs.reshape(len(xs), 3, 6).argmax(axis=2)
    assert np.all((xs == 0) | (xs == 1)) and np.all(xs.sum(axis=(2, 3)) == 1)
    found = (pairs @ np.array([36, 6, 1]))[:, None] == np.arange(216)[None]
    possible = PROBABILITIES > 0
    assert not found[:, ~possible].any()
    assert_mean_equals(found[:, possible], PROBABILITIES[possible], detects=0.02)


def test_one_noise_couples_two_policies():
    """The world is the same to both: where they have chosen alike so far they are in one state."""
    noise = np.random.RandomState(0).gumbel(size=(200, 3, 5))

    @jax.jit
    def events_of(logits):
        return jax.vmap(TabularPolicy(logits, INITIAL, TRANSITIONS, 3).transform)(noise)

    x, y = np.asarray(events_of(LOGITS)), np.asarray(events_of(-LOGITS))
    np.testing.assert_array_equal(x[:, 0].sum(axis=-1), y[:, 0].sum(axis=-1))
    alike = np.all(x[:, 0] == y[:, 0], axis=(1, 2))
    assert 20 < alike.sum() < 180
    np.testing.assert_array_equal(x[alike, 1].sum(axis=-1), y[alike, 1].sum(axis=-1))


def test_states_and_the_policy_are_what_they_say():
    dist, x = policy(), jnp.asarray(events([((0, 1), (2, 0), (2, 1))])[0])
    np.testing.assert_array_equal(dist.states(x), np.eye(3)[[0, 2, 2]])
    pi = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dist.log_policy(x), np.log([pi[0, 1], pi[2, 0], pi[2, 1]]))
    np.testing.assert_allclose(dist.log_prob(x) - jnp.sum(dist.log_policy(x)), np.log(0.4 * 0.3 * 1.0))


def test_the_score_is_that_of_the_actions_and_finite_where_the_world_says_never():
    never = jnp.asarray(events([((2, 0), (0, 0), (1, 1))])[0])
    assert policy().log_prob(never) == -jnp.inf
    pi, slope = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True), score(policy(), never)
    np.testing.assert_allclose(slope.logits, np.eye(2)[[0, 1, 0]] - pi, rtol=1e-12)


def test_a_gradient_is_a_policy_whose_one_leaf_it_is():
    dist, f = policy(), Expectation(policy(), jnp.sum)
    grads = score(dist, jnp.asarray(events(PATHS[:1])[0]))
    assert type(grads) is TabularPolicy and jax.tree.structure(grads) == jax.tree.structure(dist)
    assert [leaf.shape for leaf in jax.tree.leaves(grads)] == [(3, 2)]
    assert list(f.parts(grads)) == ["distribution"]
    double = in_float64(policy(jnp.float32))
    assert double.logits.dtype == jnp.float64 and double.transitions == dist.transitions


def test_another_world_is_another_program_and_other_logits_are_not():
    traces = []

    @eqx.filter_jit
    def log_prob(dist, x):
        traces.append(dist)
        return dist.log_prob(x)

    x = jnp.asarray(events([((0, 1), (2, 0), (2, 1))])[0])
    first = log_prob(policy(), x)
    log_prob(TabularPolicy(2 * LOGITS, INITIAL, TRANSITIONS, 3), x)
    assert len(traces) == 1
    other = log_prob(TabularPolicy(LOGITS, [0.2, 0.2, 0.6], TRANSITIONS, 3), x)
    assert len(traces) == 2 and other != first


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"horizon": 0}, "needs a whole number `horizon >= 1`, got 0"),
        ({"logits": np.zeros(3)}, r"needs `logits` of two axes, states and actions, got \(3,\)"),
        ({"initial": [0.5, 0.5]}, r"needs `initial` of the shape \(3,\), as `logits` have it, got \(2,\)"),
        ({"transitions": TRANSITIONS[:, :1]}, r"needs `transitions` of the shape \(3, 2, 3\)"),
        ({"initial": [0.5, 0.5, 0.5]}, "needs probabilities in `initial`"),
        ({"transitions": TRANSITIONS + np.array([0.1, -0.1, 0.0])}, "needs probabilities in `transitions`"),
    ],
)
def test_what_is_no_world_is_refused(change, sentence):
    arguments = {"logits": LOGITS, "initial": INITIAL, "transitions": TRANSITIONS, "horizon": 3} | change
    with pytest.raises(ValueError, match=f"`TabularPolicy` {sentence}"):
        TabularPolicy(**arguments)
