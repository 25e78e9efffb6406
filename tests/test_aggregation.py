"""Summaries over problems: their intervals cover, keep what common random numbers gained, and mean what they say; and averaging
has the crossover that its closed form has."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import statistics
from benchmarks.aggregation import geometric_mean, interquartile_mean, profile, resampled, with_bootstrap
from benchmarks.averaging import crossover, crossover_text, mean_squared_error
from benchmarks.moments import BLOCKS

VARIANCES = {"a": 1.0, "b": 30.0, "c": 1e-4, "d": 2.0, "e": 5e6, "f": 0.3}
RATIOS = {"a": 0.5, "b": 0.25, "c": 2.0, "d": 0.9, "e": 0.1, "f": 0.6}


def simulated_problem(generator, problem: str, streams=("s", "s"), blocks: bool = True) -> pd.DataFrame:
    """Two estimators whose squared distances are exponential, 0.9 of their variance shared, 50 replicates a block."""
    shared, own, other = generator.standard_gamma(50, (3, BLOCKS)) / 50
    rows = []
    for noise, ratio, stream in ((own, RATIOS[problem], streams[0]), (other, 1.0, streams[1])):
        q = VARIANCES[problem] * ratio * (0.75 * shared + 0.25 * noise)
        error = q.mean() * math.sqrt((0.75**2 + 0.25**2) / 1600)
        common = {"problem": problem, "parameters": "x", "seed": 0, "stream": stream, "replicates": 1600}
        text = json.dumps([float(f"{x:.8g}") for x in q]) if blocks else None
        rows.append({**common, "variance": q.mean(), "variance_se": error, "variance_blocks": text})
    return pd.DataFrame(rows)


def scores_of(generator, **options) -> tuple[np.ndarray, np.ndarray]:
    """Scores `[problems]` of the first against the second, and 300 draws of them."""
    tables = [simulated_problem(generator, problem, **options) for problem in RATIOS]
    draws = [np.diff(resampled(table, draws=300), axis=1)[:, 0] for table in tables]
    values = [math.log2(table["variance"].iat[0] / table["variance"].iat[1]) for table in tables]
    return np.array(values), -np.stack(draws, axis=1) / math.log(2)


TRUE = np.log2(list(RATIOS.values()))


def test_the_bootstrap_interval_covers():
    """Nominal 95 %: over 400 runs a coverage of 93 % fails once in a million seeds, one of 78 % passes twice in 1e5."""
    generator, covered = np.random.default_rng(31), {geometric_mean: 0, interquartile_mean: 0}
    for _ in range(400):
        scores = scores_of(generator)
        for statistic in covered:
            span = with_bootstrap(statistic, *scores)
            covered[statistic] += span.low <= statistic(TRUE) <= span.high
    assert all(stats.binom.ppf(1e-6, 400, 0.93) <= count < 400 for count in covered.values())


def test_estimators_of_one_stream_are_resampled_together():
    """On streams of their own, or without blocks, the same numbers have an interval as wide as the formula for sums says."""

    def width(**options):
        spans = [with_bootstrap(geometric_mean, *scores_of(np.random.default_rng(i), **options)) for i in range(20)]
        return np.mean([math.log(span.high / span.low) for span in spans])

    def expected(error: float) -> float:
        return 2 * statistics.Z95 * error * math.sqrt(2 / 1600 / len(RATIOS))

    # Of each problem the paired error has the scatter of what is not shared alone; errors of widths are within 10 %.
    assert width() == pytest.approx(expected(0.25), rel=0.1)
    for options in ({"streams": ("s", "t")}, {"blocks": False}):
        assert width(**options) == pytest.approx(expected(math.sqrt(0.75**2 + 0.25**2)), rel=0.1)


def test_draws_depend_on_the_problem_and_the_seed_alone():
    table = simulated_problem(np.random.default_rng(32), "a")
    np.testing.assert_array_equal(resampled(table), resampled(table))
    assert np.all(resampled(table) != resampled(table, seed=1))
    assert not np.allclose(resampled(table), resampled(table.assign(problem="b")))


def test_drawing_problems_too_widens_the_interval():
    values, draws = scores_of(np.random.default_rng(33))
    fixed, drawn = (with_bootstrap(geometric_mean, values, draws, resample_problems=flag) for flag in (False, True))
    assert fixed.value == drawn.value and drawn.low < fixed.low < fixed.high < drawn.high
    sampling = np.std(values) / math.sqrt(len(values)) * math.log(2)
    assert math.log(drawn.high / drawn.low) == pytest.approx(2 * statistics.Z95 * sampling, rel=0.25)


def test_a_mean_over_problems_is_one_of_logarithms():
    """A problem with a variance a million times larger moves it no more than another; a mean of variances would be its."""
    assert geometric_mean(TRUE) == pytest.approx(stats.gmean(list(RATIOS.values())))
    assert interquartile_mean(TRUE) == pytest.approx(stats.gmean([0.25, 0.5, 0.6, 0.9]))
    generator = np.random.default_rng(34)
    values, _ = scores_of(generator)
    assert geometric_mean(values) == pytest.approx(geometric_mean(TRUE), rel=0.05)


def test_a_profile_counts_problems_near_the_best():
    ratios = np.array([[1.0, 1.0, 3.0, np.inf], [2.0, 1.0, 1.0, 5.0], [4.0, 8.0, np.inf, 5.0]])
    found = profile(np.log2(ratios), np.array([1.0, 2.0, 4.0, 8.0]))
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.75, 0.75], [0.75, 1, 1, 1], [0.25, 0.25, 0.5, 0.75]])


def averaged_record(samples: np.ndarray, truth: np.ndarray) -> dict:
    """The fields of a record that averaging reads, as the suite makes them of samples `[n, d]`."""
    n, zero = len(samples), np.zeros(len(truth))
    variances, blocks = samples.var(axis=0, ddof=1), np.stack([b.mean(axis=0) for b in np.array_split(samples, BLOCKS)])
    found = statistics.bias(statistics.Sample(n, samples.mean(axis=0) - truth, variances, None, None, blocks, zero))
    q = np.sum((samples - samples.mean(axis=0)) ** 2, axis=1)
    spans = statistics.variance(variances.sum(), q.sum(), np.sum(q**2), n)
    fields = {"bias_sq": found.squared, "variance": spans.trace}
    fields |= dict(zip(("bias_sq_ci_low", "bias_sq_ci_high"), found.interval, strict=True))
    return {**fields, "variance_ci_low": spans.low, "variance_ci_high": spans.high}


@pytest.mark.parametrize("size", [0.5, 0.05, 0.0])
def test_the_interval_of_the_crossover_covers(size):
    """`K* = tr Sigma / |b|^2` in closed form, from estimates whose skewness makes the errors of bias and variance move together.
    The interval claims 95 % or more: 93 % over 600 runs fails once in a million seeds, 80 % passes once in a million."""
    generator, truth = np.random.default_rng(35), np.zeros(4)
    exact = 4.0 / (4 * size**2) if size else math.inf
    spans = []
    for _ in range(600):
        samples = generator.standard_exponential((800, 4)) - 1 + size
        spans.append(crossover(averaged_record(samples, truth)))
    covered = sum(span.low <= exact <= span.high for span in spans)
    assert covered >= stats.binom.ppf(1e-6, 600, 0.93)
    bounded = np.mean([math.isfinite(span.high) for span in spans])
    assert (bounded == 1) == (size == 0.5) and (size > 0 or bounded < 0.05)


def test_the_error_of_a_mean_is_bias_and_a_share_of_the_variance():
    """Against the mean squared error of means of `K`, simulated; at the crossover the two parts are equal."""
    generator, truth = np.random.default_rng(36), np.full(3, 0.2)
    found = averaged_record(generator.standard_normal((20_000, 3)), truth)
    for count in (1, 10, 50):
        means = generator.standard_normal((200_000 // count, count, 3)).mean(axis=1)
        simulated = np.sum((means - truth) ** 2, axis=1)
        span, error = mean_squared_error(found, float(count)), simulated.std() / math.sqrt(len(simulated))
        assert span.low - 4 * error < simulated.mean() < span.high + 4 * error
        assert span.high - span.low < 0.25 * span.value
    assert mean_squared_error(found, math.inf).value == found["bias_sq"]
    assert mean_squared_error(found, crossover(found).value).value == pytest.approx(2 * found["bias_sq"])


def test_a_crossover_in_words():
    record = {"variance": 4.0, "variance_ci_low": 3.0, "variance_ci_high": 5.0}
    ends = ("bias_sq", "bias_sq_ci_low", "bias_sq_ci_high")
    texts = {(0.1, 0.05, 0.15): "40 [20, 100]", (0.1, -0.1, 0.3): "40.0 [10.0, ∞]", (-0.1, -0.2, 0.1): "30.0 or more"}
    texts |= {(-0.3, -0.4, -0.1): "no bias seen"}
    for values, text in texts.items():
        assert crossover_text(crossover({**record, **dict(zip(ends, values, strict=True))})).endswith(text)
