"""I-MLE, summed over the outcomes of its noise, and the value that its mean tends to.

An estimate is zero or a move of the event, so its mean is a finite sum; see `moves`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from moves import cells, estimates, outcomes_of_two_argmaxes, probability
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from scipy import special

from estimators import IMLE, Bernoulli, BlackBox, Categorical, DirectLossMinimization, Normal, incompatibility

BITS = np.array([-1.0, 0.4, 1.3])
LOGITS = np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])
WEIGHTS = np.array([[1.1, -0.4, 0.6], [-0.9, 0.7, 0.2]])


def affine(x):
    return 3.0 * jnp.vdot(WEIGHTS, x) - 1.0


def entangled(x):
    s = jnp.vdot(WEIGHTS, x)
    return s**2 + 0.5 * s**3 - x[0, 1] * x[1, 2]


def first_bits(x):
    return jnp.sum(jnp.array([2.0, -1.0, 0.5]) * x) + 4.0


def square(x):
    return jnp.sum((x - 0.45) ** 2)


slopes = jax.jit(jax.vmap(jax.grad(Tangled())))
slope = jax.jit(jax.grad(entangled))


def integrated_on_bits(step, f, derivative):
    """Weights and estimates over all cells of the noise: it is looked at where `z` is 0 or `step * f'(x)`."""
    noises, weights = cells(BITS, step * np.asarray(derivative(outcomes(BITS)[0])).T)
    keys = None
    return weights, np.asarray(prescribed_estimates(IMLE(step=step), None, BITS, noises[:, None], f, keys)[0])


def shift(step):
    def of(categories):
        return -step * np.asarray(slope(np.eye(3)[list(categories)]))

    return of


def integrated_on_categories(step, f, shift):
    noises, weights = outcomes_of_two_argmaxes(LOGITS, shift)
    return weights, np.asarray(estimates(IMLE(step=step), LOGITS, f, noises))


@pytest.mark.parametrize("step", [0.05, 1.0, 4.0])
def test_mean_on_bits_is_the_chance_of_a_move(step):
    """Bit `i` leaves 1 if `0 < z_i < step f'_i(x)`, and 0 if `step f'_i(x) < z_i < 0`, the others at `x`."""
    mean, _ = moments(*integrated_on_bits(step, Tangled(), slopes))
    events, masses = outcomes(BITS)
    p = special.expit(BITS)
    expected = np.zeros(3)
    for x, mass, w in zip(events, masses, step * np.asarray(slopes(events)), strict=True):
        others = mass / np.where(x > 0, p, 1 - p)
        up, down = np.maximum(w, 0), np.minimum(w, 0)
        move = np.where(x > 0, special.expit(up - BITS) - (1 - p), special.expit(down - BITS) - (1 - p))
        expected += others * move / step
    np.testing.assert_allclose(mean, expected, rtol=1e-11, atol=1e-14)
    assert np.abs(mean - exact_gradient(BITS, Tangled())).max() > 0.01


def test_mean_on_bits_in_the_limit():
    mean, _ = moments(*integrated_on_bits(1e-7, Tangled(), slopes))
    events, masses = outcomes(BITS)
    p = special.expit(BITS)
    w = np.asarray(slopes(events))
    favourable = np.where(events > 0, np.maximum(w, 0) / p, np.minimum(w, 0) / (1 - p))
    np.testing.assert_allclose(mean, p * (1 - p) * (masses @ favourable), rtol=1e-5)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 1.0])
def test_on_the_classic_toy_the_limit_is_twice_the_gradient(logit):
    noises, weights = cells([logit], [[1.1e-7, -0.9e-7]])
    logits = np.array([logit])
    made = prescribed_estimates(IMLE(step=1e-7), None, logits, noises[:, None], square)[0]
    np.testing.assert_allclose(moments(weights, made)[0], 2 * exact_gradient(logits, square), rtol=1e-5)


def test_outcomes_of_two_argmaxes_have_both_marginals():
    shift = np.array([0.7, -1.5, 0.2])
    for logits in LOGITS:
        joint = np.array([[probability(logits, shift, k, j) for j in range(3)] for k in range(3)])
        np.testing.assert_allclose(joint.sum(axis=1), special.softmax(logits), rtol=1e-12)
        np.testing.assert_allclose(joint.sum(axis=0), special.softmax(logits + shift), rtol=1e-12)


@pytest.mark.parametrize("step", [0.1, 2.0])
def test_on_an_affine_objective_the_mean_is_a_difference_of_means(step):
    weights, made = integrated_on_categories(step, affine, lambda _: -step * 3.0 * WEIGHTS)
    expected = special.softmax(LOGITS, axis=-1) - special.softmax(LOGITS - step * 3.0 * WEIGHTS, axis=-1)
    np.testing.assert_allclose(moments(weights, made)[0], expected / step, rtol=1e-10)


def test_mean_on_categories_in_the_limit():
    """`sum_jk pi_j pi_k max(f'_k - f'_j, 0) (e_k - e_j)`, the slope of each variable at `k` and at the other's draw."""
    mean, _ = moments(*integrated_on_categories(1e-7, entangled, shift(1e-7)))
    pi, expected = special.softmax(LOGITS, axis=-1), np.zeros((2, 3))
    for x in itertools.product(range(3), repeat=2):
        w = np.asarray(slope(np.eye(3)[list(x)]))
        for v, k in enumerate(x):
            rate = pi[0, x[0]] * pi[1, x[1]] * pi[v] * np.maximum(w[v, k] - w[v], 0)
            expected[v, k] += rate.sum()
            expected[v] -= rate
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_drawn_estimates_have_the_mean_of_the_outcomes(key):
    mean, _ = moments(*integrated_on_categories(1.0, entangled, shift(1.0)))
    estimator, dist = IMLE(step=1.0), Categorical(LOGITS)
    drawn = jax.jit(jax.vmap(lambda key: estimator.gradient(key, dist, entangled).logits))(
        jax.random.split(key, 100_000)
    )
    assert_mean_equals(drawn, mean, detects=0.02)
    np.testing.assert_allclose(np.sum(drawn, axis=-1), 0, atol=1e-15)


def test_it_is_black_box_differentiation_of_a_solver_of_perturbed_costs():
    """In the convention of a solver that minimises, at costs `-z`, on noise that neither of them chose."""
    noises, step = np.random.default_rng(0).gumbel(size=(50, 2, 3)), 0.8

    def solve(costs):
        return np.eye(3)[np.argmin(costs, axis=-1)]

    expected = []
    for noise in noises:
        costs = -(LOGITS + noise)
        x = solve(costs)
        in_the_costs = -(x - solve(costs + step * np.asarray(slope(x)))) / step
        expected.append(-in_the_costs)
    np.testing.assert_allclose(estimates(IMLE(step=step), LOGITS, entangled, noises), expected, atol=1e-14)
    assert np.abs(expected).max() > 0


def test_on_an_affine_objective_it_is_direct_loss_minimization_backwards():
    noises = np.random.default_rng(1).gumbel(size=(50, 2, 3))
    pair = [estimates(e, LOGITS, affine, noises) for e in (IMLE(step=0.6), DirectLossMinimization(epsilon=-0.6))]
    np.testing.assert_allclose(*pair, atol=1e-14)
    noises = np.random.default_rng(1).logistic(size=(50, 1, 3))
    pair = [
        prescribed_estimates(e, None, BITS, noises, first_bits)[0]
        for e in (IMLE(step=0.6), DirectLossMinimization(epsilon=-0.6))
    ]
    np.testing.assert_allclose(*pair, atol=1e-14)
    assert np.abs(pair[0]).max() > 1


def test_cost_and_refusals():
    dist = Bernoulli(BITS)
    assert counted_evaluations(IMLE(), dist) == IMLE().evaluations(dist) == 1
    with pytest.raises(ValueError, match="`IMLE` needs `step > 0`, got 0.0"):
        IMLE(step=0.0)
    reason = incompatibility(IMLE(), Normal([0.0], [0.0]), jnp.sum)
    assert reason == "`IMLE` needs an additively perturbed distribution, and `Normal` is not one."
    assert "differentiable" in incompatibility(IMLE(), dist, BlackBox(jnp.sum))
