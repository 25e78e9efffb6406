"""The coverage page: rates with their standard errors as rows, and the rows as Markdown, CSV and JSON. Imports no JAX."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .typesetting import MISSING, Table

# The intervals of the tables, in the order of the page.
QUANTITIES = (
    "bias of a coordinate",
    "squared bias, none",
    "squared bias, some",
    "variance",
    "variance of a coordinate",
)
FLAGGED = "flagged"
TRUSTED = "variance, if not flagged"
SILENT = "misses, no flag"
COLUMNS = (*QUANTITIES, FLAGGED, TRUSTED, SILENT)
# Fewer runs than this are not made into a percentage.
FEWEST = 20


ROWS = "coverage.csv"


class Row(NamedTuple):
    """How often something was true over `runs` simulated runs: `rate`, its Monte Carlo standard error, and its exact
    binomial interval of 95 % (conservative where a run contributes the share of its coordinates). `holds` says whether
    what was `stated` is kept, and is `None` where nothing was."""

    claim: str
    cell: str
    tails: str
    quantity: str
    replicates: int
    runs: int
    rate: float
    rate_se: float
    ci_low: float
    ci_high: float
    stated: float | None
    holds: bool | None


def row(
    claim: str,
    cell: str,
    tails: str,
    quantity: str,
    replicates: int,
    values: Sequence | np.ndarray,
    stated: float | None = None,
    at_most: bool = False,
) -> Row:
    """The row of `values`, one number between 0 and 1 a run, or NaN for a run that does not count.

    A coverage keeps what is stated if the rate itself does; a rate of errors or of findings, of which few are
    expected or missed, unless its whole interval says otherwise.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    runs = len(values)
    rate = float(values.mean()) if runs else float("nan")
    error = float(values.std(ddof=1)) / runs**0.5 if runs > 1 else float("nan")
    hits = rate * runs
    low = float(stats.beta.ppf(0.025, hits, runs - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0
    if stated is None:
        holds = None
    elif claim == "coverage":
        holds = rate <= stated if at_most else rate >= stated
    else:
        holds = low <= stated if at_most else high >= stated
    return Row(claim, cell, tails, quantity, replicates, runs, rate, error, low, high, stated, holds)


def write_page(folder: Path, rows: list[Row], about: dict, seed: int) -> None:
    """`README.md`, `coverage.csv` and `run.json` in `folder`, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, lineterminator="\n", float_format="%.6g")
    run = {"about": about, "identity": {"seed": seed}}
    (folder / "run.json").write_text(json.dumps(run, indent=1, sort_keys=True) + "\n")
    # Of the rows as they were written, so that the page can be had from the files beside it.
    (folder / "README.md").write_text(page(pd.read_csv(folder / ROWS), about))


def page(frame: pd.DataFrame, about: dict) -> str:
    """The whole page in Markdown."""
    lost = frame[frame["holds"].map(broken)]
    verdict = (
        "Everything that is stated below holds."
        if lost.empty
        else "**Not kept: " + "; ".join(f"{r.quantity} on {r.cell}" for r in lost.itertuples()) + ".**"
    )
    return "\n".join(
        [
            "# coverage",
            "",
            "Do the intervals, verdicts and flags of this suite keep what they promise? Simulated, with estimators and laws",
            f"whose mean and variance are known exactly. Written by `{about['command']}`",
            "from the rows in [coverage.csv](coverage.csv).",
            verdict,
            "",
            "## Intervals",
            "",
            _coverage_table(frame[frame["claim"] == "coverage"]).to_markdown(),
            "## Right estimators called biased",
            "",
            _rate_table(frame[frame["claim"] == "false alarm"], "at most", FALSE_ALARM_CAPTION).to_markdown(),
            "## Wrong estimators found",
            "",
            _rate_table(frame[frame["claim"] == "detection"], "at least", DETECTION_CAPTION).to_markdown(),
            "## How it was made",
            "",
            *(f"- {name}: `{value}`" for name, value in sorted(about.items())),
            "",
        ]
    )


FALSE_ALARM_CAPTION = (
    "Cells of estimators that are unbiased by proof, each measured once for each of the tables. A verdict is family-wise "
    "over the coordinates of its cell; Holm's correction is over the cells of a table. ± is one Monte Carlo standard error, "
    "brackets are the exact binomial interval."
)
DETECTION_CAPTION = (
    "The bugs of `benchmarks.planted` on `bernoulli-nonseparable`. The replicates of the first row of each are those after "
    "which a bias of its size in one coordinate should be found with the stated probability at the level of the row "
    "(`min_detectable_bias`), and likewise those of the second at the level of the verdict, 0.1 %; never fewer than 512."
)


def broken(holds: bool | float | None) -> bool:
    """Whether something was stated and is not kept; nothing stated is `None`, and NaN once it was in a file."""
    return pd.notna(holds) and not holds


def _coverage_table(frame: pd.DataFrame) -> Table:
    rows, bold = [], set()
    for (tails, cell), group in frame.groupby(["tails", "cell"], sort=False):
        by = {r.quantity: r for r in group.itertuples()}
        bold |= {(len(rows), 2 + i) for i, name in enumerate(COLUMNS) if broken(by[name].holds)}
        rows.append((cell, tails, *(_percent_of(by[name]) for name in COLUMNS)))
    runs, replicates = int(frame["runs"].max()), int(frame["replicates"].iat[0])
    light = frame.loc[frame["tails"].eq("light") & frame["quantity"].eq("variance"), "stated"].iat[0]
    caption = (
        f"Percent of {runs:,} runs of {replicates:,} replicates in which a nominal 95 % interval holds the exact value, ± one "
        "Monte Carlo standard error; for a coordinate, averaged over them. The squared bias is that of an unbiased estimator, "
        "and of one that is off by three standard errors in every coordinate. Flagged: `heavy_tailed`, k-hat above 0.5. Misses, no "
        f"flag: the interval of the variance does not hold it, and nothing warns; the column before it is the coverage where nothing "
        f"warns. Coordinates whose bias is not judged, for want of effective events, do not count; — stands for fewer than {FEWEST} "
        f"runs. Stated: at least {100 * light:.0f} % for all "
        f"intervals on light tails, and at most {100 * (1 - light):.0f} % of silent misses on light and on heavy ones; what is not "
        "kept is bold. Nothing is stated of tails in between."
    )
    return Table("coverage", caption, ("estimator", "tails", *COLUMNS), rows, frozenset(bold))


def _rate_table(frame: pd.DataFrame, sense: str, caption: str) -> Table:
    rows = [
        (
            r.cell,
            r.quantity,
            f"{r.replicates:,}",
            f"{r.runs:,}",
            percent(r.rate, r.rate_se),
            f"[{100 * r.ci_low:.3g}, {100 * r.ci_high:.3g}]",
            f"{sense} {100 * r.stated:.3g}" if pd.notna(r.stated) else MISSING,
            "**no**" if broken(r.holds) else "yes" if pd.notna(r.holds) else MISSING,
        )
        for r in frame.itertuples()
    ]
    columns = ("estimator", "verdict", "replicates", "runs", "%", "95 % interval", "stated, %", "kept")
    return Table("rates", caption, columns, rows)


def _percent_of(r) -> str:
    return MISSING if r.runs < FEWEST else percent(r.rate, r.rate_se)


def percent(rate: float, error: float) -> str:
    """A rate in percent, its standard error after it.

    >>> percent(0.9431, 0.0052), percent(0.001, 0.0005)
    ('94.3 ± 0.5', '0.10 ± 0.05')
    """
    digits = 1 if error >= 0.001 or error == 0 else 2
    return f"{100 * rate:.{digits}f} ± {100 * error:.{digits}f}"
