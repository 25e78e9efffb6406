"""Differences: what changed between two runs, beyond what their joint error allows.

Two records are of one cell if problem, estimator, hyper-parameters and part of the gradient agree (and seed and
replicates, where a run holds the cell several times). Each such pair is tested twice: the ratio of variances against one,
paired where both runs drew from one stream, and the squared biases against each other. All tests of a comparison are one
family under Holm's correction. The two squared biases are taken as independent; on one stream they move together, and
the error of their difference is too large rather than too small.
"""

import json
import math
from collections.abc import Iterable, Iterator

import pandas as pd
from scipy import special

from .comparison import Ratio, log_ratio
from .records import Record, to_frame
from .selection import flatten
from .statistics import Z95
from .tables import ROUNDING, SIGNIFICANCE, holm, measurements
from .typesetting import MISSING, Table, with_interval

CELL = ("problem", "estimator", "hyperparameters", "parameters")
# What tells records of one cell in one run apart.
REPEATED = ("seed", "replicates")
# So many problems that only one run has are named.
MOST_PROBLEMS = 8
COLUMNS = ("problem", "estimator", "part", "variance, B / A", "squared bias, B − A", "notes")


def differences(first: Iterable[Record], second: Iterable[Record]) -> pd.DataFrame:
    """One row for each cell that both runs measured: `a` and `b`, its records; `ratio`, of the variance of `b` over that of `a`, or
    `None` with a reason in `untested`; `bias` and `bias_se`, the difference of squared biases; `differs`, the tests that survive
    Holm's correction, in words; `tests`, the size of the family."""
    a, b = (measurements(to_frame(records)).fillna({"parameters": ""}) for records in (first, second))
    key = list(CELL) if not any(frame.duplicated(list(CELL)).any() for frame in (a, b)) else [*CELL, *REPEATED]
    a, b = (frame.drop_duplicates(key).set_index(key, drop=False) for frame in (a, b))
    rows = [_pair(a.loc[name].to_dict(), b.loc[name].to_dict()) for name in a.index if name in b.index]
    frame = pd.DataFrame(rows, columns=["a", "b", "ratio", "untested", "bias", "bias_se", "p_variance", "p_bias"])
    adjusted = holm(pd.concat([frame["p_variance"], frame["p_bias"]], keys=["variance", "bias"]).astype(float))
    found = adjusted < SIGNIFICANCE
    words = [
        [word for word, differs in (("variance", found["variance"][i]), ("bias", found["bias"][i])) if differs]
        for i in frame.index
    ]
    return frame.assign(differs=words, tests=int(adjusted.notna().sum()))


def _pair(a: dict, b: dict) -> dict:
    reason = untested(a, b)
    ratio = None if reason else log_ratio(b, a)
    bias, bias_se = b["bias_sq"] - a["bias_sq"], math.hypot(a["bias_sq_se"], b["bias_sq_se"])
    return {
        "a": a,
        "b": b,
        "ratio": ratio,
        "untested": reason,
        "bias": bias,
        "bias_se": bias_se,
        "p_variance": ratio.p_value if ratio else math.nan,
        "p_bias": _bias_p_value(bias, bias_se, a["truth_norm"]),
    }


def untested(a: dict, b: dict) -> str:
    """Why the variances of a cell are not compared, in words; empty if they are."""
    for name in ("exact", "heavy_tailed"):
        if a[name] or b[name]:
            word = {"exact": "exact", "heavy_tailed": "heavy tails"}[name]
            return f"{word} in {'both' if a[name] and b[name] else 'A' if a[name] else 'B'}"
    known = all(pd.notna(record["variance_se"]) and record["variance"] > 0 for record in (a, b))
    return "" if known else "no error of a variance"


def _bias_p_value(bias: float, error: float, truth_norm: float) -> float:
    """The two-sided p-value of equal squared biases; what differs by rounding alone does not differ."""
    if pd.isna(bias) or pd.isna(error):
        return math.nan
    if abs(bias) <= ROUNDING * truth_norm**2:
        return 1.0
    return float(2 * special.ndtr(-abs(bias) / error)) if error > 0 else 0.0


def difference_table(rows: pd.DataFrame, everything: bool = False) -> Table:
    """Those rows of `differences` that differ, or all."""
    shown = rows if everything else rows[rows["differs"].map(len) > 0]
    texts = [
        (
            row.a["problem"],
            row.b["label"],
            row.a["parameters"] or MISSING,
            ratio_text(row.ratio),
            with_interval(row.bias, row.bias - Z95 * row.bias_se, row.bias + Z95 * row.bias_se),
            notes(row),
        )
        for row in shown.itertuples()
    ]
    bold = {(i, 3) for i, words in enumerate(shown["differs"]) if "variance" in words}
    bold |= {(i, 4) for i, words in enumerate(shown["differs"]) if "bias" in words}
    return Table("differences", caption(rows), COLUMNS, texts, frozenset(bold))


def ratio_text(ratio: Ratio | None) -> str:
    """A ratio with its interval."""
    return MISSING if ratio is None else with_interval(ratio.value, *ratio.interval)


def notes(row) -> str:
    """What else changed, and why a ratio has no test or no pairing."""
    found = [row.untested] if row.untested else [f"unpaired: {row.ratio.unpaired}"] if row.ratio.unpaired else []
    for name in ("evaluations", "verdict", "truth_kind", "dtype"):
        before, after = row.a[name], row.b[name]
        if pd.notna(before) and pd.notna(after) and before != after:
            found.append(f"{name.replace('_', ' ')} {before} → {after}")
    return "; ".join(found)


def caption(rows: pd.DataFrame) -> str:
    """What was compared with what, by how many tests."""
    tests = int(rows["tests"].iat[0]) if len(rows) else 0
    ratios = [ratio for ratio in rows["ratio"] if ratio is not None]
    paired = sum(ratio.paired for ratio in ratios)
    differing = int((rows["differs"].map(len) > 0).sum())
    return (
        f"{differing:,} of {len(rows):,} cells that both runs measured differ beyond their joint error (bold), in {tests:,} tests of equal "
        f"variance and equal bias, one family under Holm's correction at {100 * SIGNIFICANCE:.0f} %. Brackets are 95 % intervals; "
        f"{paired:,} of {len(ratios):,} ratios are paired block by block on one stream."
    )


def only_in_one(first: Iterable[Record], second: Iterable[Record]) -> list[str]:
    """What one run measured and the other did not, as sentences: problems it does not have, estimators it does not have
    on a problem, and cells for which it has a reason in place of numbers."""
    a, b = (_cells(records) for records in (first, second))
    return [*_only_in("A", a, "B", b), *_only_in("B", b, "A", a)]


def _only_in(name: str, here: dict, other: str, there: dict) -> Iterator[str]:
    problems = [problem for problem in here if problem not in there]
    if problems:
        more = f" and {len(problems) - MOST_PROBLEMS} more problems" if len(problems) > MOST_PROBLEMS else ""
        yield f"Only in {name}: all of {', '.join(problems[:MOST_PROBLEMS])}{more}."
    for problem in (problem for problem in here if problem in there):
        measured = {cell: record for cell, record in here[problem].items() if record["status"] == "ok"}
        lacking = [cell for cell in measured if cell not in there[problem]]
        if lacking:
            yield f"Only in {name}, on {problem}: {', '.join(lacking)}."
        for cell in (cell for cell in measured if cell not in lacking):
            found = there[problem][cell]
            if found["status"] != "ok":
                yield f"Measured in {name} only: {cell} on {problem}; in {other} it is {found['status']}: {found['reason']}"


def _cells(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """Headline records by problem and by estimator, in words that are alike in both runs."""
    cells: dict[str, dict[str, Record]] = {}
    for record in records:
        if record["headline"]:
            settings = ", ".join(
                f"{name} = {value}" for name, value in flatten(json.loads(record["hyperparameters"])).items()
            )
            words = f"{record['estimator']} ({settings})" if settings else record["estimator"]
            cells.setdefault(record["problem"], {})[words] = record
    return cells
