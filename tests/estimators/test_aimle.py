"""AIMLE, summed over the outcomes of its noise: its mean at any step, the limit, which is that of ZGR, and the step.

An estimate is zero or a move of the event, looked at where the perturbed logits cross zero or one of the two steps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from enumerated import BITS, TWO_OF_THREE, enumerated, polynomial
from moves import PrescribedCategorical, cells, probability
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from scipy import special

from estimators import (
    AIMLE,
    IMLE,
    ZGR,
    Bernoulli,
    BlackBox,
    Categorical,
    DirectLossMinimization,
    Normal,
    incompatibility,
)
from estimators.baselines import RunningMean
from estimators.imle import AdaptedStep

slopes = jax.jit(jax.vmap(jax.grad(Tangled())))


def state(alpha):
    return AdaptedStep(jnp.asarray(alpha), RunningMean(jnp.zeros(()), jnp.zeros(())))


def steps(alpha, slopes, theta):
    """The step at each event, for the slopes there."""
    size = np.sqrt(np.sum(slopes.reshape(len(slopes), -1) ** 2, axis=1))
    return alpha * np.linalg.norm(theta) / size


def integrated(alpha, f, slopes):
    """Weights, estimates and moves over all cells of the noise of three bits."""
    reach = steps(alpha, slopes, BITS)[:, None] * slopes
    noises, weights = cells(BITS, np.concatenate([reach, -reach]).T)
    grads, moved = prescribed_estimates(AIMLE(), state(alpha), BITS, jnp.asarray(noises)[:, None], f)
    return weights, np.asarray(grads), np.asarray(moved)


def expected_on_bits(alpha):
    """The mean of an estimate and of the number of moves: bit `i` is moved by one of the steps, whichever it is, if
    `z_i` is within the step of zero, on its own side of it."""
    events, masses = outcomes(BITS)
    w = np.asarray(slopes(events))
    p, mean, number = special.expit(BITS), np.zeros(3), 0.0
    for x, mass, slope, step in zip(events, masses, w, steps(alpha, w, BITS), strict=True):
        reach = step * np.abs(slope)
        within = np.where(x > 0, special.expit(reach - BITS) - (1 - p), (1 - p) - special.expit(-reach - BITS))
        chance = mass / np.where(x > 0, p, 1 - p) * within
        mean += chance * np.sign(slope) / (2 * step)
        number += chance.sum()
    return mean, number


@pytest.mark.parametrize("alpha", [0.05, 0.5, 2.0])
def test_mean_on_bits_is_the_chance_of_a_move_either_way(alpha):
    weights, grads, moved = integrated(alpha, Tangled(), np.asarray(slopes(outcomes(BITS)[0])))
    mean, number = expected_on_bits(alpha)
    np.testing.assert_allclose(moments(weights, grads)[0], mean, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(weights @ moved, number, rtol=1e-11)


def test_as_the_step_vanishes_the_mean_on_bits_is_that_of_zgr():
    for quadratic, cubic in [(True, False), (True, True)]:
        f = polynomial(BITS, quadratic=quadratic, cubic=cubic)
        made = enumerated(ZGR(), BITS, f)
        weights, grads, _ = integrated(1e-6, f, made.slopes)
        found = moments(weights, grads)[0]
        np.testing.assert_allclose(found, made.mean, rtol=1e-5)
        assert np.allclose(found, exact_gradient(BITS, f), rtol=1e-4) != cubic


@eqx.filter_jit
def on_categories(estimator, state, logits, f, noises):
    """The estimate and the number of moves for each of the given noises."""

    def one(noise):
        grads, stats = estimator.estimate(jax.random.key(0), state, PrescribedCategorical(logits, noise), f)
        return grads.logits, stats

    return jax.vmap(one)(noises)


def expected_on_categories(alpha, f):
    """The mean of an estimate, half of it from each step: where `x` moves to, given the slope at `x`."""
    made = enumerated(ZGR(), TWO_OF_THREE, f)
    theta, mean = special.log_softmax(TWO_OF_THREE, axis=-1), np.zeros((2, 3))
    reach = steps(alpha, made.slopes, theta)
    for x, mass, w, step in zip(made.events, made.probabilities, made.slopes, reach, strict=True):
        for v, k in enumerate(np.argmax(x, axis=-1)):
            others = mass / special.softmax(TWO_OF_THREE[v])[k]
            for sign in (1, -1):
                chance = np.array([probability(TWO_OF_THREE[v], sign * step * w[v], k, j) for j in range(3)])
                chance[k] = 0
                mean[v] += others * sign * (chance - chance.sum() * x[v]) / (2 * step)
    return mean, made


def test_as_the_step_vanishes_the_mean_on_categories_is_that_of_zgr():
    mean, made = expected_on_categories(1e-5, polynomial(TWO_OF_THREE, quadratic=True, cubic=True))
    np.testing.assert_allclose(mean, made.mean, rtol=1e-4, atol=1e-5)
    mean, made = expected_on_categories(1e-5, polynomial(TWO_OF_THREE, quadratic=True))
    np.testing.assert_allclose(mean, made.exact, rtol=1e-4, atol=1e-5)


def test_estimates_on_categories_are_the_two_moves_and_have_their_mean(key):
    f = polynomial(TWO_OF_THREE, quadratic=True, cubic=True)
    noises = np.asarray(jax.random.gumbel(key, (100_000, 2, 3)))
    found, moved = on_categories(AIMLE(), state(0.5), jnp.asarray(TWO_OF_THREE), f, jnp.asarray(noises))
    mean, made = expected_on_categories(0.5, f)
    assert_mean_equals(found, mean, detects=0.1)
    theta = special.log_softmax(TWO_OF_THREE, axis=-1)
    where = np.argmax(theta + noises[:50], axis=-1)
    w = made.slopes[where[:, 0] * 3 + where[:, 1]]
    step = steps(0.5, w, theta)[:, None, None]
    up, down = (np.eye(3)[np.argmax(theta + noises[:50] + sign * step * w, axis=-1)] for sign in (1, -1))
    np.testing.assert_allclose(found[:50], (up - down) / (2 * step), rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(moved[:50], np.sum(up != down, axis=(1, 2)))


def first_bits(x):
    return jnp.vdot(jnp.array([2.0, -1.0, 0.5]), x) + 4.0


def test_on_an_affine_objective_it_is_the_mean_of_the_two_one_sided_differences():
    noises = jnp.asarray(np.random.default_rng(1).logistic(size=(60, 1, 3)))
    found, moved = prescribed_estimates(AIMLE(), state(0.7), BITS, noises, first_bits)
    step = 0.7 * np.linalg.norm(BITS) / np.sqrt(5.25)
    down, _ = prescribed_estimates(IMLE(step=step), None, BITS, noises, first_bits)
    up, _ = prescribed_estimates(DirectLossMinimization(epsilon=step), None, BITS, noises, first_bits)
    np.testing.assert_allclose(found, (down + up) / 2, atol=1e-13)
    np.testing.assert_array_equal(moved, np.sum(np.asarray(found) != 0, axis=1))
    assert np.ptp(moved) > 0


def test_categorical_logits_may_be_shifted():
    f, noises = polynomial(TWO_OF_THREE, quadratic=True), jax.random.gumbel(jax.random.key(2), (50, 2, 3))
    pair = [on_categories(AIMLE(), state(0.5), jnp.asarray(TWO_OF_THREE + c), f, noises)[0] for c in (0.0, 3.0)]
    np.testing.assert_allclose(*pair, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sum(pair[0], axis=-1), 0, atol=1e-12)


def test_the_step_grows_while_too_little_moves_and_shrinks_while_too_much_does():
    estimator = AIMLE(alpha=0.25, increment=0.1, target=2.0, decay=0.5)
    current, seen, values = estimator.init(jax.random.key(0), Bernoulli(BITS)), [], (0.0, 3.0, 3.0, 1.9, 3.0, 3.0, 0.0)
    for moved in values:
        current = estimator.adapt(current, jnp.array(moved))
        seen.append(float(current.alpha))
    # The running means are 0, 2 (which is not below the target), 2.57, 2.21 (nor is this), 2.62, 2.81 and 1.40.
    np.testing.assert_allclose(seen, [0.35, 0.25, 0.15, 0.05, 0.0, 0.0, 0.1], atol=1e-12)
    mean = np.average(values, weights=0.5 ** np.arange(6, -1, -1))
    np.testing.assert_allclose(current.moved.mean, mean, rtol=1e-12)


def test_adaptation_finds_the_step_at_which_the_target_is_met():
    estimator = AIMLE(alpha=3.0, increment=0.02, target=0.5, decay=0.5)
    current = estimator.init(jax.random.key(0), Bernoulli(BITS))
    assert expected_on_bits(float(current.alpha))[1] > 1
    for _ in range(200):
        current = estimator.adapt(current, jnp.array(expected_on_bits(float(current.alpha))[1]))
    np.testing.assert_allclose(expected_on_bits(float(current.alpha))[1], 0.5, rtol=0.1)


def test_without_slope_or_logits_the_estimate_is_zero():
    noises = jnp.asarray(np.random.default_rng(1).logistic(size=(60, 1, 3)))
    for logits, scale in [(BITS, 0.0), (np.zeros(3), 1.0)]:
        found = prescribed_estimates(AIMLE(), state(1.0), logits, noises, Tangled(scale=scale))
        assert not any(np.any(each) for each in found)


def test_cost_and_refusals():
    dist = Bernoulli(BITS)
    assert counted_evaluations(AIMLE(), dist) == AIMLE().evaluations(dist) == 1
    for name, value in [("alpha", 0.0), ("target", -1.0)]:
        with pytest.raises(ValueError, match=rf"`AIMLE` needs `{name} > 0`, got {value}"):
            AIMLE(**{name: value})
    with pytest.raises(ValueError, match=r"`AIMLE` needs `increment >= 0`, got -0.1"):
        AIMLE(increment=-0.1)
    with pytest.raises(ValueError, match=r"`AIMLE` needs `0 <= decay < 1`, got 1.0"):
        AIMLE(decay=1.0)
    reason = incompatibility(AIMLE(), Normal([0.0], [0.0]), jnp.sum)
    assert reason == "`AIMLE` needs an additively perturbed distribution, and `Normal` is not one."
    assert "differentiable" in incompatibility(AIMLE(), Categorical(TWO_OF_THREE), BlackBox(jnp.sum))
