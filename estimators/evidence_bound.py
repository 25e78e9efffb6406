r"""The evidence bound, whose integrand depends on the parameters twice: through the sample and through log q itself.

    d/d theta E[log p(x, z) - log q_theta(z)],    z = T(noise; theta) ~ q_theta.

Differentiating one draw along both ways gives

    d/d theta [log p(x, T(noise; theta)) - log q_theta(T(noise; theta))]
        = dT/d theta . d/dz [log p(x, z) - log q(z)]        the path, through the sample
        - d/d theta log q_theta(z) at fixed z               the score,

and the score has mean zero. What an estimator of this room makes of the second line, or of the part of the bound that is
known in closed form, is all that tells them apart. None dominates the others in variance: at the exact posterior the path
vanishes for every draw and the score does not, while for a flat likelihood the closed form leaves nothing to chance.

`f` is the log-weight of `estimators.objectives`. It holds a copy of `q`, and no derivative is taken of that: the two `q`
below are `dist`, differentiated or not. Plain `Pathwise` on such an `f` sees the sample move and that copy stay; where the
copy has the values of `dist`, which a bound means it to have, this is `StickingTheLanding`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractReparameterizable
from .objectives import AbstractLogWeight, AbstractRegularizedLogWeight
from .registration import ESTIMATORS


@ESTIMATORS.register("sticking-the-landing")
class StickingTheLanding(AbstractStatelessEstimator):
    r"""Sticking the landing: the path derivative of the evidence bound, without the score.

    With `noise` drawn, $z = T(\varepsilon)$ the event it becomes and $q_{\theta'}$ a copy of `dist` that is not
    differentiated,

    $$\hat g = \nabla_\theta \left[\log p(x, T(\varepsilon; \theta)) - \log q_{\theta'}(T(\varepsilon; \theta))\right].$$

    Unbiased for the gradient of the bound $E[f(z)]$: what is left out is the score of `dist`, which has mean zero.
    Without any variance where `dist` is the posterior, for then the bracket does not depend on the event; further away
    the score may be a control variate that helps: for a normal posterior and along `loc`, where `dist` has less than
    half of its variance. Needs a reparameterizable distribution and an `f` that reveals $\log p(x, z)$; one evaluation of
    $\log p(x, z)$ with its derivative.

    >>> from estimators import Normal
    >>> StickingTheLanding().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    The $q$ is `dist` itself, whatever copy `f` holds; where that copy is equal to `dist` this is `Pathwise` on `f`,
    estimate by estimate. For bounds of several samples the path derivative is biased, and this is the one of one sample.

    **References:** Roeder, Wu and Duvenaud, Sticking the landing: simple, lower-variance gradient estimators for
    variational inference, 2017, arXiv:1703.09194.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractLogWeight)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractLogWeight) -> Grads:
        noise = dist.noise(key)

        def along_the_path(d: Grads) -> jax.Array:
            z = d.reparameterize(noise)
            return f.log_joint(z) - dist.log_prob(z)

        return jax.grad(along_the_path)(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("total-derivative")
class TotalDerivative(AbstractStatelessEstimator):
    r"""The total derivative of the integrand of the evidence bound: the path derivative less the score.

    With `noise` drawn and $z = T(\varepsilon)$ the event it becomes,

    $$\hat g = \nabla_\theta \left[\log p(x, T(\varepsilon; \theta)) - \log q_\theta(T(\varepsilon; \theta))\right]
    = \hat g_{\mathrm{path}} - \nabla_\theta \log q_\theta(z).$$

    Unbiased for the gradient of the bound $E[f(z)]$. Where `dist` is the posterior it is minus the score of `dist`, whose
    variance is the Fisher information. Needs a reparameterizable distribution and an `f` that reveals $\log p(x, z)$;
    one evaluation of $\log p(x, z)$ with its derivative.

    >>> from estimators import Normal
    >>> TotalDerivative().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    What automatic differentiation makes of a bound written down as it stands. For a family of location and scale
    $\log q_\theta(T(\varepsilon; \theta))$ is $-\log \sigma$ and a term without parameters, so that this estimate and
    the one that differentiates the entropy of `dist` in closed form are one and the same, draw by draw; for other
    families they are not.

    **References:** Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114, where it is estimator A.
    Roeder, Wu and Duvenaud, Sticking the landing, 2017, arXiv:1703.09194, for the name and the two parts.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractLogWeight)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractLogWeight) -> Grads:
        noise = dist.noise(key)

        def along_both(d: Grads) -> jax.Array:
            z = d.reparameterize(noise)
            return f.log_joint(z) - d.log_prob(z)

        return jax.grad(along_both)(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("analytic-kl")
class AnalyticKL(AbstractStatelessEstimator):
    r"""The pathwise estimator of the expected log-likelihood, and the exact gradient of the divergence from the prior.

    With `noise` drawn and $z = T(\varepsilon)$ the event it becomes,

    $$\hat g = \nabla_\theta \log p(x \mid T(\varepsilon; \theta)) - \nabla_\theta\, \mathrm{KL}(q_\theta \| p).$$

    Unbiased for the gradient of the bound $E[f(z)]$. Its variance is that of the first term: none where the likelihood is
    flat, and some where `dist` is the posterior. Needs a reparameterizable distribution and an `f` with a prior from
    which the divergence has a closed form; one evaluation of $\log p(x \mid z)$ with its derivative.

    >>> from estimators import Normal
    >>> AnalyticKL().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    A problem that is asked for with `kl=analytic` adds the exact gradient itself and hands over the log-likelihood
    alone, so that any estimator can have this form of the bound; `Pathwise` on that is this estimator, draw by draw.

    **References:** Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114, where it is estimator B.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractRegularizedLogWeight)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractRegularizedLogWeight) -> Grads:
        noise = dist.noise(key)
        along_path = jax.grad(lambda d: f.log_likelihood(d.reparameterize(noise)))(dist)
        return jax.tree.map(jnp.subtract, along_path, jax.grad(f.divergence)(dist))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
