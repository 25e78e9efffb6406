"""Tables: records as a paper prints them.

One table shows one family of problems, which differ in their arguments only. What is too much to read is thinned
evenly, and the caption says by how much; the CSV file has everything.

A run tests many hypotheses of no bias. The p-value of a record is family-wise over its coordinates; over all records of
a run the tables apply Holm's step-down correction, and mark a verdict of bias that it does not support. An estimator
that declares to be biased is not tested.
"""

import math

import numpy as np
import pandas as pd

from .records import FIELDS, problem_arguments, safe_name
from .selection import arrange, thin
from .typesetting import MISSING, Table, duration, extent, with_interval

SIGNIFICANCE = 0.05
MOST_POINTS = 6
MOST_SETTINGS = 4
MOST_NAMED = 3
# Below this share of the squared norm of the truth, a variance or a squared bias is rounding.
ROUNDING = 1e-12
# A bias more than so many times the truth is given in the unit of the gradient.
LARGEST_SHARE = 10.0

COLUMNS = (
    "estimator",
    "verdict",
    "bias, % of truth",
    "variance",
    "variance × evaluations",
    "evaluations",
    "time",
    "notes",
)


def headline_tables(frame: pd.DataFrame) -> list[Table]:
    """One table for each family of problems, of the headline part of the gradient."""
    measured = measurements(frame)
    return [_table(name, group, False) for name, group in measured[measured["headline"]].groupby("family", sort=False)]


def part_tables(frame: pd.DataFrame) -> list[Table]:
    """One table for each family whose gradients have several parts, of all of them."""
    families = measurements(frame).groupby("family", sort=False)
    return [_table(f"{name}-parts", group, True) for name, group in families if not group["headline"].all()]


def measurements(frame: pd.DataFrame) -> pd.DataFrame:
    """The measured rows of `frame`, arranged, with what the whole run says of each: `tests` counts its tests of no
    bias, `unsupported` is a verdict of bias that does not survive Holm's correction, `exact` a variance of zero up to
    rounding."""
    frame = arrange(frame[frame["status"] == "ok"])
    tested = frame["bias_p_value"].where(frame["unbiased"].fillna(False).astype(bool))
    return frame.assign(
        tests=int(tested.notna().sum()),
        unsupported=(frame["verdict"] == "biased").fillna(False).astype(bool) & ~(holm(tested) < SIGNIFICANCE),
        exact=frame["variance"] <= ROUNDING * frame["truth_norm"].fillna(0.0) ** 2,
        heavy_tailed=frame["heavy_tailed"].fillna(False).astype(bool),
    )


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's adjusted p-values of one family; missing ones stay missing and do not count.

    >>> holm(pd.Series([0.04, 0.01, None])).tolist()
    [0.04, 0.02, nan]
    """
    known = p_values.dropna().astype(float).sort_values(kind="stable")
    adjusted = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1.0)
    return adjusted.reindex(p_values.index)


def lowest(frame: pd.DataFrame, cost: str | None = None) -> pd.Series:
    """Which variances, times `cost` if given, cannot be told from the lowest of their problem: their intervals overlap.

    Barred are exact gradients, heavy tails and whatever is biased.
    """
    factor = frame[cost].astype(float) if cost else 1.0
    fair = ~(frame["exact"] | frame["heavy_tailed"] | frame["verdict"].isin(["biased", "biased by design"]))
    low, high = frame["variance_ci_low"] * factor, (frame["variance_ci_high"] * factor).where(fair)
    best = high.groupby([frame["problem"], frame["parameters"]]).transform("min")
    return fair & (low <= best)


def _table(name: str, frame: pd.DataFrame, parts: bool) -> Table:
    shown, left_out = thin(frame, MOST_POINTS // 2 if parts else MOST_POINTS, MOST_SETTINGS)
    places = shown[["problem", "parameters"]].apply(lambda column: pd.factorize(column)[0])
    order = pd.concat([places, shown["variance"]], axis=1).sort_values([*places, "variance"], kind="stable").index
    shown = shown.loc[order].reset_index(drop=True)
    several = shown["problem"].nunique() > 1
    leading = [*(["point"] if several else []), *(["parameters"] if parts else [])]
    columns = (*("part" if column == "parameters" else column for column in leading), *COLUMNS)
    rows = [(*(row[column] for column in leading), *row_cells(row)) for _, row in shown.iterrows()]
    best = {"variance": lowest(shown), "variance × evaluations": lowest(shown, "evaluations")}
    bold = frozenset((row, columns.index(column)) for column, mark in best.items() for row in np.flatnonzero(mark))
    return Table(safe_name(name), caption(frame, left_out), columns, rows, bold)


def row_cells(row: pd.Series) -> tuple[str, ...]:
    """The texts of one row, as `COLUMNS` names them."""
    return (
        row["label"] + (" †" if row["heavy_tailed"] else ""),
        verdict_text(row) + (" ‡" if row["unsupported"] else ""),
        bias_text(row),
        "0 (exact)"
        if row["exact"]
        else with_interval(row["variance"], row["variance_ci_low"], row["variance_ci_high"]),
        "0" if row["exact"] else with_interval(row["variance_x_evaluations"]),
        MISSING if pd.isna(row["evaluations"]) else f"{row['evaluations']:,}",
        duration(row["seconds_per_estimate"]),
        notes(row),
    )


def verdict_text(row: pd.Series) -> str:
    """The verdict, with the number that `eps` stands for."""
    if pd.isna(row["verdict"]):
        return MISSING
    return row["verdict"] if pd.isna(row["epsilon"]) else row["verdict"].replace("eps", f"{100 * row['epsilon']:.3g} %")


def relative_bias(row: pd.Series) -> list[float] | None:
    """The bias and the ends of its interval as shares of the norm of the truth, negative where the squared bias is;
    `None` if it is unknown, or if the truth is so small beside them that a share says nothing."""
    biases = absolute_bias(row)
    known = pd.notna(row["truth_norm"]) and max(map(abs, biases)) <= LARGEST_SHARE * row["truth_norm"]
    return [bias / row["truth_norm"] if bias else 0.0 for bias in biases] if known else None


def absolute_bias(row: pd.Series) -> list[float]:
    """The bias and the ends of its interval, negative where the squared bias is; zero where it is rounding."""
    squares = [row["bias_sq"], row["bias_sq_ci_low"], row["bias_sq_ci_high"]]
    if row["exact"] and max(map(abs, squares)) <= ROUNDING * row["truth_norm"] ** 2:
        return [0.0, 0.0, 0.0]
    return [math.copysign(math.sqrt(abs(square)), square) for square in squares]


def bias_text(row: pd.Series) -> str:
    """The relative bias in percent, with its interval."""
    shares = relative_bias(row)
    return MISSING if shares is None else with_interval(*(100 * share for share in shares))


def notes(row: pd.Series) -> str:
    """What else a reader of the row must know."""
    found = []
    if row["heavy_tailed"]:
        found.append(f"heavy tails, k-hat {row['khat']:.2f}")
    if pd.notna(row["needed_replicates"]) and relative_bias(row):
        found.append(f"needs {with_interval(row['needed_replicates'])} replicates")
    if pd.notna(row["bias_sq"]) and relative_bias(row) is None:
        found.append(f"truth {with_interval(row['truth_norm'])}, bias {with_interval(*absolute_bias(row))}")
    return "; ".join(found)


def caption(frame: pd.DataFrame, left_out: str = "") -> str:
    """What the numbers of a family are and what stands behind them."""
    arguments = [problem_arguments(problem) for problem in frame["problem"].unique()]
    common = [f"{name} = {text}" for name, text in arguments[0].items() if all(a.get(name) == text for a in arguments)]
    cells = len(frame.drop_duplicates(["problem", "estimator", "hyperparameters", "seed", "replicates"]))
    what = {
        name: extent(frame[name])
        for name in ("parameters", "dim", "truth_kind", "replicates", "seed", "device", "dtype", "batch")
    }
    sentences = [
        f"{frame['family'].iat[0]}{' at ' + ', '.join(common) if common else ''}: gradient with respect to {what['parameters']}, "
        f"dimension {what['dim']}, truth: {what['truth_kind']}.",
        f"{what['replicates']} replicates, seed {what['seed']}, {cells:,} cells, {what['device']}, {what['dtype']}; "
        f"time for one estimate in batches of {what['batch']}.",
        "Brackets are 95 % intervals; a bias is negative where the estimate of its square is.",
        "Bold: not to be told from the lowest of its problem, exact and biased estimators left out.",
        f"The run makes {frame['tests'].iat[0]:,} tests of no bias, one family under Holm's correction at {100 * SIGNIFICANCE:.0f} %.",
    ]
    if frame["unsupported"].any():
        sentences.append("‡ marks a verdict that this correction does not support.")
    if frame["heavy_tailed"].any():
        sentences.append(
            "† marks tails so heavy that the interval of the variance does not cover; such rows are never bold."
        )
    if left_out:
        sentences.append(f"Not shown: {left_out}; the CSV file has them.")
    return " ".join(sentences)


def unmeasured_table(frame: pd.DataFrame) -> Table | None:
    """What failed or could not run, and why; `None` if everything ran. Pairs that share estimator and reason share a
    row."""
    frame = arrange(frame[frame["status"] != "ok"])
    if frame.empty:
        return None
    rows = []
    for (status, label, reason), group in frame.sort_values(
        "status", key=lambda s: s != "failed", kind="stable"
    ).groupby(["status", "label", "reason"], sort=False):
        problems = list(group["problem"].unique())
        more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        rows.append((label, status, ", ".join(problems[:MOST_NAMED]) + more, reason))
    count = frame.groupby("status").size()
    words = " and ".join(f"{number} {status}" for status, number in count.items())
    return Table(
        "not-measured", f"Pairs without numbers: {words}.", ("estimator", "status", "problems", "reason"), rows
    )


def to_csv(frame: pd.DataFrame) -> str:
    """All fields of all rows, numbers in full."""
    return frame[list(FIELDS)].to_csv(index=False, lineterminator="\n")
