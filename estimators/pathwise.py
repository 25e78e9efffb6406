"""Pathwise gradients: differentiate through the sample.

If `x = T(noise; theta)` with noise whose law does not depend on `theta`, then `d/d theta E[f(x)] = E[d/d theta
f(T(noise; theta))]` for every `f` that is smooth enough to exchange the two.
"""

from typing import ClassVar

import jax

from .base import Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractReparameterizable
from .distributions.base import Noise
from .noise_driven import AbstractNoiseDriven
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("pathwise")
class Pathwise(AbstractNoiseDriven):
    r"""The pathwise (reparameterization) estimator.

    With `noise` drawn and $x = T(\varepsilon)$ the event it becomes,

    $$\hat g = \nabla_\theta f(T(\varepsilon; \theta)).$$

    Unbiased. Needs a reparameterizable distribution and a differentiable `f`; one evaluation of `f` with its
    derivative.

    >>> from estimators import Normal
    >>> Pathwise().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    What $T$ is, the distribution says: a location and a scale, a Cholesky factor, or the quantile function at a uniform
    variable, which moves an event $x$ by $-\nabla_\theta F(x) / p(x)$, with $F$ and $p$ its distribution function and
    density.

    **References:** Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114. Rezende, Mohamed and
    Wierstra, Stochastic backpropagation and approximate inference in deep generative models, 2014, arXiv:1401.4082.
    """

    num_samples: ClassVar[int] = 1
    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        return self.from_noise(dist.noise(key), dist, f)

    def from_noise(self, noise: Noise, dist: Grads, f: Objective) -> Grads:
        return jax.grad(lambda d: f(d.reparameterize(noise)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
