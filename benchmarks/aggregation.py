"""Aggregation: what many problems say together of an estimator.

The score of an estimator on a problem is `log2(v c / v_0 c_0)`, its variance times its cost over that of the baseline.
Scores are averaged and variances never are: those of two problems have different units, and the larger would be all
that is seen. A mean of scores is the logarithm of a geometric mean of ratios; the interquartile mean leaves out a quarter of
the problems at each end. The performance profile of an estimator at `t` is the share of all problems on which its variance
times cost is within a factor `t` of the lowest (Dolan and More, Benchmarking optimization software with performance
profiles, 2002; interquartile means and stratified bootstrap: Agarwal et al., Deep reinforcement learning at the edge of
the statistical precipice, 2021, arXiv:2108.13264).

Intervals come from a stratified bootstrap: within each problem the blocks of replicates are drawn again, the same ones for all
estimators that share a stream, so that what common random numbers took out of a ratio stays out. Problems are taken as
given, so an interval speaks of these problems; with `resample_problems` they are drawn again too, and it speaks of a population of
which they are a sample.
"""

import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from .comparison import FEWEST_BLOCKS, SHARED, relative_blocks

DRAWS = 2000
SEED = 20_240_501
# With fewer problems than this, a summary of them hides more than it says.
FEWEST_PROBLEMS = 5
# Quarter of the problems that an interquartile mean leaves out at each end.
QUARTER = 0.25


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def resampled(rows: pd.DataFrame, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Log variances of records of one problem under resampling of their blocks.

    Records that agree in stream, replicates, seed and part see the same blocks; one without blocks is drawn from the
    normal law of its logarithm instead. The same problem and seed give the same numbers, whatever else a run holds.
    """
    generator = np.random.default_rng([seed, zlib.crc32(rows["problem"].iat[0].encode())])
    out = np.empty((draws, len(rows)))
    for places in _strata(rows):
        texts = rows["variance_blocks"].iloc[places]
        if pd.isna(texts.iat[0]):
            relative = (rows["variance_se"] / rows["variance"]).iloc[places].to_numpy(float)
            noise = relative * generator.standard_normal((draws, len(places)))
        else:
            blocks = np.stack([relative_blocks(text) for text in texts])
            count = blocks.shape[1]
            weights = generator.multinomial(count, np.full(count, 1 / count), size=draws) / count
            # The resampled spread of a mean of `count` is too small by this much.
            noise = np.sqrt(count / (count - 1)) * np.log(weights @ blocks.T)
        out[:, places] = np.log(rows["variance"].to_numpy(float)[places]) + noise
    return out


def _strata(rows: pd.DataFrame) -> list[list[int]]:
    """Places of the rows that share their blocks; each without blocks is alone."""
    strata: dict[tuple, list[int]] = {}
    for place, row in enumerate(rows.to_dict("records")):
        text = row["variance_blocks"]
        count = 0 if pd.isna(text) else len(relative_blocks(text))
        shared = tuple(row[name] for name in SHARED)
        alone = count < FEWEST_BLOCKS or any(map(pd.isna, shared))
        strata.setdefault((place,) if alone else (count, *shared), []).append(place)
    return list(strata.values())


def geometric_mean(scores: np.ndarray) -> np.ndarray | np.floating:
    """The geometric mean of the ratios whose binary logarithms are `scores`.

    >>> float(geometric_mean(np.array([-1.0, 0.0, 4.0])))
    2.0
    """
    return 2.0 ** np.mean(scores, axis=-1)


def interquartile_mean(scores: np.ndarray) -> np.ndarray | np.floating:
    """The same over the middle half of the problems.

    >>> float(interquartile_mean(np.array([-60.0, 1.0, 1.0, 2.0, 0.0, 90.0])))
    2.0
    """
    count = scores.shape[-1]
    cut = int(QUARTER * count)
    return 2.0 ** np.mean(np.sort(scores, axis=-1)[..., cut : count - cut], axis=-1)


def profile(scores: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The share of problems on which each estimator is within each factor of the best; scores may be `inf` for an
    estimator that has no number on a problem, and then it is within none.

    >>> profile(np.array([[0.0, 2.0, np.inf], [1.0, 0.0, 0.0]]), np.array([1.0, 2.0, 4.0])).round(2).tolist()
    [[0.33, 0.33, 0.67], [0.67, 1.0, 1.0]]
    """
    behind = scores - np.min(scores, axis=-2, keepdims=True)
    return np.mean(behind[..., None, :] <= np.log2(factors)[:, None], axis=-1)


def with_bootstrap(statistic, scores: np.ndarray, draws: np.ndarray, resample_problems: bool = False):
    """A statistic of scores with the 95 % percentile interval of its bootstrap `draws`."""
    if resample_problems:
        generator = np.random.default_rng(SEED)
        chosen = generator.integers(draws.shape[1], size=draws.shape)
        draws = np.take_along_axis(draws, chosen, axis=1)
    low, high = np.quantile(statistic(draws), [0.025, 0.975])
    return Interval(float(statistic(scores)), float(low), float(high))
