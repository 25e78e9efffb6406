"""Statistical assertions that bound both errors: how often a right law is rejected, and how surely a wrong one is.

`FALSE_ALARM` is the chance, over keys, that an assertion fails although the law is right; it covers the whole array handed in. `detects`
is the discrepancy that is missed with probability at most `MISSED`; an assertion without the power for that fails as underpowered.
"""

import math

import numpy as np
from scipy import stats

FALSE_ALARM = 1e-6
MISSED = 1e-3


def assert_mean_equals(samples, truth, detects):
    """The mean of `samples` along the first axis is `truth`, coordinate by coordinate (z-tests, Bonferroni)."""
    samples, truth = np.asarray(samples, np.float64), np.asarray(truth, np.float64)
    error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    threshold = stats.norm.isf(FALSE_ALARM / 2 / max(truth.size, 1))
    powerful = (threshold + stats.norm.isf(MISSED)) * error < detects
    assert np.all(powerful), f"Underpowered: the standard error {error.max():.3g} is too large to detect {detects}."
    distance = np.abs(samples.mean(axis=0) - truth)
    assert np.all(distance <= threshold * error), f"Off by {distance} where the standard error is {error}."


def assert_law(samples, cdf, detects):
    """Every column of `samples` follows the distribution function `cdf`, which maps an array of the shape of `samples` to one.

    The Dvoretzky-Kiefer-Wolfowitz inequality `P(sup |F_n - F| > e) <= 2 exp(-2 n e^2)` holds for every `n`, and gives the threshold and,
    by the triangle inequality, the power.
    """
    samples = np.asarray(samples, np.float64)
    expected = np.sort(np.asarray(cdf(samples)).reshape(len(samples), -1), axis=0)
    steps = np.arange(len(samples) + 1)[:, None] / len(samples)
    distance = np.maximum(steps[1:] - expected, expected - steps[:-1]).max(axis=0)
    threshold = _band(len(samples), FALSE_ALARM / expected.shape[1])
    assert threshold + _band(len(samples), MISSED) < detects, (
        f"Underpowered: {len(samples)} draws cannot see {detects}."
    )
    assert np.all(distance <= threshold), f"Distances {distance}; the threshold is {threshold}."


def assert_same_law(first, second, detects):
    """Two equally long arrays of independent draws of a real variable have one law: the inequality above holds for the distance of
    two empirical distribution functions with `n / 2` for `n` (Wei and Dudley 2012, for `n >= 458`)."""
    first, second = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    number, every = len(first), np.concatenate([first, second])
    gap = np.searchsorted(first, every, side="right") - np.searchsorted(second, every, side="right")
    threshold = _band(number / 2, FALSE_ALARM)
    assert threshold + 2 * _band(number, MISSED / 2) < detects, f"Underpowered: {number} draws cannot see {detects}."
    assert np.abs(gap).max() / number <= threshold, (
        f"Distance {np.abs(gap).max() / number}; the threshold is {threshold}."
    )


def _band(number, probability):
    return math.sqrt(math.log(2 / probability) / 2 / number)
