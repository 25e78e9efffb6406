"""Lowering: what there is to know of a cell's program before it is compiled.

One replicate is traced and lowered, which takes a twentieth of a second and compiles nothing; XLA then says how many floating-point
operations, transcendental functions and bytes it has, its text how many instructions, and its equations how many random words. That is
not the program that will run, which has a loop over chunks, random bits of its own making and the sums of the moments; but what these add
is the same for all programs, or grows with what is counted, and the constants of `forecast` are measured with it.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params

from estimators import ESTIMATORS

from .moments import BLOCKS
from .runner import problem_of
from .schedule import blocks_of_a_share
from .suites import Cell
from .work import apart, capacity, is_arraylike, kind, single, state_shape, work_of


class Program(NamedTuple):
    """What lowering tells of a program: of one replicate, `instructions` in its text, `flops`, `transcendentals`, `bytes` and random
    `words`; its `coordinates` and `leaves`, and how many replicates make a `chunk`; whether it is `deterministic`."""

    instructions: float
    flops: float
    transcendentals: float
    bytes: float
    words: float
    coordinates: int
    leaves: int
    chunk: int
    deterministic: bool

    def compile_terms(self) -> np.ndarray:
        """What the constants of `compile` multiply."""
        return np.array([1.0, self.instructions])

    def run_terms(self, replicates: int) -> np.ndarray:
        """What the constants of `run` multiply: chunks are computed whole, and each call has sums that the host adds up."""
        count = 1 if self.deterministic else replicates
        blocks, room = min(BLOCKS, count), capacity(self.chunk)
        whole = blocks_of_a_share(count, blocks, room, apart(self.chunk, self.coordinates))
        length = math.ceil(count / blocks) * whole
        calls = math.ceil(blocks / whole) * math.ceil(length / room)
        computed = math.ceil(blocks / whole) * math.ceil(length / self.chunk) * self.chunk
        costs = np.array([self.flops, self.transcendentals, self.bytes, self.words])
        return np.array([1.0, calls, calls * self.coordinates, *(computed * costs)])

    def returned_bytes(self) -> int:
        """The scalars that one call returns: three in float32 for each leaf of each replicate that it has room for."""
        return 3 * 4 * capacity(self.chunk) * self.leaves

    def moment_bytes(self) -> int:
        """The float64 sums on the host: the first power per block, three others, the centre and the truth."""
        return 8 * (BLOCKS + 5) * self.coordinates


def _parts(cell: Cell):
    """Estimator, shapes of its state, and problem of a cell."""
    estimator, problem = cell.estimator.create(ESTIMATORS), problem_of(cell.problem)
    return estimator, state_shape(estimator, problem), problem


def identity(cell: Cell) -> tuple:
    """What `harness.compiled` tells programs apart by; of two cells that agree in it, the second compiles nothing."""
    return kind(*_parts(cell))


def lowered(cell: Cell) -> list[Program]:
    """The program of a cell, and that of one step of its warm-up if it has one; nothing is compiled."""
    estimator, state, problem = _parts(cell)
    work = work_of(estimator, state, problem, tuple(jax.local_devices()[:1]))
    shared = {
        "coordinates": work.size,
        "leaves": len(work.sizes),
        "chunk": work.chunk,
        "deterministic": work.deterministic,
    }
    arrays, static = eqx.partition((estimator, state, problem), is_arraylike)

    def replicate(arrays, key):
        return single(*eqx.combine(arrays, static), key)[0]

    def step(arrays, key):
        estimator, state, problem = eqx.combine(arrays, static)
        return eqx.filter(estimator.adapt(state, single(estimator, state, problem, key)[1]), eqx.is_array)

    functions = [replicate] if state is None else [replicate, step]
    return [Program(*_counts(function, arrays), **shared) for function in functions]


def _counts(function, arrays) -> tuple[float, float, float, float, float]:
    traced = jax.jit(function).trace(arrays, jax.random.key(0))
    program = traced.lower()
    analysis = program.cost_analysis() or {}
    costs = (float(analysis.get(name, 0.0)) for name in ("flops", "transcendentals", "bytes accessed"))
    return float(program.as_text().count(" = ")), *costs, float(_words(traced.jaxpr.jaxpr))


def _words(jaxpr: Jaxpr) -> int:
    """How many random words are drawn, in a loop of a known length as often as it runs, and of branches in all."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "random_bits":
            count += equation.outvars[0].aval.size
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        count += times * sum(map(_words, jaxprs_in_params(equation.params)))
    return count
