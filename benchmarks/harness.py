"""The harness: many independent replicates of one estimator on one problem, streamed through one compiled program.

A program (`streaming`) is compiled once for every structure of estimator and problem: their arrays are its arguments, so
that one compile serves every seed, every number of replicates, and every parameter point of a family. A replicate is the
same number whatever the chunk, the device or the process that made it, and memory does not grow with their number.
"""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractEstimator

from . import traced
from .problems import AbstractProblem
from .sharing import number_of, options
from .startup import watch_cache
from .streaming import traceable
from .work import (
    PRNGKey,
    Work,
    double_precision,
    is_arraylike,
    is_deterministic,
    single,
    state_shape,
    structure,
    work_of,
)

# An index that no replicate reaches: the stream that adapts the state before it is frozen.
WARM_UP = 2**32 - 1
# The adaptation is run for a second at most, and took twice as long to compile as it takes with less optimisation by LLVM. Not
# for replicates: some draws of categories would take three times as long.
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 1}
# Compiled programs that are held at most. One on CPU is some hundred and fifty mappings of memory, and Linux gives a process
# 65,530 of them.
MOST_PROGRAMS = 160


class Replicates(NamedTuple):
    """What one call returns for consecutive replicates: the sums of `g - centre` over each block of them (`[blocks, coordinates]`),
    those of its higher powers over all (`[order - 1, coordinates]`), and for each replicate and leaf of the gradient its
    squared distance from the centre, its squared norm and its inner product with the truth (`[replicates, leaves, 3]`)."""

    first: np.ndarray
    higher: np.ndarray
    scalars: np.ndarray


class Program(NamedTuple):
    """A compiled program, its work, and the seconds that tracing and compiling it took, once for all cells it serves;
    `None` where it was found in the cache on disk. Of the estimators that share it, which are `exact` and draw nothing."""

    executable: Callable
    work: Work
    compile_seconds: float | None
    exact: tuple[bool, ...]

    @property
    def capacity(self) -> int:
        """The longest span of replicates that one call takes on one device."""
        return self.work.capacity


def stream_key(seed: int, *names: str) -> PRNGKey:
    """The key of the stream called `names`: a stable hash of the names, independent of any order of work."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "big"))


def check_key(key: PRNGKey) -> None:
    """Raise `ValueError` for a key whose draws would depend on how replicates are batched."""
    name = str(jax.random.key_impl(key))
    if "rbg" in name:
        raise ValueError(
            f"The key is of the kind {name!r}, whose draws change with the batch under `vmap`; "
            "use `jax.random.key(seed, impl='threefry2x32')`."
        )


def warm_up(
    estimator: AbstractEstimator, problem: AbstractProblem, key: PRNGKey, steps: int, batch: int = 32
) -> PyTree:
    """The state after `steps` adaptations, each to the average statistics of `batch` replicates; `None` for a stateless
    estimator."""
    shapes = state_shape(estimator, problem)
    if not jax.tree.leaves(shapes):
        return shapes
    arrays, _ = eqx.partition((estimator, problem), eqx.is_array)
    leaves = jax.tree.leaves((arrays, jax.random.key_data(key), np.int32(steps)))
    with _memory(batch):
        # Back on the host, so that the program of all devices may place it.
        adapted = jax.device_get(warm_up_program(estimator, problem, key, batch)(*leaves))
    dynamic, static = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(dynamic), map(jnp.asarray, adapted)), static)


def warm_up_program(estimator: AbstractEstimator, problem: AbstractProblem, key: PRNGKey, batch: int = 32) -> Callable:
    """The compiled adaptation of a new state: from the leaves of the arrays of both, the data of the key, and the number of
    steps to the leaves of the state that are arrays."""
    arrays, static = eqx.partition((estimator, problem), eqx.is_array)
    arguments, treedef = jax.tree.flatten((arrays, jax.random.key_data(key), np.int32(0)))
    implementation = jax.random.key_impl(key)

    def adapt(*leaves):
        arrays, data, steps = jax.tree.unflatten(treedef, leaves)
        estimator, problem = eqx.combine(arrays, static)
        key_init, key_steps = jax.random.split(
            jax.random.fold_in(jax.random.wrap_key_data(data, impl=implementation), WARM_UP)
        )
        state = estimator.init(key_init, problem.example()[0])
        dynamic, fixed = eqx.partition(state, eqx.is_array)

        def step(i, dynamic):
            state = eqx.combine(dynamic, fixed)
            keys = jax.random.split(jax.random.fold_in(key_steps, i), batch)
            stats = jax.vmap(lambda k: single(estimator, state, problem, k)[1])(keys)
            stats = jax.tree.map(lambda s: jnp.mean(s, axis=0), stats)
            return eqx.filter(estimator.adapt(state, stats), eqx.is_array)

        return jax.tree.leaves(jax.lax.fori_loop(0, steps, step, dynamic))

    def build() -> Callable:
        named = traced.name(
            "warm-up", batch, estimator, problem, str(implementation), double_precision(), jax.local_devices()[0]
        )
        return traced.Kept(named).compile(adapt, arguments, {}, options=QUICK_TO_COMPILE)

    return _once(("warm-up", batch, *structure(static, (arrays, key))), build)


def compiled(
    estimator: AbstractEstimator,
    state: PyTree,
    problem: AbstractProblem,
    key: PRNGKey,
    *,
    chunk: int | None = None,
    devices: tuple[jax.Device, ...] | None = None,
) -> Program:
    """The program for this structure of estimator, state and problem, compiled on first use. Of `state` only the shapes
    matter."""
    check_key(key)
    arrays, static = eqx.partition((estimator, state, problem), is_arraylike)
    devices = tuple(devices or jax.local_devices())

    def build() -> Program:
        started = time.perf_counter()
        made_of = estimator, problem, jax.tree.leaves(eqx.filter(state, is_arraylike)), str(jax.random.key_impl(key))
        kept = traced.Kept(traced.name("replicates", *made_of, double_precision(), chunk, list(devices)))
        pairs = options(estimator, state)
        exact = kept.facts.get("deterministic") or [is_deterministic(*pair, problem) for pair in pairs]
        work = work_of(estimator, state, problem, devices, chunk, all(exact))
        with jax.enable_x64(True), watch_cache() as found, _memory(work.chunk):
            program, arguments, placed = traceable(arrays, static, key, work)
            # Without options: vectors of 512 bits on CPU made XLA compute `parameter-shift` on 100 bits wrongly.
            executable = kept.compile(program, arguments, {"deterministic": exact}, placed)
        return Program(executable, work, None if found else time.perf_counter() - started, tuple(exact))

    program = _once((chunk, devices, *structure(static, (arrays, key))), build)
    return program._replace(work=program.work._replace(deterministic=program.exact[number_of(estimator)]))


_PROGRAMS: dict[tuple, object] = {}
_LOCKS: defaultdict[tuple, threading.Lock] = defaultdict(threading.Lock)


def _once(structure: tuple, build: Callable):
    """What `build` makes for this structure, made by the first thread that asks."""
    with _LOCKS[structure]:
        # Put last whether it is new or not: the first are those that have not been used for longest.
        found = _PROGRAMS.pop(structure, None)
        _PROGRAMS[structure] = build() if found is None else found
        return _PROGRAMS[structure]


def make_room() -> None:
    """Of more than `MOST_PROGRAMS` compiled programs, drop the half that has not been used for longest."""
    if len(_PROGRAMS) > MOST_PROGRAMS:
        forget_programs(keep=MOST_PROGRAMS // 2)


def forget_programs(keep: int = 0) -> None:
    """Drop all compiled programs but the `keep` that were used last, and what JAX holds of them."""
    for key in list(_PROGRAMS)[: len(_PROGRAMS) - keep]:
        del _PROGRAMS[key]
    jax.clear_caches()


def run(
    program: Program, arrays: PyTree, key: PRNGKey, centre: np.ndarray, truth: np.ndarray, edges: list[tuple[int, ...]]
) -> list[Replicates]:
    """Run consecutive replicates on each device, at most `program.capacity` of them, whose blocks have these edges. Raises
    `MemoryError` where the chunks of the program do not fit."""
    padded = np.zeros((len(program.work.devices), program.work.apart + 1), np.int64)
    for row, own in zip(padded, edges, strict=False):
        row[: len(own)], row[len(own) :] = own, own[-1]
    with jax.enable_x64(True), _memory(program.work.chunk):
        leaves = jax.tree.leaves((arrays, jax.random.key_data(key), centre, truth, padded))
        first, higher, scalars = jax.device_get(program.executable(*leaves))
    return [
        Replicates(first[device, : len(own) - 1], higher[device], scalars[device, : own[-1] - own[0]])
        for device, own in enumerate(edges)
    ]


@contextmanager
def _memory(chunk: int) -> Iterator[None]:
    """Tell memory that ran out from all that may go wrong in XLA."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"{chunk} replicates together do not fit into the memory of the device; use one with more, or a smaller problem."
        ) from error
