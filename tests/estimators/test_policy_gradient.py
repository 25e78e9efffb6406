"""Rewards to go, summed over every trajectory of a world of two states; and what policies refuse."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import moments
from trajectories import (
    LOGITS,
    MARKOV,
    REMEMBERING,
    Earnings,
    every_estimate,
    exact_gradient,
    outcomes,
    policy,
    rewards,
    scores,
    to_go,
)

from estimators import (
    ESTIMATORS,
    Bernoulli,
    Enumeration,
    GroupNormalizedAdvantage,
    LeaveOneOut,
    LeaveOneOutRewardToGo,
    MovingAverageBaseline,
    RewardToGo,
    ScoreFunction,
    StepBaseline,
    incompatibility,
)
from estimators.baselines import RunningMean

ONE_AFTER_THE_OTHER = np.broadcast_to(np.array([0.0, 1.0]), (2, 2, 2))


def enumerated(estimator, dist, f, count=1, state=None):
    weights, grads, _ = every_estimate(estimator, state, dist, f, count)
    return moments(weights, grads)


def frozen(mean):
    return RunningMean(jnp.asarray(mean), jnp.ones(()))


@pytest.mark.parametrize("f", [MARKOV, REMEMBERING], ids=["markov", "remembering"])
@pytest.mark.parametrize(
    "estimator, horizon, count, state",
    [
        (RewardToGo(), 3, 1, None),
        (RewardToGo(num_samples=2), 2, 2, None),
        (LeaveOneOutRewardToGo(num_samples=2), 3, 2, None),
        (LeaveOneOutRewardToGo(num_samples=3), 2, 3, None),
        (LeaveOneOutRewardToGo(num_samples=5), 1, 5, None),
        (StepBaseline(), 3, 1, frozen([0.7, -1.3, 2.0])),
        (ScoreFunction(), 3, 1, None),
        (LeaveOneOut(num_samples=2), 2, 2, None),
        (MovingAverageBaseline(), 3, 1, frozen(0.4)),
    ],
)
def test_the_mean_is_the_gradient_of_the_discounted_return(estimator, horizon, count, state, f):
    dist = policy(horizon)
    mean, _ = enumerated(estimator, dist, f, count, state)
    np.testing.assert_allclose(mean, exact_gradient(dist, f), rtol=1e-10, atol=1e-13)


def test_without_its_discount_a_step_counts_for_too_much():
    """The common form, `sum_t G_t score_t`, has another mean: here by more than a tenth."""
    dist = policy(3)
    events, probabilities = outcomes(dist)
    common = np.array([np.tensordot(to_go(MARKOV, x), scores(dist, x), axes=1) for x in events])
    exact = exact_gradient(dist, MARKOV)
    assert np.linalg.norm(moments(probabilities, common)[0] - exact) > 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("f", [MARKOV, REMEMBERING], ids=["markov", "remembering"])
def test_it_is_the_first_derivative_of_the_dice_surrogate(f):
    """DiCE weights the reward of each step by `exp(L - stop_gradient(L))`, `L` the log-probability of all actions so
    far; trajectory by trajectory."""
    dist = policy(3)
    events, _ = outcomes(dist)

    @jax.jit
    @jax.vmap
    def surrogate_gradient(x, earned):
        def surrogate(logits):
            chosen = jnp.cumsum(jnp.sum(x * jax.nn.log_softmax(logits)[None], axis=(1, 2)))
            return jnp.vdot(earned, jnp.exp(chosen - jax.lax.stop_gradient(chosen)))

        return jax.grad(surrogate)(dist.logits)

    earned = np.array([0.8 ** np.arange(3) * rewards(f, x) for x in events])
    _, grads, _ = every_estimate(RewardToGo(), None, dist, f)
    np.testing.assert_allclose(surrogate_gradient(jnp.asarray(events), jnp.asarray(earned)), grads, atol=1e-14)


def test_each_action_gets_the_rewards_from_its_step_on():
    dist = policy(3)
    events, probabilities = outcomes(dist)
    expected = [np.tensordot(0.8 ** np.arange(3) * to_go(REMEMBERING, x), scores(dist, x), axes=1) for x in events]
    weights, grads, _ = every_estimate(RewardToGo(), None, dist, REMEMBERING)
    np.testing.assert_allclose(grads, expected, atol=1e-14)
    np.testing.assert_allclose(weights, probabilities)


def test_leave_one_out_is_the_difference_from_the_mean_of_the_others():
    """Step by step, for each of three trajectories."""
    dist, f = policy(2), REMEMBERING
    events, _ = outcomes(dist)
    _, grads, _ = every_estimate(LeaveOneOutRewardToGo(num_samples=3), None, dist, f, 3)
    groups = list(itertools.product(events, repeat=3))
    for index in (5, 777, 1490, 3001):
        group, expected = groups[index], 0
        for i, x in enumerate(group):
            others = np.mean([to_go(f, y) for j, y in enumerate(group) if j != i], axis=0)
            weights = 0.8 ** np.arange(2) * (to_go(f, x) - others)
            expected = expected + np.tensordot(weights, scores(dist, x), axes=1) / 3
        np.testing.assert_allclose(grads[index], expected, atol=1e-13)


def test_what_each_thing_left_out_saves():
    """Variances summed over all trajectories: the past, then what is expected of a step."""
    dist = policy(3)
    events, probabilities = outcomes(dist)
    means = probabilities @ np.array([to_go(MARKOV, x) for x in events])
    whole, causal, steps = (
        enumerated(estimator, dist, MARKOV, state=state)[1].sum()
        for estimator, state in [
            (ScoreFunction(), None),
            (RewardToGo(), None),
            (StepBaseline(), frozen(means)),
        ]
    )
    pair = enumerated(LeaveOneOutRewardToGo(num_samples=2), dist, MARKOV, 2)[1].sum()
    assert causal < 0.8 * whole and steps < 0.6 * causal
    # One estimate of a pair costs two trajectories.
    assert steps / 2 < pair < 0.6 * causal


def test_a_bonus_that_is_taken_back_is_seen_by_the_whole_return_alone():
    """Two steps, each in a state of its own, that earn -3 and 3 whatever is done: every return is zero."""
    dist = policy(2, initial=[1, 0], transitions=ONE_AFTER_THE_OTHER)
    f = Earnings([[-3.0, -3.0], [3.0, 3.0]], discount=1.0)
    np.testing.assert_allclose(enumerated(ScoreFunction(), dist, f)[1], 0, atol=1e-25)
    mean, variance = enumerated(RewardToGo(), dist, f)
    p = 1 / (1 + math.exp(LOGITS[1, 1] - LOGITS[1, 0]))
    np.testing.assert_allclose(mean, 0, atol=1e-14)
    np.testing.assert_allclose(variance, [[0, 0], [9 * p * (1 - p)] * 2], atol=1e-13)


@pytest.mark.parametrize(
    "estimator, whole, dist, f",
    [
        (LeaveOneOutRewardToGo(num_samples=3), LeaveOneOut(num_samples=3), policy(1), REMEMBERING),
        (
            RewardToGo(num_samples=3),
            ScoreFunction(num_samples=3),
            policy(2, initial=[1, 0], transitions=ONE_AFTER_THE_OTHER),
            Earnings([[0.0, 0.0], [1.0, -2.0]]),
        ),
    ],
    ids=["one step", "paid at the end"],
)
def test_where_nothing_was_earned_before_it_is_the_estimator_of_the_whole_return(estimator, whole, dist, f):
    """Draw for draw."""

    @jax.jit
    def both(seed):
        return [e.gradient(jax.random.key(seed), dist, f).logits for e in (estimator, whole)]

    made = np.array([both(seed) for seed in range(5)])
    np.testing.assert_allclose(made[:, 0], made[:, 1], atol=1e-14)
    assert np.abs(made).max() > 0.01


def test_the_group_normalised_return_runs_and_is_biased():
    """For a pair the mean is `E[sign(f(x) - f(y)) score(x)] / sqrt(2)`."""
    dist = policy(2)
    events, probabilities = outcomes(dist)
    values = np.array([to_go(MARKOV, x)[0] for x in events])
    signs = np.sign(np.round(values[:, None] - values[None], 12)) @ probabilities
    expected = np.tensordot(probabilities * signs, [scores(dist, x).sum(axis=0) for x in events], axes=1) / 2**0.5
    mean, _ = enumerated(GroupNormalizedAdvantage(num_samples=2), dist, MARKOV, 2)
    np.testing.assert_allclose(mean, expected, rtol=1e-4)
    assert np.linalg.norm(mean - exact_gradient(dist, MARKOV)) > 0.2 * np.linalg.norm(mean)


def test_step_baseline_learns_the_mean_of_each_step():
    dist = policy(3)
    events, probabilities = outcomes(dist)
    weights, _, stats = every_estimate(StepBaseline(), frozen(np.zeros(3)), dist, REMEMBERING)
    estimator, state = StepBaseline(), StepBaseline().init(jax.random.key(0), dist)
    state = estimator.adapt(state, jnp.asarray(weights @ np.asarray(stats)))
    np.testing.assert_allclose(state.mean, probabilities @ np.array([to_go(REMEMBERING, x) for x in events]))
    state = estimator.adapt(state, state.mean + 1)
    np.testing.assert_allclose(state.mean, weights @ np.asarray(stats) + 0.5)


@pytest.mark.parametrize(
    "name, capability",
    [
        ("pathwise", "a reparameterizable"),
        ("gumbel-softmax", "a relaxable"),
        ("straight-through-gumbel-softmax", "a relaxable"),
        ("rebar", "a conditionally relaxable"),
        ("dlax", "a latent density"),
        ("local-expectation", "a factorized"),
        ("measure-valued", "a weakly differentiable"),
        ("go", "an ordered"),
        ("stochastic-triples", "an ordered"),
        ("perturbed-argmax", "an additively perturbed"),
        ("quadrature", "an integrable"),
        ("disarm", "a `Bernoulli`"),
        ("arsm", "a `Categorical`"),
    ],
)
def test_a_policy_refuses_what_its_trajectories_are_not(name, capability):
    estimator = ESTIMATORS.create(name)
    sentence = f"needs {capability} distribution, and `TabularPolicy` is not one."
    assert incompatibility(estimator, policy(3), MARKOV) == f"`{type(estimator).__name__}` {sentence}"


def test_trajectories_too_many_to_list_are_not_listed():
    sentence = incompatibility(Enumeration(), policy(40), MARKOV)
    assert "would evaluate the objective more than 1048576 times" in sentence


OURS = [
    name
    for name in ESTIMATORS
    if type(ESTIMATORS.create(name)).__module__ in ("estimators.policy_gradient", "estimators.actor_critic")
]


@pytest.mark.parametrize("name", OURS)
def test_policy_gradients_need_decisions_and_a_return(name):
    estimator = ESTIMATORS.create(name)
    cls = type(estimator).__name__
    assert incompatibility(estimator, policy(3), MARKOV) is None
    assert (
        incompatibility(estimator, Bernoulli([0.0]), MARKOV)
        == f"`{cls}` needs a sequential distribution, and `Bernoulli` is not one."
    )
    refusal = incompatibility(estimator, policy(3), jnp.sum)
    assert refusal.startswith(f"`{cls}` needs a return objective, and ")


@pytest.mark.parametrize("name, least", [(name, 2 if name.startswith("leave") else 1) for name in OURS])
def test_too_few_trajectories_are_refused(name, least):
    with pytest.raises(ValueError, match=f"needs `num_samples >= {least}`, got {least - 1}"):
        ESTIMATORS.create(name, num_samples=least - 1)
