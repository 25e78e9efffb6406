"""Running cells: each is measured, judged and stored before the next begins; one that fails becomes a row and the
others go on."""

import contextlib
import functools
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from estimators import ESTIMATORS, AbstractEstimator

from . import environment
from .harness import make_room, stream_key
from .measurement import Incompatible, Measurement, hyperparameters, measure, prepare
from .precision import Precision
from .problems import PROBLEMS, AbstractProblem, Truth, mismatch
from .records import Record, make_record
from .sharing import together
from .specs import Spec, UserError
from .suites import Cell
from .work import double_precision

WARM_UP_STEPS = 500
# Programs compiled ahead for each core.
WINDOW = 2

Among = tuple[AbstractEstimator, ...]


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


def companions(cells: Iterable[Cell]) -> dict[Cell, Among]:
    """For each cell the estimators that share its program; none for a cell that does not fit."""
    by_problem = defaultdict(list)
    for cell in cells:
        by_problem[cell.problem].append((cell, cell.estimator.create(ESTIMATORS)))
    found = {}
    for problem, pairs in by_problem.items():
        fitting = [(cell, e) for cell, e in pairs if mismatch(e, problem_of(problem)) is None]
        shared = together([estimator for _, estimator in fitting], problem_of(problem))
        found |= {cell: among for (cell, _), among in zip(fitting, shared, strict=True)}
    return found


def run_cell(
    cell: Cell, plan: Plan, progress: Callable[[int], None] = lambda done: None, among: Among = ()
) -> list[Record]:
    """The records of one cell, whatever becomes of it; it is tried by itself if it fails `among` others."""
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
        measurement = _measure(cell, plan, progress, among)
    except Incompatible as error:
        return refused("incompatible", str(error))
    except Exception as error:  # One broken estimator must not take the rest of a long run with it.
        reason = f"{type(error).__name__}: {_first_line(error)}"
        if len(among) > 1:
            # Said, since all that shares a program is compiled one by one from here on.
            warnings.warn(
                f"{cell.estimator} on {cell.problem} is tried by itself, for it failed with {len(among) - 1} others: {reason}",
                stacklevel=2,
            )
            return run_cell(cell, plan, progress)
        return refused("failed", reason)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((measurement.mean, measurement.variance))):
        return refused("failed", "Some replicates were not finite, so that there are no moments.")
    return [make_record(**common, **measurement.summary(part), status="ok") for part in measurement.parts]


def _measure(cell: Cell, plan: Plan, progress: Callable[[int], None], among: Among) -> Measurement:
    return measure(
        cell.estimator.create(ESTIMATORS),
        problem_of(cell.problem),
        _key(plan, cell),
        replicates=cell.replicates,
        precision=plan.precision,
        truth=truth_of(cell.problem),
        warm_up_steps=plan.warm_up_steps,
        among=among,
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

    The cells of a window of programs are compiled side by side, one to a core, before the first is run: nothing compiles
    while a cell is timed, and no more is lost by an interruption than a window's compilation.
    """
    workers = environment.cores()
    shared = companions(cells)
    for window in _windows(cells, shared, WINDOW * workers):
        identities = [plan.identity(cell) for cell in window]
        held = [finished(identity) for identity in identities]
        missing = [cell for cell, found in zip(window, held, strict=True) if found is None]
        first = {_program(cell, shared): cell for cell in reversed(missing)}
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda cell: _prepare(plan, cell, shared.get(cell, ())), reversed(first.values())))
        for cell, identity, found in zip(window, identities, held, strict=True):
            started = time.perf_counter()
            report = functools.partial(progress, cell)
            records = found if found is not None else run_cell(cell, plan, report, shared.get(cell, ()))
            yield cell, identity, records, 0.0 if found is not None else time.perf_counter() - started
        make_room()


def _windows(cells: list[Cell], shared: dict[Cell, Among], size: int) -> Iterator[list[Cell]]:
    """The cells in order, as many at a time as `size` programs serve."""
    window, programs = [], set()
    for cell in cells:
        if len(programs | {_program(cell, shared)}) > size:
            yield window
            window, programs = [], set()
        window.append(cell)
        programs.add(_program(cell, shared))
    yield window


def _program(cell: Cell, shared: dict[Cell, Among]) -> tuple:
    """What tells the program of this cell from those of other cells."""
    return cell.problem, id(shared.get(cell))


def _prepare(plan: Plan, cell: Cell, among: Among) -> None:
    # What fails here fails again when the cell is run, and is recorded there.
    with contextlib.suppress(Exception):
        prepare(cell.estimator.create(ESTIMATORS), problem_of(cell.problem), _key(plan, cell), among)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


__all__ = ["Plan", "UserError", "check", "run_all", "run_cell"]
