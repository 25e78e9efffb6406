"""The unordered set, summed over every set that may be drawn, and its subset recursion against exact fractions."""

import functools
import itertools
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import smooth
from orders import DISTRIBUTIONS, estimates, orders, terms
from prescribed import moments

from estimators import Bernoulli, BlackBox, Categorical, Normal, StochasticSumAndSample, UnorderedSet, incompatibility
from estimators.base import weighted_score
from estimators.unordered_set import first_and_second, log_precedences
from estimators.without_replacement import listed, sample_without_replacement

CASES = [("three bits", 2), ("three bits", 3), ("three bits", 5), ("four categories", 2), ("two of three", 3)]
LIKELY, RARE = np.array([0.5, 0.2, 0.1]), np.array([1 - 3e-9, 1e-9, 1e-12])


@functools.cache
def enumerated(name, num_samples, baseline=True):
    """Every order, its probability, and the estimates of `smooth` that it makes."""
    dist = DISTRIBUTIONS[name]()
    indices, probabilities = orders(terms(dist, smooth).p, num_samples)
    return indices, probabilities, estimates(UnorderedSet(num_samples, baseline), dist, indices, smooth)


def column(numbers, like):
    return np.reshape(numbers, (-1, *[1] * (np.ndim(like) - 1)))


def averaged_over_orders(indices, probabilities, grads):
    """For each row, the mean of all rows of the same set, in proportion to their probabilities."""
    _, sets = np.unique(np.sort(indices, axis=1), axis=0, return_inverse=True)
    sums = np.zeros((sets.max() + 1, *grads.shape[1:]))
    np.add.at(sums, sets, column(probabilities, grads) * grads)
    return (sums / column(np.bincount(sets, probabilities), grads))[sets]


def precedence(p, rest):
    """The probability that all of `p` are drawn before `rest`, by summing over their orders; in fractions."""
    total = Fraction(0)
    for order in itertools.permutations(p):
        left, product = sum(order) + rest, Fraction(1)
        for x in order:
            product, left = product * x / left, left - x
        total += product
    return total


def exact_ratios(p, rest):
    """Leave-one-out ratios of first and of second order times probabilities, from their definition."""
    p, rest, members = [Fraction(x) for x in p.tolist()], Fraction(rest), range(len(p))

    def w(*without):
        return precedence([p[i] for i in members if i not in without], rest)

    first = [p[i] * w(i) / w() for i in members]
    return first, [[p[j] * w(i, j) / w(i) for j in members] for i in members]


class SecondAsFirst(UnorderedSet):
    """Wrong on purpose: the baseline weighted by the ratios of first order, one for all events, its own included."""

    def gradient(self, key, dist, f):
        events, log_probs = listed(dist)
        indices, _ = sample_without_replacement(key, log_probs, self.num_samples)
        log_rest = jax.nn.logsumexp(log_probs.at[indices].set(-jnp.inf))
        first, _ = first_and_second(log_probs[indices], log_rest)
        values = jax.vmap(f)(events[indices])
        return weighted_score(dist, events[indices], first * (values - jnp.vdot(first, values)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p, rest", [(LIKELY, 0.2), (LIKELY[::-1], 1e-13), (RARE, 2e-9), (RARE[1:], 1.0)], ids=str)
def test_ratios_against_fractions(p, rest, dtype):
    """Where the sum of inclusions and exclusions would have no digit left, and where the set holds nearly all."""
    p, rest = p.astype(dtype), dtype(rest)
    computed = jax.jit(first_and_second)(jnp.log(p), jnp.log(rest))
    for ratios, exact in zip(computed, exact_ratios(p, float(rest)), strict=True):
        assert ratios.dtype == dtype
        np.testing.assert_allclose(ratios, np.array(exact, float), rtol=100 * np.finfo(dtype).eps)


def test_precedences_of_all_subsets():
    p, rest = LIKELY, 0.2
    computed = np.exp(jax.jit(log_precedences)(jnp.log(p), jnp.log(rest)))
    for code in range(8):
        members = [Fraction(x) for i, x in enumerate(p.tolist()) if code >> i & 1]
        np.testing.assert_allclose(computed[code], float(precedence(members, Fraction(rest))), rtol=1e-14)


def test_nothing_left_out():
    """Then every subset is first, and the ratios are one."""
    p = np.array([0.6, 0.3, 0.1])
    first, second = jax.jit(first_and_second)(jnp.log(p), jnp.log(0.0))
    np.testing.assert_allclose(first, p, rtol=1e-14)
    np.testing.assert_allclose(second, np.broadcast_to(p, (3, 3)), rtol=1e-14)


@pytest.mark.parametrize("name, num_samples", CASES)
def test_the_mean_over_all_sets_is_the_gradient(name, num_samples):
    _, probabilities, grads = enumerated(name, num_samples)
    mean, _ = moments(probabilities, grads)
    np.testing.assert_allclose(mean, terms(DISTRIBUTIONS[name](), smooth).exact, rtol=1e-10, atol=1e-13)


def test_a_baseline_of_its_own_set_is_rejected():
    dist = DISTRIBUTIONS["three bits"]()
    indices, probabilities, _ = enumerated("three bits", 2)
    mean, _ = moments(probabilities, estimates(SecondAsFirst(), dist, indices, smooth))
    assert np.abs(mean - terms(dist, smooth).exact).max() > 0.01


@pytest.mark.parametrize("name, num_samples", [("three bits", 3), ("two of three", 2)])
def test_it_is_other_estimators_with_the_order_integrated_out(name, num_samples):
    """Without baseline: the mean over all orders of a set, of the score function of the event that is first and of the sum of
    all but the last with the last as their sample. So its mean is theirs."""
    indices, probabilities, grads = enumerated(name, num_samples, False)
    dist = DISTRIBUTIONS[name]()
    _, f, scores, _ = terms(dist, smooth)
    of_the_first = (column(f, scores) * scores)[indices[:, 0]]
    summed = estimates(StochasticSumAndSample(num_samples - 1), dist, indices, smooth)
    for other in (of_the_first, summed, grads):
        expected = averaged_over_orders(indices, probabilities, other)
        np.testing.assert_allclose(grads, expected, rtol=1e-9, atol=1e-12)
        assert np.all(moments(probabilities, grads)[1] <= (1 + 1e-9) * moments(probabilities, other)[1])


def test_a_single_sample_is_the_score_function():
    _, f, scores, _ = terms(DISTRIBUTIONS["three bits"](), smooth)
    indices, _, grads = enumerated("three bits", 1)
    np.testing.assert_allclose(grads, (column(f, scores) * scores)[indices[:, 0]], rtol=1e-12)


@pytest.mark.parametrize(
    "logits", [[0.3, -1.0, 0.8, 1.9], [-10.0, 10.0, 10.0, 0.0], np.log([0.97, 0.01, 0.01, 0.01])], ids=str
)
def test_it_is_exact_if_all_events_are_drawn(logits):
    dist = Categorical(logits)
    _, f, _, exact = terms(dist, smooth)
    grads = estimates(UnorderedSet(num_samples=9), dist, orders(np.full(4, 0.25), 4)[0], smooth)
    np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), rtol=1e-12, atol=1e-15 * np.abs(f).max())


def test_constants_cancel_in_every_estimate():
    indices, _, grads = enumerated("three bits", 3)
    shifted = estimates(UnorderedSet(3), DISTRIBUTIONS["three bits"](), indices, Shifted(100.0))
    np.testing.assert_allclose(shifted, grads, atol=1e-11)


class Shifted(eqx.Module):
    shift: float

    def __call__(self, x):
        return smooth(x) + self.shift


@pytest.mark.parametrize("logits", [[-10.0, 10.0, 10.0], np.log([[0.98, 0.01, 0.01]])], ids=str)
def test_skewed_probabilities_in_single_precision(logits):
    """Every set that may be drawn, however rare."""
    family = Bernoulli if np.ndim(logits) == 1 else Categorical
    dist, precise = family(np.float32(logits)), family(np.float64(np.float32(logits)))
    p, f, scores, exact = terms(precise, smooth)
    indices = np.array(list(itertools.combinations(range(len(p)), 2)))
    grads = estimates(UnorderedSet(), dist, indices, smooth)
    assert grads.dtype == np.float32
    ratios = [exact_ratios(p[pair], float(np.delete(p, pair).sum())) for pair in indices]
    first, second = (np.array(column, float) for column in zip(*ratios, strict=True))
    weights = first * (f[indices] - np.einsum("nij,nj->ni", second, f[indices]))
    expected = np.einsum("ij,ij...->i...", weights, scores[indices])
    np.testing.assert_allclose(grads, expected, rtol=1e-4, atol=1e-5 * np.abs(f).max())


def test_refusals_and_needs():
    for wrong in (0, 11):
        with pytest.raises(ValueError, match=f"`UnorderedSet` needs `1 <= num_samples <= 10`, got {wrong}."):
            UnorderedSet(num_samples=wrong)
    assert [UnorderedSet(k).evaluations(Bernoulli([0.0, 1.0])) for k in (1, 3, 4, 5)] == [1, 3, 4, 4]
    sentence = incompatibility(UnorderedSet(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert sentence == "`UnorderedSet` needs an enumerable distribution, and `Normal` is not one."
    sentence = incompatibility(UnorderedSet(), Categorical(np.zeros((200, 10))), jnp.sum)
    assert sentence == "`UnorderedSet` lists all events, and `Categorical` has more than 1048576, which is the limit."
    assert incompatibility(UnorderedSet(), Bernoulli(np.zeros(20)), BlackBox(jnp.sum)) is None
