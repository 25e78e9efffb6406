"""The program of a cell: a loop over chunks of replicates, of which only sums are kept.

Replicate `i` draws from `fold_in(key, i)` and from nothing else. What does not depend on `i` is computed before the loop, a
chunk is a `vmap`, and what is added up are powers of the deviations from a centre. Replicates are divided over the devices
of a mesh, which exchange nothing.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from .hoisting import hoisted
from .work import GROUP, PRNGKey, Work, single


def traceable(arrays: PyTree, static: PyTree, key: PRNGKey, work: Work) -> tuple[Callable, list, tuple]:
    """The program before it is traced, arguments of the shapes that it takes, and where these are placed.

    It takes the leaves of the arrays one by one, the data of the key, the centre, the truth, and for each device the edges of
    its blocks of replicates. To be used under `jax.enable_x64(True)`."""
    local = functools.partial(_run_chunks, static, work)
    mesh = Mesh(np.array(work.devices), ("replicates",))
    split, whole = PartitionSpec("replicates"), PartitionSpec()
    specs = (whole, whole, whole, whole, split)
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    zeros, edges = np.zeros(work.size, work.dtype), np.zeros((len(work.devices), work.apart + 1), np.int64)
    arguments, treedef = jax.tree.flatten((arrays, jax.random.key_data(key), zeros, zeros, edges))
    kind = jax.random.key_impl(key)

    def program(*leaves):
        arrays, data, *others = jax.tree.unflatten(treedef, leaves)
        return sharded(arrays, jax.random.wrap_key_data(data, impl=kind), *others)

    placed = (NamedSharding(mesh, whole),) * (len(arguments) - 1) + (NamedSharding(mesh, split),)
    return program, arguments, placed


def _run_chunks(static, work, arrays, key, centre, truth, edges):
    """The program of one device: replicates `edges[0, 0] <= i < edges[0, -1]`, chunk by chunk.

    Powers are added up in the precision of the estimates over `GROUP` replicates, whether these are a part of a chunk
    or several chunks, and in float64 from there on: rounding is that of a few additions, and wide gradients are not
    converted one by one.
    """
    estimator, state, problem = eqx.combine(arrays, static)
    chunk, passes = work.chunk, max(GROUP // work.chunk, 1)
    start, stop = edges[0, 0], edges[0, -1]
    chunks = (stop - start + chunk - 1) // chunk
    ends = np.cumsum(work.sizes)[:-1]
    centres, truths = jnp.split(centre, ends), jnp.split(truth, ends)

    def replicate(index):
        with jax.enable_x64(work.x64):
            gradient = single(estimator, state, problem, jax.random.fold_in(key, index))[0]
            return [leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)]

    remaining = hoisted(replicate, jnp.zeros((), jnp.uint32))

    def one(i, sums):
        powers, rows = sums
        indices = start + i * chunk + jnp.arange(chunk)
        inside = (indices < stop)[:, None]
        leaves = jax.vmap(remaining)(indices.astype(jnp.uint32))
        # By leaf, for a slice of all coordinates would be a copy.
        deviations = [jnp.where(inside, leaf - centre[None], 0) for leaf, centre in zip(leaves, centres, strict=True)]
        scalars = jnp.stack([_row_sums(*parts) for parts in zip(deviations, leaves, truths, strict=True)], axis=1)
        sums = _power_sums(jnp.concatenate(deviations, axis=1), inside, work)
        return powers + sums, jax.lax.dynamic_update_slice(rows, scalars.astype(jnp.float32), (i * chunk, 0, 0))

    def trip(i, sums):
        first, higher, rows = sums
        zeros = jnp.zeros((work.order, work.groups, work.size), work.dtype)
        last = jnp.minimum((i + 1) * passes, chunks)
        grouped, rows = jax.lax.fori_loop(i * passes, last, one, (zeros, rows))
        grouped = grouped.astype(jnp.float64)
        begins = start + (i * work.groups + jnp.arange(work.groups)) * (passes * chunk // work.groups)
        return first + _by_block(grouped[0], begins, edges[0]), higher + jnp.sum(grouped[1:], axis=1), rows

    first = jnp.zeros((work.apart, work.size), jnp.float64)
    higher = jnp.zeros((work.order - 1, work.size), jnp.float64)
    rows = jnp.zeros((work.capacity, len(work.sizes), 3), jnp.float32)
    return [sums[None] for sums in jax.lax.fori_loop(0, (chunks + passes - 1) // passes, trip, (first, higher, rows))]


def _by_block(groups: Array, begins: Array, edges: Array) -> Array:
    """The sums of `[groups, coordinates]` over each block, `[blocks, coordinates]`, by where the groups begin."""
    if len(edges) == 2:
        return jnp.sum(groups, axis=0, keepdims=True)
    own = (edges[:-1, None] <= begins[None]) & (begins[None] < edges[1:, None])
    return jnp.dot(own.astype(groups.dtype), groups, precision=jax.lax.Precision.HIGHEST)


def _power_sums(deviations: Array, inside: Array, work: Work) -> Array:
    """Sums over groups of replicates of the first powers of `[chunk, coordinates]`: `[order, groups, coordinates]`."""
    squares = deviations * deviations
    higher = (squares, squares * deviations, squares * squares)[: work.order - 1]
    # They are zero outside already: the choice keeps XLA on CPU from multiplying inside of its sums, which takes it longer.
    powers = (deviations, *(jnp.where(inside, power, 0) for power in higher))
    # One reduction for each: XLA vectorises a plain sum on CPU, and not one of several operands.
    return jnp.stack([jnp.sum(power.reshape(work.groups, -1, work.size), axis=1) for power in powers])


def _row_sums(deviations: Array, leaf: Array, truth: Array) -> Array:
    """The scalars of each replicate, over the coordinates of one leaf `[chunk, coordinates]`: `[chunk, 3]`."""
    inner = jnp.dot(leaf, truth, precision=jax.lax.Precision.HIGHEST)
    return jnp.stack([jnp.sum(deviations * deviations, axis=1), jnp.sum(leaf * leaf, axis=1), inner], axis=-1)
