"""Direct loss minimisation: its mean is a finite difference, proved by summing over the outcomes of its noise."""

import itertools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from moves import cells, estimates, outcomes_of_two_argmaxes
from prescribed import OneBit, Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from scipy import special

from estimators import Bernoulli, BlackBox, Categorical, DirectLossMinimization, Normal, incompatibility
from estimators.direct_loss import gains

BITS = np.array([-1.0, 0.4, 1.3])
LOGITS = np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])
VALUES = np.random.RandomState(0).standard_normal((3, 3))


class Table(eqx.Module):
    """Any function of two categories: its nine values."""

    values: jnp.ndarray

    def __call__(self, x):
        return x[0] @ self.values @ x[1]


class Cut(eqx.Module):
    """A function of three bits with values on the support only."""

    f: Tangled

    def __call__(self, x):
        return jnp.where(jnp.all((x == 0) | (x == 1)), self.f(x), jnp.nan)


def tangled(x):
    return np.sin(1 + 2 * x[0] + 3 * x[1] * x[2]) + x[0] * x[1] - 0.7 * x[2]


def difference(x, i):
    """What `tangled` gains when bit `i` is set."""
    one, zero = np.array(x), np.array(x)
    one[i], zero[i] = 1, 0
    return tangled(one) - tangled(zero)


def integrated_on_bits(epsilon):
    gained = np.array([[difference(x, i) for x in outcomes(BITS)[0]] for i in range(3)])
    noises, weights = cells(BITS, -epsilon * gained)
    estimator = DirectLossMinimization(epsilon=epsilon)
    return weights, np.asarray(prescribed_estimates(estimator, None, BITS, noises[:, None], Cut(Tangled()))[0])


def shift(epsilon, values):
    def of(categories):
        return epsilon * np.stack([values[:, categories[1]], values[categories[0]]])

    return of


def finite_difference(epsilon, values):
    """`E[softmax(logits + epsilon F(x)) - softmax(logits)] / epsilon`, `F` the values at every category in turn."""
    pi, total = special.softmax(LOGITS, axis=-1), np.zeros((2, 3))
    for x in itertools.product(range(3), repeat=2):
        moved = special.softmax(LOGITS + shift(epsilon, values)(x), axis=-1)
        total += pi[0, x[0]] * pi[1, x[1]] * (moved - pi) / epsilon
    return total


@pytest.mark.parametrize("epsilon", [1.0, -0.5, 4.0])
def test_mean_on_bits_is_a_finite_difference_of_sigmoids(epsilon):
    mean, _ = moments(*integrated_on_bits(epsilon))
    events, masses = outcomes(BITS)
    expected = np.zeros(3)
    for x, mass in zip(events, masses, strict=True):
        for i in range(3):
            step = epsilon * difference(x, i)
            expected[i] += mass * (special.expit(BITS[i] + step) - special.expit(BITS[i])) / epsilon
    np.testing.assert_allclose(mean, expected, rtol=1e-11, atol=1e-14)
    assert np.abs(mean - exact_gradient(BITS, Tangled())).max() > 0.01


@pytest.mark.parametrize("epsilon", [1.0, -2.0])
def test_mean_on_categories_is_a_finite_difference_of_softmaxes(epsilon):
    noises, weights = outcomes_of_two_argmaxes(LOGITS, shift(epsilon, VALUES))
    made = estimates(DirectLossMinimization(epsilon=epsilon), LOGITS, Table(VALUES), noises)
    np.testing.assert_allclose(moments(weights, made)[0], finite_difference(epsilon, VALUES), rtol=1e-10, atol=1e-13)


def test_bias_vanishes_in_proportion_to_epsilon():
    truth = exact_gradient(BITS, Tangled())
    bias = [moments(*integrated_on_bits(epsilon))[0] - truth for epsilon in (1e-4, 1e-5)]
    np.testing.assert_allclose(bias[0], 10 * bias[1], rtol=1e-3)
    assert 0 < np.abs(bias[1]).max() < 1e-5


@pytest.mark.parametrize("epsilon, gain", [(0.5, 2.0), (0.5, -2.0), (-3.0, 0.4)])
def test_variance_on_one_bit_is_that_of_a_rare_move(epsilon, gain):
    """The bit moves with probability `|sigmoid(logit + epsilon gain) - p|`, by `1 / epsilon`."""
    noises, weights = cells([-0.7], [[-epsilon * gain]])
    estimator = DirectLossMinimization(epsilon=epsilon)
    made = prescribed_estimates(estimator, None, np.array([-0.7]), noises[:, None], OneBit(0.3, 0.3 + gain))[0]
    mean, variance = moments(weights, made)
    move = special.expit(-0.7 + epsilon * gain) - special.expit(-0.7)
    np.testing.assert_allclose(mean, [move / epsilon], rtol=1e-12)
    np.testing.assert_allclose(variance, [(abs(move) - move**2) / epsilon**2], rtol=1e-12)


def test_the_estimate_never_sees_a_constant():
    noises = np.random.default_rng(0).logistic(size=(50, 1, 3))
    pair = [
        prescribed_estimates(DirectLossMinimization(), None, BITS, noises, Tangled(shift=shift))[0] for shift in (0, 7)
    ]
    np.testing.assert_array_equal(*pair)
    assert np.abs(pair[0]).max() > 0


def test_switched_bits_are_flipped_one_by_one():
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    switched = np.asarray(Bernoulli(np.zeros((2, 2))).switched(jnp.array(x)))
    for i, j in itertools.product(range(2), repeat=2):
        expected = x.copy()
        expected[i, j] = 1 - x[i, j]
        np.testing.assert_array_equal(switched[i, j], expected)


def test_switched_variables_are_at_each_category_in_turn():
    x = np.eye(3)[[[2, 0], [1, 1]]]
    switched = np.asarray(Categorical(np.zeros((2, 2, 3))).switched(jnp.array(x)))
    for i, j, c in itertools.product(range(2), range(2), range(3)):
        expected = x.copy()
        expected[i, j] = np.eye(3)[c]
        np.testing.assert_array_equal(switched[i, j, c], expected)


def test_gains_are_differences_of_values():
    x = jnp.eye(3)[jnp.array([2, 0])]
    made = np.asarray(gains(Categorical(LOGITS), x, Table(VALUES)))
    np.testing.assert_allclose(made, np.stack([VALUES[:, 0], VALUES[2]]) - VALUES[2, 0], atol=1e-14)
    bits = jnp.array([1.0, 0.0, 1.0])
    made = gains(Bernoulli(BITS), bits, Tangled())
    np.testing.assert_allclose(made, [difference(bits, i) for i in range(3)], atol=1e-14)


@pytest.mark.parametrize("dist", [Bernoulli(BITS), Categorical(LOGITS)], ids=lambda dist: type(dist).__name__)
def test_declared_evaluations_are_the_calls_of_f(dist):
    estimator = DirectLossMinimization()
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1 + dist.logits.size


def test_what_does_not_fit_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="`DirectLossMinimization` needs `epsilon != 0`, got 0.0"):
        DirectLossMinimization(epsilon=0.0)
    reason = incompatibility(DirectLossMinimization(), Normal([0.0], [0.0]), jnp.sum)
    assert "needs an additively perturbed distribution" in reason
    assert incompatibility(DirectLossMinimization(), Bernoulli(BITS), BlackBox(jnp.sum)) is None
