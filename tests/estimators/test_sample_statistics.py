"""Group-normalised advantages, estimated coefficients and VarGrad, summed over all the samples that they could have drawn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import (
    OneBit,
    counted_evaluations,
    exact_gradient,
    moments,
    outcomes,
    prescribed_estimates,
    tuples,
)

from benchmarks.problems import PROBLEMS, mismatch
from estimators import (
    AbstractDistribution,
    AbstractLogWeight,
    Bernoulli,
    BlackBox,
    LeaveOneOut,
    Normal,
    ScoreFunction,
    incompatibility,
)
from estimators.sample_statistics import EstimatedCoefficient, GroupNormalizedAdvantage, VarGrad

LOGITS = np.array([-1.0, 0.6])


def two_bits(x):
    """Not separable."""
    return jnp.sin(1.0 + 2.0 * x[0]) + 1.5 * x[0] * x[1] - 0.7 * x[1]


def keys_of(estimator):
    """The keys by which an estimator with the key 0 draws."""
    if isinstance(estimator, EstimatedCoefficient):
        samples, pilots = jax.random.split(jax.random.key(0))
        split = jax.random.split(samples, estimator.num_samples), jax.random.split(pilots, estimator.num_pilots)
        return jnp.concatenate(split)
    return jax.random.split(jax.random.key(0), estimator.num_samples)


def enumerated(estimator, logits, f):
    """Draws, probabilities and estimates, for every tuple of samples (and pilots after them)."""
    events, probabilities = outcomes(logits)
    keys = keys_of(estimator)
    indices, weights = tuples(probabilities, len(keys))
    return (
        events[indices],
        weights,
        np.asarray(prescribed_estimates(estimator, None, logits, events[indices], f, keys)[0]),
    )


def values_and_scores(draws, logits, f):
    """`f` and the score, by NumPy, of draws stacked along two axes."""
    return np.asarray(jax.jit(jax.vmap(jax.vmap(f)))(jnp.array(draws))), draws - 1 / (1 + np.exp(-logits))


# Group-normalised advantages


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_normalised_advantages_are_the_formula(samples):
    draws, _, estimates = enumerated(GroupNormalizedAdvantage(samples, epsilon=0.1), LOGITS, two_bits)
    values, scores = values_and_scores(draws, LOGITS, two_bits)
    advantages = (values - values.mean(axis=1, keepdims=True)) / (values.std(axis=1, ddof=1, keepdims=True) + 0.1)
    np.testing.assert_allclose(estimates, np.mean(advantages[..., None] * scores, axis=1), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_the_mean_of_two_normalised_samples_knows_only_the_sign(p):
    for step in (3.0, 1e-3, -1.0):
        f, logits = OneBit(0.4, 0.4 + step), np.log([p / (1 - p)])
        _, weights, estimates = enumerated(GroupNormalizedAdvantage(2, epsilon=1e-12), logits, f)
        expected = p * (1 - p) * np.sign(step) / np.sqrt(2)
        np.testing.assert_allclose(moments(weights, estimates)[0], [expected], rtol=1e-8)


def test_the_mean_of_four_normalised_samples_is_a_known_number():
    """0.297 at p = 0.3 where the gradient is 0.42; a deviation that divides by `n` would make it 0.343."""
    _, weights, estimates = enumerated(
        GroupNormalizedAdvantage(4, epsilon=1e-12), np.log([0.3 / 0.7]), OneBit(0.0, 2.0)
    )
    np.testing.assert_allclose(moments(weights, estimates)[0], [0.29727516092], rtol=1e-9)


def test_the_mean_points_elsewhere_and_does_not_scale_with_f():
    _, weights, estimates = enumerated(GroupNormalizedAdvantage(3), LOGITS, two_bits)
    mean, truth = moments(weights, estimates)[0], exact_gradient(LOGITS, two_bits)
    assert abs(mean[0] * truth[1] - mean[1] * truth[0]) > 0.1 * np.linalg.norm(mean) * np.linalg.norm(truth)
    _, _, scaled = enumerated(GroupNormalizedAdvantage(3, epsilon=1e-3), LOGITS, lambda x: 1e3 * two_bits(x))
    np.testing.assert_allclose(scaled, estimates, rtol=1e-9, atol=1e-15)


def test_equal_values_give_zero_and_one_among_equals_does_not_explode():
    """Three equal numbers, whose mean need not be the number in floating point."""
    _, _, estimates = enumerated(GroupNormalizedAdvantage(3), LOGITS, lambda x: 0 * x[0] - 7.3)
    np.testing.assert_array_equal(estimates, 0.0)
    _, _, estimates = enumerated(GroupNormalizedAdvantage(4), np.array([-3.0]), OneBit(0.0, 1.0))
    assert np.abs(estimates).max() < 1.0


# Estimated coefficients


@pytest.mark.parametrize(("samples", "pilots"), [(1, 2), (2, 2), (1, 3), (1, 5)])
def test_the_mean_with_an_estimated_coefficient_is_the_gradient(samples, pilots):
    _, weights, estimates = enumerated(EstimatedCoefficient(samples, pilots), LOGITS, two_bits)
    mean, _ = moments(weights, estimates)
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, two_bits), rtol=1e-11, atol=1e-13)


def coefficients(values, scores):
    """Ratios of sample covariances, by NumPy; zero where the scores are equal."""
    products = values[..., None] * scores
    centred = scores - scores.mean(axis=1, keepdims=True)
    variance = np.sum(centred**2, axis=1)
    different = np.ptp(scores, axis=1) > 0
    covariance = np.sum(centred * (products - products.mean(axis=1, keepdims=True)), axis=1)
    return np.where(different, covariance / np.where(different, variance, 1), 0)


def test_the_coefficient_is_the_ratio_of_the_pilots_covariances():
    draws, _, estimates = enumerated(EstimatedCoefficient(2, 3), LOGITS, two_bits)
    values, scores = values_and_scores(draws, LOGITS, two_bits)
    a = coefficients(values[:, 2:], scores[:, 2:])
    expected = np.mean((values[:, :2, None] - a[:, None]) * scores[:, :2], axis=1)
    np.testing.assert_allclose(estimates, expected, rtol=1e-9, atol=1e-13)


def test_a_coefficient_from_the_own_samples_would_be_biased():
    draws, weights, _ = enumerated(LeaveOneOut(3), LOGITS, two_bits)
    values, scores = values_and_scores(draws, LOGITS, two_bits)
    a = coefficients(values, scores)
    mean, _ = moments(weights, np.mean((values[..., None] - a[:, None]) * scores, axis=1))
    assert np.all(np.abs(mean / exact_gradient(LOGITS, two_bits) - 1) > 0.1)


def test_equal_pilots_leave_the_score_function():
    """Three equal numbers, whose mean need not be the number in floating point."""
    draws, _, estimates = enumerated(EstimatedCoefficient(1, 3), LOGITS, two_bits)
    values, scores = values_and_scores(draws, LOGITS, two_bits)
    equal = np.ptp(draws[:, 1:], axis=1) == 0
    assert equal.sum() > 8
    np.testing.assert_allclose(estimates[equal], (values[:, :1] * scores[:, 0])[equal], rtol=1e-12)


def test_the_coefficient_scales_with_f():
    _, _, estimates = enumerated(EstimatedCoefficient(1, 3), LOGITS, two_bits)
    for scale in (1e-6, 1e6):
        _, _, scaled = enumerated(EstimatedCoefficient(1, 3), LOGITS, Scaled(jnp.array(scale)))
        np.testing.assert_allclose(scaled / scale, estimates, rtol=1e-9, atol=1e-14)


class Scaled(eqx.Module):
    scale: jax.Array

    def __call__(self, x):
        return self.scale * two_bits(x)


def test_with_many_pilots_the_variance_is_that_of_the_best_coefficient():
    """On one bit the score is proportional to `f` times the score up to a constant, so that none is left; a coefficient of
    two pilots is right whenever they differ."""
    p = 0.3
    draws, weights, estimates = enumerated(EstimatedCoefficient(1, 2), np.log([p / (1 - p)]), OneBit(0.4, 1.5))
    differ = draws[:, 1, 0] != draws[:, 2, 0]
    np.testing.assert_allclose(estimates[differ], p * (1 - p) * 1.1, rtol=1e-11)


# VarGrad


class Evidence(AbstractLogWeight):
    """The integrand of the bound whose joint density is that of `two_bits`."""

    posterior: AbstractDistribution

    def log_joint(self, z):
        return two_bits(z)


@pytest.mark.parametrize("samples", [2, 5])
def test_vargrad_is_leave_one_out_on_the_integrand(samples):
    f = Evidence(Bernoulli(LOGITS))
    _, weights, estimates = enumerated(VarGrad(samples), LOGITS, f)
    _, _, expected = enumerated(LeaveOneOut(samples), LOGITS, f)
    np.testing.assert_allclose(estimates, expected, rtol=1e-10, atol=1e-14)
    events, _ = outcomes(LOGITS)

    def bound(logits):
        log_q = jax.vmap(Bernoulli(logits).log_prob)(events)
        return jnp.vdot(jnp.exp(log_q), jax.vmap(two_bits)(events) - log_q)

    mean, _ = moments(weights, estimates)
    np.testing.assert_allclose(mean, jax.jit(jax.grad(bound))(jnp.array(LOGITS)), rtol=1e-10)


def test_vargrad_is_leave_one_out_on_normal_variables_too():
    dist = Normal(loc=[0.7, -1.2], log_scale=[-0.3, 0.4])
    first, second = jax.jit(
        lambda: [e.gradient(jax.random.key(3), dist, Evidence(dist)) for e in (VarGrad(num_samples=4), LeaveOneOut(4))]
    )()
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_vargrad_needs_the_integrand_of_a_bound():
    sentence = "`VarGrad` needs a log weight objective, and `Reconstruction` does not declare to be one."
    assert mismatch(VarGrad(), PROBLEMS.create("bernoulli-vae", kl="analytic")) == sentence
    assert mismatch(VarGrad(), PROBLEMS.create("bernoulli-vae", kl="sampled")) is None
    assert "log weight" in incompatibility(VarGrad(), Bernoulli(LOGITS), two_bits)


# All of them


def test_declared_evaluations_are_the_calls_of_f():
    dist = Bernoulli(LOGITS)
    for estimator, number in [(GroupNormalizedAdvantage(3), 3), (EstimatedCoefficient(2, 3), 5)]:
        assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == number
        assert incompatibility(estimator, dist, BlackBox(two_bits)) is None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GroupNormalizedAdvantage(1), "`GroupNormalizedAdvantage` needs `num_samples >= 2`, got 1"),
        (lambda: GroupNormalizedAdvantage(epsilon=0.0), "`GroupNormalizedAdvantage` needs `epsilon > 0`, got 0.0"),
        (lambda: EstimatedCoefficient(num_samples=0), "`EstimatedCoefficient` needs `num_samples >= 1`, got 0"),
        (lambda: EstimatedCoefficient(num_pilots=1), "`EstimatedCoefficient` needs `num_pilots >= 2`, got 1"),
        (lambda: VarGrad(num_samples=1), "`VarGrad` needs `num_samples >= 2`, got 1"),
    ],
)
def test_what_is_wrong_is_said(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_no_baseline_hides_in_the_score_function():
    """The draws by which this file enumerates are those of the estimators: a sanity check of the harness."""
    draws, _, estimates = enumerated(ScoreFunction(2), LOGITS, two_bits)
    values, scores = values_and_scores(draws, LOGITS, two_bits)
    np.testing.assert_allclose(estimates, np.mean(values[..., None] * scores, axis=1), rtol=1e-12)
