"""Limits: whether a variance lies below a bound, and how an assertion says so.

The lower limit is exceeded by a variance with probability at most the one that a user grants false alarms, the upper
limit falls short of it with probability at most the one of a miss. A bound below the first is broken, one above the
second is kept, and in between it cannot be told: the width of the interval on the log scale falls as the root of the
number of replicates, which gives the number that would tell.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from scipy import stats

from . import statistics
from .coordinates import names, variance_intervals
from .findings import aligned, counted, in_short, infinite_complaint, round_up
from .measurement import Measurement, flatten


class Limits(NamedTuple):
    """Variances with a lower and an upper limit, each one-sided, and what they are held against."""

    names: list[str]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray

    def rows(self, where: np.ndarray) -> str:
        """A line for each of these, the worst first."""
        with np.errstate(divide="ignore"):
            order = where[np.argsort(-self.value[where] / self.bound[where], kind="stable")]
        head = ("variance of", "value", "low", "high", "bound")
        numbers = np.stack([self.value, self.low, self.high, self.bound], axis=1)
        return aligned(head, [(self.names[i] or "value", *map(in_short, numbers[i])) for i in order])

    def needed(self, count: int) -> float:
        """The replicates after which the bound should lie outside of every interval."""
        gap = np.abs(np.log(self.bound / np.where(self.value > 0, self.value, 1.0)))
        width = np.log(np.where(self.value > 0, self.high / np.where(self.low > 0, self.low, 1.0), 1.0))
        ratio = np.divide(width, gap, out=np.full_like(gap, math.inf), where=gap > 0)
        return float(count * ratio.max() ** 2)


def variance_limits(m: Measurement, bound: PyTree, false_alarm: float, missed: float) -> Limits:
    """The trace against a number, or each coordinate against one of its own (lower limits family-wise, by Bonferroni).

    An upper limit needs no correction: whichever coordinate lies above its bound must pass on its own.
    """
    upper = stats.norm.isf(missed)
    # A dict has no dimension either, as NumPy sees it.
    if jax.tree.structure(bound) == jax.tree.structure(0.0) and np.ndim(bound) == 0:
        spread, trace = m.spreads[m.parts[0]], float(m.moments.variance.sum())
        found = statistics.variance(trace, spread.squares.sum(), spread.fourths, m.moments.count)
        log_se = found.standard_error / trace if trace > 0 else 0.0
        low, high = trace * math.exp(-stats.norm.isf(false_alarm) * log_se), trace * math.exp(upper * log_se)
        return Limits(["one estimate"], *(np.array([x], float) for x in (trace, low, high, bound)))
    lower = stats.norm.isf(false_alarm / m.work.size)
    low, high = flatten(variance_intervals(m, lower)[0]), flatten(variance_intervals(m, upper)[1])
    return Limits(names(m.work.shapes), m.moments.variance, low, high, flatten(bound))


def variance_complaint(name: str, m: Measurement, limits: Limits, false_alarm: float) -> str | None:
    """Which variances lie above their bounds; `None` if none is seen to."""
    if complaint := infinite_complaint(name, m):
        return complaint
    above = np.flatnonzero(limits.low > limits.bound)
    if not len(above):
        return None
    return (
        f"The variance of {name} is not below the bound.\n{limits.rows(above)}\n"
        f"{counted(m.moments.count, 'replicate')}; a variance below the bound fails with probability {false_alarm:g}."
    )


def doubt(name: str, m: Measurement, limits: Limits) -> str | None:
    """Why it cannot be told whether the variances lie below their bounds; `None` if they do."""
    khat = statistics.pareto_shape(m.spreads[m.parts[0]].tail)
    if khat > statistics.HEAVY:
        return (
            f"{name} has tails so heavy (k-hat {khat:.2f}, above {statistics.HEAVY}) that no interval of its variance can be "
            "trusted at this size; pass `allow_underpowered=True` to be told of an excess only."
        )
    unsure = np.flatnonzero(limits.high >= limits.bound)
    if not len(unsure):
        return None
    worst = Limits(*([x[i] for i in unsure] if isinstance(x, list) else x[unsure] for x in limits)).needed(
        m.moments.count
    )
    remedy = f"Give `replicates={round_up(worst)}`" if math.isfinite(worst) else "Give more replicates"
    return (
        f"Underpowered: {m.moments.count:,} replicates cannot tell whether the variance of {name} is below the bound. "
        f"{remedy}, or `allow_underpowered=True`.\n{limits.rows(unsure)}"
    )
