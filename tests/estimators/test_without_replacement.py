"""Importance weights for samples without replacement, integrated over the threshold and summed over the sets."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_law, assert_mean_equals
from cases import smooth
from orders import DISTRIBUTIONS, estimates, integrated, orders, terms
from prescribed import moments
from scipy import integrate

from estimators import (
    Bernoulli,
    Categorical,
    Normal,
    NormalizedReinforceWithoutReplacement,
    ReinforceWithoutReplacement,
    incompatibility,
)
from estimators.base import weighted_score
from estimators.without_replacement import listed, log_inclusion, sample_without_replacement

UNBIASED = [
    ("three bits", 2, False),
    ("three bits", 5, False),
    ("three bits", 5, True),
    ("four categories", 3, False),
    ("two of three", 2, False),
    ("two of three", 4, True),
]


def formula(estimator, of, sets, kappas):
    """The estimates as they are published, in numpy."""
    p, f, scores = of.p[sets], of.f[sets], of.scores[sets]
    w = p / -np.expm1(-p * np.exp(-np.broadcast_to(kappas, len(sets)))[:, None])
    if isinstance(estimator, ReinforceWithoutReplacement):
        weights = w * (f * (1 - p + w) - np.sum(w * f, axis=1, keepdims=True)) if estimator.baseline else w * f
    else:
        total = np.sum(w, axis=1, keepdims=True)
        centred = f - np.sum(w * f, axis=1, keepdims=True) / total
        weights = w / (total - w + p) * centred if estimator.baseline else w / total * f
    return np.einsum("ij,ij...->i...", weights, scores)


class TailInPlaceOfProbability(ReinforceWithoutReplacement):
    """Wrong on purpose: the probability of being drawn as if it were small, so that all weights are `exp(kappa)`."""

    def gradient(self, key, dist, f):
        events, log_probs = listed(dist)
        indices, kappa = sample_without_replacement(key, log_probs, self.num_samples)
        xs = events[indices]
        return weighted_score(dist, xs, jnp.exp(kappa) * jax.vmap(f)(xs))


def mean_over_all_draws(estimator, name):
    """And what it is the mean of: sets, thresholds, weights, estimates."""
    dist = DISTRIBUTIONS[name]()
    sets, kappas, weights = integrated(terms(dist, smooth).p, estimator.num_samples)
    grads = estimates(estimator, dist, sets, smooth, kappas)
    return moments(weights, grads)[0], (sets, kappas, weights, grads)


def test_order_set_and_threshold_have_their_joint_law(key):
    """Every order of two of four events, with the threshold above its median and below; and the law of the threshold."""
    p = terms(DISTRIBUTIONS["four categories"](), smooth).p
    indices, kappas = jax.jit(jax.vmap(lambda key: sample_without_replacement(key, jnp.log(p), 2)))(
        jax.random.split(key, 220_000)
    )
    middle = float(np.median(kappas))

    def late(order):
        """Both ring, the first one first, before all others, and the first of these at `t > exp(-middle)`."""
        a, b = p[list(order)]
        r = 1 - a - b

        def density(t):
            return r * np.exp(-r * t) * (-np.expm1(-b * t) + b / (a + b) * np.expm1(-(a + b) * t))

        return integrate.quad(density, np.exp(-middle), np.inf, epsabs=1e-10)[0]

    every, probabilities = orders(p, 2)
    drawn = np.all(np.asarray(indices)[:, None] == every, axis=2)
    low = np.asarray(kappas)[:, None] < middle
    expected_low = np.array([late(order) for order in every])
    expected = np.concatenate([expected_low, probabilities - expected_low])
    assert_mean_equals(np.concatenate([drawn & low, drawn & ~low], axis=1), expected, detects=0.01)

    def cdf(kappas):
        """At most two of the perturbed log-probabilities exceed `kappa`."""
        q = -np.expm1(-p * np.exp(-kappas)[:, None])
        subsets = (subset for size in range(3) for subset in itertools.combinations(range(4), size))
        return sum(np.prod(np.where(np.isin(np.arange(4), subset), q, 1 - q), axis=1) for subset in subsets)

    assert_law(kappas, cdf, detects=0.01)


def test_the_probability_of_being_drawn_to_the_last_digit():
    gaps = np.array([-700.0, -90.0, -40.0, -17.0, -1.0, 0.0, 1.0, 5.0, np.inf])
    low, high = np.minimum(gaps, -20), np.maximum(gaps, -20)
    exact = np.where(gaps < -20, low - np.exp(low) / 2, np.log(-np.expm1(-np.exp(high))))
    for dtype in (np.float32, np.float64):
        computed = jax.jit(log_inclusion)(jnp.asarray(gaps, dtype))
        assert computed.dtype == dtype
        np.testing.assert_allclose(computed, exact, rtol=2 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


@pytest.mark.parametrize("name, num_samples, baseline", UNBIASED)
def test_the_mean_over_all_draws_is_the_gradient(name, num_samples, baseline):
    mean, _ = mean_over_all_draws(ReinforceWithoutReplacement(num_samples, baseline), name)
    np.testing.assert_allclose(mean, terms(DISTRIBUTIONS[name](), smooth).exact, rtol=1e-9, atol=1e-12)


def test_weights_of_another_probability_are_rejected():
    mean, _ = mean_over_all_draws(TailInPlaceOfProbability(2), "three bits")
    assert np.abs(mean - terms(DISTRIBUTIONS["three bits"](), smooth).exact).max() > 0.01


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("name, num_samples", [("three bits", 3), ("two of three", 2)])
def test_the_normalised_form_is_the_published_one_and_biased(name, num_samples, baseline):
    estimator = NormalizedReinforceWithoutReplacement(num_samples, baseline)
    mean, (sets, kappas, weights, grads) = mean_over_all_draws(estimator, name)
    of = terms(DISTRIBUTIONS[name](), smooth)
    expected = formula(estimator, of, sets, kappas)
    np.testing.assert_allclose(grads, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(moments(weights, expected)[0] - of.exact).max() > 0.003
    np.testing.assert_allclose(mean, moments(weights, expected)[0], rtol=1e-10)


def test_with_the_threshold_integrated_out_it_is_the_unordered_set():
    """Without baseline: the mean given the set is that of the score function of the event that is first."""
    _, (sets, _, weights, grads) = mean_over_all_draws(ReinforceWithoutReplacement(2), "three bits")
    p, f, scores, _ = terms(DISTRIBUTIONS["three bits"](), smooth)
    indices, probabilities = orders(p, 2)
    for chosen in itertools.combinations(range(8), 2):
        these, same = np.all(sets == chosen, axis=1), np.all(np.sort(indices, axis=1) == chosen, axis=1)
        np.testing.assert_allclose(weights[these].sum(), probabilities[same].sum(), rtol=1e-11)
        expected = probabilities[same] @ (f[:, None] * scores)[indices[same, 0]]
        np.testing.assert_allclose(weights[these] @ grads[these], expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("estimator", [ReinforceWithoutReplacement, NormalizedReinforceWithoutReplacement])
def test_it_is_exact_if_all_events_are_drawn(estimator, baseline):
    for logits in ([0.3, -1.0, 0.8, 1.9], [-10.0, 10.0, 10.0, 0.0], np.log([0.97, 0.01, 0.01, 0.01])):
        dist = Categorical(logits)
        _, f, _, exact = terms(dist, smooth)
        grads = estimates(estimator(9, baseline), dist, orders(np.full(4, 0.25), 4)[0], smooth)
        np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), rtol=1e-11, atol=1e-14 * np.abs(f).max())


def test_one_sample_with_normalised_weight_is_the_score_function():
    dist = DISTRIBUTIONS["three bits"]()
    _, f, scores, _ = terms(dist, smooth)
    grads = estimates(NormalizedReinforceWithoutReplacement(1), dist, np.arange(8)[:, None], smooth, 0.3)
    np.testing.assert_allclose(grads, f[:, None] * scores, rtol=1e-12)


@pytest.mark.parametrize("num_samples, baseline", [(1, False), (2, False), (3, True), (4, True)])
def test_fewer_samples_than_are_accepted_have_no_variance_that_is_finite(num_samples, baseline):
    """What thresholds in an interval add to the second moment falls off with the interval, or does not."""
    of = terms(DISTRIBUTIONS["three bits"](), smooth)
    sets, kappas, weights = integrated(of.p, num_samples)
    accepted = ReinforceWithoutReplacement(9, baseline)
    squares = weights * np.sum(formula(accepted, of, sets, kappas) ** 2, axis=1)
    near, far = (squares[(kappas >= start) & (kappas < start + 5)].sum() for start in (15, 30))
    assert (far < 1e-3 * near) == (num_samples >= (4 if baseline else 2))


@pytest.mark.parametrize(
    "estimator, dist",
    [
        (ReinforceWithoutReplacement(2), Bernoulli(np.float32([-10.0, 10.0, 10.0]))),
        (
            NormalizedReinforceWithoutReplacement(2, baseline=True),
            Categorical(np.float32(np.log([[0.98, 0.01, 0.01]]))),
        ),
    ],
    ids=["bits", "one of three"],
)
def test_skewed_probabilities_in_single_precision(estimator, dist):
    """Every set that may be drawn, however rare, with thresholds from low to high."""
    of = terms(type(dist)(np.float64(dist.logits)), smooth)
    sets = np.array(list(itertools.combinations(range(len(of.p)), 2)))
    sets, kappas = np.repeat(sets, 4, axis=0), np.tile([-30.0, -5.0, 1.0, 10.0], len(sets))
    grads = estimates(estimator, dist, sets, smooth, np.float32(kappas))
    assert grads.dtype == np.float32
    size = np.exp(np.maximum(kappas, 0)) * np.abs(of.f).max()
    assert np.all(np.abs(grads - formula(estimator, of, sets, kappas)).reshape(len(sets), -1) <= 2e-5 * size[:, None])


def test_refusals_and_needs():
    refused = [
        (
            ReinforceWithoutReplacement,
            1,
            False,
            "`ReinforceWithoutReplacement` needs `num_samples >= 2`, got 1; with fewer its variance",
        ),
        (
            ReinforceWithoutReplacement,
            3,
            True,
            "`ReinforceWithoutReplacement` with `baseline` needs `num_samples >= 4`, got 3; with",
        ),
        (
            NormalizedReinforceWithoutReplacement,
            0,
            False,
            "`NormalizedReinforceWithoutReplacement` needs `num_samples >= 1`, got 0",
        ),
        (
            NormalizedReinforceWithoutReplacement,
            1,
            True,
            "with `baseline` needs `num_samples >= 2`, got 1; the baseline of a single",
        ),
    ]
    for estimator, num_samples, baseline, sentence in refused:
        with pytest.raises(ValueError, match=re.escape(sentence)):
            estimator(num_samples, baseline)
    for estimator in (ReinforceWithoutReplacement, NormalizedReinforceWithoutReplacement):
        name = estimator.__name__
        assert [estimator(k).evaluations(Bernoulli([0.0, 1.0])) for k in (2, 4, 5)] == [2, 4, 4]
        sentence = incompatibility(estimator(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
        assert sentence == f"`{name}` needs an enumerable distribution, and `Normal` is not one."
        sentence = incompatibility(estimator(), Bernoulli(np.zeros(200)), jnp.sum)
        assert sentence == f"`{name}` lists all events, and `Bernoulli` has more than 1048576, which is the limit."
