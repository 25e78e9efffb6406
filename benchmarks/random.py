"""Threefry, the same bits at a fraction of the cost on CPU.

JAX's counter-based generator is lowered to a loop on CPU, and XLA repeats it inside every consumer that it is fused
with. Here the twenty rounds are unrolled, so that they vectorise, and fenced, so that each draw is made once and then
read. The bits are those of `threefry2x32`, which a test holds; other platforms keep JAX's own lowering. The harness
wraps its keys in this implementation, and what an estimator does with a key stays as it is written.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl, threefry2x32_p, threefry_prng_impl
from jaxtyping import Array, Key, UInt32

Words = UInt32[Array, "..."]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def rounds(k1: Words, k2: Words, x1: Words, x2: Words) -> tuple[Words, Words]:
    """The twenty rounds of Threefry-2x32 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011)."""
    keys = (k1, k2, k1 ^ k2 ^ np.uint32(PARITY))
    x1, x2 = x1 + keys[0], x2 + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x1 = lax.add(x1, x2)
            left, right = lax.shift_left(x2, np.uint32(rotation)), lax.shift_right_logical(x2, np.uint32(32 - rotation))
            x2 = lax.bitwise_xor(lax.bitwise_or(left, right), x1)
        x1 = x1 + keys[(group + 1) % 3]
        x2 = x2 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x1, x2


@jax.custom_batching.custom_vmap
def _fenced(keys: Words, high: Words, low: Words) -> tuple[Words, Words]:
    """Both words of the hash of every counter `[n, m]` under every key `[n, 2]`."""
    operands = keys[:, :1], keys[:, 1:], high, low

    def unrolled(operands):
        # A branch that the compiler cannot foresee is a wall that it cannot fuse through.
        always = (keys[0, 0] | np.uint32(1)) != 0
        return lax.cond(always, lambda o: rounds(*o), lambda o: (jnp.zeros_like(o[3]),) * 2, operands)

    def builtin(operands):
        k1, k2, high, low = operands
        return tuple(threefry2x32_p.bind(jnp.broadcast_to(k1, low.shape), jnp.broadcast_to(k2, low.shape), high, low))

    return lax.platform_dependent(operands, cpu=unrolled, default=builtin)


@_fenced.def_vmap
def _fenced_batch(size, batched, keys, high, low):
    arrays = [
        a if b else jnp.broadcast_to(a[None], (size, *a.shape)) for a, b in zip((keys, high, low), batched, strict=True)
    ]
    first, second = _fenced(*(a.reshape(-1, a.shape[-1]) for a in arrays))
    return (first.reshape(arrays[1].shape), second.reshape(arrays[1].shape)), (True, True)


def _hash(key: Words, high: Words, low: Words) -> tuple[Words, Words]:
    first, second = _fenced(key[None], high.reshape(1, -1), low.reshape(1, -1))
    return first.reshape(low.shape), second.reshape(low.shape)


def _counters(shape: tuple[int, ...]) -> tuple[Words, Words]:
    count = int(np.prod(shape, dtype=np.int64))
    if count >= 2**32:
        raise ValueError(f"One draw may have at most 2**32 words, got {count}; draw in parts.")
    return jnp.zeros(shape, jnp.uint32), jnp.arange(count, dtype=jnp.uint32).reshape(shape)


def _random_bits(key: Words, bit_width: int, shape: tuple[int, ...]) -> Array:
    first, second = _hash(key, *_counters(shape))
    if bit_width == 64:
        return first.astype(jnp.uint64) << np.uint64(32) | second.astype(jnp.uint64)
    return (first ^ second).astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bit_width])


def _split(key: Words, shape: tuple[int, ...]) -> Words:
    return jnp.stack(_hash(key, *_counters(shape)), axis=-1)


def _fold_in(key: Words, data: Array) -> Words:
    data = jnp.asarray(data, jnp.uint32)
    return jnp.stack(_hash(key, jnp.zeros_like(data), data))


FENCED = define_prng_impl(
    key_shape=(2,),
    seed=threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="fenced_threefry2x32",
    tag="ffry",
)


def fenced(key: Key[Array, ""]) -> Key[Array, ""]:
    """The same key, drawing the same bits, in this implementation. A key of another kind than `threefry2x32` is
    returned as it is."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=FENCED)
