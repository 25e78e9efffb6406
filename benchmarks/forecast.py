"""Forecasts: what a run will cost, before any of it is compiled.

Each distinct program is lowered, and its instructions, operations and bytes are counted (see `lowering`). Three linear models with
measured constants make seconds and bytes of these:

    compile  =  a  +  b * instructions of all estimators that share it                     once for each program
    run      =  c  +  calls * (d + e * coordinates)  +  replicates * (f * flops + g * transcendentals + h * bytes + i * words)
    memory   =  process  +  j * programs  +  calls at once * (k * bytes of a chunk  +  bytes returned)  +  sums of the moments

The last line is of the largest cell.

Cells of one structure (a grid of parameters, of temperatures) pay for one compile, and estimators that share a program (see `sharing`)
for one `a`. A stateful estimator has a second program, its warm-up. The constants are those of one machine, which `constants.json` names;
`python -m benchmarks.forecast --calibrate` measures them anew. They are processor seconds: on a machine with other work to do, a run
takes longer. Reference runs, for problems without exact truth, are not in the forecast.
"""

import functools
import json
import sys
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

import jax
import numpy as np

from .findings import counted
from .lowering import Program, identity, lowered
from .runner import Plan, companions, problem_of
from .suites import Cell
from .work import callers, kind

CONSTANTS = "constants.json"
WARM_UP_BATCH = 32
# The terms of the linear models of seconds.
MODELS = {
    "compile": ("program", "instructions"),
    "run": ("cell", "calls", "coordinates", "flops", "transcendentals", "bytes", "words"),
}


class Forecast(NamedTuple):
    """What one cell will cost; `None` where no constants were measured. A cell whose structure an earlier one has had is `shared`, and
    costs no compiling; one that cannot run says its `reason`. `program` numbers the programs."""

    estimator: str
    problem: str
    replicates: int
    compile_seconds: float | None
    run_seconds: float | None
    memory_bytes: int | None
    program: int | None
    shared: bool
    reason: str | None = None


class Total(NamedTuple):
    """What all cells will cost together: sums of seconds, the memory of the process at its largest, and the machine of the constants."""

    cells: int
    programs: int
    compile_seconds: float | None
    run_seconds: float | None
    memory_bytes: int | None
    measured_on: str | None


def constants(platform: str | None = None) -> dict | None:
    """The measured constants for devices of this platform (of this machine, if not given), those of a linear model as a vector; `None`
    if there are none."""
    held = json.loads((files(__package__) / CONSTANTS).read_text(encoding="utf-8"))
    if held["platform"] != (platform or jax.local_devices()[0].platform):
        return None
    vectors = {name: np.array([held[name][term] for term in terms]) for name, terms in MODELS.items()}
    return held | vectors


def forecast(
    cells: list[Cell], reasons: dict[Cell, str], plan: Plan, measured: dict | None
) -> tuple[list[Forecast], Total]:
    """A forecast for each cell, those in `reasons` being unable to run, and their total, with the constants `measured`."""
    shared = companions(cell for cell in cells if cell not in reasons)
    parts: dict[tuple, list[Program]] = {}
    programs: dict[tuple, int] = {}
    compiled, rows = 0, []
    for cell in cells:
        if cell in reasons:
            rows.append(
                Forecast(str(cell.estimator), str(cell.problem), cell.replicates, *[None] * 4, False, reasons[cell])
            )
            continue
        structure, program = identity(cell), kind(problem_of(cell.problem), shared[cell])
        known, first = structure in parts, program not in programs
        if not known:
            parts[structure] = lowered(cell)
        number = programs.setdefault(program, len(programs))
        compiled += first * len(parts[structure])
        costs = (None, None, None)
        if measured is not None:
            costs = (
                _compile_seconds(parts[structure], measured, known, first),
                *_costs(parts[structure], cell, plan, measured),
            )
        rows.append(Forecast(str(cell.estimator), str(cell.problem), cell.replicates, *costs, number, known))
    return rows, _total(rows, compiled, measured)


def _compile_seconds(parts: list[Program], measured: dict, known: bool, first: bool) -> float:
    """Seconds that compiling takes longer for this estimator, if it is not `known`; to a hundredth."""
    terms = sum(part.compile_terms() for part in parts) * [first, True]
    return 0.0 if known else round(float(measured["compile"] @ terms), 2)


def _costs(parts: list[Program], cell: Cell, plan: Plan, measured: dict) -> tuple[float, int]:
    """Seconds of running, to a hundredth, and bytes of memory beside the process itself."""
    running = float(measured["run"] @ parts[0].run_terms(cell.replicates))
    for warm_up in parts[1:]:
        running += float(measured["run"][3:] @ warm_up.run_terms(plan.warm_up_steps * WARM_UP_BATCH)[3:])
    # Of each call under way on the device and on the host, where another is added up meanwhile.
    under_way = callers(tuple(jax.local_devices()))
    held = (2 * under_way + 1) * parts[0].returned_bytes() + parts[0].moment_bytes()
    memory = under_way * measured["memory"]["chunk"] * parts[0].chunk * parts[0].bytes + held
    return round(running, 2), round(memory)


def _total(rows: list[Forecast], programs: int, measured: dict | None) -> Total:
    ran = [row for row in rows if row.reason is None]
    if measured is None:
        return Total(len(rows), programs, None, None, None, None)
    memory = measured["memory"]["process"] + programs * measured["memory"]["program"] + max(r.memory_bytes for r in ran)
    compiling, running = (round(sum(getattr(r, name) for r in ran), 2) for name in ("compile_seconds", "run_seconds"))
    return Total(len(rows), programs, compiling, running, round(memory), measured["machine"])


def lines(rows: Iterable[Forecast], total: Total) -> list[str]:
    """The forecast as aligned lines, and what it rests on."""
    texts = [("estimator", "problem", "replicates", "compile, s", "run, s", "memory, MB", "")]
    texts += [_texts(row) for row in rows]
    sums = (_seconds(total.compile_seconds), _seconds(total.run_seconds), _megabytes(total.memory_bytes))
    texts.append(("total", "", "", *sums, ""))
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    align = [str.ljust, str.ljust, *[str.rjust] * 4, str.ljust]
    return ["  ".join(a(t, w) for a, t, w in zip(align, row, widths, strict=True)).rstrip() for row in texts]


def _texts(row: Forecast) -> tuple[str, ...]:
    compiling = "shared" if row.shared and row.compile_seconds is not None else _seconds(row.compile_seconds)
    numbers = compiling, _seconds(row.run_seconds), _megabytes(row.memory_bytes)
    return row.estimator, row.problem, f"{row.replicates:,}", *numbers, row.reason or ""


def _seconds(value: float | None) -> str:
    return "—" if value is None else f"{value:,.2f}"


def _megabytes(value: int | None) -> str:
    return "—" if value is None else f"{value / 1e6:,.1f}"


def basis(total: Total) -> str:
    """Where the constants come from, in a sentence."""
    if total.measured_on is None:
        kind = jax.local_devices()[0].device_kind
        return f"No constants were measured on {kind}, so there are no seconds; `python -m benchmarks.forecast --calibrate` measures them."
    return (
        f"{counted(total.programs, 'program')} to compile, side by side on all cores; processor seconds, from constants measured on "
        f"{total.measured_on}. Memory of a cell is beside the process; the total is the process at its largest."
    )


def main() -> int:
    """`python -m benchmarks.forecast --calibrate`: measure the constants on this machine and write them beside this file."""
    if sys.argv[1:] != ["--calibrate"]:
        print(
            "scorepath: Say `python -m benchmarks.forecast --calibrate`; a forecast is `scorepath run ... --dry-run`.",
            file=sys.stderr,
        )
        return 2
    from .calibration import calibrate

    print(calibrate(functools.partial(print, file=sys.stderr)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
