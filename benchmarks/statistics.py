"""Statistics of gradients: what a number must carry before it is printed.

One estimate `G` has mean `m`, covariance `Sigma` and, against the truth `g`, bias `b = m - g`; `n` independent
replicates are at hand.

- Squared bias. `|mean - g|^2` has expectation `|b|^2 + tr Sigma / n`, so an unbiased estimator would look biased; `tr
  Sigma / n` is taken off, and the result may be negative. Its variance is `4 b' Sigma b / n + 2 tr Sigma^2 / n^2`, both
  terms estimated from block means; its interval is taken on a scale where that does not change (`intervals`).
- Variance. `tr Sigma` is the mean of the squared deviations `q`; on the log scale its standard error is `sd(q) /
  (mean(q) sqrt(n))`, which needs no normality (the chi-squared interval does, and gradients do not oblige), only a
  fourth moment.
- Tails. The Pareto shape of the largest `q` tells whether that fourth moment exists.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from .intervals import squared_bias_interval

# Two-sided normal quantile of every 95 % interval.
Z95 = 1.959964
# Arithmetic of the estimates resolves their mean to about this many units in the last place of one estimate's size.
ROUNDING_UNITS = 64
# A coordinate is tested once it has shown this many effective events.
FEWEST_EVENTS = 20
# A squared deviation whose tail has a shape above one half has no variance: no interval of a variance covers.
HEAVY = 0.5


class Sample(NamedTuple):
    """What `count` replicates of one part of a gradient showed, coordinate by coordinate (`[d]`).

    `offset` is the mean minus the truth; `third` and `fourth` are central moments, or `None` if they were not kept;
    `blocks` are block means up to a constant, `[b, d]`; `resolution` is the size of an offset that the arithmetic of
    the estimates cannot tell from zero; `deterministic` says that no estimate draws anything.
    """

    count: int
    offset: np.ndarray
    variance: np.ndarray
    third: np.ndarray | None
    fourth: np.ndarray | None
    blocks: np.ndarray
    truth_se: np.ndarray
    resolution: float = 0.0
    deterministic: bool = False


class Bias(NamedTuple):
    """The squared bias of a part of a gradient, and a family-wise test of those of its coordinates that can be
    tested. `along` is the variance of the mean in the direction of its offset, `null_se` the standard error that the
    squared bias would have at zero, `quantile` that of its interval."""

    squared: float
    squared_se: float
    max_z: float
    p_value: float
    tested: int
    min_detectable: float
    covariance_norm: float
    along: float = 0.0
    null_se: float = 0.0
    quantile: float = Z95
    count: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the squared bias; symmetric where nothing is known of its scatter along the offset."""
        if self.along > 0:
            return squared_bias_interval(self.squared, self.along, self.null_se, self.quantile)
        return self.squared - Z95 * self.squared_se, self.squared + Z95 * self.squared_se


def bias(sample: Sample) -> Bias:
    """The bias of a mean against a truth."""
    n, offset, truth_se = sample.count, sample.offset, sample.truth_se
    squared = float(np.sum(offset**2) - np.sum(sample.variance) / n - np.sum(truth_se**2))
    total_squared = covariance_squared_trace(sample.blocks, n)
    blocks = len(sample.blocks)
    along = float(np.var(sample.blocks @ offset, ddof=1)) * n / blocks if blocks > 1 else 0.0
    vague = float(np.sum(truth_se**2 * offset**2))
    signal = max(along - total_squared / n, 0.0) + vague * n
    null_variance = 2 * total_squared / n**2 + 2 * float(np.sum(truth_se**4))
    squared_se = math.sqrt(4 * signal / n + null_variance)
    noise, distance = float(np.sum(sample.variance)) / n + float(np.sum(truth_se**2)), float(np.sum(offset**2))
    directions = (along / n + vague, distance), (null_variance / 2, noise)
    z, tested = coordinate_scores(sample)
    max_z, family = float(z[tested].max(initial=0.0)), max(int(tested.sum()), 1)
    single = min(2 * stats.t.sf(max_z, max(n - 1, 1)), 1 - 1e-16)
    error = np.sqrt(sample.variance / n + truth_se**2)[tested]
    detectable = stats.norm.isf(0.025 / family) + stats.norm.isf(0.2)
    return Bias(
        squared=squared,
        squared_se=squared_se,
        max_z=max_z,
        p_value=float(-np.expm1(family * np.log1p(-single))),
        tested=int(tested.sum()),
        min_detectable=float(detectable * error.max(initial=0.0)),
        covariance_norm=math.sqrt(total_squared),
        along=max(part / whole if whole > 0 else 0.0 for part, whole in directions),
        null_se=math.sqrt(null_variance),
        quantile=float(stats.t.isf(0.025, blocks - 1)) if blocks > 1 else Z95,
        count=n,
    )


def coordinate_scores(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The size of each coordinate's offset in standard errors, corrected for skewness, and whether it can be judged by it.

    An estimate that is nonzero once in a thousand draws has, after a thousand, a mean that is off by its own size and a
    standard error that knows nothing of it. Such a coordinate is left out of the test until it has shown `FEWEST_EVENTS`
    effective events, `n / kurtosis`; one that never varied is left out too, unless it is right, or the estimator draws
    nothing at all. For the others Hall's (1992) transformation takes the skewness out of the t statistic. Events that were
    not seen at all leave no trace in any moment of their own coordinate, but their size is that of the estimates elsewhere:
    no standard error is believed below the root mean square of all. A tenth of that is not enough: where a good baseline
    has made what is often seen small, the events that are not seen are as large as ever.
    """
    n = sample.count
    error = np.sqrt(sample.variance / n + sample.truth_se**2)
    total = np.maximum(np.hypot(error, sample.resolution), math.sqrt(np.mean(error**2)))
    t = sample.offset / np.where(total > 0, total, 1.0)
    varies = sample.variance > 0
    tested = varies | sample.deterministic | (np.abs(sample.offset) <= sample.resolution)
    if sample.third is None or sample.fourth is None:
        return np.abs(t), tested
    scale = np.where(varies, sample.variance, 1.0)
    tested &= ~varies | (sample.fourth / scale**2 <= n / FEWEST_EVENTS)
    # What is added to the error of the mean is not skewed, and dilutes its skewness.
    share = sample.variance / n / np.where(total > 0, total, 1.0) ** 2
    a = sample.third / scale**1.5 / math.sqrt(n) * np.where(varies, share, 0.0) ** 1.5
    return np.abs(t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6), tested


def covariance_squared_trace(blocks: np.ndarray, count: int) -> float:
    """`tr Sigma^2`, unbiased, from block means `[b, d]` of `count / b` replicates each.

    Differences of disjoint pairs of blocks are independent with covariance `2 Sigma b / count`; the expected square of
    the inner product of two such differences is the squared Frobenius norm of that.
    """
    pairs = len(blocks) // 2
    if pairs < 2:
        return float(np.sum(np.var(blocks, axis=0)) ** 2 * count**2) if pairs else 0.0
    differences = blocks[: 2 * pairs : 2] - blocks[1 : 2 * pairs : 2]
    gram = differences @ differences.T
    mean_square = (np.sum(gram**2) - np.sum(np.diag(gram) ** 2)) / (pairs * (pairs - 1))
    return max(float(mean_square), 0.0) * (count / len(blocks)) ** 2 / 4


class Variance(NamedTuple):
    """The trace of a covariance with its standard error and 95 % interval."""

    trace: float
    standard_error: float
    low: float
    high: float


def variance(trace: float, square_sum: float, fourth_sum: float, count: int) -> Variance:
    """`tr Sigma` with an interval on the log scale, from the sums of `q` and of `q^2`."""
    # Squares of deviations that are rounding alone may underflow where their sum in float64 does not.
    if trace <= 0 or square_sum <= 0 or count < 2:
        return Variance(max(trace, 0.0), 0.0, max(trace, 0.0), max(trace, 0.0))
    mean = square_sum / count
    spread = math.sqrt(max(fourth_sum / count - mean**2, 0.0) * count / (count - 1))
    log_se = spread / (mean * math.sqrt(count))
    return Variance(trace, trace * log_se, trace * math.exp(-Z95 * log_se), trace * math.exp(Z95 * log_se))


def pareto_shape(tail: np.ndarray) -> float:
    """The shape `k` of a generalised Pareto law fitted to the exceedances of `tail` over its smallest value; NaN if
    there are fewer than five.

    Values equal to the smallest exceed nothing: of an estimator that is mostly zero they may be half of the tail.

    Zhang and Stephens' (2009) posterior-mean estimate with the weak prior towards 1/2 of Vehtari et al., Pareto
    smoothed importance sampling, 2024.
    """
    excess = np.sort(tail) - np.min(tail, initial=np.inf)
    excess = excess[excess > 0]
    n = len(excess)
    if n < 5:
        return math.nan
    quartile = excess[max(int(n / 4 + 0.5) - 1, 0)]
    grid = 30 + int(math.sqrt(n))
    candidates = 1 / excess[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    # At zero the profile has a limit, and no value.
    candidates = np.where(candidates == 0, 1e-9 / excess[-1], candidates)
    shapes = np.mean(np.log1p(-candidates[:, None] * excess[None]), axis=1)
    profile = n * (np.log(-candidates / shapes) - shapes - 1)
    weights = np.exp(profile - profile.max())
    scale = np.sum(candidates * weights) / np.sum(weights)
    return float((np.mean(np.log1p(-scale * excess)) * n + 5) / (n + 10))


def verdict(
    measured: Bias, unbiased: bool, scale: float, epsilon: float = 0.01, level: float = 1e-3
) -> tuple[str, int | None]:
    """A verdict on bias, and the number of replicates that would settle an undetermined one.

    `scale` is what `epsilon` is relative to. `biased by design` is what the estimator declares; `biased` is a finding
    at the family-wise `level`; `unbiased within eps` means that the whole 95 % interval of the bias lies below `epsilon
    * scale`; anything else is `undetermined`.
    """
    if not unbiased:
        return "biased by design", None
    if measured.p_value < level:
        return "biased", None
    margin = (epsilon * scale) ** 2
    if measured.interval[1] <= margin:
        return "unbiased within eps", None
    # The estimate itself will not be zero, but about one standard error from it.
    upper = measured._replace(squared=measured.null_se).interval[1] * measured.count
    needed = upper / margin if margin > 0 else math.inf
    return "undetermined", math.ceil(needed) if math.isfinite(needed) else None
