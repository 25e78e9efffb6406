"""A Bernoulli whose randomness is written by the test, so that an estimator can be summed or integrated over it.

An estimate is a deterministic function of what `dist` draws. Let the test write the draws, make an estimate of each,
weight it by its probability, and the mean and the variance of the estimator come out to rounding, without a threshold:

    events, probabilities = outcomes(logits)
    grads, stats = prescribed_estimates(estimator, None, logits, events[:, None], keys, f)
    mean, variance = moments(probabilities, grads)

and `mean` must be `exact_gradient(logits, f)`.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from estimators import AbstractDistribution, AbstractEstimator, Bernoulli
from estimators.objectives import Objective


class PrescribedBernoulli(Bernoulli):
    """A Bernoulli whose `sample` and `noise` return `draws[i]` for the key of the words `words[i]`, and NaN for others.

    All else (`log_prob`, `perturb`, `weak_derivative`, ...) is that of `Bernoulli`. A draw is made outside the function
    that an estimator differentiates, so the two extra leaves have gradient zero: compare `.logits` only. An estimator
    that reads the leaves of `dist` itself (a learned baseline) would see its own draws here, and needs another way.
    """

    draws: Float[Array, "draws *variables"]
    words: Float[Array, "draws words"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*variables"]:
        return self._prescribed(key)

    def noise(self, key: Key[Array, ""]) -> Float[Array, "*variables"]:
        return self._prescribed(key)

    def _prescribed(self, key: Key[Array, ""]) -> Float[Array, "*variables"]:
        words = jax.random.key_data(key)[: self.words.shape[1]].astype(float)
        found = jnp.all(self.words == words[None], axis=1)
        return jnp.where(jnp.any(found), self.draws[jnp.argmax(found)], jnp.nan)


def prescribe(
    logits: Float[Array, "*variables"],
    draws: Float[Array, "draws *variables"],
    keys: Key[Array, "draws"] | None = None,
) -> PrescribedBernoulli:
    """A Bernoulli that yields `draws[i]` (an event to `sample`, noise to `noise`) for the key `keys[i]`.

    With one draw `keys` may be left out, and every key yields it. With more, they are the keys that the estimator will
    hand to `dist`: for one that draws `n` samples from `jax.random.key(0)`, they are
    `jax.random.split(jax.random.key(0), n)`. Make that key twice, once here and once for the estimator, lest the check
    of key reuse object.
    """
    if keys is None:
        assert draws.shape[0] == 1, "Several draws need the keys that fetch them."
        return PrescribedBernoulli(logits, draws, jnp.zeros((1, 0)))
    # Words of a key are 32-bit integers: exact in float64, and a floating leaf does not upset `jax.grad` over `dist`.
    return PrescribedBernoulli(logits, draws, jax.random.key_data(keys).astype(jnp.float64))


@eqx.filter_jit
def prescribed_estimates(
    estimator: AbstractEstimator,
    state: PyTree,
    logits: Float[Array, "*variables"],
    draws: Float[Array, "cases draws *variables"],
    f: Objective,
    keys: Key[Array, "draws"] | None = None,
) -> tuple[Float[Array, "cases *variables"], PyTree]:
    """For each case, the gradient in the logits and the statistics of the estimate that `draws[case]` makes.

    The estimator's key is `jax.random.key(0)`. Compiled once for each structure of the arguments: let `f` be a function
    of the module level, or a module with array leaves.
    """

    def one(draws):
        return estimator.estimate(jax.random.key(0), state, prescribe(logits, draws, keys), f)

    grads, stats = jax.vmap(one)(draws)
    return grads.logits, stats


def outcomes(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every event of a Bernoulli with one axis of variables, and its probability."""
    events = np.array(list(itertools.product((0.0, 1.0), repeat=len(logits))))
    p = 1 / (1 + np.exp(-logits))
    return events, np.prod(np.where(events > 0, p, 1 - p), axis=1)


def tuples(probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and probabilities of every tuple of `count` independent draws."""
    indices = np.array(list(itertools.product(range(len(probabilities)), repeat=count)))
    return indices, np.prod(probabilities[indices], axis=1)


@eqx.filter_jit
def _exact_gradient(logits, events, f):
    def expectation(logits):
        p = jax.nn.sigmoid(logits)[None]
        return jnp.vdot(jnp.prod(jnp.where(events > 0, p, 1 - p), axis=1), jax.vmap(f)(events))

    return jax.grad(expectation)(logits)


def exact_gradient(logits: np.ndarray, f: Objective) -> np.ndarray:
    """The gradient of `E[f(x)]` in the logits: the sum over all events, differentiated. No score function is in it."""
    return np.asarray(_exact_gradient(jnp.asarray(logits), jnp.asarray(outcomes(logits)[0]), f))


def moments(weights: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, coordinate by coordinate, of estimates that occur with the probabilities `weights`."""
    weights, estimates = np.asarray(weights), np.asarray(estimates)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    mean = np.tensordot(weights, estimates, axes=1)
    return mean, np.tensordot(weights, (estimates - mean) ** 2, axes=1)


def counted_evaluations(estimator: AbstractEstimator, dist: AbstractDistribution) -> int:
    """How often one estimate really calls its objective, a batched call counted once for each element."""
    calls = []

    def f(x):
        jax.debug.callback(lambda x: calls.append(x), x)
        return jnp.sum(x)

    @jax.jit
    def run():
        state = estimator.init(jax.random.key(1), dist)
        return jax.tree.leaves(estimator.estimate(jax.random.key(0), state, dist, f)[0])

    jax.block_until_ready(run())
    jax.effects_barrier()
    return len(calls)


class Tangled(eqx.Module):
    """A function of three bits that is not a sum of functions of each; scaled and shifted."""

    scale: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1.0)
    shift: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=0.0)

    def __call__(self, x: Float[Array, "3"]) -> Float[Array, ""]:
        tangled = jnp.sin(1.0 + 2.0 * x[0] + 3.0 * x[1] * x[2]) + x[0] * x[1] - 0.7 * x[2]
        return self.scale * tangled + self.shift


class OneBit(eqx.Module):
    """A function of one bit, given by its two values: every such function."""

    at_zero: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    at_one: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def __call__(self, x: Float[Array, "1"]) -> Float[Array, ""]:
        return jnp.where(x[0] > 0, self.at_one, self.at_zero)
