"""The fenced generator draws the bits of `threefry2x32`, whatever is asked of it and however it is batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random import fenced

DRAWS = {
    "words": lambda key: jax.random.bits(key, (5, 3)),
    "bytes": lambda key: jax.random.bits(key, (7,), jnp.uint8),
    "double words": lambda key: jax.random.bits(key, (5,), jnp.uint64),
    "uniform": lambda key: jax.random.uniform(key, (4,), jnp.float32),
    "gumbel": lambda key: jax.random.gumbel(key, (3, 2)),
    "rejection sampler": lambda key: jax.random.gamma(key, 2.0, (3,)),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold in the largest": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
    "nested batches": lambda key: jax.vmap(
        lambda k: jax.vmap(lambda q: jax.random.normal(q, (3,)))(jax.random.split(k, 2))
    )(jax.random.split(key, 4)),
    "batched indices": lambda key: jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(key, i)))(jnp.arange(5)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_same_bits(draw):
    draw = jax.jit(draw)
    for seed in (0, 2**31):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(draw(key.copy()), draw(fenced(key)))


def test_other_kinds_pass_through():
    key = jax.random.key(0, impl="rbg")
    assert fenced(key) is key


def test_a_draw_of_too_many_words_is_refused():
    with pytest.raises(ValueError, match="at most"):
        jax.jit(lambda key: jax.random.bits(key, (2**32,))).lower(fenced(jax.random.key(0)))


def test_a_draw_of_nothing_under_vmap():
    """As estimators make whose number of further samples is zero."""
    keys = jax.random.split(fenced(jax.random.key(0)), 3)
    assert jax.vmap(lambda key: jax.random.uniform(key, (0,)))(keys).shape == (3, 0)
