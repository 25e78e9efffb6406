"""Rankings: the standings of a run as tables, problem by problem and over all problems.

    FAMILY-ranking      ranks at equal cost, with the ratio of each estimator to the baseline
    over-problems       geometric and interquartile means of those ratios

There is no mean of variances here, and no ranking by time: the records hold one time for an estimate and nothing of how
it scatters, so a ratio of variance times seconds is printed with the interval of the variance alone.
"""

import math

import numpy as np
import pandas as pd

from .aggregation import DRAWS, FEWEST_PROBLEMS, geometric_mean, interquartile_mean, resampled, with_bootstrap
from .comparison import log_ratio
from .records import safe_name
from .selection import thin
from .standings import BASELINE, COST
from .tables import MOST_POINTS, MOST_SETTINGS, SIGNIFICANCE
from .typesetting import MISSING, Table, extent, with_interval

UNPAIRED = "95 % without pairing"
COLUMNS = ("rank", "estimator", "× baseline", UNPAIRED, "by time", "notes")
OVER = ("estimator", "over", "geometric mean", "interquartile mean", "geometric mean, problems drawn too")


def ranking_tables(rows: pd.DataFrame) -> list[Table]:
    """One table for each family of the rows that `standings` gives, where at least two can be compared."""
    families = rows.groupby("family", sort=False)
    return [_table(f"{name}-ranking", group) for name, group in families if (group["barred"] == "").sum() > 1]


def _table(name: str, frame: pd.DataFrame) -> Table:
    shown, left_out = thin(frame, MOST_POINTS, MOST_SETTINGS)
    place = pd.Series(pd.factorize(shown["problem"])[0], shown.index)
    keys = pd.DataFrame(
        {"place": place, "rank": shown["rank"].astype(float).fillna(math.inf), "cost": shown["variance_x_evaluations"]}
    )
    shown = shown.loc[keys.sort_values(["place", "rank", "cost"], kind="stable").index]
    leading = ["point"] if shown["problem"].nunique() > 1 else []
    fields = frame.to_dict("records")
    references = {row["problem"]: row for row in fields if row["reference"]}
    rows = [
        (*(row[column] for column in leading), *row_cells(row, references[row["problem"]]))
        for row in shown.to_dict("records")
        if row["problem"] in references
    ]
    columns = (*leading, *COLUMNS)
    best = [i for i, row in enumerate(rows) if row[columns.index("rank")] == "1"]
    bold = frozenset((i, columns.index("× baseline")) for i in best)
    return Table(safe_name(name), caption(frame, left_out), columns, rows, bold)


def row_cells(row: dict, reference: dict) -> tuple[str, ...]:
    """The texts of one row, as `COLUMNS` names them."""
    if row["barred"]:
        return MISSING, row["label"] + (" †" if row["heavy_tailed"] else ""), MISSING, MISSING, MISSING, row["barred"]
    if row["reference"]:
        return (
            str(row["rank"]),
            row["label"],
            "1",
            MISSING,
            "1",
            "baseline" if row["against"] else "lowest, in place of a baseline",
        )
    unpaired = log_ratio(row, reference, COST, pair=False)
    apart = with_interval(unpaired.value, *unpaired.interval)
    seconds = log_ratio(row, reference, "seconds_per_estimate") if timed(row, reference) else None
    return (
        str(row["rank"]),
        row["label"],
        with_interval(row["ratio"].value, *row["ratio"].interval),
        apart[apart.find("[") :],
        with_interval(seconds.value, *seconds.interval) if seconds else MISSING,
        f"unpaired: {row['ratio'].unpaired}" if row["ratio"].unpaired else "",
    )


def timed(*rows: dict) -> bool:
    """Whether times of these rows may be divided: all known, on one kind of device."""
    known = all(pd.notna(row["seconds_per_estimate"]) and row["seconds_per_estimate"] > 0 for row in rows)
    return known and len({row["device"] for row in rows}) == 1


def caption(frame: pd.DataFrame, left_out: str = "") -> str:
    """What is compared, how ties are decided, and what stands behind the intervals."""
    fair = frame[frame["barred"] == ""]
    references = dict.fromkeys(fair.loc[fair["reference"], "label"])
    paired = sum(ratio.paired for ratio in fair.loc[~fair["reference"], "ratio"])
    others = int((~fair["reference"]).sum())
    sentences = [
        f"{frame['family'].iat[0]}: variance × evaluations as a multiple of that of {', '.join(references)}, with its 95 % interval.",
        f"{paired:,} of {others:,} intervals are paired: the two estimators drew from one stream, and the error is that of "
        "the difference, block by block of replicates; beside it the interval that ignores this.",
        "The rank is one more than the number of estimators that are ahead, and estimators that cannot be told apart share it: "
        f"the run makes {frame['pairs'].iat[0]:,} comparisons of pairs, one family under Holm's correction at {100 * SIGNIFICANCE:.0f} %. "
        "Bold: rank 1.",
        f"By time: variance × seconds, in batches of {extent(fair['batch'])} on {extent(fair['device'])}; its interval is that of "
        "the variance alone, as the records hold no error of a time, and nothing is ranked by it.",
    ]
    if left_out:
        sentences.append(f"Not shown: {left_out}; ranks count them.")
    return " ".join(sentences)


def over_problems(rows: pd.DataFrame) -> tuple[Table | None, str]:
    """The table of ratios to the baseline over problems, and what else there is to say: with few problems there is no
    table, and the sentence says why."""
    fair = rows[(rows["barred"] == "") & rows["against"]]
    problems = fair["problem"].nunique()
    name = fair.loc[fair["reference"], "name"].iat[0] if problems else BASELINE
    if problems < FEWEST_PROBLEMS:
        return None, (
            f"The baseline {name} can be compared on {problems} problem{'s' if problems != 1 else ''}, too few to summarise "
            f"(fewer than {FEWEST_PROBLEMS}); the tables of ranks show every cell."
        )
    scores, draws = score_table(fair)
    counted = scores.groupby("setting")["problem"].nunique()
    kept = counted[counted >= FEWEST_PROBLEMS].index
    found = sorted((_over_row(setting, scores, draws) for setting in kept), key=lambda row: row[0])
    return Table(
        "over-problems", over_caption(name, problems, len(counted) - len(kept)), OVER, [row for _, row in found]
    ), ""


def score_table(fair: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Binary logarithms of variance × evaluations over that of the reference of their problem: one row for each row of `fair`,
    and bootstrap draws of them, `[draws, rows]`."""
    scores, draws = [], []
    for _, group in fair.groupby("problem", sort=False):
        cost = np.log(group[COST].to_numpy(float))
        base = int(np.flatnonzero(group["reference"])[0])
        value, drawn = np.log(group["variance"].to_numpy(float)) + cost, resampled(group) + cost
        scores.append(group[["problem", "setting", "name"]].assign(score=(value - value[base]) / math.log(2)))
        draws.append((drawn - drawn[:, [base]]) / math.log(2))
    return pd.concat(scores, ignore_index=True), np.concatenate(draws, axis=1)


def _over_row(setting: str, scores: pd.DataFrame, draws: np.ndarray) -> tuple[float, tuple[str, ...]]:
    where = (scores["setting"] == setting).to_numpy()
    values, drawn = scores.loc[where, "score"].to_numpy(), draws[:, where]
    spans = [
        with_bootstrap(geometric_mean, values, drawn),
        with_bootstrap(interquartile_mean, values, drawn),
        with_bootstrap(geometric_mean, values, drawn, resample_problems=True),
    ]
    return spans[0].value, (setting, f"{where.sum():,}", *(with_interval(*span) for span in spans))


def over_caption(baseline: str, problems: int, few: int) -> str:
    """What is averaged over what."""
    sentences = [
        f"Variance × evaluations as a multiple of that of {baseline}, over the {problems:,} problems on which it can be compared: means "
        "of logarithms, never of variances.",
        f"Brackets are 95 % intervals of {DRAWS:,} bootstrap draws of blocks of replicates, the same blocks for estimators that share "
        "a stream; problems are as they are, except in the last column, where they are drawn too.",
        "A row counts the problems on which its estimator can be ranked; rows over other problems are not to be compared.",
    ]
    if few:
        sentences.append(f"Left out: {few} settings on fewer than {FEWEST_PROBLEMS} problems.")
    return " ".join(sentences)
