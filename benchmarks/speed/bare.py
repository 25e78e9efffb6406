"""The same arithmetic as the tasks, each as a streaming loop written by hand: what the harness is to come near to.

A loop of a traced number of trips, on each device; a trip draws a chunk of replicates from `fold_in(key, chunk)`, forms their
gradients as closed expressions, and adds their sums and sums of squares to float64 accumulators. No estimator, no problem, no automatic
differentiation, no per-replicate scalars; the bits are those of the fenced generator, because bits cost the same for everybody.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ..random import fenced

Gradients = Callable[[jax.Array, tuple], jax.Array]


def moments(gradients: Gradients, arrays: tuple, replicates: int, chunk: int) -> Callable[[int], np.ndarray]:
    """A function of the seed that returns mean and variance of `gradients(key, arrays)`, `[chunk, coordinates]` to a call."""
    devices = jax.local_devices()
    trips = -(-replicates // (chunk * len(devices)))
    size = jax.eval_shape(gradients, jax.random.key(0), arrays).shape[1]

    def local(key, arrays, first, trips):
        def trip(i, sums):
            g = gradients(jax.random.fold_in(key, first[0] + i), arrays)
            powers = jnp.stack([jnp.sum(g, axis=0), jnp.sum(g * g, axis=0)])
            return sums + powers.astype(jnp.float64)

        return jax.lax.fori_loop(0, trips, trip, jnp.zeros((2, size), jnp.float64))[None]

    mesh, split, whole = Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"), PartitionSpec()
    with jax.enable_x64(True):
        program = jax.jit(
            jax.shard_map(local, mesh=mesh, in_specs=(whole, whole, split, whole), out_specs=split, check_vma=False)
        )
        first = np.arange(len(devices), dtype=np.int64) * trips

    def run(seed: int) -> np.ndarray:
        with jax.enable_x64(True):
            total = np.asarray(program(fenced(jax.random.key(seed)), arrays, first, np.int64(trips))).sum(axis=0)
        count = trips * chunk * len(devices)
        mean = total[0] / count
        return np.stack([mean, (total[1] - count * mean**2) / (count - 1)])

    return run


def uniforms(key, shape):
    return jax.random.uniform(key, shape, jnp.float32, minval=jnp.finfo(jnp.float32).tiny)


def bits_leave_one_out(chunk: int) -> Gradients:
    """T1. With `f` a mean of squares of bits, `f(b) = .499^2 + .002 mean(b)`, but the squares are formed as a user would."""

    def gradients(key, arrays):
        (logits,) = arrays
        b = (uniforms(key, (2, chunk, logits.size)) < jax.nn.sigmoid(logits)[None, None]).astype(jnp.float32)
        f = jnp.mean((b - 0.499) ** 2, axis=-1)
        return 0.5 * (f[0] - f[1])[:, None] * (b[0] - b[1])

    return gradients


def cosine_pathwise(chunk: int, cos, sin, normal) -> Gradients:
    """T2."""

    def gradients(key, arrays):
        loc, log_scale = arrays
        noise = normal(key, (chunk, loc.size))
        scaled = jnp.exp(log_scale)[None] * noise
        slope = -sin(loc[None] + scaled)
        return jnp.concatenate([slope, slope * scaled], axis=1)

    return gradients


def cosine_score(chunk: int, cos, sin, normal) -> Gradients:
    """T2."""

    def gradients(key, arrays):
        loc, log_scale = arrays
        noise = normal(key, (chunk, loc.size))
        f = jnp.sum(cos(loc[None] + jnp.exp(log_scale)[None] * noise), axis=1, keepdims=True)
        return jnp.concatenate([f * noise / jnp.exp(log_scale)[None], f * (noise**2 - 1)], axis=1)

    return gradients
