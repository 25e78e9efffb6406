r"""Parameters of the model: the gradient of a log-evidence in those of a prior, by samples of a proposal.

With a prior `p`, the `dist` of an estimator, a likelihood `exp(l(z))` and a proposal `q`, the weights
`w(z) = p(z) exp(l(z)) / q(z)` have the mean `E_p[exp(l(z))]`, the evidence. The gradient of its logarithm,

    d/dtheta log E_p[exp(l(z))] = E_{p(z | x)}[d/dtheta log p(z)],

is not an expectation under anything that can be sampled. A bound of `K` weights has a gradient that can, and what tells
that from the gradient of the evidence is the bias of the estimators of this room. The proposal is held fixed.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .bounds import JackknifeBound, LogWeights
from .distributions import AbstractDistribution, Normal
from .objectives import AbstractDifferentiable, AbstractFunctional, Objective
from .registration import ESTIMATORS
from .validation import require_at_least

Events = Float[Array, "samples ..."]


class LogEvidence(AbstractFunctional):
    r"""$\log E_p[\exp(\ell(z))]$, a functional of the prior $p$; $\ell$ is `log_likelihood`, for the datum it is about.

    `proposal` says where estimators draw their samples, and is no part of the value.

    >>> LogEvidence(lambda z: -(z**2).sum(), Normal([0.0], [0.0])).arity
    1
    """

    log_likelihood: Objective
    proposal: AbstractDistribution

    @property
    def inner(self) -> Objective:
        return self.log_likelihood

    @property
    def arity(self) -> int:
        return 1

    def proposal_beside(self, prior: AbstractDistribution) -> AbstractDistribution:
        """The proposal in the precision of `prior`."""
        dtype = jnp.result_type(*jax.tree.leaves(prior))
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self.proposal)


def _log_weights(
    prior: AbstractDistribution, proposal: AbstractDistribution, zs: Events, log_likelihoods: LogWeights
) -> LogWeights:
    """`log p(z) + l(z) - log q(z)` for each of the events."""
    return jax.vmap(prior.log_prob)(zs) + log_likelihoods - jax.vmap(proposal.log_prob)(zs)


def _weighted(key: PRNGKey, dist: AbstractDistribution, f: LogEvidence, number: int) -> tuple[Events, LogWeights]:
    """Samples of the proposal and their log-weights."""
    proposal = f.proposal_beside(dist)
    zs = draw(key, proposal, number)
    return zs, _log_weights(dist, proposal, zs, jax.vmap(f.log_likelihood)(zs))


@ESTIMATORS.register("evidence-importance-weighted")
class ImportanceWeightedEvidence(AbstractStatelessEstimator):
    r"""The gradient of the importance-weighted bound in the parameters of the prior (wake-theta).

    For samples $z_k$ of the proposal and the shares $v_k = w_k / \sum_j w_j$,

    $$\hat g = \sum_k v_k\, \nabla_\theta \log p(z_k).$$

    Biased for the gradient of the log-evidence by the order `1 / num_samples`; it is unbiased for that of the bound.
    Needs `log_prob` of the prior; `num_samples` evaluations of the likelihood.

    >>> ImportanceWeightedEvidence(num_samples=8).evaluations(Normal([0.0], [0.0]))
    8

    **References:** Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519. Bornschein
    and Bengio, Reweighted wake-sleep, 2015, arXiv:1406.2751.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (LogEvidence,)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: LogEvidence) -> Grads:
        zs, log_weights = _weighted(key, dist, f, self.num_samples)
        return weighted_score(dist, zs, jax.nn.softmax(log_weights))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("evidence-jackknife")
class JackknifeEvidence(AbstractStatelessEstimator):
    r"""The gradient of the first-order jackknife of the importance-weighted bound in the parameters of the prior (JVI).

    With the shares $v_k$ of all weights and $v_k^{(-j)}$ of those without the weight $j$,

    $$\hat g = \sum_k \Big( K v_k - \frac{K - 1}{K} \sum_{j \ne k} v_k^{(-j)} \Big) \nabla_\theta \log p(z_k).$$

    Biased for the gradient of the log-evidence by the order `1 / num_samples ** 2`. Needs `log_prob` of the prior;
    `num_samples` evaluations of the likelihood.

    >>> JackknifeEvidence(num_samples=8).evaluations(Normal([0.0], [0.0]))
    8

    **References:** Nowozin, Debiasing evidence approximations: on importance-weighted autoencoders and jackknife
    variational inference, 2018.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (LogEvidence,)

    def __check_init__(self):
        require_at_least(self, "num_samples", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: LogEvidence) -> Grads:
        zs, log_weights = _weighted(key, dist, f, self.num_samples)
        return weighted_score(dist, zs, JackknifeBound(f.log_likelihood, self.num_samples).slopes(log_weights))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("evidence-gdreg")
class GDReG(AbstractStatelessEstimator):
    r"""The generalised doubly reparameterised gradient: the scores of the prior at samples of the proposal, reparameterised.

    Let $z_k = T(\tilde\varepsilon_k; \theta)$, $T$ the path of the *prior* and $\tilde\varepsilon_k$ the noise that leads
    to the sample $z_k$ of the proposal. With the shares $v_k = w_k / \sum_j w_j$,

    $$\hat g = \sum_k \left( v_k\, \frac{\partial \ell(z_k)}{\partial z_k} - v_k^2\, \frac{\partial \log w_k}{\partial z_k}
    \right) \nabla_\theta T(\tilde\varepsilon_k; \theta).$$

    For any smooth $c$, $E_q[c\, \nabla_\theta \log p] = E_p[(c q / p)\, \nabla_\theta \log p]$ is the mean under $p$ of
    $\partial (c q / p) / \partial z$ times $\nabla_\theta T$, and so, back under $q$, that of $\partial c / \partial z + c\,
    \partial (\log q - \log p) / \partial z$; $c = v_k$ gives the formula.

    Biased as `ImportanceWeightedEvidence` is, with the same mean. Needs a `Normal` prior, whose path is inverted, and a
    differentiable likelihood; `num_samples` evaluations of that.

    >>> GDReG(num_samples=8).evaluations(Normal([0.0], [0.0]))
    8

    **References:** Bauer and Mnih, Generalized doubly reparameterized gradient estimators, 2021, arXiv:2101.11046.
    """

    num_samples: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Normal, LogEvidence, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def gradient(self, key: PRNGKey, dist: Normal, f: LogEvidence) -> Normal:
        proposal = f.proposal_beside(dist)
        zs = draw(key, proposal, self.num_samples)
        noise = (zs - dist.loc[None]) / dist.scale[None]

        def path(d: Normal) -> tuple[LogWeights, LogWeights]:
            moved = jax.vmap(d.reparameterize)(noise)
            log_likelihoods = jax.vmap(f.log_likelihood)(moved)
            return log_likelihoods, _log_weights(dist, proposal, moved, log_likelihoods)

        (_, log_weights), pullback = jax.vjp(path, dist)
        share = jax.nn.softmax(log_weights)
        (grads,) = pullback((share, -(share**2)))
        return grads

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
