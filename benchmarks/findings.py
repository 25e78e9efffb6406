"""Findings: what an assertion concludes from a measurement, coordinate by coordinate, and how it says so.

A coordinate is off by `b` with standard error `e`. It is found at the level `a`, family-wise over `m` coordinates, once
`|b| > q(a) e`, with `q(a)` the quantile of `a / (2 m)`; a bias `d` is missed with probability `c` at most if
`(q(a) + q'(c)) e <= d`, with `q'(c)` the normal quantile of `c`. Since `e^2 = v / n + s^2`, where `s` is the standard
error of the truth, that takes `n = v / (d^2 / (q + q')^2 - s^2)` replicates.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from . import statistics
from .coordinates import names, sample_of
from .measurement import Measurement

# Coordinates that a message lists; the worst come first.
MOST_LISTED = 10


class Offsets(NamedTuple):
    """Each coordinate of a mean against its truth (`[d]`): `z` is signed and corrected for skewness, `p_value` is
    family-wise over those that were `tested`."""

    names: list[str]
    sample: statistics.Sample
    mean: np.ndarray
    error: np.ndarray
    z: np.ndarray
    p_value: np.ndarray
    tested: np.ndarray

    def rows(self, where: np.ndarray) -> str:
        """A line for each of these coordinates, the farthest off first."""
        order = where[np.argsort(-np.abs(self.z[where]), kind="stable")]
        head = ("coordinate", "mean", "truth", "standard error", "z", "adjusted p")
        numbers = np.stack([self.mean, self.mean - self.sample.offset, self.error, self.z], axis=1)
        return aligned(
            head, [(self.names[i] or "value", *map(in_short, numbers[i]), self._p_text(i)) for i in order.tolist()]
        )

    def _p_text(self, i: int) -> str:
        return "untested" if not self.tested[i] else in_short(self.p_value[i]) if self.p_value[i] > 0 else "< 1e-300"

    def needed(self, detects: float | int, false_alarm: float, missed: float) -> np.ndarray:
        """The replicates that each coordinate needs to show a bias of `detects`; infinite where the truth is too vague,
        or where nothing was seen that could be judged."""
        s = self.sample
        quantiles = stats.norm.isf(false_alarm / 2 / max(len(self.tested), 1)) + stats.norm.isf(missed)
        room = (detects / quantiles) ** 2 - s.truth_se**2
        needed = np.divide(s.variance, room, out=np.full_like(room, math.inf), where=room > 0)
        needed[(s.variance == 0) & (s.truth_se == 0)] = 0.0
        kurtosis = _kurtosis(s)
        events = np.where(s.variance > 0, statistics.FEWEST_EVENTS * kurtosis, math.inf)
        return np.where(self.tested, needed, np.maximum(needed, events))


def offsets(m: Measurement) -> Offsets:
    """What a measurement says of the bias of each coordinate."""
    sample = sample_of(m)
    scores, tested = statistics.coordinate_scores(sample)
    # What draws nothing is off by rounding or not at all, and one replicate of it has no degrees of freedom to speak of.
    law = stats.norm if sample.deterministic else stats.t(max(sample.count - 1, 1))
    single = np.minimum(2 * law.sf(scores), 1 - 1e-16)
    return Offsets(
        names=names(m.work.shapes),
        sample=sample,
        mean=m.moments.mean,
        error=np.sqrt(sample.variance / sample.count + sample.truth_se**2),
        z=np.copysign(scores, sample.offset),
        p_value=np.where(tested, -np.expm1(max(tested.sum(), 1) * np.log1p(-single)), np.nan),
        tested=tested,
    )


def bias_complaint(name: str, m: Measurement, false_alarm: float) -> str | None:
    """Why a mean is not its truth, as sentences with a table; `None` if nothing is seen."""
    if complaint := infinite_complaint(name, m):
        return complaint
    found = offsets(m)
    guilty = np.flatnonzero(found.p_value < false_alarm)
    if not len(guilty):
        return None
    return (
        f"{name} is biased: {_off(len(guilty), len(found.names))} by more than chance allows.\n{found.rows(guilty)}\n"
        f"{counted(m.moments.count, 'replicate')}; a right gradient fails with probability {false_alarm:g}, family-wise over the "
        f"{counted(int(found.tested.sum()), 'coordinate')} tested."
    )


def power_complaint(name: str, m: Measurement, detects: float | int, false_alarm: float, missed: float) -> str | None:
    """Why a bias of `detects` could have gone unseen, as a sentence with what would be needed; `None` if it could not."""
    found = offsets(m)
    needed = found.needed(detects, false_alarm, missed)
    weak = np.flatnonzero(needed > (math.inf if m.work.deterministic else m.moments.count) * (1 + 1e-9))
    silent = np.flatnonzero(~found.tested)
    if not len(weak) and not len(silent):
        return None
    where = np.union1d(weak, silent)
    worst = float(needed[where].max())
    what = (
        f"{counted(len(where), 'coordinate')} of {name} could be off by {in_short(detects)} with a chance above {missed:g} to "
        f"pass at {m.moments.count:,} replicates"
    )
    if math.isfinite(worst):
        remedy = f"Give `replicates={round_up(worst)}`, a larger `detects`, or `allow_underpowered=True`."
    elif len(silent) and not np.isfinite(needed[silent]).all():
        remedy = "Some never varied and are not their truth, so that no number of replicates can be named."
    else:
        remedy = "The truth itself is too vague for any number of replicates: give a more precise one, or a larger `detects`."
    return f"Underpowered: {what}. {remedy}\n{found.rows(where)}"


def infinite_complaint(name: str, m: Measurement) -> str | None:
    """Which coordinates have no moments because a replicate was not finite; `None` if all have."""
    bad = np.flatnonzero(~np.isfinite(m.moments.mean) | ~np.isfinite(m.moments.variance))
    if not len(bad):
        return None
    table = names(m.work.shapes)
    listed = ", ".join(table[i] or "value" for i in bad[:MOST_LISTED])
    more = f" and {len(bad) - MOST_LISTED} more" if len(bad) > MOST_LISTED else ""
    return f"{name} is not finite in some of {counted(m.moments.count, 'replicate')}, at {listed}{more}."


def round_up(number: float | int) -> int:
    """To two digits.

    >>> round_up(123_456), round_up(7.2)
    (130000, 8)
    """
    unit = 10 ** max(math.floor(math.log10(max(number, 1))) - 1, 0)
    return math.ceil(number / unit) * unit


def _kurtosis(s: statistics.Sample) -> np.ndarray:
    if s.fourth is None:
        return np.full_like(s.variance, math.inf)
    return s.fourth / np.where(s.variance > 0, s.variance, 1.0) ** 2


def _off(some: int, every: int) -> str:
    return f"{some} of {counted(every, 'coordinate')} {'is' if some == 1 else 'are'} off"


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_short(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def aligned(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Lines of columns, indented; no more than `MOST_LISTED` of them."""
    shown = [head, *rows[:MOST_LISTED]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(head))]
    lines = [
        "  " + row[0].ljust(widths[0]) + "".join("  " + t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))
        for row in shown
    ]
    return "\n".join(lines + ([f"  and {len(rows) - MOST_LISTED:,} more"] if len(rows) > MOST_LISTED else []))
