"""BitFlip-1, summed over every event and every choice of the bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribe, prescribed_estimates

from estimators import Bernoulli, BitFlip1, MeasureValued, Normal, incompatibility

LOGITS = np.array([-1.0, 0.4, 1.3])
P = 1 / (1 + np.exp(-LOGITS))


@jax.jit
def estimates(logits, events, keys):
    """The estimate that each of `events` makes with each of `keys`."""

    def one(event, key):
        return BitFlip1().gradient(key, prescribe(logits, event[None]), Tangled()).logits

    return jax.vmap(lambda event: jax.vmap(lambda key: one(event, key))(keys))(events)


@functools.cache
def positions():
    """Which of forty keys have the first, the second and the third bit chosen: found by looking, at an event where each
    matters."""
    nonzero = np.asarray(estimates(LOGITS, jnp.ones((1, 3)), jax.random.split(jax.random.key(5), 40)))[0] != 0
    assert np.all(nonzero.sum(axis=1) == 1)
    return nonzero.argmax(axis=0)


def choosing_each():
    """One key for each bit, which has it chosen."""
    return jax.random.split(jax.random.key(5), 40)[positions()]


def summed(logits):
    """Probabilities and estimates, for every event and bit."""
    events, probabilities = outcomes(logits)
    found = np.asarray(estimates(logits, events, choosing_each()))
    return np.repeat(probabilities, 3) / 3, found.reshape(-1, 3)


def differences(events):
    """What each bit makes of `Tangled`, in each event."""
    f, unit = jax.vmap(Tangled()), np.eye(3)
    return np.stack([f(np.maximum(events, e)) - f(events * (1 - e)) for e in unit], axis=1)


@pytest.mark.parametrize("logits", [LOGITS, np.array([-10.0, 10.0, 0.0])], ids=["moderate", "extreme"])
def test_mean_and_variance_over_all_events_and_bits(logits):
    """Mean: the gradient. Second moment: `D (p (1 - p))^2 E[difference^2]`."""
    mean, variance = moments(*summed(logits))
    exact = exact_gradient(logits, Tangled())
    np.testing.assert_allclose(mean, exact, rtol=1e-10)
    events, probabilities = outcomes(logits)
    p = 1 / (1 + np.exp(-logits))
    second = 3 * (p * (1 - p)) ** 2 * (probabilities @ differences(events) ** 2)
    np.testing.assert_allclose(variance, second - exact**2, rtol=1e-9)


def test_the_mean_over_the_bits_is_the_measure_valued_gradient():
    events, _ = outcomes(LOGITS)
    flips = np.asarray(estimates(LOGITS, events, choosing_each())).mean(axis=1)
    every, _ = prescribed_estimates(MeasureValued(), None, LOGITS, events[:, None], Tangled())
    np.testing.assert_allclose(flips, every, rtol=1e-12)


def test_the_chosen_bit_of_the_event_does_not_matter():
    events, _ = outcomes(LOGITS)
    found = np.asarray(estimates(LOGITS, events, choosing_each()))
    for i in range(3):
        flipped = np.asarray(estimates(LOGITS, np.abs(events - np.eye(3)[i]), choosing_each()))
        np.testing.assert_array_equal(found[:, i], flipped[:, i])


def test_the_bit_is_chosen_uniformly_and_independently_of_the_event(key):
    """By the event itself, which an objective shows: each event with each bit as often as it should be."""
    dist = Bernoulli(LOGITS)

    def code(x):
        return 1 + jnp.vdot(x, jnp.array([1.0, 2.0, 4.0]))

    @jax.jit
    def run(key):
        grads = BitFlip1().gradient(key, dist, lambda x: code(x) ** 2)
        return grads.logits / (3 * P * (1 - P))

    found = np.asarray(jax.vmap(run)(jax.random.split(key, 60_000)))
    # `(c + w)^2 - c^2 = 2 c w + w^2`, where `c` is the code with the bit `i` unset and `w` its weight.
    chosen, weight = np.abs(found).argmax(axis=1), 2.0 ** np.arange(3)
    rest = (found.sum(axis=1) - weight[chosen] ** 2) / (2 * weight[chosen])
    seen, expected = [], []
    for i in range(3):
        others = [j for j in range(3) if j != i]
        for a, b in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            target = 1 + a * weight[others[0]] + b * weight[others[1]]
            seen.append((chosen == i) & np.isclose(rest, target))
            expected.append(np.prod([P[j] if v else 1 - P[j] for j, v in zip(others, (a, b), strict=True)]) / 3)
    assert_mean_equals(np.stack(seen, axis=1), np.array(expected), detects=0.02)


@jax.jit
def quadratic(logits):
    """An estimate for the square of the distance of the sum from 0.45."""
    return BitFlip1().gradient(jax.random.key(3), Bernoulli(logits), lambda x: (jnp.sum(x) - 0.45) ** 2).logits


def test_one_bit_has_its_exact_gradient():
    p = 1 / (1 + np.exp(-0.7))
    np.testing.assert_allclose(quadratic(np.array([[0.7]])), [[p * (1 - p) * (0.55**2 - 0.45**2)]], rtol=1e-12)


def test_bits_of_any_shape_are_those_of_a_row():
    np.testing.assert_array_equal(quadratic(LOGITS.reshape(3, 1))[:, 0], quadratic(LOGITS))


def test_it_costs_two_evaluations_and_needs_bits():
    dist = Bernoulli(logits=LOGITS)
    assert counted_evaluations(BitFlip1(), dist) == BitFlip1().evaluations(dist) == 2
    reason = incompatibility(BitFlip1(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`BitFlip1` needs a `Bernoulli` distribution, and `Normal` is not one."
