"""Gapped straight-through: a sum over events, since the event is all that is random in it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import counted_evaluations, moments
from scipy import integrate, special

from estimators import Bernoulli, BlackBox, Categorical, GappedStraightThrough, StraightThrough, incompatibility
from estimators.gapped_st import expected_gap, gapped

LOGITS = np.array([[0.5, -1.2, 0.9], [2.0, 0.0, -0.4]])
EXTREME = np.array([[-10.0, 0.0, 10.0], [10.0, 10.0, -10.0]])
GAPS = [0.0, 1.0, None]


class PrescribedCategorical(Categorical):
    """Categorical variables whose event is given."""

    event: Float[Array, "*variables categories"]

    def sample(self, key):
        del key
        return self.event


class MovesTheWinnerUp(GappedStraightThrough):
    """Wrong on purpose: the event gets its lead by being raised, and nothing else is lowered."""

    def gradient(self, key, dist, f):
        x, logits = dist.sample(key), dist.log_probs
        moved = jnp.where(x > 0, jnp.max(logits, axis=-1, keepdims=True) + self.gap, logits)
        return Categorical(jax.vjp(lambda z: dist.relax(z, self.temperature), moved)[1](jax.grad(f)(x))[0])


def interaction(x):
    """Not separable, and with a derivative that differs from event to event."""
    weights = jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype))
    s = jnp.vdot(weights, x.ravel())
    return jnp.sin(1 + 2 * s) + 0.7 * s**3


def interaction_slope(x):
    """The derivative of `interaction`, in NumPy."""
    weights = np.cos(np.arange(1, x.size + 1)).reshape(x.shape)
    s = np.sum(weights * x)
    return weights * (2 * np.cos(1 + 2 * s) + 2.1 * s**2)


@eqx.filter_jit
def estimates(estimator, logits, events):
    """The estimate at each of the events."""

    def one(event):
        return estimator.gradient(jax.random.key(0), PrescribedCategorical(logits, event), interaction).logits

    return jax.vmap(one)(events)


def over_events(estimator, logits):
    """Probabilities of all events, and estimates there."""
    dist = Categorical(logits)
    return np.exp(jax.vmap(dist.log_prob)(dist.support())), np.asarray(estimates(estimator, logits, dist.support()))


def by_hand(logits, x, gap, temperature):
    """The estimate at the event `x`, variable by variable and category by category."""
    slope, grads = interaction_slope(x), np.zeros(logits.shape)
    for i, row in enumerate(logits):
        winner, pi = int(np.argmax(x[i])), special.softmax(row)
        lead = -np.log1p(-pi[winner]) / pi[winner] if gap is None else gap
        moved = [row.max() if j == winner else min(row[j], row.max() - lead) for j in range(len(row))]
        y = special.softmax(np.array(moved) / temperature)
        for j in range(len(row)):
            grads[i, j] = sum(slope[i, k] * y[k] * ((j == k) - y[j]) for k in range(len(row))) / temperature
    return grads


def assert_equals_the_formula(estimator, gap):
    _, found = over_events(estimator, LOGITS)
    support = np.asarray(Categorical(LOGITS).support())
    expected = [by_hand(LOGITS, x, gap, float(estimator.temperature)) for x in support]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("gap", GAPS)
def test_every_estimate_is_the_formula(gap):
    for temperature in (0.3, 1.0):
        assert_equals_the_formula(GappedStraightThrough(temperature=temperature, gap=gap), gap)


def test_raising_the_winner_alone_is_rejected():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_equals_the_formula(MovesTheWinnerUp(gap=1.0), 1.0)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("logit", [-2.0, -0.3, 1.1])
def test_the_mean_for_two_categories_is_a_closed_form(gap, logit):
    """The lead is the gap for the less probable event, and the logits' own if that is larger for the other."""
    temperature, p = 0.6, special.expit(logit)
    logits = np.array([[logit, 0.0]])
    mean, _ = moments(*over_events(GappedStraightThrough(temperature=temperature, gap=gap), logits))
    expected = 0.0
    for winner, probability in enumerate([p, 1 - p]):
        lead = -np.log1p(-probability) / probability if gap is None else gap
        if probability > 0.5:
            lead = max(lead, abs(logit))
        slope = interaction_slope(np.eye(2)[winner][None])[0]
        y = special.expit(lead / temperature)
        expected += probability * y * (1 - y) / temperature * (slope[0] - slope[1])
    np.testing.assert_allclose(mean, [[expected, -expected]], rtol=1e-12)


def test_without_a_gap_the_mode_gives_straight_through():
    mode = np.eye(3)[np.argmax(LOGITS, axis=-1)][None]
    pair = [estimates(e, LOGITS, jnp.asarray(mode)) for e in (GappedStraightThrough(gap=0.0), StraightThrough())]
    np.testing.assert_allclose(*pair, rtol=1e-12)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.7])
def test_the_expected_gap_is_the_mean_lead_of_the_winner_under_gumbel_noise(logit):
    """The two parts of the logits of the event and of all the others are Gumbel, and their difference logistic."""
    p = special.expit(logit)
    lead, _ = integrate.quad(lambda z: z * special.expit(z - logit) * special.expit(logit - z), 0, 60, epsabs=1e-13)
    others = np.log((1 - p) * np.array([0.7, 0.3]))
    log_probs = jnp.array([others[0], np.log(p), others[1]])
    np.testing.assert_allclose(expected_gap(log_probs, jnp.array([0.0, 1.0, 0.0])), [lead / p], rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_expected_gap_of_sure_and_of_impossible_events(dtype):
    for logit, gap in [(-200.0, 1.0), (-45.0, 1.0), (-20.0, 1.0), (20.0, 20.0), (200.0, 200.0)]:
        log_probs = jax.nn.log_softmax(jnp.array([logit, 0.0], dtype))
        found = expected_gap(log_probs, jnp.array([1.0, 0.0], dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, [gap], rtol=1e-6)


def test_the_moved_logits_have_the_event_as_their_argmax_and_are_moved_no_more_than_that_takes():
    dist = Categorical(EXTREME)
    for x in dist.support():
        moved, top = np.asarray(gapped(dist.logits, x, jnp.array(1.5))), np.max(EXTREME, axis=-1, keepdims=True)
        others = np.asarray(x) == 0
        np.testing.assert_array_equal(moved[~others], top[:, 0])
        np.testing.assert_array_equal(moved[others], np.minimum(EXTREME, top - 1.5)[others])
        np.testing.assert_array_equal(gapped(jnp.asarray(moved), x, jnp.array(1.5)), moved)


@pytest.mark.parametrize("gap", GAPS)
def test_single_precision_is_right_at_extreme_logits_and_low_temperature(gap):
    """To what is lost in logits of size 20 divided by 0.05."""
    estimator, support = GappedStraightThrough(temperature=0.05, gap=gap), Categorical(EXTREME).support()
    _, double = over_events(estimator, EXTREME)
    single = estimates(estimator, jnp.asarray(EXTREME, jnp.float32), support.astype(jnp.float32))
    assert single.dtype == jnp.float32 and np.all(np.isfinite(single))
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-5)


def test_declared_evaluations_are_the_calls_of_f():
    dist = Categorical(LOGITS)
    for gap in (1.0, None):
        assert counted_evaluations(GappedStraightThrough(gap=gap), dist) == 1


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`GappedStraightThrough` needs `temperature > 0`, got 0.0"):
        GappedStraightThrough(temperature=0.0)
    with pytest.raises(
        ValueError, match="`GappedStraightThrough` needs `gap >= 0`, got -1.0; give a number, or `None`"
    ):
        GappedStraightThrough(gap=-1.0)
    assert "needs a `Categorical`" in incompatibility(GappedStraightThrough(), Bernoulli([0.0]), jnp.sum)
    assert "differentiable" in incompatibility(GappedStraightThrough(), Categorical(LOGITS), BlackBox(jnp.sum))
