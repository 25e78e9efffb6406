"""The score function and leave-one-out, summed over all the samples that they could have drawn."""

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

from estimators import Bernoulli, Normal
from estimators.base import draw, weighted_score
from estimators.score_function import LeaveOneOut, ScoreFunction

LOGITS = np.array([-1.0, 0.4, 1.3])


def enumerate_samples(estimator, logits, f):
    """Probabilities and estimates of every tuple of samples."""
    events, probabilities = outcomes(logits)
    indices, weights = tuples(probabilities, estimator.num_samples)
    keys = jax.random.split(jax.random.key(0), estimator.num_samples)
    return weights, np.asarray(prescribed_estimates(estimator, None, logits, events[indices], f, keys)[0])


def assert_unbiased(estimator, logits, f):
    mean, _ = moments(*enumerate_samples(estimator, logits, f))
    np.testing.assert_allclose(mean, exact_gradient(logits, f), rtol=1e-11, atol=1e-13)


class OwnSampleInBaseline(LeaveOneOut):
    """Wrong on purpose: the baseline is the mean of all samples, and the factor that this loses is not put back."""

    def gradient(self, key, dist, f):
        xs = draw(key, dist, self.num_samples)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs, (values - jnp.mean(values)) / self.num_samples)


class SumOfScores(ScoreFunction):
    """Wrong on purpose: the mean of `f` times the mean of the scores, not the mean of the products."""

    def gradient(self, key, dist, f):
        xs = draw(key, dist, self.num_samples)
        weights = jnp.full(self.num_samples, jnp.mean(jax.vmap(f)(xs)) / self.num_samples)
        return weighted_score(dist, xs, weights)


class Descent(ScoreFunction):
    """Wrong on purpose: the sign of a loss that is minimised."""

    def gradient(self, key, dist, f):
        xs = draw(key, dist, self.num_samples)
        return weighted_score(dist, xs, -jax.vmap(f)(xs) / self.num_samples)


@pytest.mark.parametrize("estimator", [ScoreFunction(1), ScoreFunction(2), LeaveOneOut(2), LeaveOneOut(3)], ids=repr)
def test_the_mean_over_all_samples_is_the_gradient(estimator):
    assert_unbiased(estimator, LOGITS, Tangled())


@pytest.mark.parametrize(
    ("wrong", "factor"),
    [(OwnSampleInBaseline(2), 1 / 2), (OwnSampleInBaseline(3), 2 / 3), (SumOfScores(2), 1 / 2), (Descent(1), -1)],
)
def test_a_wrong_factor_is_rejected_and_is_the_one_that_theory_says(wrong, factor):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(wrong, LOGITS, Tangled())
    mean, _ = moments(*enumerate_samples(wrong, LOGITS, Tangled()))
    np.testing.assert_allclose(mean, factor * exact_gradient(LOGITS, Tangled()), rtol=1e-11)


def test_variance_of_the_score_function_is_that_of_f_times_the_score():
    events, probabilities = outcomes(LOGITS)
    values = np.asarray(jax.vmap(Tangled())(events))[:, None]
    _, expected = moments(probabilities, values * (events - 1 / (1 + np.exp(-LOGITS))))
    for samples in (1, 2):
        _, variance = moments(*enumerate_samples(ScoreFunction(samples), LOGITS, Tangled()))
        np.testing.assert_allclose(variance, expected / samples, rtol=1e-11)


@pytest.mark.parametrize("samples", [2, 3])
def test_variance_of_leave_one_out_is_that_of_a_u_statistic(samples):
    """It is the U-statistic of `(f(x) - f(y)) (s(x) - s(y)) / 2`, whose variance has two Hoeffding components."""
    events, probabilities = outcomes(LOGITS)
    values = np.asarray(jax.vmap(Tangled())(events))
    kernel = (values[:, None] - values)[:, :, None] * (events[:, None] - events) / 2
    _, of_pairs = moments(np.outer(probabilities, probabilities).ravel(), kernel.reshape(-1, 3))
    _, of_halves = moments(probabilities, np.tensordot(probabilities, kernel, axes=1))
    expected = 2 / (samples * (samples - 1)) * (2 * (samples - 2) * of_halves + of_pairs)
    _, variance = moments(*enumerate_samples(LeaveOneOut(samples), LOGITS, Tangled()))
    np.testing.assert_allclose(variance, expected, rtol=1e-11)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
def test_closed_form_variances_on_one_bit(p):
    at_zero, at_one = 0.3, -1.1
    difference, v, logits, f = at_one - at_zero, p * (1 - p), np.log([p / (1 - p)]), OneBit(at_zero, at_one)
    mean, variance = moments(*enumerate_samples(ScoreFunction(1), logits, f))
    np.testing.assert_allclose(mean, [v * difference], rtol=1e-12)
    np.testing.assert_allclose(variance, [v * ((1 - p) * at_one + p * at_zero) ** 2], rtol=1e-12)
    for count in (2, 3, 4):
        mean, variance = moments(*enumerate_samples(LeaveOneOut(count), logits, f))
        np.testing.assert_allclose(mean, [v * difference], rtol=1e-12)
        expected = difference**2 / count * (v * (1 - 3 * v) - (count - 3) / (count - 1) * v**2)
        np.testing.assert_allclose(variance, [expected], rtol=1e-11)


@pytest.mark.parametrize(
    ("target", "gradient", "plain", "leave_one_out"),
    [(0.45, 0.025, 0.0159375, 6.25e-4), (0.49, 0.005, 0.0156375, 2.5e-5), (0.499, 5e-4, 0.015625, 2.5e-7)],
)
def test_published_values_of_the_classic_toy(target, gradient, plain, leave_one_out):
    """`(b - target)^2` at logit 0, to the digits quoted."""
    f = OneBit(target**2, (1 - target) ** 2)
    for estimator, quoted in [(ScoreFunction(1), plain), (LeaveOneOut(2), leave_one_out)]:
        mean, variance = moments(*enumerate_samples(estimator, np.zeros(1), f))
        np.testing.assert_allclose(mean, [gradient], rtol=1e-12)
        np.testing.assert_allclose(variance, [quoted], rtol=1e-4)


@pytest.mark.parametrize("estimator", [ScoreFunction(2), LeaveOneOut(2)], ids=repr)
def test_the_gradient_scales_with_f_and_its_mean_forgets_a_constant(estimator):
    _, estimates = enumerate_samples(estimator, LOGITS, Tangled())
    for scale in (1e-6, 1e6):
        _, scaled = enumerate_samples(estimator, LOGITS, Tangled(scale=scale))
        np.testing.assert_allclose(scaled / scale, estimates, rtol=1e-11, atol=1e-14)
    shifted, _ = moments(*enumerate_samples(estimator, LOGITS, Tangled(shift=7.0)))
    np.testing.assert_allclose(shifted, exact_gradient(LOGITS, Tangled()), rtol=1e-10)


def test_leave_one_out_of_a_constant_is_zero_draw_for_draw():
    _, estimates = enumerate_samples(LeaveOneOut(2), LOGITS, Tangled(scale=0.0, shift=-123.4))
    np.testing.assert_array_equal(estimates, 0.0)


def test_closed_forms_on_a_normal_by_quadrature(monkeypatch):
    """`(x - k)^2` under N(mu, sigma^2), `a = mu - k`; a derivative in `log_scale` is `sigma` times one in `sigma`."""
    k, sigma, a = -1.5, 0.8, 2.5
    dist = Normal(loc=[k + a], log_scale=[np.log(sigma)])
    nodes, weights = dist.nodes(401)

    @jax.jit
    @jax.vmap
    def estimates(noise):
        monkeypatch.setattr(Normal, "noise", lambda self, key: noise)
        return ScoreFunction().gradient(jax.random.key(0), dist, lambda x: jnp.sum((x - k) ** 2))

    grads = estimates(nodes)
    mean, variance = moments(weights, grads.loc)
    np.testing.assert_allclose(mean, [2 * a], rtol=1e-10)
    np.testing.assert_allclose(variance, [a**4 / sigma**2 + 14 * a**2 + 15 * sigma**2], rtol=1e-10)
    mean, variance = moments(weights, grads.log_scale)
    np.testing.assert_allclose(mean, [2 * sigma**2], rtol=1e-10)
    np.testing.assert_allclose(variance, [2 * a**4 + 60 * a**2 * sigma**2 + 74 * sigma**4], rtol=1e-10)


@pytest.mark.parametrize("estimator", [ScoreFunction(1), ScoreFunction(5), LeaveOneOut(4)], ids=repr)
def test_declared_evaluations_are_the_calls_of_f(estimator):
    dist = Bernoulli(logits=LOGITS)
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == estimator.num_samples


def test_too_few_samples_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"`ScoreFunction` needs `num_samples >= 1`, got 0"):
        ScoreFunction(num_samples=0)
    with pytest.raises(ValueError, match=r"`LeaveOneOut` needs `num_samples >= 2`, got 1; use `ScoreFunction`"):
        LeaveOneOut(num_samples=1)
