r"""Wrappers that supply coupled noises: mirror images, a Latin hypercube, a sample with the moments of its law.

The terms of an estimate are functions $g(\varepsilon_k)$ of noises (`noise_driven`), and those of uniform points of the
unit cube (`AbstractStratifiable`). A wrapper chooses the joint law of the points. As long as each by itself is uniform,
the mean of the average of the terms is that of one of them, whatever the estimator; and

$$\mathrm{Var}\Big[\frac1n \sum_k g(\varepsilon_k)\Big] = \frac1{n^2} \sum_{j, k} \mathrm{Cov}[g(\varepsilon_j),
g(\varepsilon_k)]$$

is below that of independent terms if the covariances are negative on the whole. No term may use another as a baseline:
the product of a value and another sample's score no longer has mean zero.

The points for these wrappers are made anew for every estimate. The ones that start from a table, the nets of
quasi-Monte Carlo, live in `quasi_monte_carlo`.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractStratifiable, Normal
from .distributions.base import precision
from .noise_driven import AbstractNoiseDriven
from .objectives import Objective
from .pathwise import Pathwise
from .registration import ESTIMATORS
from .score_function import ScoreFunction
from .validation import require_at_least

Noises = Float[Array, "samples ..."]
Points = Float[Array, "samples ..."]


class AbstractCoupled(AbstractStatelessEstimator):
    """The average of the terms of `estimator` that noises of one joint law make."""

    estimator: eqx.AbstractVar[AbstractNoiseDriven]

    @abstractmethod
    def noises(self, key: PRNGKey, dist: AbstractDistribution) -> Noises:
        """The noises, stacked."""

    def __check_init__(self):
        if self.estimator.num_samples != 1:
            name, number = type(self).__name__, self.estimator.num_samples
            raise ValueError(
                f"`{name}` draws all samples itself and needs an estimator with `num_samples = 1`, "
                f"got one with {number}."
            )

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noises = self.noises(key, dist)
        terms = jax.vmap(lambda noise: self.estimator.from_noise(noise, dist, f))(noises)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), terms)


class AbstractUniformlyCoupled(AbstractCoupled):
    """Each noise is made of a point that is uniform in the unit cube, so the mean is that of `estimator`."""

    @abstractmethod
    def points(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Points:
        """Points of the closed unit cube, each of `shape`, and each uniform by itself."""

    @property
    def unbiased(self) -> bool:
        return self.estimator.unbiased

    @property
    def requires(self) -> tuple[type, ...]:
        return (AbstractStratifiable, *self.estimator.requires)

    def noises(self, key: PRNGKey, dist: AbstractStratifiable) -> Noises:
        dtype = precision(dist)
        points = self.points(key, dist.event_shape, dtype)
        # Random uniforms are multiples of `eps`, and rounding may reach the faces of the cube, where noise is infinite.
        margin = jnp.finfo(dtype).eps / 2
        return jax.vmap(dist.noise_at)(jnp.clip(points, margin, 1 - margin))


def within_strata(key: PRNGKey, strata: Int[Array, "samples ..."], dtype: jnp.dtype) -> Points:
    """A point uniform in each of the given cells, whose coordinates number equal strata of the unit interval: as many
    strata as samples."""
    return (strata + jax.random.uniform(key, strata.shape, dtype)) / strata.shape[0]


@ESTIMATORS.register("antithetic-pathwise", estimator=Pathwise())
@ESTIMATORS.register("antithetic-score-function", estimator=ScoreFunction())
class Antithetic(AbstractUniformlyCoupled):
    r"""Antithetic pairs: every noise with its mirror image.

    With $g(\varepsilon)$ the term of `estimator` at one noise, and $\varepsilon$ and $\varepsilon'$ made of uniform $u$
    and $1 - u$,

    $$\hat g = \tfrac12 (g(\varepsilon) + g(\varepsilon')),$$

    averaged over `num_pairs` independent pairs. Normal and logistic noise is symmetric, so there $\varepsilon' =
    -\varepsilon$.

    Unbiased if `estimator` is, for $1 - u$ is uniform too. A pair has the variance of the even part $(g(\varepsilon) +
    g(\varepsilon')) / 2$; two independent noises have half of that and half of the variance of the odd part. So what is
    odd in the noise is gone, and what is even costs twice as much as with independent noises: it pays where the odd
    part varies more. Needs a distribution whose noise is made of uniform variables, and what `estimator` needs;
    `2 * num_pairs` evaluations of `f`.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[0.0], log_scale=[0.0])
    >>> grads = Antithetic(Pathwise()).gradient(jax.random.key(0), dist, lambda x: jnp.sum((x - 3) ** 2))
    >>> print(grads.loc)
    [-6.]

    On discrete variables this is the plain score function at a coupled pair; `DisARM` uses the same pair and integrates
    out what the score says beyond it.

    **References:** Hammersley and Morton, A new Monte Carlo technique: antithetic variates, 1956.
    """

    estimator: AbstractNoiseDriven
    num_pairs: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_at_least(self, "num_pairs", 1)

    def points(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Points:
        u = jax.random.uniform(key, (self.num_pairs, *shape), dtype)
        return jnp.concatenate([u, 1 - u])

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 2 * self.num_pairs * self.estimator.evaluations(dist)


@ESTIMATORS.register("latin-hypercube-pathwise", estimator=Pathwise())
class LatinHypercube(AbstractUniformlyCoupled):
    r"""Latin hypercube sampling: in every dimension of the noise, one sample in each of `num_samples` equal strata.

    With $g(\varepsilon)$ the term of `estimator` at one noise, a random permutation $\pi_i$ of $0, \dots, n - 1$ and
    uniform $v_{k,i}$ for each dimension $i$, all independent,

    $$\hat g = \frac1n \sum_{k=1}^{n} g(\varepsilon_k), \qquad
    \varepsilon_k \text{ made of } u_{k,i} = \frac{\pi_i(k) + v_{k,i}}{n}.$$

    Unbiased if `estimator` is: a stratum chosen at random and a place chosen at random in it are a uniform variable. In
    one dimension this is stratified sampling, and the variance is below that of independent samples by the spread of
    the means of the strata; in more, what is a sum of functions of single dimensions is stratified in each of them, and
    the variance is at most $n / (n - 1)$ times that of $n$ independent samples. Needs a distribution whose noise is
    made of uniform variables, and what `estimator` needs; `num_samples` evaluations of `f`.

    >>> from estimators import Normal
    >>> LatinHypercube(Pathwise(), num_samples=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    4

    `StratifiedScoreFunction` stratifies the events of a finite support in their order; here it is the noise of each
    variable, of any number of variables, and no support is listed.

    **References:** McKay, Beckman and Conover, A comparison of three methods for selecting values of input variables in
    the analysis of output from a computer code, 1979. Owen, Monte Carlo variance of scrambled net quadrature, 1997.
    """

    estimator: AbstractNoiseDriven
    num_samples: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def points(self, key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Points:
        key_order, key_place = jax.random.split(key)
        order = jnp.arange(self.num_samples).reshape(-1, *(1 for _ in shape))
        order = jnp.broadcast_to(order, (self.num_samples, *shape))
        strata = jax.random.permutation(key_order, order, axis=0, independent=True)
        return within_strata(key_place, strata, dtype)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.num_samples * self.estimator.evaluations(dist)


@ESTIMATORS.register("moment-matched-pathwise", estimator=Pathwise())
class MomentMatched(AbstractCoupled):
    r"""Moment matching: normal noise shifted and scaled until its sample has mean zero and variance one.

    With $g(\varepsilon)$ the term of `estimator` at one noise and, in every dimension, $\bar\varepsilon$ and $s^2$ the
    mean and the variance (with $n$ in the denominator) of $n$ independent noises,

    $$\hat g = \frac1n \sum_{k=1}^{n} g(\varepsilon'_k), \qquad
    \varepsilon'_k = \frac{\varepsilon_k - \bar\varepsilon}{s}.$$

    Biased, because $\varepsilon'_k$ is not normal: in each dimension the $n$ of them are uniform on the sphere of
    radius $\sqrt n$ at right angles to $(1, \dots, 1)$. With `Pathwise` inside, the mean is the gradient of $E[f(x)]$
    for $x$ made of such noise. It has the first three moments of a normal one, and $3 (n - 1) / (n + 1)$ for the
    fourth, which is 3: so there is no bias for an `f` of degree three, along `loc` none for degree four, and for other
    smooth ones a bias of the order of $1 / n$. For a quadratic `f` with no products of two variables every estimate is
    the gradient. Needs a `Normal` and what `estimator` needs; `num_samples` evaluations of `f`, of which there must be
    three or more: two would stand at `loc` plus and minus `scale` whatever was drawn.

    >>> dist = Normal(loc=[0.5], log_scale=[0.0])
    >>> grads = MomentMatched(Pathwise()).gradient(jax.random.key(0), dist, lambda x: jnp.sum((x - 3) ** 2))
    >>> print(grads.loc.round(4), grads.log_scale.round(4))
    [-5.] [2.]

    This is the method of financial simulation, which matches the sample to the law. Another of this name draws the
    second half of a sample with the mirror image of the moments of the first (Wu et al.), and is not this one.

    **References:** Barraquand, Numerical valuation of high dimensional multivariate European securities, 1995. Boyle,
    Broadie and Glasserman, Monte Carlo methods for security pricing, 1997. Wu, Goodman and Ermon, Differentiable
    antithetic sampling for variance reduction in stochastic variational inference, 2019, arXiv:1810.02555.
    """

    estimator: AbstractNoiseDriven
    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False

    def __check_init__(self):
        require_at_least(self, "num_samples", 3)

    @property
    def requires(self) -> tuple[type, ...]:
        return (Normal, *self.estimator.requires)

    def noises(self, key: PRNGKey, dist: Normal) -> Noises:
        noises = jax.vmap(dist.noise)(jax.random.split(key, self.num_samples))
        centred = noises - jnp.mean(noises, axis=0, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, axis=0, keepdims=True))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.num_samples * self.estimator.evaluations(dist)
