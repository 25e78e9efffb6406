r"""ReinMax: straight-through with Heun's method, a first-order step made second-order.

With $J(q) = \mathrm{diag}(q) - q q^\top$ within each variable, straight-through pulls $f'(x)$ back by $J(\pi)$; ReinMax
pulls it back by $2 J(m) - \tfrac12 J(\pi)$, where $m$ is half-way between the event and a softmax of the logits. Since

$$2 J\!\left(\tfrac12 (q + x)\right) = J(q) + J(x) + \tfrac12 (x - q) (x - q)^\top, \;\; J(x) = 0 \text{ at an event},$$

this is $J(q) - \tfrac12 J(\pi) + \tfrac12 (x - q) (x - q)^\top$, from which every statement about it below follows.

Two of its relatives follow. For one variable of $C$ categories and any baseline that is the same for all events, the
gradient is $\sum_i (f(e_i) - b)\, \nabla \pi_i$; with the *plain* mean of the values for $b$ it is

$$\tfrac1C \sum_{i, j} (f(e_i) - f(e_j))\, \nabla \pi_i, \qquad f(e_i) - f(e_j) \approx
\tfrac12 (f'(e_i) + f'(e_j))^\top (e_i - e_j),$$

where the mean under $\pi$ would lead to ReinMax. The part with $f'(e_i)$ is a mean over a sample $x = e_i$; that with
$f'(e_j)$, where $\sum_i e_i \nabla \pi_i = J(\pi)$, is one over $x = e_j$ with the weight $1 / (C \pi_j)$. The other
relative takes $J$ at half-way from relaxed events, as `gumbel_rao` does.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractLogitParameterized, AbstractRelaxable, Categorical
from .distributions.base import Event, Noise, Scalar, as_floating
from .gumbel_rao import averaged_pullback
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive
from .zgr import along_logits


@ESTIMATORS.register("reinmax")
class ReinMax(AbstractStatelessEstimator):
    r"""ReinMax: the straight-through estimator to second order, by Heun's method.

    For a sample $x$ of `dist`, $\theta$ its logits, $\pi$ its mean, $t$ the `temperature`,
    $J(q) = \mathrm{diag}(q) - q q^\top$ within each variable and $\pi_t = \mathrm{softmax}(\theta / t)$ (the sigmoid
    for Bernoulli variables),

    $$\hat g = 2 J\!\left(\tfrac12 (\pi_t + x)\right) f'(x) - \tfrac12 J(\pi) f'(x).$$

    Biased. At temperature 1 it is `ZGR`, and exact in the mean for an `f` that is quadratic in each variable while the
    others are fixed. At any other it is not exact for an affine `f` either: there its mean is
    $[J(\pi_t) + \tfrac12 (\pi - \pi_t) (\pi - \pi_t)^\top] f'$ in place of $J(\pi) f'$, a bias of direction and not of
    scale alone. Needs a relaxable distribution with logits and a differentiable `f`; one evaluation of `f` with its
    derivative.

    >>> from estimators import Bernoulli
    >>> grads = ReinMax().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [0.5]

    The sample is drawn at temperature 1 whatever `temperature` is, and the Jacobian is taken at a point, with no factor
    $1 / t$ from a chain rule. The temperature is at least 1, as its authors would have it. Their program subtracts from
    a gradient its mean over the categories; here nothing is left to subtract, for the column sums of $J(q)$ are zero.

    **References:** Liu, Dong, Liu, Yu and Gao, Bridging discrete and backpropagation: straight-through and beyond,
    2023, arXiv:2304.08612.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractLogitParameterized, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "temperature", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        slope = jax.grad(f)(x)
        middle = (dist.relax(dist.logits, self.temperature.astype(x.dtype)) + x) / 2
        return along_logits(dist, 2 * dist.covariance(middle, slope) - dist.covariance(dist.mean(), slope) / 2)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("reinmax-mean-baseline")
class ReinMaxMeanBaseline(AbstractStatelessEstimator):
    r"""ReinMax with the plain mean of the values as baseline, each category counting alike.

    For a sample $x$ of `dist`, $\pi$ its mean, $\pi_x$ the probability of a variable's category, $C$ their number and
    $J(\pi) = \mathrm{diag}(\pi) - \pi \pi^\top$ within each variable,

    $$\hat g = \tfrac12 \left[ (x - \pi)\, (x - \tfrac1C 1)^\top f'(x) + \frac{1}{C \pi_x}\, J(\pi) f'(x) \right].$$

    Biased, but exact in the mean for an `f` that is quadratic in each variable while the others are fixed, as `ReinMax`
    is. The second part divides by the probability of what was drawn, so the variance grows as the rarest category gets
    rarer. With two categories it is `ReinMax` at temperature 1, and `ZGR`. Needs a `Categorical` and a differentiable
    `f`; one evaluation of `f` with its derivative.

    >>> dist = Categorical(logits=[0.0, 0.0])
    >>> print(ReinMaxMeanBaseline().gradient(jax.random.key(0), dist, lambda x: 4 * x[0]).logits)
    [ 1. -1.]

    This is the form at temperature 1 that the derivation at the head of this file gives, whose estimates sum to zero
    over the categories. In the program of its authors the second part has $f'(x)$ at the category of the sample only in
    one of the two terms of $J(\pi) f'(x)$; that does not sum to zero, nor is it exact for an affine `f`.

    **References:** Liu, Dong, Liu, Yu and Gao, Bridging discrete and backpropagation: straight-through and beyond,
    2023, arXiv:2304.08612.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        x, mean = dist.sample(key), dist.mean()
        slope = jax.grad(f)(x)
        weight = 1 / (x.shape[-1] * dist.inner(mean, x))
        outer = (x - mean) * dist.inner(x - 1 / x.shape[-1], slope)
        return Categorical((outer + weight * dist.covariance(mean, slope)) / 2)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


def half_way(dist: Categorical, x: Event) -> Categorical:
    """The law whose mean is half-way between that of `dist` and the event."""
    return Categorical(jnp.log((dist.mean() + x) / 2))


def averaged_given(
    keys: Key[Array, "inner"], middle: Categorical, x: Event, temperature: Scalar, cotangent: Event
) -> Noise:
    """`cotangent` through the mean Jacobian of `relax` at draws of the perturbed logits of `middle` given the event."""
    given = jax.vmap(lambda key: middle.conditional(x, middle.noise(key)))(keys)
    return averaged_pullback(middle, given, temperature, cotangent)


@ESTIMATORS.register("reinmax-rao")
class ReinMaxRao(AbstractStatelessEstimator):
    r"""ReinMax-Rao: ReinMax whose first part is that of a relaxed event, averaged over its noise given the event.

    For a sample $x$ of `dist`, $\pi$ its mean, $z_k$ independent perturbed logits of the law with the mean
    $\tfrac12 (\pi + x)$, given $\mathrm{harden}(z_k) = x$, $t$ the `temperature` and $n$ the number `num_inner` of
    draws,

    $$\hat g = \frac2n \sum_{k=1}^n \left[ \frac{\partial\, \mathrm{relax}(z; t)}{\partial z} \Big|_{z = z_k}
    \right]^\top f'(x) - \tfrac12 J(\pi) f'(x).$$

    Biased, for an affine `f` too. As the temperature falls the mean tends to half that of `DARN`; as it rises, to
    minus half that of `StraightThrough`: the size of an estimate depends on the temperature, and from some point on its
    sign. Needs a `Categorical` and a differentiable `f`; one evaluation of `f` with its derivative, whatever
    `num_inner`.

    >>> ReinMaxRao(num_inner=100).evaluations(Categorical(logits=jnp.zeros((2, 3))))
    1

    The first part is `GumbelRao` at the logits of $\tfrac12 (\pi + x)$, with the factor $1 / t$ of its chain rule, and
    stands where ReinMax has $2 J(\tfrac12 (\pi + x))$; the second is that of `ReinMax`, at $\pi$.

    **References:** Wang and Bui, Beyond ReinMax: low-variance gradient estimators for discrete latent variables, 2026,
    arXiv:2603.08257.
    """

    num_inner: int = eqx.field(static=True, default=10)
    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "num_inner")
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        key_sample, key_inner = jax.random.split(key)
        x, mean = dist.sample(key_sample), dist.mean()
        slope = jax.grad(f)(x)
        first = averaged_given(
            jax.random.split(key_inner, self.num_inner), half_way(dist, x), x, self.temperature, slope
        )
        return Categorical(2 * first - dist.covariance(mean, slope) / 2)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
