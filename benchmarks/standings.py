"""Standings: who is ahead at equal cost, problem by problem, as far as the records can tell.

Estimators are ordered by variance times evaluations. One is *ahead* of another only where the interval of their ratio,
paired where they share their stream, leaves out one under Holm's correction over all pairs of the run; the rank of an
estimator is one more than the number of those ahead of it, so that what cannot be told apart shares a rank. Kept out,
with the reason, is whatever has no variance, no interval of it that covers, or a bias: a smaller variance is then no
merit.
"""

import itertools
import json

import pandas as pd

from .comparison import ComparisonError, Ratio, log_ratio
from .selection import as_number, flatten, reading_order, setting_texts
from .tables import SIGNIFICANCE, holm, measurements

COST = "evaluations"
BASELINE = "leave-one-out"


def standings(frame: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """The measured headline rows of a run with what the others say of them.

    `barred` is why a row is kept out, empty if it is not; `rank` its rank (`<NA>` if it is kept out); `pairs` the number of
    comparisons in the run's family; `reference` whether the others of its problem are given as multiples of it: the
    baseline, or where there is none the lowest; `against` whether that is the baseline; `ratio` the `Ratio` of its
    variance times evaluations to that of the reference, `None` if it is kept out; `setting` names the estimator alike in
    all families. Raises `ComparisonError` if a baseline is named that the run does not hold.
    """
    measured = measurements(frame)
    rows = measured[measured["headline"]].reset_index(drop=True)
    rows = rows.assign(barred=[barred(row) for _, row in rows.iterrows()], setting=_settings(rows), rank=pd.NA)
    rows = rows.assign(reference=False, against=False, ratio=None)
    if baseline is not None and not is_setting(rows, baseline).any():
        held = ", ".join(dict.fromkeys(rows["name"])) or "nothing measured"
        raise ComparisonError(f"The baseline {baseline!r} is not in this run, which holds {held}.")
    fields = rows.to_dict("records")
    chosen = is_setting(rows, baseline or BASELINE)
    pairs = []
    for _, group in rows[rows["barred"] == ""].groupby("problem", sort=False):
        reference, against = _reference(group, chosen)
        rows.loc[group.index, "against"] = against
        rows.loc[reference, "reference"] = True
        for i in group.index:
            rows.at[i, "ratio"] = log_ratio(fields[i], fields[reference], COST)
        pairs += [(i, j, log_ratio(fields[i], fields[j], COST)) for i, j in itertools.combinations(group.index, 2)]
    return rows.assign(rank=_ranks(rows, pairs), pairs=len(pairs))


def barred(row: pd.Series) -> str:
    """Why a measured row takes no part in a ranking, in words."""
    if row["exact"]:
        return "kept out: exact, it has no variance"
    if row["heavy_tailed"]:
        return f"kept out: heavy tails (k-hat {row['khat']:.2f}), no interval of its variance covers"
    if pd.notna(row["verdict"]) and row["verdict"] in ("biased", "biased by design"):
        return f"kept out: {row['verdict']}, a small variance is no merit"
    if pd.isna(row[COST]) or not row[COST] > 0 or pd.isna(row["variance_se"]) or not row["variance"] > 0:
        return "kept out: its cost or the error of its variance is unknown"
    return ""


def is_setting(rows: pd.DataFrame, text: str) -> pd.Series:
    """Which rows are of the estimator that `text` names: a name, or a name with settings as in `name:setting=value`."""
    name, _, rest = text.partition(":")
    wanted = dict(piece.split("=", 1) for piece in rest.split(",") if "=" in piece)
    if rest and len(wanted) != rest.count(",") + 1:
        raise ComparisonError(f"Cannot read the baseline {text!r}; write `name` or `name:setting=value`.")

    def fits(settings: str) -> bool:
        held = flatten(json.loads(settings))
        return all(
            key in held and (str(held[key]) == value or as_number(held[key]) == as_number(value) is not None)
            for key, value in wanted.items()
        )

    return (rows["name"] == name) & rows["hyperparameters"].map(fits).astype(bool)


def _reference(group: pd.DataFrame, chosen: pd.Series) -> tuple[int, bool]:
    """The row that the others of its problem are compared with, and whether it is the baseline: of several settings the
    cheapest."""
    of_baseline = group[chosen[group.index]]
    if of_baseline.empty:
        return int(group["variance_x_evaluations"].astype(float).idxmin()), False
    order = [(row[COST], reading_order(row["label"]), int(row.name)) for _, row in of_baseline.iterrows()]
    return min(order)[-1], True


def _ranks(rows: pd.DataFrame, pairs: list[tuple[int, int, Ratio]]) -> pd.Series:
    ahead = pd.Series(1, rows.index, dtype="Int64")
    adjusted = holm(pd.Series([ratio.p_value for _, _, ratio in pairs], dtype=float))
    for (i, j, ratio), p_value in zip(pairs, adjusted, strict=True):
        if p_value < SIGNIFICANCE:
            ahead[j if ratio.log < 0 else i] += 1
    return ahead.where(rows["barred"] == "")


def _settings(rows: pd.DataFrame) -> pd.Series:
    """Labels that tell the settings of an estimator apart in the same words for all families of problems."""
    labels = pd.Series("", rows.index, dtype=object)
    for name, group in rows.groupby("name", sort=False):
        labels[group.index] = [f"{name} ({text})" if text else name for text in setting_texts(group)]
    return labels
