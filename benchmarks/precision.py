"""Precision on demand: what a target means, when it is reached, and why stopping there spoils no interval.

A relative target, `1%`, asks that the half-width of the 95 % interval of the variance be at most 1 % of the variance,
and the minimum detectable bias at most 1 % of the norm of the truth or, where that is near zero, of a tenth of the
standard deviation of one estimate: averaging a million estimates leaves more noise than such a bias. An absolute
target, `0.002`, asks that both be at most that, each in its own unit. A truth's own standard error is left out of the
second, since no replicates make it smaller.

A run that stops when an interval is narrow stops more readily when it is too narrow by chance. Three things keep that
small: looks are few, since each doubles the replicates; the first comes after `FEWEST_REPLICATES`; and a variance is
believed once its interval rests on `FEWEST_EFFECTIVE` effective squared deviations, `n mean(q)^2 / var(q)`. What is
left of it is measured by `stopping`. A variance of zero, or a gradient of which no coordinate can be tested yet, ends
no run.
"""

import math
from typing import NamedTuple

from .schedule import looks

FEWEST_REPLICATES = 4096
FEWEST_EFFECTIVE = 400
# What a run may take at most where nothing else is said.
BUDGET = 2**20
# Of the standard deviation of one estimate: what a bias is relative to where the truth is smaller.
FLOOR = 0.1


class Precision(NamedTuple):
    """A target: a share of what is measured if `relative`, else a width in its unit."""

    width: float
    relative: bool = True

    @staticmethod
    def parse(text: str) -> "Precision":
        """The target that `text` names; raises `ValueError`, as a sentence.

        >>> Precision.parse("1%"), Precision.parse("0.002")
        (Precision(width=0.01, relative=True), Precision(width=0.002, relative=False))
        """
        relative = text.endswith("%")
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf or (relative and number > 100):
            raise ValueError(
                f"needs a share such as 1%, above 0 and at most 100%, or a width such as 0.002, got {text!r}"
            )
        return Precision(number / 100 if relative else number, relative)

    @staticmethod
    def share(number: float) -> "Precision":
        """The relative target `number`, 0.01 for 1 %; raises `ValueError`, as a sentence."""
        return Precision.parse(f"{100 * number:.10g}%")

    def __str__(self) -> str:
        return f"{100 * self.width:.10g}%" if self.relative else f"{self.width:.10g}"


class Standing(NamedTuple):
    """Where a part of a gradient stands: its variance with the standard error and the interval, the minimum detectable
    bias and the norm of the truth (both `None` where the truth is unknown), and how many coordinates could be tested."""

    variance: float
    standard_error: float
    low: float
    high: float
    detectable: float | None
    truth_norm: float | None
    tested: int

    def reached(self, target: Precision) -> float:
        """The precision that there is, in the unit of the target."""
        half = (self.high - self.low) / 2
        if not target.relative:
            return max(half, self.detectable or 0.0)
        scale = max(self.truth_norm or 0.0, FLOOR * math.sqrt(self.variance))
        shares = [(half, self.variance), (self.detectable or 0.0, scale)]
        return max(amount / of if of > 0 else 0.0 for amount, of in shares)

    def meets(self, target: Precision) -> bool:
        """Whether that is enough to stop."""
        if self.variance <= 0 or (self.detectable is not None and self.tested == 0):
            return False
        believed = bool(self.standard_error <= self.variance / math.sqrt(FEWEST_EFFECTIVE))
        return believed and bool(self.reached(target) <= target.width)


def rounds(budget: int, target: Precision | None) -> list[int]:
    """The numbers of replicates after which a cell is looked at, the last of them all that it may take."""
    return [budget] if target is None else looks(budget, FEWEST_REPLICATES)
