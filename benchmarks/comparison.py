"""Comparison: what two records of one problem say about each other's variance.

Write `q_A = |G_A - mean|^2 n / (n - 1)` for the squared distances of estimator `A`, whose mean over `n` replicates is
its variance `S_A`. To first order

    log(S_A / S_B) - log(Sigma_A / Sigma_B) = mean of d,   d = q_A / S_A - q_B / S_B,

(the mean of `G` in place of its expectation costs a term of the order `1 / n`). Replicates are independent, so the
means of `d` over `b` blocks of consecutive ones are too, each with variance `var(d) / m` for `m` replicates a block; their sample
variance over `b` estimates `var(d) / n` without bias, with `b - 1` degrees of freedom. Nothing is assumed of how `A` and
`B` are related *within* a replicate: where they drew from one key this is the paired error, which common random
numbers make small, and where they share nothing it is the unpaired one. What is needed is that block `i` of `A` has
nothing to do with block `j` of `B`: the same stream, cut in the same places. Elsewhere the errors of the two are added
in quadrature; that is right for independent streams, and too wide where noise is shared and makes them move together.
Blocks whose sizes differ by a few per cent (edges lie on a grain) are taken as equal, which changes the error by as much at most.
"""

import functools
import json
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

# Replicate i of two records had the same key, and was put into the same block, where all of these agree.
SHARED = ("problem", "parameters", "seed", "stream", "replicates")
# Fewer blocks than this say too little about the scatter between them.
FEWEST_BLOCKS = 16
# Results for other batches or other numbers of devices agree to this, so no two variances are told apart below it.
RESOLUTION = 1e-6


class ComparisonError(ValueError):
    """What cannot be compared, as a sentence."""


class Ratio(NamedTuple):
    """A ratio of two variances, or of variances times costs: its logarithm, the standard error of that, and the degrees
    of freedom of the error. `unpaired` says why it is not paired, and is empty where it is."""

    log: float
    error: float
    freedom: float
    unpaired: str = ""

    @property
    def paired(self) -> bool:
        """Whether the error knows that the two saw the same noise."""
        return not self.unpaired

    @property
    def value(self) -> float:
        """The ratio itself."""
        return math.exp(self.log)

    @property
    def half_width(self) -> float:
        """Half the length of the 95 % interval of the logarithm."""
        return self.error * _quantile(self.freedom)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the ratio."""
        return math.exp(self.log - self.half_width), math.exp(self.log + self.half_width)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of a ratio of one."""
        t = -abs(self.log) / self.error
        return float(2 * (special.ndtr(t) if math.isinf(self.freedom) else special.stdtr(self.freedom, t)))


@functools.cache
def _quantile(freedom: float) -> float:
    return float(special.ndtri(0.975) if math.isinf(freedom) else special.stdtrit(freedom, 0.975))


def log_ratio(a: Mapping, b: Mapping, cost: str | None = None, *, pair: bool = True) -> Ratio:
    """The variance of record `a` over that of record `b`, each times its `cost` if one is named.

    Paired where the records allow it and `pair` is true. A cost is taken as known: evaluations are, and of a time the
    interval says nothing. Raises `ComparisonError` where a variance is not positive.
    """
    for record in (a, b):
        if not record["variance"] > 0:
            raise ComparisonError(f"{record['estimator']} on {record['problem']} has no variance to compare.")
    log = math.log(a["variance"] / b["variance"]) + (math.log(a[cost] / b[cost]) if cost else 0.0)
    reason = unpaired_because(a, b) if pair else "not asked for"
    if reason:
        error = math.hypot(*(record["variance_se"] / record["variance"] for record in (a, b)))
        return Ratio(log, math.hypot(error, RESOLUTION), math.inf, reason)
    blocks = [relative_blocks(record["variance_blocks"]) for record in (a, b)]
    error = float(np.std(blocks[0] - blocks[1], ddof=1)) / math.sqrt(len(blocks[0]))
    return Ratio(log, math.hypot(error, RESOLUTION), float(len(blocks[0]) - 1))


def unpaired_because(a: Mapping, b: Mapping) -> str:
    """Why two records cannot be compared block by block, in words; empty if they can."""
    for name in SHARED:
        if pd.isna(a[name]) or pd.isna(b[name]):
            return f"no {name} in the records"
        if a[name] != b[name]:
            return f"other {name}"
    texts = [record["variance_blocks"] for record in (a, b)]
    if any(map(pd.isna, texts)):
        return "no blocks in the records"
    counts = [len(relative_blocks(text)) for text in texts]
    if min(counts) < FEWEST_BLOCKS or counts[0] != counts[1]:
        return f"{counts[0]} and {counts[1]} blocks"
    return ""


@functools.lru_cache(maxsize=4096)
def relative_blocks(text: str) -> np.ndarray:
    """The field `variance_blocks` of a record as an array over its mean; all ones if every block is zero."""
    blocks = np.array(json.loads(text), dtype=np.float64)
    mean = blocks.mean() if blocks.size else 0.0
    relative = blocks / mean if mean > 0 else np.ones_like(blocks)
    relative.flags.writeable = False
    return relative
