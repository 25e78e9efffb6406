r"""Decomposition: how much of the noise of a training gradient is the minibatch's, and how much the estimator's.

For a minibatch `B` and the noise of an estimator in it, the law of total variance says that the trace of the covariance of `G` is

$$\underbrace{E\,\mathrm{tr\,Cov}(G \mid B)}_{\text{sampling}} + \underbrace{\mathrm{tr\,Cov}(E[G \mid B])}_{\text{minibatch}}.$$

A replicate is a minibatch with *two* estimates `G1`, `G2` in it, each with noise of its own. With half their sum `H` and half their
difference `D`, whose covariances are the minibatch part plus half of the sampling part and half of the sampling part,

    sampling   =  2 mean |D|^2                          since D has mean zero, whatever the bias
    minibatch  =  tr cov(H) - mean |D|^2                tr cov(H) with divisor n - 1; may come out negative
    total      =  tr cov(H) + mean |D|^2

are unbiased for every `n`. The minibatch part is that of the estimator's own mean; for an unbiased estimator this is the exact
gradient, whose part `Minibatch.exact_variance` knows by another route. Noise is drawn anew for each image, so the sampling part falls
as `1 / b` with the size `b` of a minibatch, and the minibatch part as `(N - b) / b`: as long as `b` is small beside the size `N` of the
data set, the shares hold for minibatches of any size.

Intervals are those of the delete-one-block jackknife over 32 blocks of replicates with the t quantile of 31 degrees of freedom (Efron and
Stein, The jackknife estimate of variance, 1981): on the log scale for what is positive, on the plain scale for the minibatch part
and for shares. Replicate `i` draws from `fold_in(key, i)` and estimators of one key see the same minibatches, so that the
blocks of two estimators are paired in the ratio of their totals.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from scipy import stats

from estimators import AbstractEstimator

from . import harness
from .measurement import Incompatible
from .moments import BLOCKS
from .problems import mismatch
from .problems.minibatch import Minibatch
from .random import fenced
from .work import single

# Fewer would leave blocks of one replicate.
FEWEST = 2 * BLOCKS
# Replicates computed together hold about this many images.
CHUNK_IMAGES = 3200


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Sums(NamedTuple):
    """Sums over the replicates of each block: how many there are, `H - centre`, and the squared lengths of that and of `D`."""

    counts: Float[np.ndarray, "blocks"]
    offsets: Float[np.ndarray, "blocks coordinates"]
    squares: Float[np.ndarray, "blocks"]
    differences: Float[np.ndarray, "blocks"]


class Parts(NamedTuple):
    """Sampling and minibatch noise from all replicates, or (`[blocks]`) from all without each block in turn."""

    sampling: float | np.ndarray
    minibatch: float | np.ndarray

    @property
    def total(self) -> float | np.ndarray:
        return self.sampling + self.minibatch


class Decomposition(NamedTuple):
    """Parts of the variance of one estimator's training gradient, whole and with each block left out."""

    whole: Parts
    without: Parts
    coordinates: int

    def interval(self, name: str) -> Interval:
        """The part called `sampling`, `minibatch` or `total`."""
        return jackknife(getattr(self.whole, name), getattr(self.without, name), positive=name != "minibatch")

    def share(self) -> Interval:
        """The share of the sampling noise in the total."""
        return jackknife(*(parts.sampling / parts.total for parts in (self.whole, self.without)), positive=False)

    def ratio(self, other: "Decomposition") -> Interval:
        """The total over that of `other`, measured with the same key."""
        whole, without = (mine.total / its.total for mine, its in zip(self[:2], other[:2], strict=True))
        return jackknife(whole, without, positive=True)


def jackknife(whole: float, without: np.ndarray, positive: bool) -> Interval:
    """The interval of a number whose value without each block in turn is `without`; on the log scale if it is `positive`."""
    value, blocks = float(whole), len(without)
    quantile = float(stats.t.isf(0.025, blocks - 1))
    if positive and (value <= 0 or np.min(without) <= 0):
        return Interval(value, value, value)  # An exact gradient has no sampling noise.
    values = np.log(without) if positive else without
    half = quantile * math.sqrt((blocks - 1) * float(np.var(values)))
    return Interval(
        value, *((value * math.exp(-half), value * math.exp(half)) if positive else (value - half, value + half))
    )


def decomposed(sums: Sums) -> Decomposition:
    """The parts that the sums of all blocks give."""
    left = Sums(*(np.sum(part, axis=0, keepdims=True) - part for part in sums))
    whole = Sums(*(np.sum(part, axis=0, keepdims=True) for part in sums))
    total = _parts(whole)
    return Decomposition(Parts(*(part[0] for part in total)), _parts(left), sums.offsets.shape[1])


def _parts(sums: Sums) -> Parts:
    n = sums.counts
    between = (sums.squares - np.sum(sums.offsets**2, axis=1) / n) / (n - 1)
    within = sums.differences / n
    return Parts(2 * within, between - within)


def decompose(
    estimator: AbstractEstimator,
    problem: Minibatch,
    key: jax.Array,
    *,
    replicates: int = 4_000,
    warm_up_steps: int = 500,
) -> Decomposition:
    """Sampling and minibatch noise of `estimator` in the training step `problem`, from pairs of estimates in `replicates` minibatches.

    A stateful estimator first adapts, to minibatches of its own, and is then frozen. Raises `Incompatible` if the estimator cannot run on
    the problem, and `ValueError` for fewer than 64 replicates or a batch-dependent key.
    """
    if replicates < FEWEST:
        raise ValueError(
            f"A decomposition needs `replicates >= {FEWEST}`, two in each of {BLOCKS} blocks, got {replicates}."
        )
    reason = mismatch(estimator, problem)
    if reason is not None:
        raise Incompatible(reason)
    harness.check_key(key)
    key = fenced(key)
    state = harness.warm_up(estimator, problem, key, warm_up_steps)
    chunk = int(np.clip(CHUNK_IMAGES // problem.batch, 1, BLOCKS * 8))
    # Sums are taken around a centre near the mean, or squares would cancel.
    pilot = _sums(estimator, state, problem, key, 0.0, np.array([0, min(replicates, 256)]), chunk)
    centre = (pilot.offsets[0] / pilot.counts[0]).astype(np.float32)
    edges = np.linspace(0, replicates, BLOCKS + 1).astype(int)
    return decomposed(_sums(estimator, state, problem, key, centre, edges, chunk))


def _sums(estimator, state, problem, key, centre, edges: np.ndarray, chunk: int) -> Sums:
    """The sums of the blocks between `edges`: of each chunk on the device, and of chunks in float64 on the host."""
    rows = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        totals = [0.0, 0.0, 0.0]
        for first in range(start, stop, chunk):
            indices = np.arange(first, first + chunk, dtype=np.uint32)
            found = _pairs(estimator, state, problem, key, jnp.asarray(centre, jnp.float32), indices, indices < stop)
            totals = [total + np.asarray(part, np.float64) for total, part in zip(totals, found, strict=True)]
        rows.append((float(stop - start), *totals))
    return Sums(*map(np.array, zip(*rows, strict=True)))


@eqx.filter_jit
def _pairs(
    estimator: AbstractEstimator,
    state: PyTree,
    problem: Minibatch,
    key: Array,
    centre: Array,
    indices: Array,
    used: Array,
) -> tuple[Array, Array, Array]:
    """Sums over the `used` of the replicates `indices` of `H - centre` and of the squared lengths of that and of `D`."""

    def replicate(index):
        key_images, *keys = jax.random.split(jax.random.fold_in(key, index), 3)
        images = problem.draw(key_images)
        first, second = (_flat(single(estimator, state, images, k)[0]["encoder"]) for k in keys)
        return (first + second) / 2 - centre, (first - second) / 2

    offset, difference = (jnp.where(used[:, None], rows, 0) for rows in jax.vmap(replicate)(indices))
    return jnp.sum(offset, axis=0), jnp.sum(offset**2), jnp.sum(difference**2)


def _flat(tree: PyTree) -> Array:
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])
