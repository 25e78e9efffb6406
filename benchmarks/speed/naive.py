"""What a user writes in JAX: all replicates in one `jit(vmap(grad(surrogate)))`, all gradients kept, `np.mean` and `np.var`.

These are the scripts that the harness is measured against, so they share nothing with the suite: each task is written out again, from
its formula, as a loss whose derivative is the estimate. `batch` splits the replicates into calls of that many, which is
kinder to the caches than one call for all.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def moments(loss: Loss, parameters, replicates: int, batch: int | None = None) -> Callable[[int], np.ndarray]:
    """A function of the seed that returns mean and variance of the gradient of `loss(parameters, key)`, over calls of `batch`."""
    batch = min(batch or replicates, replicates)
    gradients = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))

    def run(seed: int) -> np.ndarray:
        keys = jax.random.split(jax.random.key(seed), replicates)
        kept = [np.asarray(gradients(parameters, keys[start : start + batch])) for start in range(0, replicates, batch)]
        every = kept[0] if len(kept) == 1 else np.concatenate(kept)
        return np.stack([np.mean(every, axis=0), np.var(every, axis=0, ddof=1)])

    return run


def bernoulli_log_prob(logits, b):
    return jnp.sum(b * logits - jax.nn.softplus(logits), axis=-1)


def bits_leave_one_out(logits, key):
    """T1: LOO with two samples of `mean((b - .499)^2)`."""
    b = jax.random.bernoulli(key, jax.nn.sigmoid(logits), (2, *logits.shape)).astype(logits.dtype)
    f = jnp.mean((b - 0.499) ** 2, axis=-1)
    return jnp.sum(stop_gradient(f - f[::-1]) * bernoulli_log_prob(logits, b)) / 2


def cosine_pathwise(parameters, key):
    """T2: the reparameterized `sum(cos(x))`; `parameters` are the rows loc and log_scale."""
    loc, log_scale = parameters
    x = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
    return jnp.sum(jnp.cos(x))


def cosine_score(parameters, key):
    """T2: REINFORCE of `sum(cos(x))`."""
    loc, log_scale = parameters
    x = stop_gradient(loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape))
    log_prob = jnp.sum(-0.5 * ((x - loc) / jnp.exp(log_scale)) ** 2 - log_scale)
    return stop_gradient(jnp.sum(jnp.cos(x))) * log_prob


def weighted_square(z, weights):
    """T3: the objective."""
    return (jnp.sum(weights * z) - 0.5) ** 2


def categories_gumbel_softmax(weights, temperature=0.5):
    """T3: the relaxed sample."""

    def loss(logits, key):
        noise = jax.random.gumbel(key, logits.shape)
        return weighted_square(jax.nn.softmax((logits + noise) / temperature), weights)

    return loss


def categories_straight_through(weights):
    """T3: a hard sample, with the derivative of the probabilities."""

    def loss(logits, key):
        hard = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1])
        soft = jax.nn.softmax(logits)
        return weighted_square(soft + stop_gradient(hard - soft), weights)

    return loss


def categories_score(weights):
    """T3: REINFORCE."""

    def loss(logits, key):
        hard = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1])
        log_prob = jnp.sum(hard * jax.nn.log_softmax(logits))
        return stop_gradient(weighted_square(hard, weights)) * log_prob

    return loss


def autoencoder(images, centred, bias, decoder_weight, decoder_bias, antithetic: bool):
    """T4: the gradient in the encoder's weight of the mean reconstruction term of a batch, by LOO with two samples or by DisARM."""

    def log_likelihood(b):
        pixels = b @ decoder_weight + decoder_bias
        return jnp.sum(images * pixels - jax.nn.softplus(pixels), axis=-1)

    def loss(weight, key):
        logits = centred @ weight.T + bias
        if not antithetic:
            b = jax.random.bernoulli(key, jax.nn.sigmoid(logits), (2, *logits.shape)).astype(logits.dtype)
            f = log_likelihood(b)
            return jnp.sum(stop_gradient(f - f[::-1]) * bernoulli_log_prob(logits, b)) / 2 / len(images)
        u = jax.random.uniform(key, logits.shape)
        p = jax.nn.sigmoid(logits)
        first, second = (u > 1 - p).astype(logits.dtype), (u < p).astype(logits.dtype)
        f = log_likelihood(jnp.stack([first, second]))
        slope = (f[0] - f[1])[:, None] / 2 * (first - second) * jax.nn.sigmoid(jnp.abs(logits))
        return jnp.sum(stop_gradient(slope) * logits) / len(images)

    return loss
