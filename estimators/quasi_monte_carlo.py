r"""Randomised quasi-Monte Carlo: the points of a net, scrambled so that each is uniform and the net stays one.

The first $n = 2^m$ points of a Sobol' sequence have one point in each interval $[j / n, (j + 1) / n)$ of every
dimension, and in two or more dimensions boxes of other shapes with equal shares. Owen's scrambling permutes the halves
of $[0, 1)$ at random, then the halves of each half, and so on, in every dimension independently. Two points fall into
one binary interval after it if and only if they did before, so equal shares stay equal; and a single point is sent
anywhere with equal chances.

Since the first $m$ digits tell all points apart in each dimension, the digits behind them are independent fair bits:
the scrambling is $m$ levels of random flips, and then a uniform place within the interval of length $1 / n$.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .base import PRNGKey
from .coupled import AbstractUniformlyCoupled, Points, within_strata
from .distributions import AbstractDistribution
from .noise_driven import AbstractNoiseDriven
from .pathwise import Pathwise
from .registration import ESTIMATORS


@functools.cache
def sobol_strata(num_points: int, dimension: int) -> np.ndarray:
    """The intervals of length `1 / num_points` that the first points of the Sobol' sequence fall into, for each
    dimension a permutation.

    >>> sobol_strata(4, 2).tolist()
    [[0, 0], [2, 2], [3, 1], [1, 3]]
    """
    # Here, because it is slow to import and only this table is wanted.
    from scipy.stats import qmc

    points = qmc.Sobol(dimension, scramble=False).random_base2(num_points.bit_length() - 1)
    return np.floor(points * num_points).astype(np.int32)


def scrambled(key: PRNGKey, strata: Int[np.ndarray, "samples dimensions"]) -> Int[Array, "samples dimensions"]:
    """Owen's scrambling of the leading digits: a fair flip of each digit, shared by what agrees in the digits before
    it."""
    number, dimension = strata.shape
    digits = number.bit_length() - 1
    level = np.arange(digits)[:, None, None]
    # The nodes of a binary tree in the order of their levels; the root is 1.
    nodes = 2**level + (strata[None] >> (digits - level))
    flips = jax.random.bernoulli(key, 0.5, (number, dimension)).astype(strata.dtype)
    chosen = flips[nodes, np.arange(dimension)[None, None]] << (digits - 1 - level)
    return strata ^ jnp.sum(chosen, axis=0, dtype=strata.dtype)


@ESTIMATORS.register("quasi-monte-carlo-pathwise", estimator=Pathwise())
class QuasiMonteCarlo(AbstractUniformlyCoupled):
    r"""Randomised quasi-Monte Carlo: the terms of `estimator` at the points of a scrambled Sobol' net.

    With $g(\varepsilon)$ the term of `estimator` at one noise,

    $$\hat g = \frac1n \sum_{k=1}^{n} g(\varepsilon_k), \qquad \varepsilon_k \text{ made of } u_k,$$

    where $u_1, \dots, u_n$ are the first $n$ points of the Sobol' sequence under Owen's scrambling, with as many
    dimensions as an event has entries.

    Unbiased if `estimator` is, for each $u_k$ is uniform in the unit cube. In one dimension this is stratified
    sampling. For a square-integrable $g$ the variance falls faster than $1 / n$, and for a smooth and bounded one like
    $n^{-3}$ but for logarithms; for few samples in many dimensions it need not be below that of independent ones, and
    is at most a constant times it, which grows with the dimension. Needs a distribution whose noise is made of uniform
    variables, and what `estimator` needs; `num_samples` evaluations of `f`, a power of two, and at most 21201
    dimensions.

    >>> from estimators import Normal
    >>> QuasiMonteCarlo(Pathwise(), num_samples=8).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    8

    All digits are scrambled, those beyond the $m$ of $n = 2^m$ by independent fair bits, which they are given the
    leading ones. A digital shift or a random linear scrambling would be uniform too, and is another estimator.

    **References:** Sobol', On the distribution of points in a cube and the approximate evaluation of integrals, 1967.
    Owen, Randomly permuted (t, m, s)-nets and (t, s)-sequences, 1995. Joe and Kuo, Constructing Sobol sequences with
    better two-dimensional projections, 2008 (the table). Buchholz, Wenzel and Mandt, Quasi-Monte Carlo variational
    inference, 2018, arXiv:1807.01604.
    """

    estimator: AbstractNoiseDriven
    num_samples: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        if self.num_samples < 1 or self.num_samples & (self.num_samples - 1):
            raise ValueError(
                f"`QuasiMonteCarlo` needs `num_samples` to be a power of two, got {self.num_samples}; "
                "only such nets are balanced."
            )

    def points(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Points:
        key_flips, key_place = jax.random.split(key)
        strata = scrambled(key_flips, sobol_strata(self.num_samples, max(1, int(np.prod(shape)))))
        return within_strata(key_place, strata.reshape(self.num_samples, *shape), dtype)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.num_samples * self.estimator.evaluations(dist)
