"""Generalised reparameterization: pathwise as far as it goes, and the score function for the rest.

Let `x = T(noise; theta)` be smooth, but let the law `pi` of the noise still depend on `theta`. The derivative of
`E[f(x)] = int pi(noise; theta) f(T(noise; theta))` then has two terms,

`E[d/d theta f(T(noise; theta))] + E[f(x) d/d theta log pi(noise; theta)]`,

the second of which is the smaller, the less of `theta` is left in the noise. If `T` is invertible, `pi(noise; theta) =
p(T(noise; theta); theta) |det dT/dnoise|`. Which noise it is tells the estimators of this room apart.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractAcceptanceRejection, AbstractDistribution, AbstractStandardizable
from .distributions.base import Event, Scalar
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least


def corrected(
    dist: Grads, f: Objective, event: Callable[[Grads], Event], log_density: Callable[[Grads], Scalar]
) -> Grads:
    """The two terms above for one noise, of which `event` and `log_density` are functions; one evaluation of `f` with
    its derivative."""
    x = event(dist)
    value, slope = jax.value_and_grad(f)(x)
    return jax.grad(lambda d: jnp.vdot(slope, event(d)) + value * log_density(d))(dist)


@ESTIMATORS.register("g-rep")
class GREP(AbstractStatelessEstimator):
    r"""The generalized reparameterization gradient.

    With $\varepsilon$ the standardised event (for Gamma its logarithm, for Beta its logit, less the mean and over the
    standard deviation), $x = T(\varepsilon; \theta)$ and $\pi(\varepsilon; \theta)$ the density of $\varepsilon$,

    $$\hat g = \nabla_\theta f(T(\varepsilon; \theta)) + f(x)\, \nabla_\theta \log \pi(\varepsilon; \theta).$$

    Unbiased. Needs a standardizable distribution and a differentiable `f`; one evaluation of `f` with its derivative.
    The second term is the correction $g^{corr}$ of the paper, in which $\pi$ is written as the density of `dist` times
    the Jacobian determinant of $T$.

    >>> from estimators import Gamma
    >>> GREP().evaluations(Gamma(log_concentration=[0.0], log_rate=[0.0]))
    1

    **References:** Ruiz, Titsias and Blei, The generalized reparameterization gradient, 2016, arXiv:1610.02287.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractStandardizable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.standardized(key)
        return corrected(dist, f, lambda d: d.restore(noise), lambda d: d.standardized_log_prob(noise))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("rsvi")
class RSVI(AbstractStatelessEstimator):
    r"""The reparameterization of what a rejection sampler accepts (rejection sampling variational inference).

    With $\varepsilon$ the accepted normal variable of Marsaglia and Tsang, $x = h(\varepsilon; \theta)$ and
    $\pi(\varepsilon; \theta)$ its density,

    $$\hat g = \nabla_\theta f(h(\varepsilon; \theta)) + f(x)\, \nabla_\theta \log \pi(\varepsilon; \theta).$$

    The sampler draws gamma variables with `augmentation` more concentration (the $B$ of the paper), and as many uniform
    variables bring each back: the larger that is, the nearer is $\varepsilon$ to normal and the smaller the second term.
    Unbiased. Needs a distribution with such a sampler and a differentiable `f`; one evaluation of `f` with its
    derivative. The paper writes $\pi$ as the density of `dist` over that of the proposal, in which the proposals' own has
    no part. At least one `augmentation` is asked for, since the sampler needs a concentration of one.

    >>> from estimators import Gamma
    >>> RSVI(augmentation=4).evaluations(Gamma(log_concentration=[0.0], log_rate=[0.0]))
    1

    **References:** Naesseth, Ruiz, Linderman and Blei, Reparameterization gradients through acceptance-rejection sampling
    algorithms, 2017, arXiv:1610.05683. Marsaglia and Tsang, A simple method for generating gamma variables, 2000.
    """

    augmentation: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractAcceptanceRejection, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "augmentation", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.accepted(key, self.augmentation)
        return corrected(dist, f, lambda d: d.from_accepted(noise), lambda d: d.accepted_log_prob(noise))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
