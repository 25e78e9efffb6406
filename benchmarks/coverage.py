"""Coverage: whether the intervals, verdicts and flags of this suite keep what they promise, by simulation.

    python -m benchmarks.coverage --out results/coverage

makes a page, `README.md`, the rows behind it, `coverage.csv`, and `run.json`, which says with what they were made. Three
claims are put to the test: the intervals cover on light tails, and are flagged where they cannot; an estimator that is
right is called biased as rarely as is said; and one that is wrong is found as surely as is said.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from . import environment, harness, simulation, statistics
from .coordinates import sample_of, variance_intervals
from .coverage_cells import Cell, cells, planted_bugs, unbiased_family
from .coverage_page import COLUMNS, FLAGGED, QUANTITIES, SILENT, TRUSTED, Row, row, write_page
from .measurement import Measurement, flatten
from .simulation import Subject
from .work import double_precision

RUNS = 2000
REPLICATES = 2000
TABLES = 40
DETECTIONS = 200
# A truth that is missed by so many standard errors in every coordinate is a bias that the interval of its square must hold.
DISPLACEMENT = 3.0
# What an interval of nominal 95 % must reach, and what the verdict and the tables promise.
LEAST_COVERAGE = 0.93
VERDICT_LEVEL = 1e-3
TABLE_LEVEL = 0.05
POWER = 0.8
SURE = 0.999
# From so many replicates it is reckoned how many show a bias of a given size; and fewer are never used.
PILOT = 20_000
FEWEST = 512


def interval_rows(name: str, cell: Cell, seed: int, runs: int = RUNS, replicates: int = REPLICATES) -> list[Row]:
    """How often the intervals of one cell hold what they should, and how often its tails are flagged."""
    by = DISPLACEMENT * np.sqrt(cell.variance / replicates)
    found = [_held(m, cell, by) for m in simulation.runs(cell.subject, seed, ("coverage", name), runs, replicates)]
    stated = dict.fromkeys(QUANTITIES, LEAST_COVERAGE) if cell.tails == "light" else {}
    if cell.tails != "between":
        stated[SILENT] = 1 - LEAST_COVERAGE
    return [
        row("coverage", name, cell.tails, quantity, replicates, values, stated.get(quantity), quantity == SILENT)
        for quantity, values in ((q, [run[q] for run in found]) for q in COLUMNS)
    ]


def _held(m: Measurement, cell: Cell, by: np.ndarray) -> dict[str, float]:
    """What one run says truly, by quantity: 1 or 0, or the share of coordinates; NaN where it says nothing."""
    where = m.coordinates(cell.part)
    exact, summary = cell.variance[where], m.summary(cell.part)
    moved = replace(m, truth_record=simulation.shift(m.truth_record, by)).summary(cell.part)
    scores, tested = statistics.coordinate_scores(sample_of(m))
    inside = scores <= stats.t.isf(0.025, m.moments.count - 1)
    low, high = (flatten(end)[where] for end in variance_intervals(m))
    covers = summary["variance_ci_low"] <= exact.sum() <= summary["variance_ci_high"]
    values = (
        inside[where][tested[where]].mean() if tested[where].any() else np.nan,
        summary["bias_sq_ci_low"] <= 0 <= summary["bias_sq_ci_high"],
        moved["bias_sq_ci_low"] <= np.sum(by[where] ** 2) <= moved["bias_sq_ci_high"],
        covers,
        np.mean((low <= exact) & (exact <= high)),
    )
    flagged = summary["heavy_tailed"]
    tails = {FLAGGED: flagged, TRUSTED: np.nan if flagged else covers, SILENT: not covers and not flagged}
    return {**dict(zip(QUANTITIES, values, strict=True)), **tails}


def false_alarm_rows(
    family: list[tuple[str, Subject]], seed: int, tables: int = TABLES, replicates: int = REPLICATES
) -> list[Row]:
    """How often unbiased estimators are called biased: cell by cell, and in a whole table under Holm's correction."""
    biased, p_values = [], []
    for name, subject in family:
        found = [m.summary() for m in simulation.runs(subject, seed, ("false alarm", name), tables, replicates)]
        biased.append([summary["verdict"] == "biased" for summary in found])
        p_values.append([summary["bias_p_value"] for summary in found])
    # Holm claims anything at all exactly if the smallest of m p-values is below the level over m.
    claimed = np.min(p_values, axis=0) < TABLE_LEVEL / len(family)
    what = f"{len(family)} cells"
    return [
        row("false alarm", what, "", "verdict `biased` of a cell", replicates, np.ravel(biased), VERDICT_LEVEL, True),
        row("false alarm", what, "", "a claim of bias in a table, by Holm", replicates, claimed, TABLE_LEVEL, True),
    ]


def detection_rows(name: str, subject: Subject, seed: int, runs: int = DETECTIONS) -> list[Row]:
    """How often a planted bug is found, with the replicates at which it should be: in four runs of five at the level of a
    table, and in all but one of a thousand at the level of the verdict."""
    (pilot,) = simulation.runs(subject, seed, ("pilot", name), 1, PILOT)
    size = abs(subject.estimator.shrinkage) * np.abs(flatten(subject.truth.gradient)).max()
    summary = pilot.summary()
    enough = PILOT * (summary["min_detectable_bias"] / size) ** 2
    family = max(summary["tested_dim"], 1)

    def quantiles(level: float, power: float) -> float:
        return stats.norm.isf(level / 2 / family) + stats.norm.ppf(power)

    surely = enough * (quantiles(VERDICT_LEVEL, SURE) / quantiles(0.05, POWER)) ** 2
    rows = []
    for replicates, quantity, stated in (
        (enough, "p-value below 5 %", POWER),
        (surely, "verdict `biased`", SURE),
    ):
        count = max(int(np.ceil(replicates)), FEWEST)
        found = [m.summary() for m in simulation.runs(subject, seed, ("detection", quantity, name), runs, count)]
        hits = [s["bias_p_value"] < 0.05 if stated == POWER else s["verdict"] == "biased" for s in found]
        rows.append(row("detection", name, "", quantity, count, hits, stated))
    return rows


def all_rows(seed: int, say=lambda text: None) -> list[Row]:
    """Everything, cell by cell."""
    rows = []
    for name, cell in cells().items():
        rows += interval_rows(name, cell, seed)
        say(name)
    rows += false_alarm_rows(unbiased_family(), seed)
    say("false alarms")
    for name, subject in planted_bugs(harness.stream_key(seed, "warm-up of planted bugs")).items():
        rows += detection_rows(name, subject, seed)
        say(name)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Make the page; 1 if a claim does not hold, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of the page and its rows")
    parser.add_argument("--seed", type=int, default=0, help="seed of all streams (default: 0)")
    arguments = parser.parse_args(argv)
    if arguments.out.exists() and not arguments.out.is_dir():
        print(f"coverage: `--out` needs a folder, and `{arguments.out}` is a file.", file=sys.stderr)
        return 2
    started = time.perf_counter()
    rows = all_rows(
        arguments.seed, lambda text: print(f"[{time.perf_counter() - started:.0f} s] {text}", file=sys.stderr)
    )
    about = {
        "command": f"python -m benchmarks.coverage --out {arguments.out} --seed {arguments.seed}",
        "seconds": round(time.perf_counter() - started),
        "dtype": "float64" if double_precision() else "float32",
        "versions": environment.versions(),
        "commit": environment.commit(),
        **environment.machine(),
    }
    write_page(arguments.out, rows, about, arguments.seed)
    return 0 if all(r.holds is not False for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
