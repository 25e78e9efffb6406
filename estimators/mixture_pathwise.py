"""Pathwise gradients of mixtures: every component in turn, each with its own reparameterization.

The expectation under a mixture is `sum_k w_k E[f(x_k)]`. One event of every component makes it a smooth function of the
weights and of the components' parameters: which component an event comes from is not drawn at all.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractMixture
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("mixture-pathwise")
class MixturePathwise(AbstractStatelessEstimator):
    r"""The pathwise estimator stratified over the components of a mixture.

    With weights $w_k$, independent noise $\varepsilon_k$ and $x_k = T_k(\varepsilon_k)$ an event of component $k$,

    $$\hat g = \nabla_\theta \sum_k w_k(\theta)\, f(T_k(\varepsilon_k; \theta)).$$

    Unbiased. Needs a mixture of reparameterizable components and a differentiable `f`; one evaluation of `f` with its
    derivative for each component. Components far apart do it no harm, unlike `implicit`.

    >>> from estimators import NormalMixture
    >>> dist = NormalMixture(logits=[0.0, 0.0], loc=[[-1.0], [1.0]], log_scale=[[0.0], [0.0]])
    >>> MixturePathwise().evaluations(dist)
    2

    **References:** Morningstar, Vikram, Ham, Gallagher and Dillon, Automatic differentiation variational inference with
    mixtures, 2020, arXiv:2003.01687. Roeder, Wu and Duvenaud, Sticking the landing, 2017, arXiv:1703.09194.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractMixture, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.component_noise(key)
        return jax.grad(lambda d: jnp.vdot(d.mixing(), jax.vmap(f)(d.components(noise))))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return jax.eval_shape(dist.mixing).size
