"""Measuring: an estimator, a problem and a key go in, moments with intervals come out."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractEstimator, LeaveOneOut, Pathwise
from estimators.base import evaluations

from . import harness, processes
from .accumulation import Totals, accumulate, flatten as flatten, leaf_numbers, unflatten
from .moments import Moments, Spread
from .precision import BUDGET, Precision, rounds
from .problems import AbstractProblem, Truth, mismatch
from .random import fenced
from .sharing import one_of
from .work import Work, state_shape

# Replicates of a measurement for which neither a number nor a precision is asked.
REPLICATES = 10_000
# The stream that reference runs draw from: never that of a measurement.
REFERENCE = 2**32 - 2


class Incompatible(ValueError):
    """An estimator that cannot run on a problem; the text says why."""


@dataclass(frozen=True)
class Measurement:
    """What many replicates of one estimator on one problem showed.

    `mean` and `variance` have the structure of the problem's gradient, in float64; `variance` is that of ONE whole
    estimate, with all its samples. `truth` is the exact gradient in the same structure, or `None`. `budget` is the most
    `replicates` that it was allowed, and `precision` what it was to reach with them, if anything.
    """

    estimator: AbstractEstimator
    problem: AbstractProblem
    moments: Moments
    spreads: dict[str, Spread]
    truth_record: Truth | None
    budget: int
    precision: Precision | None
    evaluations: int
    warm_up_steps: int
    compile_seconds: float | None
    run_seconds: float
    work: Work
    processes: int

    @property
    def replicates(self) -> int:
        """How many replicates it stands for: an exact gradient is run once, and stands for all."""
        return self.budget if self.work.deterministic else self.moments.count

    @property
    def mean(self) -> PyTree:
        return unflatten(self.moments.mean, self.work.shapes)

    @property
    def variance(self) -> PyTree:
        return unflatten(self.moments.variance, self.work.shapes)

    @property
    def truth(self) -> PyTree | None:
        return None if self.truth_record is None else self.truth_record.gradient

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of the gradient that can be summarised; the first is the headline."""
        return tuple(self.spreads)

    def coordinates(self, part: str) -> np.ndarray:
        """Which coordinates of a flattened gradient the part is made of."""
        ends = np.cumsum(self.work.sizes)
        return np.concatenate(
            [
                np.arange(ends[i] - self.work.sizes[i], ends[i])
                for i in leaf_numbers(self.problem, self.work.shapes)[part]
            ]
        )

    def summary(self, part: str | None = None, epsilon: float = 0.01) -> dict:
        """The numbers of a record for one part of the gradient: the headline unless another is named."""
        from .summary import summarise

        return summarise(self, part or self.parts[0], epsilon)

    @property
    def is_precise(self) -> bool:
        """Whether every part of the gradient has the precision that was asked for; with none asked, `False`."""
        from .summary import standing

        if self.precision is None:
            return False
        return all(standing(self, part).meets(self.precision) for part in self.parts)


def measure(
    estimator: AbstractEstimator,
    problem: AbstractProblem,
    key: jax.Array,
    *,
    replicates: int | None = None,
    precision: Precision | float | None = None,
    truth: Truth | None = None,
    warm_up_steps: int = 500,
    among: tuple[AbstractEstimator, ...] = (),
    chunk: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Measurement:
    """Measure bias, variance and cost of one estimate.

    `key` is a typed JAX key; replicate `i` draws from `fold_in(key, i)` alone. With a `precision` (a number is a share:
    0.01 for 1 %), the cell is run until every part of the gradient has reached it, as `benchmarks.precision` defines, and
    `replicates` is the budget (1 048 576 unless given, else 10 000 replicates are run). A stateful estimator first adapts
    for `warm_up_steps`, on a stream of its own, and is then frozen. `truth` defaults to the problem's own, computed here.
    `among` are estimators of one `sharing.together`, itself included, that are compiled together with this one.
    `chunk` replicates are computed together, as many as seem best unless it is given, and half as many as long as memory
    runs out.
    `progress` is called with the number of replicates done. In a run of several processes all call this alike, and all
    return the same. Raises `Incompatible` if the estimator cannot run on the problem, and `ValueError` for fewer than two
    replicates, a precision that makes no sense, or a batch-dependent key; `MemoryError` if not even one replicate fits.
    """
    precision = Precision.share(precision) if isinstance(precision, float | int) else precision
    if replicates is None:
        replicates = REPLICATES if precision is None else BUDGET
    if replicates < 2:
        raise ValueError(f"A variance needs `replicates >= 2`, got {replicates}.")
    reason = mismatch(estimator, problem)
    if reason is not None:
        raise Incompatible(reason)
    harness.check_key(key)
    key = fenced(key)
    truth = truth or problem.truth() or reference_truth(estimator, problem, key)
    with processes.together():
        state = harness.warm_up(one_of(estimator, among), problem, key, warm_up_steps)
    measurement = functools.partial(
        Measurement,
        estimator=estimator,
        problem=problem,
        truth_record=truth,
        budget=replicates,
        precision=precision,
        evaluations=evaluations(estimator, *problem.example()),
        warm_up_steps=warm_up_steps if jax.tree.leaves(state_shape(estimator, problem)) else 0,
        processes=processes.count(),
    )

    def made(program: harness.Program, totals: Totals, seconds: float = 0.0) -> Measurement:
        return measurement(
            moments=totals.moments,
            spreads=totals.spreads,
            compile_seconds=program.compile_seconds,
            run_seconds=seconds / totals.moments.count,
            work=program.work,
        )

    def enough(program: harness.Program, totals: Totals) -> bool:
        return made(program, totals).is_precise

    counts, given = rounds(replicates, precision), dict(chunk=chunk, devices=devices, progress=progress, enough=enough)
    return made(*accumulate(one_of(estimator, among), state, problem, key, counts, truth, **given))


def prepare(
    estimator: AbstractEstimator, problem: AbstractProblem, key: jax.Array, among: tuple[AbstractEstimator, ...] = ()
) -> None:
    """Compile what `measure` will run, and nothing more: so that cells can be compiled side by side and run alone."""
    if mismatch(estimator, problem) is None:
        estimator = one_of(estimator, among)
        state = state_shape(estimator, problem)
        if jax.tree.leaves(state):
            harness.warm_up_program(estimator, problem, fenced(key))
        harness.compiled(estimator, state, problem, fenced(key))


def reference_truth(
    estimator: AbstractEstimator, problem: AbstractProblem, key: jax.Array, replicates: int = 100_000
) -> Truth | None:
    """The mean of a long run of an unbiased estimator of another class, on a stream of its own, with its standard
    error."""
    candidates = [
        e for e in (Pathwise(), LeaveOneOut(num_samples=8), LeaveOneOut(num_samples=2)) if mismatch(e, problem) is None
    ]
    reference = next((e for e in candidates if type(e) is not type(estimator)), candidates[-1] if candidates else None)
    if reference is None:
        return None
    own = jax.random.fold_in(key, REFERENCE)
    program, totals, _ = accumulate(reference, None, problem, own, [replicates], None)
    moments = totals.moments
    error = np.sqrt(moments.variance / moments.count)
    shapes = program.work.shapes
    return Truth(unflatten(moments.mean, shapes), "reference run", unflatten(error, shapes))


def hyperparameters(estimator: AbstractEstimator) -> str:
    """The fields of an estimator as JSON, wrapped estimators included."""

    def plain(value):
        if isinstance(value, eqx.Module):
            return {"class": type(value).__name__, **{name: plain(v) for name, v in vars(value).items()}}
        return (
            float(f"{float(value):.7g}") if isinstance(value, jnp.ndarray | np.ndarray) and value.ndim == 0 else value
        )

    return json.dumps({name: plain(v) for name, v in vars(estimator).items()}, sort_keys=True)
