"""Implicit and optimal-transport gradients: pathwise, for laws that no noise of a fixed law makes smoothly.

Let `x` move with `theta` at a velocity `v(x)` that carries the density along, `d/d theta p + div(p v) = 0`. Then `d/d
theta E[f(x)] = E[<grad f(x), v(x)>]`, by parts. A distribution function gives such a velocity without being inverted: on
the line `v = -(d/d theta F) / p`, the only one. In more dimensions there are many, and they differ in variance.
"""

from typing import ClassVar

import jax

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractImplicitlyReparameterizable, AbstractTransportable
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("implicit")
class ImplicitReparameterization(AbstractStatelessEstimator):
    r"""The implicit reparameterization estimator.

    With variates $z$ drawn from `dist`, of which the event $x(z; \theta)$ is made, and $S$ the distribution function of
    each given those before it,

    $$\hat g = \nabla_x f(x) \cdot \left(\partial_\theta x - \partial_z x\, (\partial_z S)^{-1}\, \partial_\theta S\right).$$

    Unbiased. Needs an implicitly reparameterizable distribution and a differentiable `f`; one evaluation of `f` with its
    derivative. The variates of Beta and Dirichlet events are gamma variables, of which one more is drawn than the event
    has dimensions, and those of Student-t events a normal and a gamma variable, as in the paper. Mixtures move as one
    law, by the distribution function of the mixture.

    >>> from estimators import Gamma
    >>> ImplicitReparameterization().evaluations(Gamma(log_concentration=[0.0], log_rate=[0.0]))
    1

    **References:** Figurnov, Mohamed and Mnih, Implicit reparameterization gradients, 2018, arXiv:1805.08498. Graves,
    Stochastic backpropagation through mixture density distributions, 2016, arXiv:1607.05690.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractImplicitlyReparameterizable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        variates = dist.variates(key)
        return jax.grad(lambda d: f(d.implicit(variates)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("optimal-transport")
class OptimalTransport(AbstractStatelessEstimator):
    r"""The pathwise estimator with a velocity field of the event alone, of optimal mass transport.

    With $x$ a sample of `dist` and $v_i$ the velocity along the parameter $\theta_i$, $\partial_{\theta_i} p + \nabla
    \cdot (p\, v_i) = 0$,

    $$\hat g_i = \nabla f(x) \cdot v_i(x).$$

    Unbiased. Needs a transportable distribution and a differentiable `f`; one evaluation of `f` with its derivative. On
    the line there is one such velocity: for Gamma it is that of `implicit`, and for Beta the mean of that of `implicit`
    given `x`, so that the variance is never larger. For a normal law with a full covariance it is the field of least
    kinetic energy, linear and symmetric, where that of `pathwise` is triangular. For Dirichlet it is the field of the
    paper, again the mean of
    `implicit`'s, which is the optimal one for two values; for more it solves the transport equation but is no gradient
    of a potential, as a field of least kinetic energy would have to be.

    >>> from estimators import Beta
    >>> OptimalTransport().evaluations(Beta(log_alpha=[0.0], log_beta=[0.0]))
    1

    **References:** Jankowiak and Obermeyer, Pathwise derivatives beyond the reparameterization trick, 2018,
    arXiv:1806.01851.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractTransportable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        return jax.grad(lambda d: f(d.transport(x)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
