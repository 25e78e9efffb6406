"""Averaging: what the mean of `K` independent estimates is off by, and from where on more of them do not help.

The mean of `K` estimates has the bias `b` of one and `1 / K` of its variance, so that

    MSE(K) = |b|^2 + tr Sigma / K,

and beyond `K* = tr Sigma / |b|^2` the bias is the larger part. Intervals come from the ends of the two 95 % intervals of
a record. For any correlation of their errors, the error of `B K - V` (`B` estimates `|b|^2`, `V` the variance) is at most
`K se_B + se_V`, so `|B K - V| <= z (K se_B + se_V)` holds with 95 % or more at `K*`; solved for `K` that is

    (V - z se_V) / (B + z se_B) <= K <= (V + z se_V) / (B - z se_B),

the variance's lower end over the bias's upper end, and the other way round: no allowance for two intervals is needed. It
has no upper end where `B - z se_B <= 0`, that is where no bias is seen; then averaging may help for ever.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from .records import safe_name
from .selection import thin
from .tables import MOST_POINTS, MOST_SETTINGS
from .typesetting import Table, with_interval

COUNTS = (1.0, 10.0, 100.0, math.inf)
COLUMNS = ("estimator", *(f"K = {count:g}".replace("inf", "∞") for count in COUNTS), "K*")


class Span(NamedTuple):
    """A number with the ends of its 95 % interval; either may be infinite."""

    value: float
    low: float
    high: float


def mean_squared_error(record: Mapping, count: float) -> Span:
    """`E |mean of count estimates - truth|^2`; `count` may be infinite. Negative by chance where all of it is small."""
    value = record["bias_sq"] + record["variance"] / count
    low = max(record["bias_sq_ci_low"], 0.0) + record["variance_ci_low"] / count
    return Span(value, min(low, value), record["bias_sq_ci_high"] + record["variance_ci_high"] / count)


def crossover(record: Mapping) -> Span:
    """The number of averaged estimates beyond which bias is the larger part of their error."""
    return Span(
        _over(record["variance"], record["bias_sq"]),
        _over(record["variance_ci_low"], record["bias_sq_ci_high"]),
        _over(record["variance_ci_high"], record["bias_sq_ci_low"]),
    )


def _over(variance: float, bias_squared: float) -> float:
    return variance / bias_squared if bias_squared > 0 else math.inf


def averaging_tables(rows: pd.DataFrame) -> list[Table]:
    """One table for each family of the headline rows that `tables.measurements` gives, of the estimators with a bias,
    declared or found; an exact one has nothing to average."""
    biased = rows["verdict"].isin(["biased", "biased by design"]) & ~rows["exact"]
    known = rows[biased & rows["bias_sq"].notna() & rows["variance_ci_low"].notna()]
    return [_table(f"{name}-averaging", group) for name, group in known.groupby("family", sort=False)]


def _table(name: str, frame: pd.DataFrame) -> Table:
    shown, left_out = thin(frame, MOST_POINTS, MOST_SETTINGS)
    leading = ["point"] if shown["problem"].nunique() > 1 else []
    rows = [
        (
            *(row[column] for column in leading),
            row["label"] + (" †" if row["heavy_tailed"] else ""),
            *(with_interval(*mean_squared_error(row, count)) for count in COUNTS),
            crossover_text(crossover(row)),
        )
        for row in shown.to_dict("records")
    ]
    return Table(safe_name(name), caption(frame, left_out), (*leading, *COLUMNS), rows)


def crossover_text(span: Span) -> str:
    """A crossover in words where it, or its upper end, is unbounded."""
    if math.isinf(span.low):
        return "no bias seen"
    if math.isinf(span.value):
        return f"no bias seen; {with_interval(span.low)} or more"
    if math.isinf(span.high):
        return f"{with_interval(span.value)} [{with_interval(span.low)}, ∞]"
    return with_interval(*span)


def caption(frame: pd.DataFrame, left_out: str = "") -> str:
    """What the columns are, and how far their intervals can be trusted."""
    sentences = [
        f"{frame['family'].iat[0]}: mean squared error of the mean of K estimates, |b|² + variance / K, for estimators with a "
        "bias, declared or found; in the squared unit of the gradient. K* = variance / |b|² is the number of estimates beyond which "
        "the bias is the larger part of it and averaging is of no more use.",
        "Brackets are intervals of at least 95 %, from the ends of the 95 % intervals of |b|² and of the variance; K* has no upper "
        "end where no bias is seen.",
    ]
    if frame["heavy_tailed"].any():
        sentences.append("† marks tails so heavy that the interval of the variance does not cover, nor these.")
    if left_out:
        sentences.append(f"Not shown: {left_out}.")
    return " ".join(sentences)
