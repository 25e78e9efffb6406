r"""Control variates of a sum that integrate which terms were drawn, and with them the noise or not.

As in `subsampled`, an estimate sees the terms $S$, `b` of `N`, at one event. Let $q_n$ be the second-order expansion of
$f_n$ about the mean of a law with the leaves $\bar\theta$, the *snapshot*, and

$$h_n(\varepsilon) = \nabla_{\bar\theta}\, q_n(T(\varepsilon; \bar\theta)), \qquad \bar h_n = E\, h_n(\varepsilon),$$

the second of which is known. Three control variates can be made of these, to be added for each term drawn:

    of the noise             mean h_n - h_n(e)                          `MonteCarloControlVariate`, of `subsampled`
    of the terms             1/N sum_m mean h_m - mean h_n              `IncrementalControlVariate`
    of both                  1/N sum_m mean h_m - h_n(e)                `JointControlVariate`

Each has mean zero over what it is of, and the third is the sum of the others. The sum over all `m` takes all terms, but
at parameters that stand still while it is used, so that it is made once and kept: after a *pass* over the terms, a few
of them at each adaptation, in their order. Until the pass is over a table stands for it that holds $\bar\theta$ for the
terms seen so far, and nothing for the others: $q_n = 0$. The sum and the terms that it is compared with are then those
of the table, whatever it holds, so that the mean of an estimate is the gradient from the first step on.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .base import Grads, PRNGKey
from .distributions import AbstractDistribution
from .distributions.base import Noise, Scalar, precision
from .objectives import AbstractSum, Objective
from .registration import ESTIMATORS
from .subsampled import EXPANDED, AbstractSubsampled, path, weighted_terms
from .taylor import expansion


class Snapshot(eqx.Module):
    r"""The law of $\bar\theta$, how many terms the pass has seen, and the sum of $\bar h_n$ over these."""

    dist: AbstractDistribution
    seen: Int[Array, ""]
    total: AbstractDistribution


def integrated_slope(dist: Grads, f: Objective) -> Grads:
    r"""$\bar h$ of the expansion of `f` about the mean of `dist`."""
    return jax.grad(expansion(f, dist.mean()).expectation)(dist)


def sampled_slope(dist: Grads, f: Objective, noise: Noise) -> Grads:
    r"""$h(\varepsilon)$ of the expansion of `f` about the mean of `dist`, by one Hessian-vector product."""
    centre = dist.mean()
    x, pull_back = jax.vjp(lambda d: d.reparameterize(noise), dist)
    slope, product = jax.jvp(jax.grad(f), (centre,), (x - centre,))
    return pull_back(slope + product)[0]


class AbstractIncremental(AbstractSubsampled):
    """The doubly stochastic estimator, less what the table says of the terms that are drawn, plus what it says of all."""

    @abstractmethod
    def told(self, dist: Grads, f: Objective, noise: Noise) -> Grads:
        """What the table says of the part `f` of the sum, with the snapshot `dist`."""

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> Snapshot:
        del key
        return Snapshot(dist, jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, dist))

    def estimate(
        self, key: PRNGKey, state: Snapshot, dist: Grads, f: AbstractSum
    ) -> tuple[Grads, tuple[Grads, Scalar]]:
        key_noise, key_terms = jax.random.split(key)
        noise, terms = dist.noise(key_noise), self.drawn(key_terms, f)
        here = path(dist, weighted_terms(f, terms, self.scale(f)), noise)
        weights = jnp.where(terms < state.seen, self.scale(f), 0).astype(precision(dist))
        told = self.told(state.dist, weighted_terms(f, terms, weights), noise)
        return jax.tree.map(lambda g, h, total: g - h + total, here, told, state.total), self.next(state, f)

    def next(self, state: Snapshot, f: AbstractSum) -> tuple[Grads, Scalar]:
        r"""The sum of $\bar h_n$ over the next terms of the pass, and how many they are: none when it is over."""
        terms = state.seen + jnp.arange(self.batch)
        fresh = (terms < f.terms).astype(precision(state.dist))
        part = weighted_terms(f, jnp.minimum(terms, f.terms - 1), fresh)
        return integrated_slope(state.dist, part), jnp.sum(fresh)

    def adapt(self, state: Snapshot, stats: tuple[Grads, Scalar]) -> Snapshot:
        # All estimates made with one state go on with the same terms, so that the average of their statistics is theirs.
        slope, count = stats
        seen = state.seen + jnp.round(count).astype(state.seen.dtype)
        return Snapshot(state.dist, seen, jax.tree.map(jnp.add, state.total, slope))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 3 * self.batch


@ESTIMATORS.register("incremental-control-variate")
class IncrementalControlVariate(AbstractIncremental):
    r"""The doubly stochastic estimator with a control variate of the draw of the terms, and none of the noise.

    With $S$ and $x = T(\varepsilon; \theta)$ as for `DoublyStochastic`, a snapshot $\bar\theta$, and $q_n$ the
    second-order Taylor expansion of $f_n$ about its mean, held fixed,

    $$\hat g = \frac{\texttt{terms}}{\texttt{batch}} \sum_{n \in S} \left(\nabla_\theta f_n(x) - \bar h_n\right) +
    \sum_m \bar h_m, \qquad \bar h_n = \nabla_{\bar\theta} E[q_n(T(\varepsilon; \bar\theta))].$$

    Unbiased, whatever $\bar\theta$ and whichever terms have been seen: those that have not are zero in both sums. Where
    the snapshot is `dist` and the terms are quadratic functions, the Monte Carlo part of the variance is all that is
    left, and nowhere is that part changed. Needs a reparameterizable distribution of uncorrelated variables with known
    moments, and a sum that is differentiable twice; three evaluations of `batch` terms with their derivatives, one of
    them for the pass, and for two of them as many Hessian-vector products as an event has numbers.

    >>> from estimators import Normal
    >>> IncrementalControlVariate(batch=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    12

    Incremental gradients know a term's gradient; here the gradient of its expectation is not known, and that of its
    expansion stands for it. The pass is that of SVRG, one snapshot for all terms: it takes `terms / batch` adaptations,
    rounded up, and whoever moves the leaves of `dist` begins another with `init`. SAGA, which keeps parameters of its
    own for every term, is the same while the leaves stand still.

    **References:** Johnson and Zhang, Accelerating stochastic gradient descent using predictive variance reduction,
    2013. Defazio, Bach and Lacoste-Julien, SAGA: a fast incremental gradient method with support for non-strongly
    convex composite objectives, 2014, arXiv:1407.0202.
    """

    batch: int = eqx.field(static=True, default=8)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = EXPANDED

    def told(self, dist: Grads, f: Objective, noise: Noise) -> Grads:
        del noise
        return integrated_slope(dist, f)


@ESTIMATORS.register("joint-control-variate")
class JointControlVariate(AbstractIncremental):
    r"""The doubly stochastic estimator with one control variate of the draw of the terms and of the noise.

    With $S$ and $x = T(\varepsilon; \theta)$ as for `DoublyStochastic`, a snapshot $\bar\theta$, and $q_n$ the
    second-order Taylor expansion of $f_n$ about its mean, held fixed,

    $$\hat g = \frac{\texttt{terms}}{\texttt{batch}} \sum_{n \in S} \left(\nabla_\theta f_n(x) - \nabla_{\bar\theta}\,
    q_n(T(\varepsilon; \bar\theta))\right) + \sum_m \nabla_{\bar\theta} E[q_m(T(\varepsilon; \bar\theta))].$$

    Unbiased, whatever $\bar\theta$ and whichever terms have been seen: those that have not are zero in both sums. Where
    the snapshot is `dist` and the terms are quadratic functions, every estimate is the gradient. Needs a
    reparameterizable distribution of uncorrelated variables with known moments, and a sum that is differentiable twice;
    three evaluations of `batch` terms with their derivatives and one Hessian-vector product, one of the three for the
    pass, with as many products as an event has numbers.

    >>> from estimators import Normal
    >>> JointControlVariate(batch=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    12

    The control variate is the paper's, with coefficient one, and a general set $S$ in the place of one term. The paper
    keeps parameters $\bar\theta_n$ for every term, those of the step at which it was last drawn. Here one snapshot
    serves all, as in SVRG, so that what is kept does not grow with the number of terms: a pass over them takes `terms /
    batch` adaptations, rounded up, and whoever moves the leaves of `dist` begins another with `init`. While the leaves
    stand still the two are the same once all terms have been seen.

    **References:** Wang, Geffner and Domke, Joint control variate for faster black-box variational inference, 2024,
    arXiv:2210.07290. Johnson and Zhang, Accelerating stochastic gradient descent using predictive variance reduction,
    2013, for the pass.
    """

    batch: int = eqx.field(static=True, default=8)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = EXPANDED

    def told(self, dist: Grads, f: Objective, noise: Noise) -> Grads:
        return sampled_slope(dist, f, noise)
