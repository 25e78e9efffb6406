"""The same arithmetic as the tasks, each as a streaming loop written by hand: what the harness is to come near to.

A loop of a traced number of trips, on each core; a trip draws a chunk of replicates from `fold_in(key, chunk)`, forms their
gradients as closed expressions, and adds sums of them to float64 accumulators. No estimator, no problem, no automatic
differentiation, no key of its own for each replicate. The sums are those of the first and second powers, which are all that a mean and a
variance need, or those that the suite's intervals rest on as well: four powers, and three scalars of each replicate. The random bits, the
inverse error function and the sine are the suite's own, for they cost the same for everybody.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from estimators.elementary import cos, erfinv, sin, sum_of_softplus

from ..environment import cores
from ..random import fenced
from ..work import MOST_FOURTH_POWERS

Gradients = Callable[[jax.Array, tuple], jax.Array]
# Of so many replicates the scalars are kept at a time: as many as the suite returns from one call.
KEPT = 2**16


def moments(
    gradients: Gradients, arrays: tuple, replicates: int, chunk: int, complete: bool = False
) -> Callable[[int], np.ndarray]:
    """A function of the seed that returns mean and variance of `gradients(key, arrays)`, `[chunk, coordinates]` to a call; if
    `complete`, all sums are formed that the suite forms of such gradients."""
    callers = cores()
    trips = -(-replicates // (chunk * callers))
    size = jax.eval_shape(gradients, jax.random.key(0), arrays).shape[1]
    order = 4 if complete and size <= MOST_FOURTH_POWERS else 2
    slots = max(KEPT // chunk, 1)

    @jax.jit
    def program(key, arrays, first, trips, centre):
        def trip(i, sums):
            powers, rows = sums
            g = gradients(jax.random.fold_in(key, first + i), arrays)
            d = g - centre[None] if complete else g
            square = d * d
            of_power = (d, square, square * d, square * square)[:order]
            powers = powers + jnp.stack([jnp.sum(power, axis=0) for power in of_power]).astype(jnp.float64)
            if complete:
                scalars = jnp.stack([jnp.sum(square, axis=1), jnp.sum(g * g, axis=1), g @ centre], axis=1)
                rows = jax.lax.dynamic_update_slice(rows, scalars, (i % slots * chunk, 0))
            return powers, rows

        start = jnp.zeros((order, size), jnp.float64), jnp.zeros((slots * chunk, 3), jnp.float32)
        return jax.lax.fori_loop(0, trips, trip, start)

    def sums(seed: int, caller: int) -> np.ndarray:
        numbers = np.int64(caller * trips), np.int64(trips), np.zeros(size, np.float32)
        with jax.enable_x64(True):
            return np.asarray(program(fenced(jax.random.key(seed)), arrays, *numbers)[0])

    def run(seed: int) -> np.ndarray:
        with ThreadPoolExecutor(callers) as threads:
            first, second, *_ = sum(threads.map(functools.partial(sums, seed), range(callers)))
        count = trips * chunk * callers
        mean = first / count
        return np.stack([mean, (second - count * mean**2) / (count - 1)])

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


def normals(key, shape):
    low = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(np.sqrt(2)) * erfinv(jax.random.uniform(key, shape, jnp.float32, minval=low, maxval=1))


def cosine_pathwise(chunk: int) -> Gradients:
    """T2."""

    def gradients(key, arrays):
        loc, log_scale = arrays
        scaled = jnp.exp(log_scale)[None] * normals(key, (chunk, loc.size))
        slope = -sin(loc[None] + scaled)
        return jnp.concatenate([slope, slope * scaled], axis=1)

    return gradients


def cosine_score(chunk: int) -> Gradients:
    """T2."""

    def gradients(key, arrays):
        loc, log_scale = arrays
        scale, noise = jnp.exp(log_scale)[None], normals(key, (chunk, loc.size))
        f = jnp.sum(cos(loc[None] + scale * noise), axis=1, keepdims=True)
        return jnp.concatenate([f * noise / scale, f * (noise**2 - 1)], axis=1)

    return gradients


def gumbels(key, shape):
    return -jnp.log(-jnp.log(uniforms(key, shape)))


def hard_categories(key, logits, chunk):
    z = logits[None] + gumbels(key, (chunk, *logits.shape))
    return (z == jnp.max(z, axis=-1, keepdims=True)).astype(jnp.float32)


def categories_gumbel_softmax(chunk: int, temperature: float = 0.5) -> Gradients:
    """T3."""

    def gradients(key, arrays):
        logits, weights = arrays
        y = jax.nn.softmax((logits[None] + gumbels(key, (chunk, *logits.shape))) / temperature)
        outer = 2 * (jnp.sum(weights[None] * y, axis=(1, 2), keepdims=True) - 0.5) / temperature
        return (outer * y * (weights[None] - jnp.sum(weights[None] * y, axis=-1, keepdims=True))).reshape(chunk, -1)

    return gradients


def categories_straight_through(chunk: int) -> Gradients:
    """T3."""

    def gradients(key, arrays):
        logits, weights = arrays
        hard, p = hard_categories(key, logits, chunk), jax.nn.softmax(logits)
        outer = 2 * (jnp.sum(weights[None] * hard, axis=(1, 2)) - 0.5)
        return outer[:, None] * (p * (weights - jnp.sum(p * weights, axis=-1, keepdims=True))).reshape(1, -1)

    return gradients


def categories_score(chunk: int) -> Gradients:
    """T3."""

    def gradients(key, arrays):
        logits, weights = arrays
        hard = hard_categories(key, logits, chunk)
        f = (jnp.sum(weights[None] * hard, axis=(1, 2), keepdims=True) - 0.5) ** 2
        return (f * (hard - jax.nn.softmax(logits)[None])).reshape(chunk, -1)

    return gradients


def autoencoder(antithetic: bool) -> Callable[[int], Gradients]:
    """T4, one replicate at a time: the gradient of the logits, and that of weights and bias from it."""

    def gradients(key, arrays):
        images, centred, weight, bias, decoder_weight, decoder_bias = arrays
        logits = centred @ weight.T + bias[None]
        p = jax.nn.sigmoid(logits)

        def f(b):
            pixels = b @ decoder_weight + decoder_bias[None]
            return jnp.sum(images * pixels, axis=1) - jax.vmap(sum_of_softplus)(pixels)

        if antithetic:
            u = uniforms(key, logits.shape)
            first, second = (u > 1 - p).astype(jnp.float32), (u < p).astype(jnp.float32)
            slope = (f(first) - f(second))[:, None] / 2 * (first - second) * jax.nn.sigmoid(jnp.abs(logits))
        else:
            first, second = (uniforms(key, (2, *logits.shape)) < p[None]).astype(jnp.float32)
            slope = (f(first) - f(second))[:, None] / 2 * (first - second)
        slope = slope / len(images)
        return jnp.concatenate([slope.ravel(), (slope.T @ centred).ravel(), jnp.sum(slope, axis=0)])[None]

    return lambda chunk: gradients
