"""Moments by any chunking are those of NumPy on the concatenation."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks.moments import BLOCKS, LONGEST_TAIL, Moments, Spread


def accumulated(samples: np.ndarray, cuts: list[int], centre: np.ndarray, order: int = 4) -> Moments:
    """Moments of `samples` `[n, d]`, added in pieces that end at `cuts`, each to another block."""
    moments = Moments.zero(centre, order)
    for number, piece in enumerate(np.split(samples, sorted(cuts))):
        deviations = piece - centre
        first, *higher = (np.sum(deviations**r, axis=0) for r in range(1, order + 1))
        moments.add(number % BLOCKS, [len(piece)], first[None], np.stack(higher))
    return moments


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(2, 400), st.lists(st.integers(0, 400), max_size=40), st.integers(0, 2**31), st.floats(-1e3, 1e3))
def test_any_chunking_equals_numpy(count, cuts, seed, shift):
    """Mean, variance and fourth moment agree to 1e-12 with the concatenation, wherever it is cut."""
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((count, 3)) + shift
    moments = accumulated(samples, [min(cut, count) for cut in cuts], samples[0])
    assert moments.count == count
    np.testing.assert_allclose(moments.mean, samples.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.variance, samples.var(axis=0, ddof=1), rtol=1e-10, atol=1e-12)
    third = np.mean((samples - samples.mean(axis=0)) ** 3, axis=0)
    np.testing.assert_allclose(moments.third, third, rtol=1e-9, atol=1e-10)
    fourth = np.mean((samples - samples.mean(axis=0)) ** 4, axis=0)
    np.testing.assert_allclose(moments.fourth, fourth, rtol=1e-9, atol=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    """With mean 1e4 and unit variance the centre keeps twelve digits of the variance; plain power sums would keep eight."""
    samples = np.random.default_rng(1).standard_normal((10_000, 2)) + 1e4
    moments = accumulated(samples, [1000, 5000], np.full(2, 1e4))
    np.testing.assert_allclose(moments.variance, samples.var(axis=0, ddof=1), rtol=1e-12)


def test_block_means_average_to_the_offset():
    samples = np.random.default_rng(2).standard_normal((640, 2))
    moments = accumulated(samples, list(range(20, 640, 20)), np.zeros(2))
    blocks = moments.block_means()
    assert blocks.shape == (BLOCKS, 2)
    np.testing.assert_allclose(blocks.mean(axis=0), samples.mean(axis=0), rtol=1e-12)


def test_fourth_powers_can_be_left_out():
    moments = accumulated(np.ones((4, 2)), [2], np.zeros(2), order=2)
    assert moments.fourth is None
    np.testing.assert_array_equal(moments.variance, np.zeros(2))


@pytest.mark.parametrize("count", [10, 1000, 20_000])
def test_spread_keeps_the_largest(count):
    """The kept tail is exactly the `3 sqrt(n) + 1` largest squared distances, however they came in."""
    q = np.random.default_rng(3).exponential(size=count)
    spread = Spread()
    for number, piece in enumerate(np.array_split(q, 7)):
        spread.add(number, [len(piece)], piece, np.sign(piece - 1.0))
    longest = min(int(np.ceil(3 * np.sqrt(count))), LONGEST_TAIL) + 1
    np.testing.assert_array_equal(np.sort(spread.tail), np.sort(q)[-longest:])
    np.testing.assert_allclose([spread.squares.sum(), spread.fourths], [q.sum(), np.sum(q**2)])
    assert spread.aligned == np.sum(q > 1.0)
