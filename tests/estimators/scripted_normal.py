"""A normal law whose noise is written by the test, and the product rule that integrates an estimator over it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from estimators import Normal


class ScriptedNormal(Normal):
    """A Normal whose `noise` is `draws[i]` for the key of the words `words[i]`, and NaN for others; compare `loc` and `log_scale` only."""

    draws: Float[Array, "draws *variables"]
    words: Float[Array, "draws words"]

    def noise(self, key: Key[Array, ""]) -> Float[Array, "*variables"]:
        found = jnp.all(self.words == jax.random.key_data(key).astype(float)[None], axis=1)
        return jnp.where(jnp.any(found), self.draws[jnp.argmax(found)], jnp.nan)


def scripted(dist: Normal, draws: Float[Array, "draws *variables"]) -> ScriptedNormal:
    """`dist` with these draws for the keys that `jax.random.split(jax.random.key(0), len(draws))` makes."""
    words = jax.random.key_data(jax.random.split(jax.random.key(0), len(draws))).astype(float)
    return ScriptedNormal(dist.loc, dist.log_scale, draws, words)


def product_rule(samples: int, step: float = 0.25, width: float = 8.5) -> tuple[np.ndarray, np.ndarray]:
    """Noises `[cases, samples, 1]` and weights of the trapezoidal rule for so many standard normal variables."""
    line = np.arange(-width, width + step / 2, step)
    density = np.exp(-0.5 * line**2) * step / np.sqrt(2 * np.pi)
    nodes = np.array(list(itertools.product(line, repeat=samples)))
    return nodes[..., None], np.prod(np.array(list(itertools.product(density, repeat=samples))), axis=1)
