"""Threefry, the same bits at a fraction of the cost on CPU.

JAX's counter-based generator is lowered to a loop on CPU, and XLA repeats it inside every consumer that it is fused
with. Here the twenty rounds are unrolled, so that they vectorise, and fenced, so that each draw is made once and then
read. The bits are those of `threefry2x32`, which a test holds; other platforms keep JAX's own lowering. The harness
wraps its keys in this implementation, and what an estimator does with a key stays as it is written.
"""

import functools
import math
from collections.abc import Callable

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


def _wall(draw: Callable[..., Array], builtin: Callable[..., Array], *operands: Words) -> Array:
    """`draw(*operands)` on CPU, behind a branch that the compiler cannot foresee, and so cannot fuse through; elsewhere
    `builtin(*operands)`."""

    def fenced(*operands):
        always = (operands[0].ravel()[0] | np.uint32(1)) != 0
        shape = jax.eval_shape(draw, *operands)
        return lax.cond(always, draw, lambda *_: jnp.zeros(shape.shape, shape.dtype), *operands)

    return lax.platform_dependent(*operands, cpu=fenced, default=builtin)


def _builtin(k1: Words, k2: Words, x1: Words, x2: Words) -> tuple[Words, Words]:
    """The same function of words of one shape in JAX's own lowering."""
    shape = jnp.broadcast_shapes(k1.shape, x2.shape)
    return tuple(threefry2x32_p.bind(*(jnp.broadcast_to(word, shape) for word in (k1, k2, x1, x2))))


def _both_ways(draw: Callable[..., Array]) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The draw that is made by `rounds`, and by JAX's own lowering; each is traced once for every shape."""
    return jax.jit(functools.partial(draw, rounds)), jax.jit(functools.partial(draw, _builtin))


@functools.cache
def _counted(count: int, join: Callable[[Words, Words], Array]) -> Callable[[Words], Array]:
    """For keys `[n, 2]`, what `join` makes of both words of the hash of the counters `0 ... count - 1` under each.

    The counters are made inside the fence and the words joined there, so that nothing is written but the result."""

    def draw(function, keys):
        low = lax.broadcasted_iota(jnp.uint32, (keys.shape[0], count), 1)
        return join(*function(keys[:, :1], keys[:, 1:], jnp.zeros_like(low), low))

    both = _both_ways(draw)

    @jax.custom_batching.custom_vmap
    def counted(keys: Words) -> Array:
        return _wall(*both, keys)

    @counted.def_vmap
    def batch(size, batched, keys):
        drawn = counted(keys.reshape(-1, 2))
        return drawn.reshape(*keys.shape[:-1], *drawn.shape[1:]), True

    return counted


@_both_ways
def _fold(function, keys: Words, data: Words) -> Array:
    return _pair(*function(keys[:, 0], keys[:, 1], jnp.zeros_like(data), data))


@jax.custom_batching.custom_vmap
def _folded(keys: Words, data: Words) -> Array:
    """For keys `[n, 2]` and one word of data each, the keys that they make together, `[n, 2]`."""
    return _wall(*_fold, keys, data)


@_folded.def_vmap
def _folded_batch(size, batched, keys, data):
    keys, data = (
        a if b else jnp.broadcast_to(a[None], (size, *a.shape)) for a, b in zip((keys, data), batched, strict=True)
    )
    return _folded(keys.reshape(-1, 2), data.reshape(-1)).reshape(size, -1, 2), True


def _either(first: Words, second: Words) -> Words:
    return first ^ second


def _both(first: Words, second: Words) -> Array:
    return first.astype(jnp.uint64) << np.uint64(32) | second.astype(jnp.uint64)


def _pair(first: Words, second: Words) -> Words:
    return jnp.stack([first, second], axis=-1)


def _count(shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if count >= 2**32:
        raise ValueError(f"One draw may have at most 2**32 words, got {count}; draw in parts.")
    return count


def _random_bits(key: Words, bit_width: int, shape: tuple[int, ...]) -> Array:
    if bit_width == 64:
        return _counted(_count(shape), _both)(key[None]).reshape(shape)
    bits = _counted(_count(shape), _either)(key[None]).reshape(shape)
    return bits.astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[bit_width])


def _split(key: Words, shape: tuple[int, ...]) -> Words:
    return _counted(_count(shape), _pair)(key[None]).reshape(*shape, 2)


def _fold_in(key: Words, data: Array) -> Words:
    return _folded(key[None], jnp.asarray(data, jnp.uint32).reshape(1)).reshape(2)


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
