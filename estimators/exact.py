"""Exact gradients: estimators of zero variance, through which every truth of the suite is computed.

All but the last rest on `d/d theta E[f(x)] = E[f(x) d/d theta log p(x)]`, with the expectation summed instead of
sampled.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey, weighted_score
from .distributions import (
    AbstractDistribution,
    AbstractEnumerable,
    AbstractFixedSupport,
    AbstractIntegrable,
    AbstractSummable,
    Delta,
)
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("enumeration")
class Enumeration(AbstractStatelessEstimator):
    r"""The gradient itself, summed over the support.

    $$\hat g = \sum_x p(x)\, f(x)\, \nabla \log p(x).$$

    Exact, so unbiased and without variance. Needs a finite support; one evaluation of `f` for each of its events.

    >>> from estimators import Bernoulli
    >>> grads = Enumeration().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        del key
        events = dist.support()
        probabilities = jnp.exp(jax.vmap(dist.log_prob)(events))
        return weighted_score(dist, events, probabilities * jax.vmap(f)(events))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return dist.support_size


@ESTIMATORS.register("quadrature")
class Quadrature(AbstractStatelessEstimator):
    r"""The gradient by numerical integration over the noise, `resolution` nodes to a dimension.

    $$\hat g = \sum_i w_i\, f(x_i)\, \nabla \log p(x_i), \qquad x_i = T(\varepsilon_i).$$

    Exact up to the error of the rule, so unbiased to rounding for a smooth `f` at the default resolution; for a
    discontinuous one the error is of the order of the spacing, and its truth should come from a closed form. No variance.
    Needs nodes for the law of the noise and a fixed support; `resolution ** dimensions` evaluations of `f`, so one to
    three dimensions.

    >>> from estimators import Normal
    >>> grads = Quadrature().gradient(jax.random.key(0), Normal(loc=[1.0], log_scale=[0.0]), lambda x: jnp.sum(x**2))
    >>> print(grads.loc.round(3), grads.log_scale.round(3))
    [2.] [2.]
    """

    resolution: int = eqx.field(static=True, default=257)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractIntegrable, AbstractFixedSupport)

    def __check_init__(self):
        if self.resolution < 2:
            raise ValueError(f"`Quadrature` needs `resolution >= 2`, got {self.resolution}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        del key
        noise, weights = dist.nodes(self.resolution)
        events = jax.vmap(dist.reparameterize)(noise)
        return weighted_score(dist, events, weights * jax.vmap(f)(events))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.resolution ** math.prod(dist.event_shape)


class Summation(AbstractStatelessEstimator):
    r"""The gradient summed over a window of a support without end, `resolution` values to a variable.

    $$\hat g = \sum_{x \in \mathrm{window}} p(x)\, f(x)\, \nabla \log p(x).$$

    Exact up to a mass of `1e-18` to a variable, so unbiased to rounding for an `f` that grows slower than that mass
    falls, and NaN if `resolution` is less than `dist.span()`: too small a window is no estimate. No variance. Needs a
    summable distribution; `resolution ** variables` evaluations of `f`.

    How large a window must be depends on the values of the parameters, so this one is not in the registry: a truth
    knows them.

    >>> from estimators import Poisson
    >>> dist = Poisson(log_rate=[0.0])
    >>> grads = Summation(resolution=32).gradient(jax.random.key(0), dist, lambda x: jnp.sum(x**2))
    >>> print(dist.span() <= 32, jnp.allclose(grads.log_rate, 3.0))
    True True
    """

    resolution: int = eqx.field(static=True)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractSummable,)

    def __check_init__(self):
        if self.resolution < 1:
            raise ValueError(f"`Summation` needs `resolution >= 1`, got {self.resolution}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        del key
        events = dist.window(self.resolution)
        probabilities = jnp.exp(jax.vmap(dist.log_prob)(events))
        complete = jnp.where(dist.span() <= self.resolution, 1.0, jnp.nan).astype(probabilities.dtype)
        return weighted_score(dist, events, complete * probabilities * jax.vmap(f)(events))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.resolution ** math.prod(dist.event_shape)


class Derivative(AbstractStatelessEstimator):
    r"""The gradient of `f` at the event of a point mass.

    $$\hat g = \nabla f(\mathrm{loc}).$$

    Exact, so unbiased and without variance. Needs a `Delta` and a differentiable `f`; one evaluation of `f` with its
    derivative. It is not in the registry: it is what the estimators of a `Delta` do without.

    >>> from estimators import Delta
    >>> print(Derivative().gradient(jax.random.key(0), Delta(loc=[1.0, -2.0]), lambda x: jnp.sum(x**2)).loc)
    [ 2. -4.]
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Delta, f: Objective) -> Delta:
        del key
        return Delta(jax.grad(f)(dist.loc))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
