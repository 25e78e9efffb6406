"""Baselines without memory, summed over all that they could have drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import (
    OneBit,
    Tangled,
    counted_evaluations,
    exact_gradient,
    moments,
    outcomes,
    prescribed_estimates,
    tuples,
)
from prescribed_categorical import (
    categorical_estimates,
    exact_gradient as categorical_gradient,
    outcomes as categorical_outcomes,
    tied,
)

from estimators import Bernoulli, BlackBox, Categorical, LeaveOneOut, Normal, ScoreFunction, incompatibility
from estimators.fixed_baselines import ConstantBaseline, ExactMeanBaseline, SelfCritical, TwoSampleBaseline, mode

LOGITS = np.array([-1.0, 0.4, 1.3])
ALL = [ConstantBaseline(0.7), ExactMeanBaseline(), TwoSampleBaseline(), SelfCritical()]

each = pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)


def drawn(estimator):
    return 2 if isinstance(estimator, TwoSampleBaseline | LeaveOneOut) else 1


def enumerated(estimator, logits, f):
    """Probabilities and estimates of every sample, or pair of samples."""
    events, probabilities = outcomes(logits)
    indices, weights = tuples(probabilities, drawn(estimator))
    keys = jax.random.split(jax.random.key(0), drawn(estimator))
    return weights, np.asarray(prescribed_estimates(estimator, None, logits, events[indices], f, keys)[0])


@each
def test_the_mean_over_all_samples_is_the_gradient(estimator):
    mean, _ = moments(*enumerated(estimator, LOGITS, Tangled()))
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11, atol=1e-13)


@each
def test_the_mean_over_all_one_hot_samples_is_the_gradient(estimator):
    events, probabilities = categorical_outcomes()
    indices, weights = tuples(probabilities, drawn(estimator))
    keys = jax.random.split(jax.random.key(0), drawn(estimator))
    mean, _ = moments(weights, categorical_estimates(estimator.gradient, events[indices], tied, keys))
    np.testing.assert_allclose(mean, categorical_gradient(tied), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_closed_form_variances_on_one_bit(p):
    at_zero, at_one, v, logits = 0.3, -1.1, p * (1 - p), np.log([p / (1 - p)])
    f, exchanged = OneBit(at_zero, at_one), (1 - p) * at_one + p * at_zero
    for estimator, expected in [
        (ConstantBaseline(0.7), v * (exchanged - 0.7) ** 2),
        (ConstantBaseline(exchanged), 0.0),
        (ExactMeanBaseline(), v * (1 - 2 * p) ** 2 * (at_one - at_zero) ** 2),
        (SelfCritical(), v * (exchanged - (at_one if p > 0.5 else at_zero)) ** 2),
    ]:
        _, variance = moments(*enumerated(estimator, logits, f))
        np.testing.assert_allclose(variance, [expected], rtol=1e-11, atol=1e-30)


def test_the_exact_mean_can_be_worse_than_no_baseline():
    logits, f = np.log([0.1 / 0.9]), OneBit(0.9, -0.1)
    (_, plain), (_, oracle) = (moments(*enumerated(e, logits, f)) for e in (ScoreFunction(), ExactMeanBaseline()))
    np.testing.assert_allclose([plain, oracle], [[0.0], [0.09 * 0.8**2]], rtol=1e-11, atol=1e-30)


def test_every_baseline_that_is_a_number_is_a_constant_baseline():
    events, probabilities = outcomes(LOGITS)
    values = np.asarray(jax.vmap(Tangled())(events))
    for estimator, baseline in [
        (ScoreFunction(), 0.0),
        (ExactMeanBaseline(), probabilities @ values),
        (SelfCritical(), float(Tangled()(jnp.array([0.0, 1.0, 1.0])))),
    ]:
        _, expected = enumerated(ConstantBaseline(baseline), LOGITS, Tangled())
        np.testing.assert_allclose(enumerated(estimator, LOGITS, Tangled())[1], expected, rtol=1e-10, atol=1e-14)


def test_the_mean_over_both_orders_of_a_pair_is_leave_one_out():
    weights, ordered = enumerated(TwoSampleBaseline(), LOGITS, Tangled())
    _, both = enumerated(LeaveOneOut(2), LOGITS, Tangled())
    grid = ordered.reshape(8, 8, 3)
    np.testing.assert_allclose((grid + grid.swapaxes(0, 1)).reshape(-1, 3) / 2, both, rtol=1e-11, atol=1e-15)
    assert np.all(moments(weights, ordered)[1] > moments(weights, both)[1])


def test_the_mode_is_the_most_probable_event():
    @jax.jit
    @jax.vmap
    def found(dist):
        events = dist.support()
        return mode(dist), events[jnp.argmax(jax.vmap(dist.log_prob)(events))]

    rng = np.random.default_rng(0)
    for family, shape in [(Bernoulli, (3,)), (Categorical, (2, 3))]:
        np.testing.assert_array_equal(*found(family(3 * rng.normal(size=(20, *shape)))))
    np.testing.assert_array_equal(mode(Categorical(jnp.array([-1.0, 2.0, 2.0]))), [0, 1, 0])


@each
def test_declared_evaluations_are_the_calls_of_f(estimator):
    dist = Bernoulli(LOGITS)
    expected = 9 if isinstance(estimator, ExactMeanBaseline) else drawn(estimator) + isinstance(estimator, SelfCritical)
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == expected


@each
def test_values_on_the_support_are_enough(estimator):
    """Of a black box; and a distribution that lacks the support or the mode is refused."""
    assert incompatibility(estimator, Bernoulli(LOGITS), BlackBox(jnp.sum)) is None
    refusal = incompatibility(estimator, Normal([0.0], [0.0]), BlackBox(jnp.sum)) or ""
    need = {
        ExactMeanBaseline: "needs an enumerable distribution",
        SelfCritical: "needs an additively perturbed distribution",
    }
    assert need.get(type(estimator), "") in refusal and bool(refusal) == (type(estimator) in need)
