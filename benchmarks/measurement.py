"""Measuring: an estimator, a problem and a key go in, moments with intervals come out."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractEstimator, LeaveOneOut, Pathwise

from . import harness
from .moments import BLOCKS, Moments, Spread
from .problems import AbstractProblem, Truth, mismatch
from .random import fenced

# Replicates whose mean is the centre of the power sums.
PILOT = 64
# The stream that reference runs draw from: never that of a measurement.
REFERENCE = 2**32 - 2


class Incompatible(ValueError):
    """An estimator that cannot run on a problem; the text says why."""


@dataclass(frozen=True)
class Measurement:
    """What many replicates of one estimator on one problem showed.

    `mean` and `variance` have the structure of the problem's gradient, in float64; `variance` is that of ONE whole
    estimate, with all its samples. `truth` is the exact gradient in the same structure, or `None`.
    """

    estimator: AbstractEstimator
    problem: AbstractProblem
    moments: Moments
    spreads: dict[str, Spread]
    truth_record: Truth | None
    replicates: int
    evaluations: int
    warm_up_steps: int
    compile_seconds: float | None
    run_seconds: float
    work: harness.Work

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


def measure(
    estimator: AbstractEstimator,
    problem: AbstractProblem,
    key: jax.Array,
    *,
    replicates: int = 10_000,
    truth: Truth | None = None,
    warm_up_steps: int = 500,
    chunk: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Measurement:
    """Measure bias, variance and cost of one estimate.

    `key` is a typed JAX key; replicate `i` draws from `fold_in(key, i)` alone. A stateful estimator first adapts for
    `warm_up_steps`, on a stream of its own, and is then frozen. `truth` defaults to the problem's own, computed here.
    `progress` is called with the number of replicates done. Raises `Incompatible` if the estimator cannot run on the
    problem, and `ValueError` for fewer than two replicates or a batch-dependent key.
    """
    if replicates < 2:
        raise ValueError(f"A variance needs `replicates >= 2`, got {replicates}.")
    reason = mismatch(estimator, problem)
    if reason is not None:
        raise Incompatible(reason)
    harness.check_key(key)
    key = fenced(key)
    truth = truth or problem.truth() or reference_truth(estimator, problem, key)
    state = harness.warm_up(estimator, problem, key, warm_up_steps)
    program = harness.compiled(estimator, state, problem, key, chunk=chunk, devices=devices)
    # Replicates that do not read their keys are all equal, and one need be run.
    count = 1 if program.work.deterministic else replicates
    moments, spreads, seconds = _accumulate(program, estimator, state, problem, key, count, truth, progress)
    dist, _ = problem.example()
    return Measurement(
        estimator=estimator,
        problem=problem,
        moments=moments,
        spreads=spreads,
        truth_record=truth,
        replicates=replicates,
        evaluations=estimator.evaluations(dist),
        warm_up_steps=0 if state is None else warm_up_steps,
        compile_seconds=program.compile_seconds,
        run_seconds=seconds / count,
        work=program.work,
    )


def prepare(estimator: AbstractEstimator, problem: AbstractProblem, key: jax.Array) -> None:
    """Compile what `measure` will run, and nothing more: so that cells can be compiled side by side and run alone."""
    if mismatch(estimator, problem) is None:
        state = harness.state_shape(estimator, problem)
        if state is not None:
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
    program = harness.compiled(reference, None, problem, own)
    moments, _, _ = _accumulate(program, reference, None, problem, own, replicates, None, lambda done: None)
    error = np.sqrt(moments.variance / moments.count)
    shapes = program.work.shapes
    return Truth(unflatten(moments.mean, shapes), "reference run", unflatten(error, shapes))


def _accumulate(program, estimator, state, problem, key, replicates, truth, progress):
    """Moments and spreads of replicates `[0, replicates)`, and the seconds the program ran."""
    arrays, _ = eqx.partition((estimator, state, problem), eqx.is_array)
    work = program.work
    target = np.zeros(work.size) if truth is None else flatten(truth.gradient)
    pilot = min(PILOT, replicates, program.capacity)
    zeros, reference = np.zeros(work.size, work.dtype), target.astype(work.dtype)
    (first,) = harness.run(program, arrays, key, zeros, reference, [(0, pilot)])
    centre = (first.powers[0] / pilot).astype(work.dtype)

    moments = Moments.zero(centre.astype(np.float64), work.order)
    parts = leaf_numbers(problem, work.shapes)
    squares = np.add.reduceat(target**2, np.cumsum([0, *work.sizes[:-1]]))
    norms = {name: math.sqrt(sum(squares[i] for i in ids)) for name, ids in parts.items()}
    spreads = {name: Spread() for name in parts}
    seconds = 0.0
    for spans in _schedule(replicates, program.capacity, len(work.devices)):
        started = time.perf_counter()
        results = list(harness.run(program, arrays, key, centre, reference, [span for _, span in spans]))
        seconds += time.perf_counter() - started
        for (block, (begin, end)), result in zip(spans, results, strict=True):
            moments.add(block, end - begin, result.powers)
            for name, ids in parts.items():
                spreads[name].add(block, *_scalars(result.scalars[:, ids], norms[name]))
        progress(moments.count)
    return moments, spreads, seconds


def _schedule(replicates: int, capacity: int, devices: int):
    """Work in calls: lists of `(block, (first, last))`, one per device. Blocks depend on the number of replicates
    only."""
    edges = np.linspace(0, replicates, min(BLOCKS, replicates) + 1).astype(int)
    spans = [
        (block, (first, min(first + capacity, int(end))))
        for block, (begin, end) in enumerate(zip(edges[:-1], edges[1:], strict=True))
        for first in range(int(begin), int(end), capacity)
    ]
    return [spans[i : i + devices] for i in range(0, len(spans), devices)]


def flatten(tree: PyTree) -> np.ndarray:
    """The leaves of a gradient one after the other, in float64."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def unflatten(vector: np.ndarray, shapes: PyTree) -> PyTree:
    """A vector as a gradient of these shapes."""
    leaves, treedef = jax.tree.flatten(shapes)
    pieces = np.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)])


def leaf_numbers(problem: AbstractProblem, shapes: PyTree) -> dict[str, list[int]]:
    """For each part of the gradient, which of its leaves it is made of."""
    leaves, treedef = jax.tree.flatten(shapes)
    numbered = jax.tree.unflatten(treedef, list(range(len(leaves))))
    return {name: jax.tree.leaves(part) for name, part in problem.parts(numbered).items()}


def _scalars(rows: np.ndarray, truth_norm: float) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance from the centre and cosine with the truth of each replicate of one part, from rows `[n, leaves,
    3]`."""
    squared, norm, inner = rows.astype(np.float64).sum(axis=1).T
    length = np.sqrt(norm) * truth_norm
    cosine = np.divide(inner, length, out=np.full_like(inner, 0.0 if truth_norm else np.nan), where=length > 0)
    return squared, cosine


def hyperparameters(estimator: AbstractEstimator) -> str:
    """The fields of an estimator as JSON, wrapped estimators included."""

    def plain(value):
        if isinstance(value, eqx.Module):
            return {"class": type(value).__name__, **{name: plain(v) for name, v in vars(value).items()}}
        return (
            float(f"{float(value):.7g}") if isinstance(value, jnp.ndarray | np.ndarray) and value.ndim == 0 else value
        )

    return json.dumps({name: plain(v) for name, v in vars(estimator).items()}, sort_keys=True)
