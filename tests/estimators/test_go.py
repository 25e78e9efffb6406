"""GO, summed over everything that it draws: the event."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counts import ALL, BERNOULLI, CATEGORICAL, POISSON, leaf, outcomes, prescribed, tangled, truth
from prescribed import counted_evaluations, moments

from estimators import GO, Bernoulli, Categorical, Geometric, MeasureValued, Normal, Poisson, incompatibility
from estimators.go import times

families = pytest.mark.parametrize("dist", ALL, ids=lambda dist: type(dist).__name__)


def assert_unbiased(estimator, dist):
    events, probabilities, draws = outcomes(dist)
    mean, _ = moments(probabilities, leaf(prescribed(estimator, dist, tangled, draws)))
    exact = leaf(truth(dist, tangled, events))
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(mean, exact, rtol=1e-10, atol=1e-12)


@families
def test_the_mean_over_all_events_is_the_gradient(dist):
    assert_unbiased(GO(), dist)


class Backward(GO):
    """Wrong on purpose: the rate of the next value with the difference to the one before."""

    def gradient(self, key, dist, f):
        x = dist.sample(key)
        differences = f(x) - jax.vmap(f)(dist.neighbours(x, -1).reshape(-1, *x.shape))
        return times(dist.rise(x), differences)


class InProbabilities(GO):
    """Wrong on purpose: for Poisson variables, a gradient in the rate."""

    def gradient(self, key, dist, f):
        return Poisson(GO.gradient(self, key, dist, f).log_rate / dist.mean())


@pytest.mark.parametrize("wrong", [Backward(), InProbabilities()], ids=lambda wrong: type(wrong).__name__)
def test_wrong_differences_and_factors_are_rejected(wrong):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(wrong, POISSON)


def test_for_poisson_variables_it_is_the_measure_valued_derivative():
    """Estimate by estimate; one evaluation fewer for each variable but the first."""

    @jax.jit
    def both(seed):
        return [e.gradient(jax.random.key(seed), POISSON, tangled).log_rate for e in (GO(), MeasureValued())]

    for seed in range(3):
        np.testing.assert_allclose(*both(seed), rtol=1e-12)
    assert (GO().evaluations(POISSON), MeasureValued().evaluations(POISSON)) == (3, 4)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_closed_form_variance_on_one_bit(p):
    """In the logit; in the probability it is `D^2 p / (1 - p)`."""
    dist, difference = Bernoulli(np.log([p / (1 - p)])), -1.4
    _, probabilities, draws = outcomes(dist)
    mean, variance = moments(probabilities, leaf(prescribed(GO(), dist, lambda x: 0.3 + difference * x[0], draws)))
    np.testing.assert_allclose(mean, [p * (1 - p) * difference], rtol=1e-12)
    np.testing.assert_allclose(variance, [(p * (1 - p) * difference) ** 2 * p / (1 - p)], rtol=1e-11)


def test_no_variance_where_rates_and_differences_are_constant():
    """A linear function of Poisson counts; for geometric ones the estimate is `-(x + 1) (1 - p)` times the slope."""
    grads = prescribed(GO(), POISSON, lambda x: 2 * x[0] - x[1], outcomes(POISSON)[2])
    np.testing.assert_allclose(grads.log_rate, np.tile(np.exp(POISSON.log_rate) * [2, -1], (len(grads.log_rate), 1)))
    dist = Geometric(np.array([0.7]))
    events, _, draws = outcomes(dist)
    grads = prescribed(GO(), dist, lambda x: 3 * x[0], draws)
    np.testing.assert_allclose(grads.logits, -3 * (events + 1) / (1 + np.exp(0.7)), rtol=1e-12)


def test_two_categories_are_a_bit():
    """Estimate by estimate in the second logit, and the negative of it in the first."""
    logit, table = 0.6, jnp.array([0.3, -1.1])
    pair, bit = Categorical(np.array([0.0, logit])), Bernoulli(np.array([logit]))
    of_pair = leaf(prescribed(GO(), pair, lambda x: x @ table, outcomes(pair)[2]))
    of_bit = leaf(prescribed(GO(), bit, lambda x: table[0] + x[0] * (table[1] - table[0]), outcomes(bit)[2]))
    order = np.argsort(outcomes(pair)[0][:, 1])
    np.testing.assert_allclose(of_pair[order], np.concatenate([-of_bit, of_bit], axis=1), rtol=1e-12, atol=1e-15)


def test_the_order_of_the_categories_changes_the_estimate_and_not_the_mean():
    """Reversed, the variance is another; no order is right."""
    logits, table = np.array([0.3, -1.0, 0.8]), jnp.array([0.3, -1.2, 2.0])
    found = []
    for order in (slice(None), slice(None, None, -1)):
        dist = Categorical(logits[order])
        _, probabilities, draws = outcomes(dist)
        grads = leaf(prescribed(GO(), dist, lambda x, order=order: x @ table[order], draws))
        found.append([part[order] for part in moments(probabilities, grads)])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-11)
    assert not np.allclose(found[0][1], found[1][1], rtol=0.1)


def test_gradients_of_categorical_variables_sum_to_zero():
    """Over the categories of each variable: a shift of its logits changes nothing."""
    grads = leaf(prescribed(GO(), CATEGORICAL, tangled, outcomes(CATEGORICAL)[2]))
    np.testing.assert_allclose(grads.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("dist, evaluations", [(BERNOULLI, 4), (CATEGORICAL, 3)], ids=["Bernoulli", "Categorical"])
def test_declared_evaluations_are_the_calls_of_f(dist, evaluations):
    assert counted_evaluations(GO(), dist) == GO().evaluations(dist) == evaluations


def test_a_constant_is_never_seen():
    for dist in (BERNOULLI, CATEGORICAL):
        grads = leaf(prescribed(GO(), dist, lambda x: jnp.asarray(-123.4), outcomes(dist)[2]))
        np.testing.assert_array_equal(grads, 0)


def test_continuous_variables_are_refused():
    reason = incompatibility(GO(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`GO` needs an ordered distribution, and `Normal` is not one."
