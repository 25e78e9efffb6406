r"""Objectives of the posterior, reached by self-normalised weights: wake-phi and the thermodynamic objective.

With `z_k` of `q` and `w_k = p(x, z_k) / q(z_k)`, an expectation under `pi_beta`, in proportion to `q^(1 - beta) p(x, .)^beta`,
is a mean over the samples with the weights `w_k^beta` divided by their sum. That division makes every estimator of this
room biased for a finite number of samples, by the order of its inverse. The objectives do not depend on the number,
which therefore belongs to the estimator.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .bounds import AbstractImportanceWeighted
from .bounds_pathwise import noises, path_weights
from .distributions import AbstractDistribution, AbstractFixedSupport, AbstractReparameterizable
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least


class InclusiveDivergence(AbstractImportanceWeighted):
    r"""$E_{p(z \mid x)}[\log q(z)]$, which is $-\mathrm{KL}(p(z \mid x) \,\|\, q)$ up to a constant.

    >>> InclusiveDivergence(lambda z: -jnp.sum(z**2)).arity
    1

    **References:** Bornschein and Bengio, Reweighted wake-sleep, 2015, arXiv:1406.2751.
    """

    log_joint: Objective

    @property
    def arity(self) -> int:
        return 1


class ThermodynamicObjective(AbstractImportanceWeighted):
    r"""The left Riemann sum of the thermodynamic integral, a lower bound on $\log p(x)$.

    For the nodes $0 = \beta_0 < \dots < \beta_{P - 1} < \beta_P = 1$, of which `betas` are the first $P$,

    $$\sum_{p < P} (\beta_{p + 1} - \beta_p)\, E_{\pi_{\beta_p}}[\log w], \qquad
    \pi_\beta(z) \propto q(z)^{1 - \beta}\, p(x, z)^\beta.$$

    One node, 0, is the evidence bound.

    >>> print(ThermodynamicObjective(lambda z: -jnp.sum(z**2), betas=[0.0, 0.25]).widths())
    [0.25 0.75]

    **References:** Masrani, Le and Wood, The thermodynamic variational objective, 2019, arXiv:1907.00031.
    """

    log_joint: Objective
    betas: Float[Array, "nodes"] = eqx.field(converter=as_floating)

    @property
    def arity(self) -> int:
        return 1

    def widths(self) -> Float[Array, "nodes"]:
        """The distance of each node from the next."""
        return jnp.diff(jnp.append(self.betas, 1.0))


@ESTIMATORS.register("rws-wake-phi")
class WakePhi(AbstractStatelessEstimator):
    r"""The wake-phi update of reweighted wake-sleep: scores of samples of `dist`, weighted by the posterior.

    $$\hat g = \sum_k v_k\, \nabla_\theta \log q(z_k), \qquad v_k = \frac{w_k}{\sum_j w_j}.$$

    Biased, for the weights are divided by their own sum: the bias is of the order `1 / num_samples`. The objective is
    `InclusiveDivergence`, $E_{p(z \mid x)}[\log q(z)]$, to be maximised, and not a bound on $\log p(x)$. Needs samples and
    `log_prob` only; `num_samples` evaluations of $\log p(x, z)$.

    >>> from estimators import Bernoulli
    >>> WakePhi(num_samples=5).evaluations(Bernoulli(logits=[0.0]))
    5

    **References:** Bornschein and Bengio, Reweighted wake-sleep, 2015, arXiv:1406.2751. Le, Kosiorek, Siddharth, Teh and
    Wood, Revisiting reweighted wake-sleep, 2018, arXiv:1805.10469.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, InclusiveDivergence)

    def __check_init__(self):
        require_at_least(self, "num_samples", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: InclusiveDivergence) -> Grads:
        zs = draw(key, dist, self.num_samples)
        return weighted_score(dist, zs, jax.nn.softmax(f.log_weights(dist, zs)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("rws-dreg")
class RWSDReG(AbstractStatelessEstimator):
    r"""The wake-phi update with its scores reparameterised (RWS-DReG).

    $$\hat g = \sum_k (v_k - v_k^2)\, \frac{\partial \log w_k}{\partial z_k}\, \nabla_\theta z_k, \qquad
    v_k = \frac{w_k}{\sum_j w_j}, \quad z_k = T(\varepsilon_k; \theta).$$

    Biased as `WakePhi` is, with the same mean: $v_k - v_k^2$ is the derivative of $v_k$ in $\log w_k$. It vanishes where
    `dist` is the posterior, as the gradient does. Needs a reparameterizable distribution and a differentiable $\log p(x, z)$;
    `num_samples` evaluations of that. The sign is that of $E_{p(z \mid x)}[\log q(z)]$, which is maximised.

    >>> from estimators import Normal
    >>> RWSDReG(num_samples=5).evaluations(Normal([0.0], [0.0]))
    5

    **References:** Tucker, Lawson, Gu and Maddison, Doubly reparameterized gradient estimators for Monte Carlo
    objectives, 2019, arXiv:1810.04152.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, InclusiveDivergence, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "num_samples", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: InclusiveDivergence) -> Grads:
        noise = noises(key, dist, self.num_samples)
        log_weights, pullback = jax.vjp(lambda d: path_weights(d, noise, dist, f), dist)
        share = jax.nn.softmax(log_weights)
        (grads,) = pullback(share - share**2)
        return grads

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("tvo")
class TVO(AbstractStatelessEstimator):
    r"""The covariance gradient of the thermodynamic variational objective (TVO), from one set of samples of `dist`.

    With $v_k$ in proportion to $w_k^{\beta_p}$ and $\overline{\log w}$ the mean under these shares, node $p$ adds

    $$\hat g_p = (\beta_{p + 1} - \beta_p) \sum_k v_k \left[ (1 - \beta_p) (\log w_k - \overline{\log w}) - 1 \right]
    \nabla_\theta \log q(z_k),$$

    for $\nabla E_{\pi_\beta}[\log w] = -E_{\pi_\beta}[\nabla \log q] + (1 - \beta)\, \mathrm{Cov}_{\pi_\beta}(\log w, \nabla \log q)$.

    Biased: means and covariances are self-normalised, with the sample's own mean inside. At $\beta = 0$ alone, the
    evidence bound, that makes it `(num_samples - 1) / num_samples` times the gradient on average. Needs samples and
    `log_prob` only; `num_samples` evaluations of $\log p(x, z)$, which all nodes share.

    >>> from estimators import Bernoulli
    >>> TVO(num_samples=5).evaluations(Bernoulli(logits=[0.0]))
    5

    **References:** Masrani, Le and Wood, The thermodynamic variational objective, 2019, arXiv:1907.00031.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, ThermodynamicObjective)

    def __check_init__(self):
        require_at_least(self, "num_samples", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: ThermodynamicObjective) -> Grads:
        zs = draw(key, dist, self.num_samples)
        log_weights = f.log_weights(dist, zs)

        def factors(beta: Float[Array, ""], width: Float[Array, ""]) -> Float[Array, "samples"]:
            share = jax.nn.softmax(beta * log_weights)
            return width * share * ((1 - beta) * (log_weights - jnp.vdot(share, log_weights)) - 1)

        dtype = log_weights.dtype
        each = jax.vmap(factors)(f.betas.astype(dtype), f.widths().astype(dtype))
        return weighted_score(dist, zs, jnp.sum(each, axis=0))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
