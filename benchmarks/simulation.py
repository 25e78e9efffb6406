"""Simulation: one measurement many times over, each on a stream of its own, to see how often what it says is true.

A measurement takes milliseconds of dispatch, and thousands of them are needed. So the estimates of many runs are drawn
by one program, `[runs, replicates, coordinates]`, and the moments of each run are made on the host: in float64, in the
blocks and about the centre of the harness, whose own sums a test compares with these. From the moments on, everything is
the code of every measurement.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractEstimator
from estimators.base import evaluations

from . import harness
from .accumulation import leaf_numbers
from .measurement import Measurement, flatten
from .moments import Moments, Spread, tail_length
from .problems import AbstractProblem, Truth
from .random import fenced
from .schedule import PILOT, edges
from .work import Work, double_precision, gradient_shape, single

# Numbers drawn together.
BATCH = 2**22


class Subject(NamedTuple):
    """What is measured many times: an estimator with its frozen state, and a problem with its truth."""

    estimator: AbstractEstimator
    problem: AbstractProblem
    truth: Truth
    state: PyTree = None


def runs(subject: Subject, seed: int, names: tuple[str, ...], count: int, replicates: int) -> Iterator[Measurement]:
    """`count` measurements of `replicates` each; run `r` is the one of `measure` at `stream_key(seed, *names, r)`."""
    empty = _empty(subject, replicates)
    size = max(BATCH // (replicates * empty.work.size), 1)
    for start in range(0, count, size):
        keys = [fenced(harness.stream_key(seed, *names, str(run))) for run in range(start, min(start + size, count))]
        # A batch is always of one size, so that it is compiled once; what is too many is not looked at.
        filled = jax.numpy.stack(keys + keys[:1] * (min(size, count) - len(keys)))
        arrays = np.asarray(_draw(subject.estimator, subject.state, subject.problem, filled, replicates))
        yield from (filled_in(empty, gradients) for gradients in arrays[: len(keys)])


@eqx.filter_jit
def _draw(estimator, state, problem, keys, replicates):
    """Gradients `[runs, replicates, coordinates]`."""

    def one(key, index):
        gradient = single(estimator, state, problem, jax.random.fold_in(key, index))[0]
        return jax.numpy.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])

    indices = jax.numpy.arange(replicates, dtype=jax.numpy.uint32)
    return jax.vmap(lambda key: jax.vmap(lambda index: one(key, index))(indices))(keys)


def _empty(subject: Subject, replicates: int) -> Measurement:
    """A measurement without its moments."""
    estimator, problem = subject.estimator, subject.problem
    shapes = gradient_shape(problem)
    work = Work(
        shapes=shapes,
        deterministic=False,
        chunk=1,
        devices=tuple(jax.local_devices()),
        order=4,
        x64=double_precision(),
    )
    return Measurement(
        estimator=estimator,
        problem=problem,
        moments=Moments.zero(np.zeros(work.size), work.order),
        spreads={},
        truth_record=subject.truth,
        budget=replicates,
        precision=None,
        evaluations=evaluations(estimator, *problem.example()),
        warm_up_steps=0,
        compile_seconds=0.0,
        run_seconds=0.0,
        work=work,
        processes=1,
    )


def filled_in(empty: Measurement, gradients: np.ndarray) -> Measurement:
    """The measurement that `gradients` `[replicates, coordinates]` make."""
    count = len(gradients)
    centre = gradients[:PILOT].mean(axis=0, dtype=np.float64).astype(gradients.dtype).astype(np.float64)
    deviations = gradients.astype(np.float64) - centre
    bounds = np.array(edges(count))
    moments = Moments.zero(centre, 4)
    moments.counts[: len(bounds) - 1] = np.diff(bounds)
    moments.first[: len(bounds) - 1] = np.add.reduceat(deviations, bounds[:-1], axis=0)
    squares = deviations**2
    moments.higher[:] = squares.sum(axis=0), (squares * deviations).sum(axis=0), (squares**2).sum(axis=0)
    parts = leaf_numbers(empty.problem, empty.work.shapes)
    measurement = replace(empty, moments=moments, spreads={part: Spread(tail_length(count)) for part in parts})
    unknown = np.zeros(count)
    for part, spread in measurement.spreads.items():
        distances = squares[:, measurement.coordinates(part)].sum(axis=1)
        spread.add(0, np.diff(bounds), distances, unknown)
    return measurement


def shift(truth: Truth, by: np.ndarray) -> Truth:
    """A truth that an unbiased estimator misses by `by`, `[coordinates]`."""
    leaves, structure = jax.tree.flatten(truth.gradient)
    moved = np.split(flatten(truth.gradient) - by, np.cumsum([np.size(leaf) for leaf in leaves])[:-1])
    return truth._replace(
        gradient=structure.unflatten([m.reshape(np.shape(x)) for m, x in zip(moved, leaves, strict=True)])
    )
