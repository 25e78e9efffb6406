"""Adaptive baselines: summed over every sample that a frozen state could meet, and followed through their adaption."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import OneBit, Tangled, counted_evaluations, exact_gradient, moments, outcomes

from estimators import Bernoulli, Normal, baselines
from estimators.base import weighted_score
from estimators.baselines import LearnedBaseline, MovingAverageBaseline, OptimalBaseline, RunningMean
from estimators.score_function import ScoreFunction

LOGITS = np.array([-1.0, 0.4, 1.3])
ALL = [MovingAverageBaseline(decay=0.9), LearnedBaseline(width=6, learning_rate=0.02, decay=0.9), OptimalBaseline()]

each = pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)


@eqx.filter_jit
def every_estimate(estimator, state, dist, events, f):
    """The estimate and the statistics that each of `events` makes, put in place of what `draw` returns.

    A learned baseline reads every leaf of `dist`; a distribution with its draws among the leaves would let it see them.
    """

    def one(x):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(baselines, "draw", lambda key, dist, num_samples: x[None])
            return estimator.estimate(jax.random.key(0), state, dist, f)

    return jax.vmap(one)(jnp.asarray(events))


@eqx.filter_jit
def initial(estimator, dist):
    return estimator.init(jax.random.key(3), dist)


@eqx.filter_jit
def adapted_once(estimator, state, stats, weights):
    return estimator.adapt(state, jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), stats))


def adapted(estimator, logits, f, steps=3):
    """The state after some steps on the exact mean of the statistics."""
    dist, (events, probabilities) = Bernoulli(logits), outcomes(logits)
    state = initial(estimator, dist)
    for _ in range(steps):
        state = adapted_once(estimator, state, every_estimate(estimator, state, dist, events, f)[1], probabilities)
    return state


def enumerated(estimator, state, logits, f):
    """Mean and variance of the estimates of a frozen state."""
    events, probabilities = outcomes(logits)
    return moments(probabilities, every_estimate(estimator, state, Bernoulli(logits), events, f)[0].logits)


def frozen(mean, weight=1.0):
    """The state of a moving average that stands at `mean`."""
    return RunningMean(jnp.asarray(mean), jnp.asarray(weight))


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def assert_unbiased(estimator, state, logits, f):
    mean, _ = enumerated(estimator, state, logits, f)
    np.testing.assert_allclose(mean, exact_gradient(logits, f), rtol=1e-10, atol=1e-13)


class UpdateBeforeUse(MovingAverageBaseline):
    """Wrong on purpose: the average takes in the sample, and is then subtracted from it."""

    def estimate(self, key, state, dist, f):
        xs = baselines.draw(key, dist, 1)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs, values - state.updated(values[0], self.decay).mean), values[0]


@each
def test_the_mean_is_the_gradient_in_every_frozen_state(estimator):
    for steps in (0, 1, 3):
        assert_unbiased(estimator, adapted(estimator, LOGITS, Tangled(), steps), LOGITS, Tangled())


@each
def test_before_any_sample_it_is_the_score_function_draw_for_draw(estimator):
    dist = Bernoulli(logits=LOGITS)

    @jax.jit
    def both(seed):
        grads, _ = estimator.estimate(jax.random.key(seed), estimator.init(jax.random.key(9), dist), dist, Tangled())
        return grads.logits, ScoreFunction().gradient(jax.random.key(seed), dist, Tangled()).logits

    for seed in range(5):
        np.testing.assert_allclose(*both(seed), rtol=1e-14)


@each
def test_the_estimate_scales_with_f_and_forgets_a_constant_through_the_whole_adaption(estimator):
    def estimates(f):
        return enumerated(estimator, adapted(estimator, LOGITS, f), LOGITS, f)

    mean, variance = estimates(Tangled())
    for scale, shift in [(1e-6, 0.0), (1e6, 0.0), (1.0, 5.0)]:
        scaled_mean, scaled_variance = estimates(Tangled(scale, shift))
        np.testing.assert_allclose(scaled_mean / scale, mean, rtol=1e-9)
        if shift == 0:
            np.testing.assert_allclose(scaled_variance / scale**2, variance, rtol=1e-9)


@each
def test_a_constant_gives_zero_once_it_was_seen(estimator):
    constant, (events, _) = Tangled(scale=0.0, shift=-0.1), outcomes(LOGITS)
    state = adapted(estimator, LOGITS, constant)
    grads, _ = every_estimate(estimator, state, Bernoulli(LOGITS), events, constant)
    np.testing.assert_allclose(grads.logits, 0.0, atol=1e-15)


@each
def test_state_and_gradient_keep_the_precision_of_the_leaves(estimator):
    """Even where the hyper-parameters and the values of `f` come in a higher one."""
    dist, f = Bernoulli(logits=LOGITS.astype(np.float32)), Tangled(scale=np.float64(1.0))

    def steps(state, key):
        grads, stats = estimator.estimate(key, state, dist, f)
        return estimator.adapt(state, stats), grads

    before = eqx.filter_eval_shape(estimator.init, jax.random.key(0), dist)
    after, grads = eqx.filter_eval_shape(steps, before, jax.random.key(1))
    assert grads.logits.dtype == jnp.float32
    shapes = [
        [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.ShapeDtypeStruct)] for state in (before, after)
    ]
    assert len(shapes[0]) >= 2
    assert [leaf.dtype for leaf in shapes[0]] == [leaf.dtype for leaf in shapes[1]]


@each
def test_declared_evaluations_are_the_calls_of_f(estimator):
    dist = Bernoulli(logits=LOGITS)
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1


def test_the_average_used_is_that_of_the_past_alone():
    """Step by step against a weighted mean in NumPy, the weights falling by `decay` with each step of age."""
    events = np.random.default_rng(0).integers(2, size=(7, 3)).astype(float)
    values = np.asarray(jax.vmap(Tangled())(events))
    estimator, dist = ALL[0], Bernoulli(LOGITS)
    state = initial(estimator, dist)
    for step, x in enumerate(events):
        weights = 0.9 ** np.arange(step)[::-1]
        past = np.average(values[:step], weights=weights) if step else 0.0
        grads, stats = every_estimate(estimator, state, dist, x[None], Tangled())
        np.testing.assert_allclose(grads.logits[0], (values[step] - past) * (x - sigmoid(LOGITS)), rtol=1e-12)
        state = adapted_once(estimator, state, stats, np.ones(1))
    np.testing.assert_allclose(state.weight, (0.9 ** np.arange(7)).sum())


def test_a_constant_is_averaged_exactly_and_cancels_exactly():
    constant, estimator = Tangled(scale=0.0, shift=-0.1), MovingAverageBaseline()
    state, dist = initial(estimator, Bernoulli(LOGITS)), Bernoulli(LOGITS)
    for x in outcomes(LOGITS)[0][:4]:
        grads, stats = every_estimate(estimator, state, dist, x[None], constant)
        state = adapted_once(estimator, state, stats, np.ones(1))
        assert float(state.mean) == -0.1
    grads, _ = every_estimate(estimator, state, dist, outcomes(LOGITS)[0], constant)
    np.testing.assert_array_equal(grads.logits, 0.0)


def test_update_before_use_shrinks_the_mean_by_the_decay_and_is_rejected():
    wrong, steady = UpdateBeforeUse(decay=0.9), frozen(0.2, weight=1 / (1 - 0.9))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(wrong, steady, LOGITS, Tangled())
    mean, _ = enumerated(wrong, steady, LOGITS, Tangled())
    np.testing.assert_allclose(mean, 0.9 * exact_gradient(LOGITS, Tangled()), rtol=1e-11)
    first, _ = enumerated(wrong, frozen(0.0, weight=0.0), LOGITS, Tangled())
    np.testing.assert_allclose(first, 0.0, atol=1e-15)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
def test_closed_form_variances_of_a_constant_baseline_on_one_bit(p):
    at_zero, at_one = 0.3, -1.1
    v, logits, f = p * (1 - p), np.log([p / (1 - p)]), OneBit(at_zero, at_one)
    optimum, mean_of_f = (1 - p) * at_one + p * at_zero, p * at_one + (1 - p) * at_zero

    def variance(baseline):
        mean, variance = enumerated(MovingAverageBaseline(), frozen(baseline), logits, f)
        np.testing.assert_allclose(mean, [v * (at_one - at_zero)], rtol=1e-12)
        return variance[0]

    for baseline in (-2.0, 0.5):
        np.testing.assert_allclose(variance(baseline), v * (optimum - baseline) ** 2, rtol=1e-12)
    np.testing.assert_allclose(
        variance(mean_of_f), v * (1 - 2 * p) ** 2 * (at_one - at_zero) ** 2, rtol=1e-12, atol=1e-30
    )
    np.testing.assert_allclose(variance(optimum), 0.0, atol=1e-30)
    _, variance = enumerated(OptimalBaseline(), adapted(OptimalBaseline(), logits, f, 1), logits, f)
    np.testing.assert_allclose(variance, 0.0, atol=1e-30)


def test_the_optimal_baseline_is_the_minimiser_of_the_variance_parameter_by_parameter():
    events, probabilities = outcomes(LOGITS)
    values, squares = np.asarray(jax.vmap(Tangled())(events)), (events - sigmoid(LOGITS)) ** 2
    expected = (probabilities * values) @ squares / (probabilities @ squares)
    estimator, state = OptimalBaseline(), adapted(OptimalBaseline(), LOGITS, Tangled())
    np.testing.assert_allclose(estimator.baseline(state).logits, expected, rtol=1e-12)
    assert np.ptp(expected) > 0.1

    _, least = enumerated(estimator, state, LOGITS, Tangled())
    for constant in [0.0, probabilities @ values, *expected, -1.0, 2.0]:
        _, variance = enumerated(MovingAverageBaseline(), frozen(constant), LOGITS, Tangled())
        excess = (constant - expected) ** 2 * (probabilities @ squares)
        np.testing.assert_allclose(variance, least + excess, rtol=1e-11)


def test_the_optimal_baseline_weighs_all_of_the_past_alike():
    events = np.random.default_rng(1).integers(2, size=(5, 3)).astype(float)
    values, squares = np.asarray(jax.vmap(Tangled())(events)), (events - sigmoid(LOGITS)) ** 2
    estimator, dist = OptimalBaseline(), Bernoulli(LOGITS)
    state = initial(estimator, dist)
    for x in events:
        state = adapted_once(
            estimator, state, every_estimate(estimator, state, dist, x[None], Tangled())[1], np.ones(1)
        )
    np.testing.assert_allclose(estimator.baseline(state).logits, values @ squares / squares.sum(axis=0), rtol=1e-12)


def test_the_optimal_baseline_of_a_saturated_parameter_is_zero():
    logits = np.array([0.4, 40.0, -1.0])
    events = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    estimator, dist = OptimalBaseline(), Bernoulli(logits)
    state = initial(estimator, dist)
    state = adapted_once(
        estimator, state, every_estimate(estimator, state, dist, events, Tangled())[1], np.full(2, 0.5)
    )
    baseline = estimator.baseline(state).logits
    assert baseline[1] == 0.0 and np.all(np.asarray(baseline[jnp.array([0, 2])]) != 0.0)
    grads, _ = every_estimate(estimator, state, dist, events, Tangled())
    assert np.all(np.isfinite(grads.logits)) and np.all(np.asarray(grads.logits)[:, 1] == 0.0)


def test_closed_forms_on_a_normal_by_quadrature():
    """`(x - k)^2` under N(mu, sigma^2), `a = mu - k`: the optimum is `a^2 + 3 sigma^2`, not `E f = a^2 + sigma^2`."""
    k, sigma, a = -1.5, 0.8, 2.5
    dist = Normal(loc=[k + a], log_scale=[np.log(sigma)])
    nodes, weights = dist.nodes(401)
    events = jax.vmap(dist.reparameterize)(nodes)

    class Squared(eqx.Module):
        def __call__(self, x):
            return jnp.sum((x - k) ** 2)

    estimator = OptimalBaseline()
    state = initial(estimator, dist)
    state = adapted_once(estimator, state, every_estimate(estimator, state, dist, events, Squared())[1], weights)
    np.testing.assert_allclose(estimator.baseline(state).loc, [a**2 + 3 * sigma**2], rtol=1e-10)
    mean, variance = moments(weights, every_estimate(estimator, state, dist, events, Squared())[0].loc)
    np.testing.assert_allclose(mean, [2 * a], rtol=1e-10)
    np.testing.assert_allclose(variance, [8 * a**2 + 6 * sigma**2], rtol=1e-10)

    state = frozen(a**2 + sigma**2)
    _, variance = moments(weights, every_estimate(MovingAverageBaseline(), state, dist, events, Squared())[0].loc)
    np.testing.assert_allclose(variance, [8 * a**2 + 10 * sigma**2], rtol=1e-10)


def test_the_learned_baseline_measures_in_the_weighted_mean_and_deviation_of_past_values():
    events = np.random.default_rng(2).integers(2, size=(6, 3)).astype(float)
    values, weights = np.asarray(jax.vmap(Tangled())(events)), 0.9 ** np.arange(6)[::-1]
    estimator, dist = ALL[1], Bernoulli(LOGITS)
    state = initial(estimator, dist)
    for x in events:
        state = adapted_once(
            estimator, state, every_estimate(estimator, state, dist, x[None], Tangled())[1], np.ones(1)
        )
    center, variance = state.signal.mean
    np.testing.assert_allclose(center, np.average(values, weights=weights), rtol=1e-12)
    np.testing.assert_allclose(variance, np.average((values - center) ** 2, weights=weights), rtol=1e-12)


def baseline_of(state, logits, f):
    """What the learned baseline takes from `f`, read off an estimate: `grads = (f(x) - B) (x - p)`."""
    x = jnp.zeros_like(logits)
    grads, stats = every_estimate(ALL[1], state, Bernoulli(logits), x[None], f)
    return f(x) + grads.logits[0, 0] / jax.nn.sigmoid(logits[0]), jax.tree.map(lambda leaf: leaf[0], stats)


def test_the_statistics_of_the_learned_baseline_are_the_slope_of_its_squared_error():
    state, logits, f = adapted(ALL[1], LOGITS, Tangled()), jnp.asarray(LOGITS), Tangled()
    flat, restore = ravel_pytree(eqx.filter(state.learned.control, eqx.is_inexact_array))
    direction, step = np.random.default_rng(3).normal(size=flat.shape), 1e-5

    def error(offset):
        arrays = restore(flat + offset * direction)
        moved = eqx.tree_at(lambda s: s.learned.control, state, eqx.combine(arrays, state.learned.control))
        return (f(jnp.zeros(3)) - baseline_of(moved, logits, f)[0]) ** 2 / state.signal.mean[1]

    slope = ravel_pytree(baseline_of(state, logits, f)[1][0])[0] @ direction
    np.testing.assert_allclose(slope, (error(step) - error(-step)) / (2 * step), rtol=1e-7)
    assert abs(slope) > 1e-3


def test_the_learned_baseline_finds_the_expectation_of_f_for_each_input():
    """One state for three distributions, as in a VAE: least squares leads to `E[f(x)]` under each of them."""
    estimator, f, events = ALL[1], OneBit(-103.0, -101.0), jnp.array([[0.0], [1.0]])
    dists = Bernoulli(jnp.array([[-2.0], [0.3], [1.5]]))
    p = jax.nn.sigmoid(dists.logits[:, 0])
    weights = jnp.stack([1 - p, p], axis=1) / 3
    arrays, static = eqx.partition(initial(estimator, Bernoulli(dists.logits[0])), eqx.is_array)

    def step(arrays, _):
        state = eqx.combine(arrays, static)
        stats = jax.vmap(lambda dist: every_estimate(estimator, state, dist, events, f)[1])(dists)
        state = estimator.adapt(state, jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=2), stats))
        return eqx.filter(state, eqx.is_array), None

    state = eqx.combine(jax.jit(lambda arrays: jax.lax.scan(step, arrays, None, 600)[0])(arrays), static)
    for logits, probability in zip(dists.logits, p, strict=True):
        np.testing.assert_allclose(baseline_of(state, logits, f)[0], -103.0 + 2 * probability, atol=0.01)
        assert_unbiased(estimator, state, np.asarray(logits), f)


def test_a_sweep_over_the_decay_is_one_batched_program():
    def average(decay):
        state = frozen(0.0, weight=0.0)
        for value in jnp.array([1.0, 4.0]):
            state = MovingAverageBaseline(decay=decay).adapt(state, value)
        return state.mean

    np.testing.assert_allclose(jax.jit(jax.vmap(average))(jnp.array([0.0, 0.5])), [4.0, 3.0], rtol=1e-15)


@pytest.mark.parametrize("decay", [-0.1, 1.0, np.nan])
@pytest.mark.parametrize("family", [MovingAverageBaseline, LearnedBaseline])
def test_a_decay_outside_its_range_is_refused(family, decay):
    with pytest.raises(ValueError, match=rf"`{family.__name__}` needs `0 <= decay < 1`, got {decay}"):
        family(decay=decay)


def test_a_network_without_units_or_steps_is_refused():
    with pytest.raises(ValueError, match=r"`LearnedBaseline` needs `width > 0`, got 0"):
        LearnedBaseline(width=0)
    with pytest.raises(ValueError, match=r"`LearnedBaseline` needs `learning_rate > 0`, got -0.1"):
        LearnedBaseline(learning_rate=-0.1)
