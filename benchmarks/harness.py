"""The harness: many independent replicates of one estimator on one problem, streamed through one compiled program.

Replicate `i` draws from `fold_in(key, i)` and from nothing else, so that it is the same number whatever the chunk, the
device or the process that made it. Inside the program a loop with a traced number of trips runs chunks of replicates
under `vmap` and adds up powers of their deviations from a centre, in float64, while the estimates themselves are traced
in the caller's precision. Memory does not grow with the number of replicates. The arrays of estimator and problem are
arguments of the program: one compile serves every seed, every number of replicates, and every parameter point of a
family.
"""

import functools
import hashlib
import math
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
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Key, PyTree

from estimators import AbstractEnumerable, AbstractEstimator
from estimators.base import calls

from .hoisting import hoisted
from .problems import AbstractProblem
from .startup import watch_cache

PRNGKey = Key[Array, ""]

# One call of the program: long enough that its dispatch is nothing, short enough to report progress and bound memory.
TRIPS_PER_CALL = 256
# Replicates computed together: arrays of about this many numbers stay in a core's cache.
CHUNK_NUMBERS = 2**17
LARGEST_CHUNK = 1024
# On an accelerator a chunk is as large as its memory allows, a number for so many bytes of it; unknown, it has this.
MEMORY_SHARE = 256
SMALLEST_MEMORY = 2**32
LARGEST_ACCELERATOR_CHUNK = 2**16
# Replicates whose powers are added up in the precision of the estimates; the rest of the sum is made in float64.
GROUP = 32
# Beyond this many coordinates the third and fourth powers of each would cost more than the estimates.
MOST_FOURTH_POWERS = 10_000
# An index that no replicate reaches: the stream that adapts the state before it is frozen.
WARM_UP = 2**32 - 1


class Replicates(NamedTuple):
    """What one call returns for a span of replicates: the sums of the powers of `g - centre` (`[order, coordinates]`),
    and for each replicate and leaf of the gradient its squared distance from the centre, its squared norm and its inner
    product with the truth (`[replicates, leaves, 3]`)."""

    powers: np.ndarray
    scalars: np.ndarray


class Work(NamedTuple):
    """The shape of a program's work: what one gradient is, whether no replicate reads its key, how many replicates are
    computed together, on which devices, the highest power that is summed, and the precision of the estimates."""

    shapes: PyTree
    deterministic: bool
    chunk: int
    devices: tuple[jax.Device, ...]
    order: int
    x64: bool

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many coordinates each leaf of a gradient has."""
        return tuple(shape.size for shape in jax.tree.leaves(self.shapes))

    @property
    def size(self) -> int:
        """How many coordinates a gradient has."""
        return sum(self.sizes)

    @property
    def groups(self) -> int:
        """Into how many groups of replicates a chunk is divided, of at most `GROUP` each."""
        return self.chunk // math.gcd(self.chunk, GROUP)

    @property
    def dtype(self) -> jnp.dtype:
        """The precision of a gradient."""
        return jnp.result_type(*jax.tree.leaves(self.shapes))


class Program(NamedTuple):
    """A compiled program, its work, and the seconds that tracing and compiling it took, once for all cells it serves;
    `None` where it was found in the cache on disk."""

    executable: Callable
    work: Work
    compile_seconds: float | None

    @property
    def capacity(self) -> int:
        """The longest span of replicates that one call takes on one device."""
        return TRIPS_PER_CALL * self.work.chunk


def stream_key(seed: int, *names: str) -> PRNGKey:
    """The key of the stream called `names`: a stable hash of the names, independent of any order of work."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "big"))


def double_precision() -> bool:
    """Whether estimates are traced in float64, as the caller has set JAX."""
    return jnp.result_type(float) == jnp.float64


def check_key(key: PRNGKey) -> None:
    """Raise `ValueError` for a key whose draws would depend on how replicates are batched."""
    name = str(jax.random.key_impl(key))
    if "rbg" in name:
        raise ValueError(
            f"The key is of the kind {name!r}, whose draws change with the batch under `vmap`; "
            "use `jax.random.key(seed, impl='threefry2x32')`."
        )


def single(
    estimator: AbstractEstimator, state: PyTree, problem: AbstractProblem, key: PRNGKey
) -> tuple[PyTree, PyTree]:
    """One replicate: a gradient of the problem and the statistics behind it."""
    return problem.gradient(lambda k, dist, f: estimator.estimate(k, state, dist, f), key)


def is_deterministic(estimator: AbstractEstimator, state: PyTree, problem: AbstractProblem) -> bool:
    """Whether no replicate reads its key (an exact gradient): then all are equal, and one need be run.

    Under `vmap` over keys, an output declared unbatched is refused exactly when it depends on the key.
    """
    keys = jax.random.split(jax.random.key(0), 2)
    try:
        eqx.filter_eval_shape(_unbatched, estimator, state, problem, keys)
    except ValueError:
        return False
    return True


def _unbatched(estimator, state, problem, keys):
    return jax.vmap(lambda key: single(estimator, state, problem, key)[0], out_axes=None)(keys)


def warm_up(
    estimator: AbstractEstimator, problem: AbstractProblem, key: PRNGKey, steps: int, batch: int = 32
) -> PyTree:
    """The state after `steps` adaptations, each to the average statistics of `batch` replicates; `None` for a stateless
    estimator."""
    shapes = state_shape(estimator, problem)
    if shapes is None:
        return None
    arrays, _ = eqx.partition((estimator, problem), eqx.is_array)
    adapted = warm_up_program(estimator, problem, key, batch)(arrays, key, np.int32(steps))
    # Back on the host, so that the program of all devices may place it.
    _, static = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    return eqx.combine(jax.tree.map(jnp.asarray, jax.device_get(adapted)), static)


def state_shape(estimator: AbstractEstimator, problem: AbstractProblem) -> PyTree:
    """Shapes and precisions of the estimator's state on this problem."""
    return eqx.filter_eval_shape(lambda e, p, k: e.init(k, p.example()[0]), estimator, problem, jax.random.key(0))


def warm_up_program(estimator: AbstractEstimator, problem: AbstractProblem, key: PRNGKey, batch: int = 32) -> Callable:
    """The compiled adaptation of a new state, a function of the arrays of both, the key and the number of steps."""
    arrays, static = eqx.partition((estimator, problem), eqx.is_array)

    def adapt(arrays, key, steps):
        estimator, problem = eqx.combine(arrays, static)
        key_init, key_steps = jax.random.split(jax.random.fold_in(key, WARM_UP))
        state = estimator.init(key_init, problem.example()[0])
        dynamic, fixed = eqx.partition(state, eqx.is_array)

        def step(i, dynamic):
            state = eqx.combine(dynamic, fixed)
            keys = jax.random.split(jax.random.fold_in(key_steps, i), batch)
            stats = jax.vmap(lambda k: single(estimator, state, problem, k)[1])(keys)
            stats = jax.tree.map(lambda s: jnp.mean(s, axis=0), stats)
            return eqx.filter(estimator.adapt(state, stats), eqx.is_array)

        return jax.lax.fori_loop(0, steps, step, dynamic)

    def build() -> Callable:
        return jax.jit(adapt).lower(arrays, key, np.int32(0)).compile()

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
        work = work_of(estimator, state, problem, devices, chunk)
        with jax.enable_x64(True), watch_cache() as found, _memory(work.chunk):
            function, arguments = traceable(arrays, static, key, work)
            executable = function.lower(*arguments).compile(compiler_options=compiler_options(devices))
        return Program(executable, work, None if found else time.perf_counter() - started)

    return _once((chunk, devices, *structure(static, (arrays, key))), build)


def work_of(
    estimator: AbstractEstimator,
    state: PyTree,
    problem: AbstractProblem,
    devices: tuple[jax.Device, ...],
    chunk: int | None = None,
) -> Work:
    """The shape of the work of this pair."""
    shapes = gradient_shape(estimator, state, problem)
    size = sum(shape.size for shape in jax.tree.leaves(shapes))
    return Work(
        shapes=shapes,
        deterministic=is_deterministic(estimator, state, problem),
        chunk=chunk or default_chunk(estimator, problem, shapes, devices[0]),
        devices=devices,
        order=4 if size <= MOST_FOURTH_POWERS else 2,
        x64=double_precision(),
    )


def compiler_options(devices: tuple[jax.Device, ...]) -> dict[str, int] | None:
    """On CPU, vectors as wide as the machine has; LLVM would stop at half of that, and the random bits pay for it."""
    return {"xla_cpu_prefer_vector_width": 512} if devices[0].platform == "cpu" else None


_PROGRAMS: dict[tuple, object] = {}
_LOCKS: defaultdict[tuple, threading.Lock] = defaultdict(threading.Lock)


def _once(structure: tuple, build: Callable):
    """What `build` makes for this structure, made by the first thread that asks."""
    with _LOCKS[structure]:
        if structure not in _PROGRAMS:
            _PROGRAMS[structure] = build()
    return _PROGRAMS[structure]


def forget_programs() -> None:
    """Drop all compiled programs, and the memory that they hold: for a process that measures thousands of structures."""
    _PROGRAMS.clear()


def structure(static: PyTree, arrays: PyTree) -> tuple:
    """What a program is compiled for: everything but the values of the arrays."""
    leaves, treedef = jax.tree.flatten(static)
    kinds = str([(a.shape, a.dtype) for a in jax.tree.leaves(arrays)])
    return treedef, tuple(leaves), kinds, double_precision()


def is_arraylike(leaf) -> bool:
    """Whether a leaf is an array or the shape of one: what a program takes as an argument."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def gradient_shape(estimator: AbstractEstimator, state: PyTree, problem: AbstractProblem) -> PyTree:
    """Shapes and precisions of one gradient."""
    return eqx.filter_eval_shape(lambda *a: single(*a)[0], estimator, state, problem, jax.random.key(0))


def default_chunk(estimator: AbstractEstimator, problem: AbstractProblem, shapes: PyTree, device: jax.Device) -> int:
    """How many replicates to compute together: a power of two, fewer for wide gradients, for many evaluations of `f` and
    for a long list of events."""
    dist, f = problem.example()
    # Coordinates are passed over by every moment, events by less: the weights are what was fastest on the speed page.
    numbers = 2 * sum(s.size for s in jax.tree.leaves(shapes))
    numbers += calls(estimator, dist, f) * math.prod(dist.event_shape) // 4
    if AbstractEnumerable in estimator.requires:
        numbers += dist.support_size
    most, largest = chunk_limits(device.platform, (device.memory_stats() or {}).get("bytes_limit"))
    return int(np.clip(2 ** int(np.log2(max(most / numbers, 1))), 1, largest))


def chunk_limits(platform: str, memory: int | None) -> tuple[int, int]:
    """How many numbers and how many replicates a chunk may hold: what stays in the cache of a core, or a share of the
    `memory` of an accelerator, in bytes, that leaves room for what lies between key and gradient."""
    if platform == "cpu":
        return CHUNK_NUMBERS, LARGEST_CHUNK
    return max((memory or SMALLEST_MEMORY) // MEMORY_SHARE, CHUNK_NUMBERS), LARGEST_ACCELERATOR_CHUNK


def traceable(arrays: PyTree, static: PyTree, key: PRNGKey, work: Work) -> tuple[Callable, tuple]:
    """The program before it is compiled, and arguments of its shapes; to be used under `jax.enable_x64(True)`."""
    local = functools.partial(_run_chunks, static, work)
    zeros = jnp.zeros(work.size, work.dtype)
    mesh = Mesh(np.array(work.devices), ("replicates",))
    split, whole = PartitionSpec("replicates"), PartitionSpec()
    specs = (whole, whole, whole, whole, split, split)
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    span = np.zeros(len(work.devices), np.int64)
    return jax.jit(sharded), (arrays, key, zeros, zeros, span, span)


def _run_chunks(static, work, arrays, key, centre, truth, start, stop):
    """The program of one device: replicates `start[0] <= i < stop[0]`, chunk by chunk.

    Powers are added up in the precision of the estimates over `GROUP` replicates, whether these are a part of a chunk
    or several chunks, and in float64 from there on: rounding is that of a few additions, and wide gradients are not
    converted one by one.
    """
    estimator, state, problem = eqx.combine(arrays, static)
    chunk, passes = work.chunk, max(GROUP // work.chunk, 1)
    chunks = (stop[0] - start[0] + chunk - 1) // chunk

    def replicate(index):
        with jax.enable_x64(work.x64):
            gradient = single(estimator, state, problem, jax.random.fold_in(key, index))[0]
            return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])

    remaining = hoisted(replicate, jnp.zeros((), jnp.uint32))

    def one(i, sums):
        powers, rows = sums
        indices = start[0] + i * chunk + jnp.arange(chunk)
        flat = jax.vmap(remaining)(indices.astype(jnp.uint32))
        deviations = jnp.where((indices < stop[0])[:, None], flat - centre[None], 0)
        # Fenced, so that no sum forms them again.
        deviations, squares = jax.lax.optimization_barrier((deviations, deviations * deviations))
        scalars = _row_sums(deviations, flat, truth, work.sizes).astype(jnp.float32)
        sums = _power_sums(deviations, squares, work)
        return powers + sums, jax.lax.dynamic_update_slice(rows, scalars, (i * chunk, 0, 0))

    def trip(i, sums):
        powers, rows = sums
        zeros = jnp.zeros((work.order, work.groups, work.size), work.dtype)
        last = jnp.minimum((i + 1) * passes, chunks)
        grouped, rows = jax.lax.fori_loop(i * passes, last, one, (zeros, rows))
        return powers + jnp.sum(grouped.astype(jnp.float64), axis=1), rows

    powers = jnp.zeros((work.order, work.size), jnp.float64)
    rows = jnp.zeros((TRIPS_PER_CALL * chunk, len(work.sizes), 3), jnp.float32)
    powers, rows = jax.lax.fori_loop(0, (chunks + passes - 1) // passes, trip, (powers, rows))
    return powers[None], rows[None]


def _power_sums(deviations: Array, squares: Array, work: Work) -> Array:
    """Sums over groups of replicates of the first powers of `[chunk, coordinates]`: `[order, groups, coordinates]`."""
    powers = (deviations, squares, squares * deviations, squares * squares)[: work.order]
    # One reduction for each: XLA vectorises a plain sum on CPU, and not one of several operands.
    return jnp.stack([jnp.sum(power.reshape(work.groups, -1, work.size), axis=1) for power in powers])


def _row_sums(deviations: Array, flat: Array, truth: Array, sizes: tuple[int, ...]) -> Array:
    """The scalars of each replicate `[chunk, coordinates]`, over the coordinates of each leaf: `[chunk, leaves, 3]`."""

    def scalars(deviations, flat, truth):
        inner = jnp.dot(flat, truth, precision=jax.lax.Precision.HIGHEST)
        return jnp.stack([jnp.sum(deviations * deviations, axis=1), jnp.sum(flat * flat, axis=1), inner], axis=-1)

    ends = np.cumsum(sizes)[:-1]
    leaves = zip(*(jnp.split(term, ends, axis=-1) for term in (deviations, flat, truth)), strict=True)
    return jnp.stack([scalars(*leaf) for leaf in leaves], axis=1)


def run(
    program: Program, arrays: PyTree, key: PRNGKey, centre: np.ndarray, truth: np.ndarray, spans: list[tuple[int, int]]
) -> list[Replicates]:
    """Run one span of replicate indices on each device, each at most `program.capacity` long. Raises `MemoryError` where
    the chunks of the program do not fit."""
    padded = spans + [(0, 0)] * (len(program.work.devices) - len(spans))
    start, stop = np.array(padded, np.int64).T
    with jax.enable_x64(True), _memory(program.work.chunk):
        powers, scalars = jax.device_get(program.executable(arrays, key, centre, truth, start, stop))
    return [Replicates(powers[device], scalars[device, : last - first]) for device, (first, last) in enumerate(spans)]


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
