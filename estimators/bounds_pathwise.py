r"""Bounds of importance weights, differentiated along the paths of their events.

With `z_k = T(noise_k; theta)` and `b_k = dB / d log w_k`, the total derivative of a bound has two parts,

    sum_k b_k d/dtheta log w_k = sum_k b_k (d log w_k / dz_k) (dz_k / dtheta) - sum_k b_k d/dtheta log q(z_k).

The second part has mean zero only for one sample. Its expectation is another pathwise gradient: for any smooth `c`,
`E[c(z_k) d/dtheta log q(z_k)] = E[(dc / dz_k) (dz_k / dtheta)]`, and as `b_k` depends on `z_k` through `log w_k`, that is
`b_kk (d log w_k / dz_k) (dz_k / dtheta)` with the second derivative `b_kk`. So `b_k - b_kk` in place of `b_k` gives the
whole gradient without a score in it.
"""

from typing import ClassVar

import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .bounds import AbstractImportanceWeighted, AbstractMultiSampleBound, LogWeights
from .distributions import AbstractDistribution, AbstractReparameterizable
from .objectives import AbstractDifferentiable
from .registration import ESTIMATORS

PATHWISE = (AbstractReparameterizable, AbstractMultiSampleBound, AbstractDifferentiable)
Noises = Float[Array, "samples ..."]


def noises(key: PRNGKey, dist: AbstractReparameterizable, number: int) -> Noises:
    """Independent noises, stacked."""
    return jax.vmap(dist.noise)(jax.random.split(key, number))


def path_weights(
    dist: AbstractReparameterizable, noise: Noises, frozen: AbstractDistribution, f: AbstractImportanceWeighted
) -> LogWeights:
    """The log-weights of the events that `noise` becomes under `dist`, with the density of `frozen` inside."""
    return f.log_weights(frozen, jax.vmap(dist.reparameterize)(noise))


@ESTIMATORS.register("bound-pathwise")
class BoundPathwise(AbstractStatelessEstimator):
    r"""The total pathwise derivative of a multi-sample bound (IWAE, for the importance-weighted one).

    For `f` a bound $E[B(\log w_1, \dots, \log w_K)]$ and $z_k = T(\varepsilon_k; \theta)$,

    $$\hat g = \nabla_\theta B(\log w_1, \dots, \log w_K) = \sum_k b_k\, \nabla_\theta \log w_k(z_k(\theta); \theta),$$

    where $b_k = \partial B / \partial \log w_k$ is the share $w_k / \sum_j w_j$ for the importance-weighted bound.

    Unbiased. Needs a reparameterizable distribution and a bound of a differentiable $\log p(x, z)$; one evaluation of the
    bound. Both appearances of the parameters are differentiated, the density of `dist` in the weights included; that
    part makes the signal-to-noise ratio fall as $K^{-1/2}$ for the importance-weighted bound.

    >>> from estimators import ImportanceWeightedBound, Normal
    >>> bound = ImportanceWeightedBound(lambda z: -jax.numpy.sum(z**2), num_samples=3)
    >>> BoundPathwise().gradient(jax.random.key(0), Normal([0.0], [0.0]), bound).loc.shape
    (1,)

    **References:** Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519. Rainforth
    et al., Tighter variational bounds are not necessarily better, 2018, arXiv:1802.04537.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = PATHWISE

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        noise = noises(key, dist, f.num_samples)
        return jax.grad(lambda d: f.value(path_weights(d, noise, d, f)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("bound-sticking-the-landing")
class BoundStickingTheLanding(AbstractStatelessEstimator):
    r"""The path derivative of a multi-sample bound, with the parameters inside the weights held fixed.

    $$\hat g = \sum_k b_k\, \frac{\partial \log w_k}{\partial z_k}\, \nabla_\theta z_k, \qquad
    b_k = \frac{\partial B}{\partial \log w_k}.$$

    Biased for more than one sample: what it leaves out has the mean $-E[\sum_k b_k \nabla_\theta \log q(z_k)]$, which is
    zero for one sample and, for the importance-weighted bound of many, tends to minus the gradient of
    $E_{p(z \mid x)}[\log q(z)]$. Needs what `BoundPathwise` needs; one evaluation of the bound. It vanishes where `dist`
    is the posterior, as the gradient does.

    >>> from estimators import Normal
    >>> BoundStickingTheLanding().evaluations(Normal([0.0], [0.0]))
    1

    **References:** Roeder, Wu and Duvenaud, Sticking the landing: simple, lower-variance gradient estimators for
    variational inference, 2017, arXiv:1703.09194. Tucker, Lawson, Gu and Maddison, Doubly reparameterized gradient
    estimators for Monte Carlo objectives, 2019, arXiv:1810.04152 (the bias).
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = PATHWISE

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        noise = noises(key, dist, f.num_samples)
        return jax.grad(lambda d: f.value(path_weights(d, noise, dist, f)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("bound-dreg")
class BoundDReG(AbstractStatelessEstimator):
    r"""The doubly reparameterised gradient (DReG) of a multi-sample bound.

    $$\hat g = \sum_k (b_k - b_{kk})\, \frac{\partial \log w_k}{\partial z_k}\, \nabla_\theta z_k, \qquad
    b_k = \frac{\partial B}{\partial \log w_k}, \quad b_{kk} = \frac{\partial^2 B}{\partial (\log w_k)^2}.$$

    With the shares $v_k = w_k / \sum_j w_j$ the factor is $v_k^2$ for `ImportanceWeightedBound` (IWAE-DReG), with
    $v_k \propto w_k^{1 - \alpha}$ it is $\alpha v_k + (1 - \alpha) v_k^2$ for `RenyiBound`, and for `JackknifeBound`
    (JVI-DReG) it is the combination of such squares that the bound is of its parts.

    Unbiased: what `BoundStickingTheLanding` leaves out is reparameterised a second time. Needs what `BoundPathwise`
    needs; one evaluation of the bound. The density of `dist` inside the weights is held fixed, and the factors too. For
    one sample it is `BoundStickingTheLanding`.

    >>> from estimators import Normal
    >>> BoundDReG().evaluations(Normal([0.0], [0.0]))
    1

    **References:** Tucker, Lawson, Gu and Maddison, Doubly reparameterized gradient estimators for Monte Carlo
    objectives, 2019, arXiv:1810.04152.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = PATHWISE

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractMultiSampleBound) -> Grads:
        noise = noises(key, dist, f.num_samples)
        log_weights, pullback = jax.vjp(lambda d: path_weights(d, noise, dist, f), dist)
        (grads,) = pullback(f.slopes(log_weights) - f.curvature(log_weights))
        return grads

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
