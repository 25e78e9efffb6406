"""Truths of policies: the theorem summed over states, against dynamic programming differentiated and against all
trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.problems import PROBLEMS, policy
from benchmarks.problems.base import exact_truth
from estimators import Enumeration

NAMES = {name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == policy.__name__}


def corridor(states, slip):
    """Written out again: where each action leads from each place."""
    world = np.zeros((states, 2, states))
    for place in range(states):
        for action, step in enumerate((-1, 1)):
            world[place, action, np.clip(place + step, 0, states - 1)] += 1 - slip
            world[place, action, np.clip(place - step, 0, states - 1)] += slip
    return world


@jax.jit
def value_gradient(logits, initial, world, table, discount, steps):
    """The value at the start by dynamic programming, differentiated."""

    def value(logits):
        pi = jax.nn.softmax(logits)
        rewards, moves = jnp.sum(pi * table, axis=1), jnp.einsum("sa,saz->sz", pi, world)
        backwards = jax.lax.scan(lambda v, _: (rewards + discount * moves @ v, None), jnp.zeros_like(rewards), steps)
        return initial @ backwards[0]

    return jax.grad(value)(logits)


@pytest.mark.parametrize("states, horizon, discount, slip, seed", [(4, 6, 0.9, 0.2, 0), (6, 40, 1.0, 0.1, 1)])
def test_the_corridor_is_its_value_differentiated(states, horizon, discount, slip, seed):
    problem = PROBLEMS.create("tabular-mdp", states=states, horizon=horizon, discount=discount, slip=slip, seed=seed)
    logits = np.random.RandomState(seed).standard_normal((states, 2))
    table = np.zeros((states, 2))
    table[0, 0], table[-1, 1] = 0.2, 1
    world = corridor(states, slip)
    expected = value_gradient(logits, np.eye(states)[0], world, table, discount, jnp.zeros(horizon))
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.logits, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(problem.dist.transitions, world)


@pytest.mark.parametrize("discount", [0.0, 0.7, 1.0])
def test_the_corridor_is_the_sum_over_its_trajectories(discount):
    problem = PROBLEMS.create("tabular-mdp", states=3, horizon=4, discount=discount)
    enumerated = exact_truth(problem, Enumeration(), "enumeration")
    np.testing.assert_allclose(problem.truth().gradient.logits, enumerated.gradient.logits, rtol=1e-10, atol=1e-14)


def test_the_bandit_is_a_covariance_in_each_context():
    contexts, actions, seed = 5, 3, 1
    problem = PROBLEMS.create("contextual-bandit", contexts=contexts, actions=actions, seed=seed)
    generator = np.random.RandomState(seed)
    logits, rewards = generator.standard_normal((contexts, actions)), generator.standard_normal((contexts, actions))
    weights = 1 / np.arange(1, contexts + 1)
    pi = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (weights / weights.sum())[:, None] * pi * (rewards - np.sum(pi * rewards, axis=1, keepdims=True))
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.logits, expected, rtol=1e-11, atol=1e-15)
    table = rewards + 2 * np.arange(contexts)[:, None]
    np.testing.assert_allclose([problem.f(x) for x in problem.dist.support()], table.ravel(), rtol=1e-12)


def test_a_return_is_discounted_from_the_first_step():
    problem = PROBLEMS.create("tabular-mdp", states=2, horizon=3, discount=0.5)
    x = np.zeros((3, 2, 2))
    x[0, 0, 0] = x[1, 1, 1] = x[2, 1, 0] = 1
    np.testing.assert_allclose(problem.f.rewards(jnp.asarray(x)), [0.2, 1.0, 0.0])
    np.testing.assert_allclose(problem.f(jnp.asarray(x)), 0.2 + 0.5)
    undiscounted = PROBLEMS.create("tabular-mdp", states=2, horizon=3, discount=0.0)
    np.testing.assert_allclose(undiscounted.f(jnp.asarray(x)), 0.2)


@pytest.mark.parametrize(
    "name, arguments, sentence",
    [
        ("tabular-mdp", {"states": 1}, "needs `states >= 2`, got 1"),
        ("tabular-mdp", {"horizon": 0}, "needs `horizon >= 1`, got 0"),
        ("tabular-mdp", {"discount": 1.1}, "needs `0 <= discount <= 1`, got 1.1"),
        ("tabular-mdp", {"slip": -0.1}, "needs `0 <= slip <= 1`, got -0.1"),
        ("contextual-bandit", {"contexts": 0}, "needs `contexts >= 1`, got 0"),
        ("contextual-bandit", {"actions": 1}, "needs `actions >= 2`, got 1"),
    ],
)
def test_what_is_no_problem_is_refused(name, arguments, sentence):
    assert name in NAMES
    with pytest.raises(ValueError, match=f"`{name}` {sentence}"):
        PROBLEMS.create(name, **arguments)
