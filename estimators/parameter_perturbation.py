r"""Parameter perturbation: the gradient of `f` itself, from what `f` does along random directions.

The event of a `Delta` is its parameter. For a direction `v` with `E[v v^T] = 1`, `E[(v . g) v] = g`: a derivative along
one random direction, times the direction, is the gradient in the mean. It can be had without error from one forward
sweep, or with an error from two values of `f` a step apart.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Delta, Normal
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive

Directions = Float[Array, "directions ..."]


def gaussian(key: PRNGKey, shape: tuple[int, ...], dist: AbstractDistribution) -> Float[Array, "..."]:
    """Standard normal noise of a shape, in the precision of `dist`."""
    standard = jnp.zeros(shape, dist.loc.dtype)
    return Normal(standard, standard).noise(key)


class AbstractPerturbation(AbstractStatelessEstimator):
    """An estimator that looks at `f` along `num_directions` random directions; `along` is it, given them."""

    num_directions: eqx.AbstractVar[int]

    @abstractmethod
    def along(self, directions: Directions, dist: Delta, f: Objective) -> Delta:
        """The estimate that `directions` make."""

    @abstractmethod
    def directions(self, key: PRNGKey, dist: Delta) -> Directions:
        """Independent directions with mean zero and the identity for covariance."""

    def gradient(self, key: PRNGKey, dist: Delta, f: Objective) -> Delta:
        return self.along(self.directions(key, dist), dist, f)


@ESTIMATORS.register("spsa")
class SPSA(AbstractPerturbation):
    r"""Simultaneous perturbation stochastic approximation: all coordinates moved at once, by random signs.

    With $h$ the `step`, `loc` $\theta$ and a vector $\Delta$ of independent signs,

    $$\hat g_i = \frac{f(\theta + h \Delta) - f(\theta - h \Delta)}{2 h\, \Delta_i},$$

    averaged over `num_directions` independent $\Delta$.

    Biased: to leading order, and exactly for a polynomial of degree four, it is off by $\frac{h^2}{6} (f_{iii} + 3
    \sum_{j \ne i} f_{ijj})$. Needs a `Delta`, and of `f` its values; two evaluations for each direction, whatever the
    number of parameters. Directions are signs, the form that is called optimal for it.

    >>> estimator, dist = SPSA(), Delta(loc=[1.0])
    >>> print(estimator.gradient(jax.random.key(0), dist, lambda x: 3 * x.sum()).loc.round(5))
    [3.]

    **References:** Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient
    approximation, 1992.
    """

    step: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_directions: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta,)

    def __check_init__(self):
        require_positive(self, "step")
        require_at_least(self, "num_directions", 1)

    def directions(self, key: PRNGKey, dist: Delta) -> Directions:
        return jax.random.rademacher(key, (self.num_directions, *dist.loc.shape), dist.loc.dtype)

    def along(self, directions: Directions, dist: Delta, f: Objective) -> Delta:
        step = self.step.astype(dist.loc.dtype)

        def one(signs: Float[Array, "..."]) -> Float[Array, "..."]:
            # A sign is its own inverse.
            return (f(dist.loc + step * signs) - f(dist.loc - step * signs)) / (2 * step) * signs

        return Delta(jnp.mean(jax.vmap(one)(directions), axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_directions


@ESTIMATORS.register("random-directions")
class RandomDirections(AbstractPerturbation):
    r"""The forward difference along random Gaussian directions.

    With $h$ the `step`, `loc` $\theta$ and independent standard normal directions $v_1, \dots, v_n$,

    $$\hat g = \frac1n \sum_k \frac{f(\theta + h v_k) - f(\theta)}{h}\, v_k.$$

    Biased for the gradient of `f`: its mean is the gradient of the smoothed $f_h(\theta) = E[f(\theta + h v)]$, which
    is that of `f` if `f` is quadratic, and else is off by $\frac{h^2}{2} \nabla \operatorname{tr} \nabla^2 f$ to
    leading order. Needs a `Delta`, and of `f` its values; `num_directions` evaluations and one more, which all
    directions share. The difference is the forward one: with the central one it is `EvolutionStrategies`, which has the
    same mean and no noise from the curvature of `f`, for twice the evaluations.

    >>> RandomDirections(num_directions=4).evaluations(Delta(loc=[1.0]))
    5

    **References:** Nesterov and Spokoiny, Random gradient-free minimization of convex functions, 2017.
    """

    step: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_directions: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta,)

    def __check_init__(self):
        require_positive(self, "step")
        require_at_least(self, "num_directions", 1)

    def directions(self, key: PRNGKey, dist: Delta) -> Directions:
        return gaussian(key, (self.num_directions, *dist.loc.shape), dist)

    def along(self, directions: Directions, dist: Delta, f: Objective) -> Delta:
        step, centre = self.step.astype(dist.loc.dtype), f(dist.loc)

        def one(direction: Float[Array, "..."]) -> Float[Array, "..."]:
            return (f(dist.loc + step * direction) - centre) / step * direction

        return Delta(jnp.mean(jax.vmap(one)(directions), axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_directions + 1


@ESTIMATORS.register("forward-gradient")
class ForwardGradient(AbstractPerturbation):
    r"""The derivative along random Gaussian directions, by forward differentiation, times the directions.

    With `loc` $\theta$ and independent standard normal directions $v_1, \dots, v_n$,

    $$\hat g = \frac1n \sum_k (\nabla f(\theta) \cdot v_k)\, v_k.$$

    Unbiased, with covariance $(|\nabla f|^2 + \nabla f\, \nabla f^\top) / n$, whose trace is $D + 1$ times the squared
    gradient in $D$ dimensions. Needs a `Delta` and a differentiable `f`; `num_directions` evaluations, each with its
    derivative along one direction.

    >>> ForwardGradient().evaluations(Delta(loc=[1.0]))
    1

    **References:** Baydin, Pearlmutter, Syme, Wood and Torr, Gradients without backpropagation, 2022, arXiv:2202.08587.
    """

    num_directions: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "num_directions", 1)

    def directions(self, key: PRNGKey, dist: Delta) -> Directions:
        return gaussian(key, (self.num_directions, *dist.loc.shape), dist)

    def along(self, directions: Directions, dist: Delta, f: Objective) -> Delta:
        def one(direction: Float[Array, "..."]) -> Float[Array, "..."]:
            return jax.jvp(f, (dist.loc,), (direction,))[1] * direction

        return Delta(jnp.mean(jax.vmap(one)(directions), axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_directions
