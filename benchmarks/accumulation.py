"""Accumulation: the replicates of a cell are run, call after call, and become sums on the host.

All that is kept of the replicates are sums and the largest squared distances, and both merge: over calls, devices,
processes and rounds. A cell is run in rounds, each twice as long as all before it, until somebody has seen enough.
"""

import functools
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractEstimator

from . import harness, processes
from .moments import Moments, Spread, tail_length
from .problems import AbstractProblem, Truth
from .schedule import PILOT, Share, calls
from .work import PRNGKey, work_of

T = TypeVar("T")


@dataclass
class Totals:
    """What is kept of some replicates: of each coordinate, and of each part of the gradient."""

    moments: Moments
    spreads: dict[str, Spread]

    def plus(self, other: "Totals") -> "Totals":
        """That of the replicates of both."""
        spreads = {name: spread.plus(other.spreads[name]) for name, spread in self.spreads.items()}
        return Totals(self.moments.plus(other.moments), spreads)

    def halved(self) -> "Totals":
        """The same replicates in half of the blocks."""
        return Totals(self.moments.halved(), {name: spread.halved() for name, spread in self.spreads.items()})


class Cell:
    """A program with what it is run on: the arrays, the key, the truth, and the centre of the power sums."""

    def __init__(self, program: harness.Program, arrays: PyTree, problem: AbstractProblem, key, truth: Truth | None):
        work = program.work
        target = np.zeros(work.size) if truth is None else flatten(truth.gradient)
        self.program, self.arrays, self.key = program, arrays, key
        self.parts = leaf_numbers(problem, work.shapes)
        squares = np.add.reduceat(target**2, np.cumsum([0, *work.sizes[:-1]]))
        self.norms = {name: math.sqrt(sum(squares[i] for i in ids)) for name, ids in self.parts.items()}
        self.truth = target.astype(work.dtype)
        self.centre = np.zeros(work.size, work.dtype)

    def centred(self, pilot: int) -> "Cell":
        """This cell, centred on the mean of its first replicates: that of process 0, since others may round otherwise."""
        devices = min(len(self.program.work.devices), pilot)
        pilot = min(pilot, devices * self.program.capacity)
        edges = [pilot * device // devices for device in range(devices + 1)]
        with processes.together():
            results = self.run(list(itertools.pairwise(edges)))
        total = sum(result.first[0] for result in results)
        self.centre = processes.of_the_first(total / pilot).astype(self.program.work.dtype)
        return self

    def run(self, edges: list[tuple[int, ...]]) -> list[harness.Replicates]:
        """One call of the program."""
        return harness.run(self.program, self.arrays, self.key, self.centre, self.truth, edges)

    def nothing(self, longest: int) -> Totals:
        """Of no replicates, with room for the tail of the longest run that may become of it."""
        moments = Moments.zero(self.centre.astype(np.float64), self.program.work.order)
        return Totals(moments, {name: Spread(longest) for name in self.parts})

    def add(self, totals: Totals, share: Share, result: harness.Replicates) -> None:
        """Add the replicates of one share to `totals`."""
        counts = np.diff(share.edges)
        totals.moments.add(share.block, counts, result.first, result.higher)
        # Each scalar of each leaf in one piece, `[leaves, 3, n]`: devices are at work meanwhile, and the host is to be quick.
        scalars = np.array(result.scalars.transpose(1, 2, 0), np.float64, order="C")
        for name, ids in self.parts.items():
            whole = functools.reduce(np.add, (scalars[leaf] for leaf in ids))
            totals.spreads[name].add(share.block, counts, *_scalars(whole, self.norms[name]))


def accumulate(
    estimator: AbstractEstimator,
    state: PyTree,
    problem: AbstractProblem,
    key: PRNGKey,
    rounds: list[int],
    truth: Truth | None,
    *,
    chunk: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    enough: Callable[[harness.Program, Totals], bool] = lambda program, totals: False,
) -> tuple[harness.Program, Totals, float]:
    """The program, the totals of the replicates from 0 on, and the seconds that it took to run them and to add them up, on
    the slowest process.

    `rounds` are the numbers of replicates after which `enough` is asked, each twice the one before; the last ends the
    run whatever it says. Replicates that do not read their keys are all equal, and one is run. `chunk` of them are
    computed together on each of `devices`: as many as seem best on all there are, unless given. As long as memory runs
    out, all is done again with half as many; raises `MemoryError` if not even one fits.
    """
    devices = tuple(devices or jax.local_devices())
    while True:
        try:
            with processes.together():
                program = harness.compiled(estimator, state, problem, key, chunk=chunk, devices=devices)
            counts = [1] if program.work.deterministic else rounds
            arrays, _ = eqx.partition((estimator, state, problem), eqx.is_array)
            cell = Cell(program, arrays, problem, key, truth).centred(min(PILOT, counts[0]))
            return program, *_rounds(cell, counts, progress, functools.partial(enough, program))
        except MemoryError:
            chunk = (chunk or work_of(estimator, state, problem, devices).chunk) // 2
            if chunk == 0:
                raise


def _rounds(
    cell: Cell, rounds: list[int], progress: Callable[[int], None], enough: Callable[[Totals], bool]
) -> tuple[Totals, float]:
    """The totals of the rounds that were run until somebody had seen enough, and their seconds."""
    longest = tail_length(rounds[-1])
    totals, seconds, done = cell.nothing(longest), 0.0, 0
    for count in rounds:
        fresh, spent = _round(cell, done, count, longest, progress)
        totals = totals.halved().plus(fresh) if done else fresh
        seconds, done = seconds + spent, count
        if count == rounds[-1] or enough(totals):
            break
    return totals, seconds


def _round(cell: Cell, begin: int, end: int, longest: int, progress: Callable[[int], None]) -> tuple[Totals, float]:
    """The totals of replicates `[begin, end)` in the blocks of a run of `end`, and the seconds of the slowest process.

    Some calls are under way, and while one that is done is added up on the host there is another to go on with. They are
    added in the order of the plan, whichever is done first; the plan is that of all processes, which may differ in cores.
    Where one fails, those that have been started are waited for.
    """
    fresh, work, started = cell.nothing(longest), cell.program.work, time.perf_counter()
    with processes.together(), ThreadPoolExecutor(work.callers) as callers:
        place = processes.index(), processes.count()
        planned = calls(begin, end, work.capacity, len(work.devices), *place, apart=work.apart)
        submitted = ((call, callers.submit(cell.run, [share.edges for share in call])) for call in planned)
        for call, running in ahead(submitted, work.callers):
            for share, result in zip(call, running.result(), strict=True):
                cell.add(fresh, share, result)
            progress(min(begin + fresh.moments.count * processes.count(), end))
        seconds = time.perf_counter() - started
    return merged(fresh), float(processes.gathered(np.array([seconds])).max())


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items, each handed out when the `count` after it have been made.

    >>> list(ahead("abc", 2))
    ['a', 'b', 'c']
    """
    waiting = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def merged(totals: Totals) -> Totals:
    """The totals of all processes: sums are added, and tails are the largest of all."""
    if processes.count() == 1:
        return totals
    moments, spreads = totals.moments, totals.spreads
    kept = [moments.counts, moments.first, moments.higher]
    for spread in spreads.values():
        kept += [spread.counts, spread.squares, np.array([spread.fourths, spread.cosine, float(spread.aligned)])]
    counts, first, higher, *rest = processes.added(kept)
    together = {}
    for position, (name, spread) in enumerate(spreads.items()):
        own, squares, (fourths, cosine, aligned) = rest[3 * position : 3 * position + 3]
        tail = processes.united(spread.largest, spread.longest)
        sums = (float(fourths), tail, float(cosine), int(aligned))
        empty = Spread(spread.longest)
        together[name] = empty.plus(Spread(spread.longest, own, squares, *sums))
    return Totals(Moments(moments.centre, counts, first, higher), together)


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


def _scalars(scalars: np.ndarray, truth_norm: float) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance from the centre and cosine with the truth of each replicate of one part, from its scalars `[3, n]`."""
    squared, norm, inner = scalars
    length = np.sqrt(norm) * truth_norm
    cosine = np.divide(inner, length, out=np.full_like(inner, 0.0 if truth_norm else np.nan), where=length > 0)
    return squared, cosine
