"""Sum and sample, summed over every order in which events may be drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import smooth
from orders import DISTRIBUTIONS, estimates, orders, terms
from prescribed import moments

from estimators import (
    Bernoulli,
    BlackBox,
    Categorical,
    Normal,
    StochasticSumAndSample,
    SumAndSample,
    incompatibility,
)
from estimators.sum_and_sample import summed_and_sampled
from estimators.without_replacement import listed, sample_without_replacement

each = pytest.mark.parametrize("estimator", [SumAndSample, StochasticSumAndSample])
CASES = [("three bits", 1), ("three bits", 2), ("three bits", 4), ("four categories", 1), ("two of three", 2)]


def draws(estimator, p):
    """Orders of drawing with their probabilities. `SumAndSample` draws the last event only; the noise puts those that it sums before
    that all the same, so that one drawn from all events would be one of them."""
    if isinstance(estimator, StochasticSumAndSample):
        return orders(p, min(estimator.num_summed + 1, len(p)))
    summed, rest = np.split(np.argsort(-p, kind="stable"), [min(estimator.num_summed, len(p) - 1)])
    return np.array([[*summed, last] for last in rest]), p[rest] / p[rest].sum()


@functools.cache
def enumerated(estimator_class, num_summed, name):
    """Draws, their probabilities, and the estimates that they make of `smooth`."""
    dist, estimator = DISTRIBUTIONS[name](), estimator_class(num_summed)
    indices, probabilities = draws(estimator, terms(dist, smooth).p)
    return indices, probabilities, estimates(estimator, dist, indices, smooth)


def column(numbers, like):
    return np.reshape(numbers, (-1, *[1] * (np.ndim(like) - 1)))


class FromAll(SumAndSample):
    """Wrong on purpose: the last event is a sample of all events, and may be one of those summed."""

    def gradient(self, key, dist, f):
        _, log_probs = listed(dist)
        _, summed = jax.lax.top_k(log_probs, self.num_summed)
        last, _ = sample_without_replacement(key, log_probs, 1)
        return summed_and_sampled(dist, f, jnp.concatenate([summed, last]))


@each
@pytest.mark.parametrize("name, num_summed", CASES)
def test_the_mean_over_all_draws_is_the_gradient(estimator, name, num_summed):
    _, probabilities, grads = enumerated(estimator, num_summed, name)
    mean, _ = moments(probabilities, grads)
    np.testing.assert_allclose(mean, terms(DISTRIBUTIONS[name](), smooth).exact, rtol=1e-11, atol=1e-14)


def test_a_sample_of_all_events_is_rejected():
    dist = DISTRIBUTIONS["three bits"]()
    p, _, _, exact = terms(dist, smooth)
    mean, _ = moments(p, estimates(FromAll(num_summed=1), dist, np.arange(len(p))[:, None], smooth))
    assert np.abs(mean - exact).max() > 0.01


@each
def test_with_nothing_summed_it_is_the_score_function(estimator):
    p, f, scores, _ = terms(DISTRIBUTIONS["three bits"](), smooth)
    indices, probabilities, grads = enumerated(estimator, 0, "three bits")
    assert sorted(indices[:, 0]) == list(range(8))
    np.testing.assert_allclose(probabilities, p[indices[:, 0]], rtol=1e-14)
    np.testing.assert_allclose(grads, (column(f, scores) * scores)[indices[:, 0]], rtol=1e-13)


@each
@pytest.mark.parametrize("num_summed", [3, 10])
def test_it_is_exact_if_one_event_is_left_or_none(estimator, num_summed):
    _, _, grads = enumerated(estimator, num_summed, "four categories")
    exact = terms(DISTRIBUTIONS["four categories"](), smooth).exact
    np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("num_summed", [1, 2, 4])
def test_variance_in_closed_form_and_never_worse_than_one_score_function(num_summed):
    """Of `SumAndSample`: that of the rest alone, times the square of its probability."""
    p, f, scores, exact = terms(DISTRIBUTIONS["three bits"](), smooth)
    single, rest = column(f, scores) * scores, np.argsort(-p)[num_summed:]
    _, variance = moments(*enumerated(SumAndSample, num_summed, "three bits")[1:])
    r = p[rest].sum()
    expected = r * p[rest] @ single[rest] ** 2 - (p[rest] @ single[rest]) ** 2
    np.testing.assert_allclose(variance, expected, rtol=1e-9)
    assert np.all(variance < moments(p, single)[1])


@pytest.mark.parametrize("logits", [[-10.0, 10.0, 0.0], np.log([[0.98, 0.01, 0.01]])], ids=str)
def test_skewed_probabilities_in_single_precision(logits):
    """What is left by the sum has to be right in proportion to its own size, though it be a ten-thousandth."""
    family = Bernoulli if np.ndim(logits) == 1 else Categorical
    dist, precise = family(np.float32(logits)), family(np.float64(np.float32(logits)))
    p, f, scores, _ = terms(precise, smooth)
    indices, _ = orders(p, 2)
    grads = estimates(StochasticSumAndSample(), dist, indices, smooth)
    assert grads.dtype == np.float32
    weights = np.stack([p[indices[:, 0]], [np.delete(p, i).sum() for i in indices[:, 0]]], axis=1)
    single = (column(f, scores) * scores)[indices]
    expected = np.einsum("ij,ij...->i...", weights, single)
    size = np.einsum("ij,ij->i", weights, np.abs(f[indices]))
    assert np.all(np.abs(grads - expected) <= 1e-6 * column(size, grads))


def test_refusals_and_needs():
    for estimator in (SumAndSample, StochasticSumAndSample):
        name = estimator.__name__
        with pytest.raises(ValueError, match=f"`{name}` needs `num_summed >= 0`, got -1."):
            estimator(num_summed=-1)
        assert [estimator(k).evaluations(Categorical([0.0, 1.0, 2.0])) for k in (0, 1, 2, 9)] == [1, 2, 3, 3]
        sentence = incompatibility(estimator(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
        assert sentence == f"`{name}` needs an enumerable distribution, and `Normal` is not one."
        sentence = incompatibility(estimator(), Bernoulli(np.zeros(2000)), jnp.sum)
        assert sentence == f"`{name}` lists all events, and `Bernoulli` has more than 1048576, which is the limit."
        assert incompatibility(estimator(), Bernoulli(np.zeros(20)), BlackBox(jnp.sum)) is None


@jax.jit
def of_the_only_event(key):
    dist = Categorical([0.7])
    return SumAndSample().gradient(key, dist, smooth), StochasticSumAndSample().gradient(
        jax.random.clone(key), dist, smooth
    )


def test_one_event_in_all_has_no_gradient(key):
    for grads in of_the_only_event(key):
        np.testing.assert_array_equal(grads.logits, [0.0])
