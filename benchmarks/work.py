"""The work of a cell: what one replicate computes, and how many of them are computed together.

All of this is found by tracing shapes alone; nothing is compiled or run.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from estimators import AbstractEnumerable, AbstractEstimator, AbstractStatelessEstimator
from estimators.base import Stats, calls
from estimators.objectives import Objective

from .environment import cores
from .hoisting import dependent
from .moments import BLOCKS
from .problems import AbstractProblem

PRNGKey = Key[Array, ""]

# One call of the program takes about so many replicates: long enough that its dispatch is nothing, and short enough that there
# is progress to report. What it returns has room for all of them, and is written and freed however few there are.
CALL = 2**16
FEWEST_TRIPS, MOST_TRIPS = 64, 256
# Replicates computed together: arrays of about this many numbers stay in a core's cache.
CHUNK_NUMBERS = 2**17
LARGEST_CHUNK = 1024
# On an accelerator a chunk is as large as its memory allows, a number for so many bytes of it; unknown, it has this.
MEMORY_SHARE = 256
SMALLEST_MEMORY = 2**32
LARGEST_ACCELERATOR_CHUNK = 2**16
# Replicates whose powers are added up in the precision of the estimates; the rest of the sum is made in float64.
GROUP = 32
# Up to this many coordinates one call adds up all blocks apart; beyond it what that takes would be seen, and blocks fill their calls.
MOST_APART = 64
# Beyond this many coordinates the third and fourth powers of each would cost more than the estimates.
MOST_FOURTH_POWERS = 10_000


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
    def capacity(self) -> int:
        """The longest span of replicates that one call takes on one device."""
        return capacity(self.chunk)

    @property
    def groups(self) -> int:
        """Into how many groups of replicates a chunk is divided, of at most `GROUP` each."""
        return self.chunk // math.gcd(self.chunk, GROUP)

    @property
    def apart(self) -> int:
        """Of how many blocks one call adds up the replicates apart."""
        return apart(self.chunk, self.size)

    @property
    def callers(self) -> int:
        """How many calls of the program are under way at once."""
        return callers(self.devices)

    @property
    def together(self) -> int:
        """How many replicates are computed at the same time by one process."""
        return self.chunk * len(self.devices) * self.callers

    @property
    def dtype(self) -> jnp.dtype:
        """The precision of a gradient."""
        return jnp.result_type(*jax.tree.leaves(self.shapes))


def capacity(chunk: int) -> int:
    """How many replicates one call takes on one device, if `chunk` of them are computed together.

    >>> [capacity(chunk) // chunk for chunk in (8, 512, 1024)]
    [256, 128, 64]
    """
    return chunk * min(max(CALL // chunk, FEWEST_TRIPS), MOST_TRIPS)


def apart(chunk: int, size: int) -> int:
    """Of how many blocks a call adds up the replicates apart: of all, if gradients are of a small size and no group is astride
    two blocks.

    >>> apart(512, 10), apart(512, 1000), apart(24, 10)
    (32, 1, 1)
    """
    whole = chunk % GROUP == 0 or GROUP % chunk == 0
    return BLOCKS if whole and size <= MOST_APART else 1


def callers(devices: tuple[jax.Device, ...]) -> int:
    """How many calls at once keep these devices busy: on CPU one for each core that there is to a device, since an operation
    of one call uses several cores for a part of the time only; an accelerator takes one at a time."""
    return max(cores() // len(devices), 1) if devices[0].platform == "cpu" else 1


_STATES: dict[tuple, PyTree] = {}


def structure(static: PyTree, arrays: PyTree) -> tuple:
    """What a program is compiled for: everything but the values of the arrays."""
    leaves, treedef = jax.tree.flatten(static)
    kinds = str([(a.shape, a.dtype) for a in jax.tree.leaves(arrays)])
    return treedef, tuple(leaves), kinds, double_precision()


def kind(*parts: PyTree) -> tuple:
    """The `structure` of these together: two of one kind are compiled to one program."""
    arrays, static = eqx.partition(parts, is_arraylike)
    return structure(static, arrays)


def is_arraylike(leaf) -> bool:
    """Whether a leaf is an array or the shape of one: what a program takes as an argument."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def double_precision() -> bool:
    """Whether estimates are traced in float64, as the caller has set JAX."""
    return jnp.result_type(float) == jnp.float64


def single(
    estimator: AbstractEstimator, state: PyTree, problem: AbstractProblem, key: PRNGKey
) -> tuple[PyTree, PyTree]:
    """One replicate: a gradient of the problem and the statistics behind it. Raises `ValueError` if the estimate does not have
    the shapes of the distribution's parameters."""

    def estimate(key: PRNGKey, dist: PyTree, f: Objective) -> tuple[PyTree, Stats]:
        grads, stats = estimator.estimate(key, state, dist, f)
        found, needed = ([jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (grads, dist))
        if found != needed:
            raise ValueError(
                f"`{type(estimator).__name__}` gives a gradient of the shapes {found} for parameters of the shapes {needed}; "
                "return one number for each parameter, in the structure of `dist`."
            )
        return grads, stats

    return problem.gradient(estimate, key)


def is_deterministic(estimator: AbstractEstimator, state: PyTree, problem: AbstractProblem) -> bool:
    """Whether no replicate reads its key (an exact gradient): then all are equal, and one need be run."""
    traced, _, _ = eqx.filter_make_jaxpr(lambda *parts: single(*parts)[0])(estimator, state, problem, jax.random.key(0))
    *others, _ = traced.jaxpr.invars
    return not any(dependent(traced.jaxpr, [*(False for _ in others), True]))


def state_shape(estimator: AbstractEstimator, problem: AbstractProblem) -> PyTree:
    """Shapes and precisions of the estimator's state on this problem, found once for all parameter points; `None` if it
    has none."""
    if isinstance(estimator, AbstractStatelessEstimator):
        return None
    pair = kind(estimator, problem)
    if pair not in _STATES:
        _STATES[pair] = eqx.filter_eval_shape(
            lambda e, p, k: e.init(k, p.example()[0]), estimator, problem, jax.random.key(0)
        )
    return _STATES[pair]


def work_of(
    estimator: AbstractEstimator,
    state: PyTree,
    problem: AbstractProblem,
    devices: tuple[jax.Device, ...],
    chunk: int | None = None,
    deterministic: bool | None = None,
) -> Work:
    """The shape of the work of this pair; whether it is `deterministic` is found out unless it is known."""
    shapes = gradient_shape(problem)
    size = sum(shape.size for shape in jax.tree.leaves(shapes))
    return Work(
        shapes=shapes,
        deterministic=is_deterministic(estimator, state, problem) if deterministic is None else deterministic,
        chunk=chunk or default_chunk(estimator, problem, shapes, devices[0]),
        devices=devices,
        order=4 if size <= MOST_FOURTH_POWERS else 2,
        x64=double_precision(),
    )


def gradient_shape(problem: AbstractProblem) -> PyTree:
    """Shapes and precisions of a gradient of the problem: those of its parameters, by way of an estimate that is the
    distribution itself."""
    return eqx.filter_eval_shape(
        lambda p, k: p.gradient(lambda k, dist, f: (dist, None), k)[0], problem, jax.random.key(0)
    )


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
