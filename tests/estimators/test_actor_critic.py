"""Critics, right and wrong, summed over every trajectory of a world of two states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import moments
from trajectories import (
    MARKOV,
    REMEMBERING,
    TABLE,
    Earnings,
    every_estimate,
    exact_gradient,
    indices,
    outcomes,
    policy,
    rewards,
    scores,
    softmax,
    state_values,
    to_go,
)

from estimators import GeneralizedAdvantage, RewardToGo, StateBaseline
from estimators.actor_critic import values
from estimators.baselines import RunningMean

WRONG = np.array([[0.7, -0.2], [1.5, 0.4], [-0.6, 2.0]])


def critic(table, visits=1.0):
    """The state that holds `table`, for states that were visited as often as `visits` says."""
    visits = jnp.broadcast_to(jnp.asarray(visits, float), np.shape(table))
    return RunningMean((visits * jnp.asarray(table), visits), jnp.ones(()))


def enumerated(estimator, table, dist, f, count=1):
    weights, grads, _ = every_estimate(estimator, critic(table), dist, f, count)
    return moments(weights, grads)


def by_step(trace_decay, num_samples=1):
    return GeneralizedAdvantage(trace_decay, num_samples=num_samples, stationary=False)


@pytest.mark.parametrize("f", [MARKOV, REMEMBERING], ids=["markov", "remembering"])
@pytest.mark.parametrize("estimator", [StateBaseline(), GeneralizedAdvantage(1.0)], ids=["state", "gae-stationary"])
def test_as_a_baseline_any_critic_is_unbiased(estimator, f):
    dist = policy(3)
    mean, _ = enumerated(estimator, WRONG, dist, f)
    np.testing.assert_allclose(mean, exact_gradient(dist, f), rtol=1e-10, atol=1e-13)


def test_a_pair_of_trajectories_shares_a_critic():
    dist = policy(2)
    exact = state_values(dist, MARKOV)
    mean, _ = enumerated(by_step(0.3, num_samples=2), exact, dist, MARKOV, 2)
    np.testing.assert_allclose(mean, exact_gradient(dist, MARKOV), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("trace_decay", [0.0, 0.5, 0.95, 1.0])
def test_with_the_value_function_every_trace_is_unbiased(trace_decay):
    dist = policy(3)
    mean, _ = enumerated(by_step(trace_decay), state_values(dist, MARKOV), dist, MARKOV)
    np.testing.assert_allclose(mean, exact_gradient(dist, MARKOV), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("trace_decay", [0.0, 0.5, 0.95])
def test_the_bias_of_a_wrong_critic(trace_decay):
    """The mean of `sum_t gamma^t score_t sum_{k > t} gamma^(k-t) (1 - lambda) lambda^(k-t-1) (V - V^pi_k)(s_k)`."""
    dist, discount = policy(3), 0.8
    events, probabilities = outcomes(dist)
    error, bias = WRONG - state_values(dist, MARKOV), 0
    for x, p in zip(events, probabilities, strict=True):
        states = [s for s, _ in indices(x)]
        for t, score in enumerate(scores(dist, x)):
            for k in range(t + 1, 3):
                weight = (1 - trace_decay) * trace_decay ** (k - t - 1) * discount**k
                bias = bias + p * weight * error[k, states[k]] * score
    mean, _ = enumerated(by_step(trace_decay), WRONG, dist, MARKOV)
    np.testing.assert_allclose(mean - exact_gradient(dist, MARKOV), bias, atol=1e-13)
    assert np.linalg.norm(bias) > 1e-3


@pytest.mark.parametrize("trace_decay", [0.0, 0.6, 1.0])
def test_the_advantage_is_the_weighted_mean_of_those_that_look_ahead(trace_decay):
    """Looking `n` steps ahead, `A_n = r_t + ... + gamma^(n-1) r_(t+n-1) + gamma^n V(s_(t+n)) - V(s_t)`, of weight
    `(1 - lambda) lambda^(n-1)`, and the last that there is of all the weight left; trajectory by trajectory."""
    dist, discount, horizon = policy(3), 0.8, 3
    events, _ = outcomes(dist)
    _, grads, _ = every_estimate(by_step(trace_decay), critic(WRONG), dist, REMEMBERING)
    for x, estimate in zip(events, grads, strict=True):
        earned, states, expected = rewards(REMEMBERING, x), [s for s, _ in indices(x)], 0
        for t, score in enumerate(scores(dist, x)):
            advantage = 0.0
            for n in range(1, horizon - t + 1):
                last = t + n == horizon
                ahead = sum(discount**k * earned[t + k] for k in range(n)) - WRONG[t, states[t]]
                ahead += 0 if last else discount**n * WRONG[t + n, states[t + n]]
                advantage += (1 if last else 1 - trace_decay) * trace_decay ** (n - 1) * ahead
            expected = expected + discount**t * advantage * score
        np.testing.assert_allclose(estimate, expected, atol=1e-13)


def test_a_full_trace_is_the_state_baseline_and_no_visits_are_rewards_to_go():
    dist = policy(3)
    _, full, stats = every_estimate(by_step(1.0), critic(WRONG), dist, REMEMBERING)
    _, baseline, others = every_estimate(StateBaseline(), critic(WRONG), dist, REMEMBERING)
    np.testing.assert_allclose(full, baseline, atol=1e-14)
    jax.tree.map(np.testing.assert_array_equal, stats, others)
    _, unvisited, _ = every_estimate(StateBaseline(), critic(WRONG, visits=0.0), dist, REMEMBERING)
    _, causal, _ = every_estimate(RewardToGo(), None, dist, REMEMBERING)
    np.testing.assert_allclose(unvisited, causal, atol=1e-14)


def test_a_state_that_knows_the_step_has_a_stationary_value():
    """Two states at each of two steps, four in all: the critic of all steps together is the value function."""
    transitions = np.zeros((4, 2, 4))
    transitions[:2, :, 2:] = np.array([[[0.1, 0.9], [0.6, 0.4]], [[0.5, 0.5], [0.8, 0.2]]])
    transitions[2:, :, 3] = 1.0
    logits, table = np.sin(np.arange(8.0)).reshape(4, 2), np.cos(np.arange(8.0)).reshape(4, 2)
    dist, f = policy(2, logits, [0.3, 0.7, 0, 0], transitions), Earnings(table)
    estimator = GeneralizedAdvantage(0.3)
    learned = adapted(estimator, dist, f)
    exact = state_values(dist, f)
    np.testing.assert_allclose(values(learned, stationary=True)[0], [*exact[0, :2], *exact[1, 2:]], rtol=1e-12)
    weights, grads, _ = every_estimate(estimator, learned, dist, f)
    np.testing.assert_allclose(moments(weights, grads)[0], exact_gradient(dist, f), rtol=1e-10, atol=1e-13)


def adapted(estimator, dist, f):
    """The critic after one step on the exact mean of its statistics."""
    state = estimator.init(jax.random.key(0), dist)
    weights, _, stats = every_estimate(estimator, state, dist, f)
    return estimator.adapt(state, jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), stats))


@pytest.mark.parametrize("estimator", [StateBaseline(), by_step(0.95)], ids=["state", "gae"])
def test_the_critic_learns_the_value_function(estimator):
    dist = policy(3)
    learned, exact = adapted(estimator, dist, MARKOV), state_values(dist, MARKOV)
    np.testing.assert_allclose(values(learned, stationary=False), exact, rtol=1e-12)
    moves = np.einsum("sa,saz->sz", softmax(np.asarray(dist.logits)), np.asarray(dist.transitions))
    occupancy = np.array([np.asarray(dist.initial) @ np.linalg.matrix_power(moves, t) for t in range(3)])
    np.testing.assert_allclose(learned.mean[1], occupancy, rtol=1e-12)
    overall = np.sum(occupancy * exact, axis=0) / np.sum(occupancy, axis=0)
    np.testing.assert_allclose(values(learned, stationary=True), np.tile(overall, (3, 1)), rtol=1e-12)
    # With memory the mean over visits is still what is expected of a state.
    events, probabilities = outcomes(dist)
    states = np.array([np.sum(x, axis=2) for x in events])
    seen = np.tensordot(probabilities, states, axes=1)
    earned = np.tensordot(probabilities, states * np.array([to_go(REMEMBERING, x) for x in events])[..., None], axes=1)
    remembering = adapted(estimator, dist, REMEMBERING)
    np.testing.assert_allclose(values(remembering, stationary=False), earned / seen, rtol=1e-12)


def test_variance_falls_with_what_is_known_and_with_what_is_not_looked_at():
    dist = policy(3)
    exact = state_values(dist, MARKOV)

    def variance(estimator, table):
        return enumerated(estimator, table, dist, MARKOV)[1].sum()

    none, known = variance(StateBaseline(), 0 * exact), variance(StateBaseline(), exact)
    assert known < 0.5 * none
    traces = [variance(by_step(trace_decay), exact) for trace_decay in (0.0, 0.5, 0.95, 1.0)]
    assert traces == sorted(traces) and traces[0] < 0.9 * traces[-1]
    np.testing.assert_allclose(traces[-1], known, rtol=1e-12)


def test_the_value_is_not_the_best_baseline_of_a_state():
    """With one step, `b(s) = E[|score|^2 r | s] / E[|score|^2 | s]` has the least sum of variances: rewards weighted by
    what they do to the gradient."""
    dist = policy(1)
    pi = softmax(np.asarray(dist.logits))
    squares = np.array([[np.sum((np.eye(2)[a] - row) ** 2) for a in range(2)] for row in pi])
    best = np.sum(pi * squares * TABLE, axis=1) / np.sum(pi * squares, axis=1)

    def variance(table):
        return enumerated(StateBaseline(), np.asarray(table)[None], dist, MARKOV)[1].sum()

    least, value = variance(best), np.sum(pi * TABLE, axis=1)
    assert least < 0.99 * variance(value)
    assert all(least < variance(best + step) for step in ([0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05]))


@pytest.mark.parametrize("trace_decay", [-0.1, 1.5])
def test_a_trace_out_of_range_is_refused(trace_decay):
    with pytest.raises(ValueError, match="`GeneralizedAdvantage` needs `0 <= trace_decay <= 1`, got"):
        GeneralizedAdvantage(trace_decay)
