r"""MuProp: the score function with the objective's expansion about the mean event as control variate.

Let $\mu = E[x]$ be the mean event, a function of the leaves. Whatever the vector $v$,

$$E[v^\top (x - \mu)\, \nabla_\theta \log p(x)] = \nabla_\theta\, v^\top \mu(\theta),$$

since $E[x\, \nabla \log p(x)] = \nabla E[x]$ and the score has mean zero. So a linear control variate costs one
pullback of the mean: take it from `f`, and add its expectation's gradient back. With $v = f'(\mu)$ it is the
first-order Taylor expansion of `f` about $\mu$; without the linear term what is left is the baseline $f(\mu)$.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import AbstractDistribution, AbstractRelaxable
from .distributions.base import Event
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS


def through_the_mean(dist: Grads, slope: Event) -> Grads:
    """`slope` pulled back through the mean event: the gradient of `slope . mean(theta)`."""
    _, pullback = jax.vjp(lambda d: d.mean(), dist)
    return pullback(slope)[0]


@ESTIMATORS.register("muprop")
class MuProp(AbstractStatelessEstimator):
    r"""MuProp: the score function, minus the first-order Taylor expansion of `f` about the mean event.

    For a sample $x$ of `dist` with mean $\mu$,

    $$\hat g = [f(x) - f(\mu) - f'(\mu)^\top (x - \mu)]\, \nabla \log p(x)
    + f'(\mu)^\top \frac{\partial \mu}{\partial \theta}.$$

    Unbiased: the last term is the expectation of what the linear one takes away. For an affine `f` it is the gradient
    itself, sample by sample; for a quadratic one what is left of `f` is $\tfrac12 (x - \mu)^\top f'' (x - \mu)$. Needs
    a relaxable distribution (for its mean) and an `f` that is differentiable between its events; two evaluations of
    `f`, one of them at the mean with its derivative.

    >>> from estimators import Bernoulli
    >>> grads = MuProp().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum() + 7)
    >>> print(grads.logits)
    [0.5]

    The expansion is taken whole, with no coefficients before its terms and no learned baseline beside them. For a chain
    of layers the paper expands about a deterministic pass through all of them; here `dist` is one layer.

    **References:** Gu, Levine, Sutskever and Mnih, MuProp: unbiased backpropagation for stochastic neural networks,
    2016, arXiv:1511.05176.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs, mean = draw(key, dist, 1), dist.mean()
        value, slope = jax.value_and_grad(f)(mean)
        weights = jax.vmap(lambda x: f(x) - value - jnp.vdot(slope, x - mean))(xs)
        return jax.tree.map(jnp.add, weighted_score(dist, xs, weights), through_the_mean(dist, slope))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


@ESTIMATORS.register("simple-muprop")
class SimpleMuProp(AbstractStatelessEstimator):
    r"""MuProp without its linear term: the score function with the objective at the mean event as baseline.

    For a sample $x$ of `dist` with mean $\mu$,

    $$\hat g = (f(x) - f(\mu))\, \nabla \log p(x).$$

    Unbiased, because $f(\mu)$ does not depend on $x$. For independent variables and an `f` that is affine in each of
    them, $f(\mu) = E[f]$, and this is `ExactMeanBaseline`. Needs a relaxable distribution (for its mean) and an `f`
    that is defined between its events; two evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> SimpleMuProp().evaluations(Bernoulli(logits=[0.0]))
    2

    Published forms put a learned coefficient before $f(\mu)$ and add a learned baseline; here there is neither.

    **References:** Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, REBAR: low-variance, unbiased gradient estimates
    for discrete latent variable models, 2017, arXiv:1703.07370.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, 1)
        return weighted_score(dist, xs, jax.vmap(f)(xs) - f(dist.mean()))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2
