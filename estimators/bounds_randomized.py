r"""Importance-weighted bounds estimated by a sum that ends at random.

Let `L_n` be `log mean_k w_k` over `n` samples. The bound of `K` samples is a sum of corrections, `L_K = D_0 + D_1 + ...`,
of which few are made: one that is reached with the probability `P_k` is divided by `P_k`, and the mean over the `level` at
which the sum ends is the whole of it. Every correction is differentiated as it stands, along the paths of its samples.

What that does to the second moment, for given samples and `S_k = D_0 + sum_{j <= k} D_j / P_j`, is

    E |S_level|^2 = |D_0|^2 + sum_k P_k (|S_k|^2 - |S_{k - 1}|^2) = |D_0|^2 + sum_k D_k . (D_k / P_k + 2 S_{k - 1}).

So it depends on how fast `|D_k|^2` falls against `P_k`, and the expected cost is `sum_k P_k` times that of a level.

- Adding one sample at a time, `D_k = L_{k + 1} - L_k` is of the order `1 / k`. By Cauchy and Schwarz `sum_k P_k` times
  `sum_k k^-2 / P_k` is at least `(sum_k 1 / k)^2`: as `K` grows, no law of the level keeps both the cost and the variance finite.
- Doubling, and taking the mean of the bounds of two halves away, the terms of first order cancel: `D_l` is of the order
  `2^-l` if the weights have enough moments, and a `P_l` that falls faster than `2^-l` and slower than `4^-l` keeps both.

Truncated at the `K` of the objective the variance is finite, and may be far beyond what any run shows of it: that is what
the diagnostics of the tails are for. In the parameters of `q`, `log p(x)` has no derivative, so that here the gradient
itself vanishes as `K` grows.

All `K` log-weights are computed, for a program has one shape; `expected_samples` says what a loop would have drawn.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .bounds import ImportanceWeightedBound, LogWeights, log_mean_exp
from .bounds_pathwise import Noises, noises, path_weights
from .distributions import AbstractDistribution, AbstractReparameterizable
from .distributions.base import Scalar, as_floating
from .objectives import AbstractDifferentiable
from .registration import ESTIMATORS
from .validation import require_below, require_positive

Chances = Float[Array, "levels"]
Level = Int[Array, "..."]
REQUIRES = (AbstractReparameterizable, ImportanceWeightedBound, AbstractDifferentiable)
# The law of Luo et al.: harmonic up to here, geometric beyond.
LAST_HARMONIC = 80
GEOMETRIC = 0.9


def survivals(key: PRNGKey, chances: Chances) -> Int[Array, ""]:
    """How many of these wagers are won before one is lost.

    One uniform variable for each: a single one has too few digits to be below a probability of 1e-9 as often as it should.
    """
    won = jax.random.uniform(key, chances.shape, chances.dtype) < chances
    return jnp.sum(jnp.cumprod(won.astype(int)))


class AbstractRandomlyTruncated(AbstractStatelessEstimator):
    """The pathwise gradient of the importance-weighted bound, as that of a sum that ends at random."""

    @abstractmethod
    def chances(self, number: int) -> Chances:
        """For the bound of `number` samples, the probability of each further level, given that the one before was reached."""

    @abstractmethod
    def samples(self, level: Level, number: int) -> Level:
        """How many samples the sum that ends at `level` is made of."""

    @abstractmethod
    def combined(self, log_weights: LogWeights, level: Level) -> Scalar:
        """The sum that ends at `level`; its mean over levels, and over the order of the samples, is the bound."""

    def probabilities(self, number: int) -> Float[Array, "ends"]:
        """The law of the level, from 0; at the last one lies all that is left."""
        reached = jnp.cumprod(self.chances(number))
        return jnp.append(1.0, reached) - jnp.append(reached, 0.0)

    def expected_samples(self, number: int) -> Scalar:
        """How many samples a program would draw on average that stops at the level."""
        probabilities = self.probabilities(number)
        drawn = self.samples(jnp.arange(len(probabilities)), number)
        return jnp.vdot(probabilities, drawn.astype(probabilities.dtype))

    def at_level(self, level: Level, noise: Noises, dist: Grads, f: ImportanceWeightedBound) -> Grads:
        """The estimate that ends at `level`, of the samples that `noise` becomes."""
        return jax.grad(lambda d: self.combined(path_weights(d, noise, d, f), level))(dist)

    def gradient(self, key: PRNGKey, dist: Grads, f: ImportanceWeightedBound) -> Grads:
        key_noise, key_level = jax.random.split(key)
        noise = noises(key_noise, dist, f.num_samples)
        level = survivals(key_level, self.chances(f.num_samples).astype(noise.dtype))
        return self.at_level(level, noise, dist, f)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("sumo")
class SUMO(AbstractRandomlyTruncated):
    r"""SUMO: the importance-weighted bound as a Russian roulette over its number of samples, differentiated along the paths.

    With $L_k = \log \frac1k \sum_{i \le k} w_i$, and $T$ such that $P(T \ge k) = 1 / k$ up to 80 and $0.9^{k - 80} / 80$ beyond,

    $$\hat g = \nabla_\theta \Big[ L_1 + \sum_{k = 1}^{\min(T, K - 1)} \frac{L_{k + 1} - L_k}{P(T \ge k)} \Big].$$

    Unbiased for the bound of the $K$ = `num_samples` of the objective, whatever `K` is: given the samples, the mean over
    $T$ is the estimate of `BoundPathwise`. The paper's series has no last term, and the value $\log p(x)$; cut here, its
    last term has all the probability that is left. Needs what `BoundPathwise` needs, of the importance-weighted bound;
    one evaluation of it. Drawn one by one, it would be `expected_samples(K)` samples on average, which tends to 6.1.

    >>> print(SUMO().expected_samples(1024).round(3))
    6.078

    The variance has no bound as $K$ grows. Where `dist` is the posterior it is $H_K - 2 + 2 / K$ times that of `TotalDerivative`
    up to $K = 81$, with $H_K$ the harmonic number; each further term adds $(80 \cdot 0.9^{80 - k} - 2) / (k (k + 1))$ to it,
    almost all of it from levels that no run will draw. The paper trains the model by this gradient, and the encoder by that of
    the variance, for $\log p(x)$ has none in its parameters.

    **References:** Luo, Beatson, Norouzi, Zhu, Duvenaud, Adams and Chen, SUMO: Unbiased estimation of log marginal
    probability for latent variable models, 2020, arXiv:2004.00353.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = REQUIRES

    def chances(self, number: int) -> Chances:
        further = np.arange(1, number)
        harmonic = (further - 1) / further
        return jnp.asarray(np.where(further == 1, 1.0, np.where(further <= LAST_HARMONIC, harmonic, GEOMETRIC)))

    def samples(self, level: Level, number: int) -> Level:
        del number
        return level + 1

    def combined(self, log_weights: LogWeights, level: Level) -> Scalar:
        number, dtype = len(log_weights), log_weights.dtype
        bounds = jax.lax.cumlogsumexp(log_weights) - jnp.log(jnp.arange(1, number + 1, dtype=dtype))
        reached = jnp.cumprod(self.chances(number)).astype(dtype)
        # In single precision the rarest of a thousand probabilities are zero.
        weights = jnp.where(jnp.arange(1, number) <= level, 1 / reached, 0.0)
        return bounds[0] + jnp.vdot(weights, jnp.diff(bounds))


@ESTIMATORS.register("mlmc")
class MLMC(AbstractRandomlyTruncated):
    r"""Randomised multilevel Monte Carlo for the importance-weighted bound: one antithetic correction, of a random level.

    For $K = 2^m$ and $L(A)$ the bound of the samples $A$, a level $l \ge 1$ of the probability $p_l = r (1 - r)^{l - 1}$, with
    $r$ = `stop`, takes $2^l$ samples $A$ of two halves $B$ and $C$:

    $$\hat g = \nabla_\theta \Big[ \frac{1}{2^l} \sum_{i \in A} \log w_i
    + \frac{1}{p_l} \Big( L(A) - \frac{L(B) + L(C)}{2} \Big) \Big],$$

    where the level $m$ has all the probability that is left. If $K$ is an odd number times $2^m$, samples come in
    blocks of that many, with the bounds of the blocks for the $\log w_i$; for an odd $K$ it is `BoundPathwise`.

    Unbiased for the bound of `num_samples`: the halves of a level have the law of the level below, so that the means of
    the corrections telescope. Needs what `BoundPathwise` needs, of the importance-weighted bound; one evaluation of it.
    A program that stopped at the level would draw `expected_samples(K)` samples on average, which tends to 6.

    >>> print(MLMC().expected_samples(1024).round(3))
    5.463

    As $K$ grows, the cost stays finite for `stop` above 1/2. Weights with a tail like $w^{-a}$ have corrections whose square has
    a mean of the order $2^{-l \min(2, a - 1)}$: for light ones the variance stays finite for `stop` below 3/4 and the fourth
    moment below 0.603; for $a \le 1 - \log_2(1 - r)$, which is 2.3, the variance does not. Where the weights are all
    equal the correction is zero. This is the single-term form; adding up all corrections to the level is another.

    **References:** Shi and Cornish, On multilevel Monte Carlo unbiased gradient estimation for deep latent variable
    models, 2021 (PMLR 130). Rhee and Glynn, Unbiased estimation with square root convergence for SDE models, 2015.
    """

    stop: Float[Array, ""] = eqx.field(converter=as_floating, default=0.6)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = REQUIRES

    def __check_init__(self):
        require_positive(self, "stop")
        require_below(self, "stop", 1.0)

    def chances(self, number: int) -> Chances:
        _, doublings = _block_and_doublings(number)
        return jnp.broadcast_to(1 - self.stop, (max(doublings - 1, 0),))

    def samples(self, level: Level, number: int) -> Level:
        block, doublings = _block_and_doublings(number)
        return block * 2 ** jnp.minimum(level + 1, doublings)

    def combined(self, log_weights: LogWeights, level: Level) -> Scalar:
        block, doublings = _block_and_doublings(len(log_weights))
        if doublings == 0:
            return log_mean_exp(log_weights)
        probabilities = self.probabilities(len(log_weights)).astype(log_weights.dtype)
        sums = []
        for doubling, probability in enumerate(probabilities, start=1):
            drawn = log_weights[: block * 2**doubling]
            correction = log_mean_exp(drawn) - _mean_of_bounds(drawn.reshape(2, -1))
            sums.append(_mean_of_bounds(drawn.reshape(-1, block)) + correction / probability)
        return jnp.stack(sums)[level]


def _block_and_doublings(number: int) -> tuple[int, int]:
    """The odd part of a number, and how often that is doubled."""
    doublings = (number & -number).bit_length() - 1
    return number >> doublings, doublings


def _mean_of_bounds(log_weights: Float[Array, "parts samples"]) -> Scalar:
    """The mean of the bounds of the rows."""
    return jnp.mean(jax.vmap(log_mean_exp)(log_weights))
