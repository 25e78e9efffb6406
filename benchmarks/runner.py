"""Running cells: each is measured, judged and stored before the next begins; one that fails becomes a row and the
others go on."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from estimators import ESTIMATORS

from . import environment
from .harness import make_room, stream_key
from .measurement import Incompatible, Measurement, hyperparameters, measure, prepare
from .precision import Precision
from .problems import PROBLEMS, AbstractProblem, Truth, mismatch
from .records import Record, make_record
from .specs import Spec, UserError
from .suites import Cell
from .work import double_precision

WARM_UP_STEPS = 500
# Cells compiled ahead for each core.
WINDOW = 4


class Plan(NamedTuple):
    """What all cells of a run share."""

    suite: str
    seed: int
    warm_up_steps: int = WARM_UP_STEPS
    precision: Precision | None = None

    def length(self, cell: Cell) -> dict:
        """What decides how many replicates are run: a number, or a budget and a precision."""
        if self.precision is None:
            return {"replicates": cell.replicates}
        return {"replicate_budget": cell.replicates, "precision_target": str(self.precision)}

    def identity(self, cell: Cell) -> dict:
        """Everything that the numbers of a cell depend on, by which a resumed run knows it again."""
        estimator = cell.estimator.create(ESTIMATORS)
        return {
            "suite": self.suite,
            "problem": str(cell.problem),
            "estimator": cell.estimator.name,
            "hyperparameters": json.loads(hyperparameters(estimator)),
            **self.length(cell),
            "seed": self.seed,
            "warm_up_steps": self.warm_up_steps,
            "dtype": "float64" if double_precision() else "float32",
        }


def check(cells: list[Cell]) -> dict[Cell, str]:
    """Make every estimator and problem once; the reasons of those pairs that do not fit. Raises `UserError` for what
    cannot be made."""
    estimators = {spec: spec.create(ESTIMATORS) for spec in dict.fromkeys(cell.estimator for cell in cells)}
    problems = {spec: spec.create(PROBLEMS) for spec in dict.fromkeys(cell.problem for cell in cells)}
    reasons = {cell: mismatch(estimators[cell.estimator], problems[cell.problem]) for cell in cells}
    return {cell: reason for cell, reason in reasons.items() if reason is not None}


def run_cell(cell: Cell, plan: Plan, progress: Callable[[int], None] = lambda done: None) -> list[Record]:
    """The records of one cell, whatever becomes of it."""
    common = {
        "suite": plan.suite,
        "problem": str(cell.problem),
        "estimator": cell.estimator.name,
        "hyperparameters": hyperparameters(cell.estimator.create(ESTIMATORS)),
        "seed": plan.seed,
        "stream": f"{cell.problem}/{plan.seed}",
        "versions": environment.versions(),
        "commit": environment.commit(),
    }

    def refused(status: str, reason: str) -> list[Record]:
        return [make_record(**common, headline=True, **plan.length(cell), status=status, reason=reason)]

    try:
        measurement = _measure(cell, plan, progress)
    except Incompatible as error:
        return refused("incompatible", str(error))
    except Exception as error:  # One broken estimator must not take the rest of a long run with it.
        return refused("failed", f"{type(error).__name__}: {_first_line(error)}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((measurement.mean, measurement.variance))):
        return refused("failed", "Some replicates were not finite, so that there are no moments.")
    return [make_record(**common, **measurement.summary(part), status="ok") for part in measurement.parts]


def _measure(cell: Cell, plan: Plan, progress: Callable[[int], None]) -> Measurement:
    return measure(
        cell.estimator.create(ESTIMATORS),
        problem_of(cell.problem),
        _key(plan, cell),
        replicates=cell.replicates,
        precision=plan.precision,
        truth=truth_of(cell.problem),
        warm_up_steps=plan.warm_up_steps,
        progress=progress,
    )


def _key(plan: Plan, cell: Cell) -> jax.Array:
    """The stream of a cell: that of its problem, so that its estimators see the same noise."""
    return stream_key(plan.seed, "problem", str(cell.problem))


def problem_of(spec: Spec) -> AbstractProblem:
    """The problem called `spec`, made once for the cells that follow each other on it."""
    return _problem_of(spec, double_precision())


def truth_of(spec: Spec) -> Truth | None:
    """Its truth, worked out once."""
    return _truth_of(spec, double_precision())


# A problem has the precision that was set when it was made, and is not the same in another.
@functools.lru_cache(maxsize=16)
def _problem_of(spec: Spec, double: bool) -> AbstractProblem:
    return spec.create(PROBLEMS)


@functools.lru_cache(maxsize=16)
def _truth_of(spec: Spec, double: bool) -> Truth | None:
    return _problem_of(spec, double).truth()


def run_all(
    cells: list[Cell],
    plan: Plan,
    finished: Callable[[dict], list[Record] | None],
    progress: Callable[[Cell, int], None],
) -> Iterator[tuple[Cell, dict, list[Record], float]]:
    """Cell, identity, records and seconds of each cell in turn; zero seconds for one that `finished` already has.

    A window of cells is compiled side by side, one to a core, before its first is run: nothing compiles while a cell is
    timed, and no more is lost by an interruption than a window's compilation.
    """
    workers = environment.cores()
    for window in _windows(cells, WINDOW * workers):
        identities = [plan.identity(cell) for cell in window]
        held = [finished(identity) for identity in identities]
        with ThreadPoolExecutor(workers) as pool:
            list(
                pool.map(functools.partial(_prepare, plan), [c for c, h in zip(window, held, strict=True) if h is None])
            )
        for cell, identity, found in zip(window, identities, held, strict=True):
            started = time.perf_counter()
            records = found if found is not None else run_cell(cell, plan, functools.partial(progress, cell))
            yield cell, identity, records, 0.0 if found is not None else time.perf_counter() - started
        make_room()


def _windows(cells: list[Cell], size: int) -> Iterator[list[Cell]]:
    return (cells[start : start + size] for start in range(0, len(cells), size))


def _prepare(plan: Plan, cell: Cell) -> None:
    # What fails here fails again when the cell is run, and is recorded there.
    with contextlib.suppress(Exception):
        prepare(cell.estimator.create(ESTIMATORS), problem_of(cell.problem), _key(plan, cell))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


__all__ = ["Plan", "UserError", "check", "run_all", "run_cell"]
