r"""Stochastic triples: the derivative of a random program as a rare jump, and its weight.

As a parameter grows by $\varepsilon$, a discrete variable drawn through its inverse distribution function stays as it is
but with a probability $w \varepsilon + o(\varepsilon)$, with which it jumps to a neighbouring value. So

$$\frac{\partial}{\partial\theta} E[f(x)] = E\big[w(x)\, (f(y) - f(x))\big],$$

$y$ the event after the jump. The triple is $x$, the weight $w$ with the alternative $y$, and the derivative of the value
itself, which is zero for a discrete variable. Where probability flows upwards, $x$ jumps to its next value with the
weight `rise`; where it flows downwards, to the one before with the weight `fall`.

A program of many variables has many alternatives. *Pruning* keeps one of them, drawn with probability in proportion to
its weight, which then carries the weight of all.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractOrdered
from .distributions.base import Event
from .go import times
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("stochastic-triples")
class StochasticTriples(AbstractStatelessEstimator):
    r"""Stochastic triples with one alternative event, kept by pruning.

    For a sample $x$ of `dist`, let $w_{a j} \ge 0$ be the weight with which the growth of the parameter $\theta_j$ alone
    makes $x$ jump to the alternative $y_a$ (one variable moved to its next value, or to the one before), and
    $w_a = \sum_j w_{a j}$. With $a$ drawn with probability $w_a / \sum_b w_b$,

    $$\hat g_j = \frac{w_{a j}}{w_a} \sum_b w_b\; (f(y_a) - f(x)).$$

    Unbiased: given $x$ the mean is $\sum_a w_{a j} (f(y_a) - f(x))$. Needs independent variables with an order; two
    evaluations of `f` however many variables there are, at the price of a variance that grows with their number. If no
    parameter makes $x$ jump, the estimate is zero.

    >>> from estimators import Bernoulli
    >>> StochasticTriples().evaluations(Bernoulli(logits=[0.0, 1.0]))
    2

    The paper's form is a derivative along one direction; here it is that along all parameters growing together, told
    apart by parameter, so that the sum of the coordinates is the paper's estimate along that direction. All derivatives
    are from the right: the jumps are those of a growing parameter. For one Bernoulli variable $\hat g$ is $p\, (f(1) -
    f(0))$ if $x = 0$ and else zero; derivatives from the left, or the mean of both sides, make other estimators. So
    does the paper's smoothing, which is biased.

    **References:** Arya, Schauer, Schäfer and Rackauckas, Automatic differentiation of programs with discrete
    randomness, 2022, arXiv:2210.08572.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractOrdered,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        key_x, key_alternative = jax.random.split(key)
        x = dist.sample(key_x)
        up, down = jumps(dist, x)
        weights = jnp.concatenate([_by_variable(up), _by_variable(down)])
        chosen = jax.random.categorical(key_alternative, jnp.log(weights))
        alternatives = jnp.stack([dist.neighbours(x, 1), dist.neighbours(x, -1)]).reshape(-1, *x.shape)
        difference = f(alternatives[chosen]) - f(x)
        # Where no weight is positive, what was drawn means nothing, and all weights are zero.
        share = jnp.sum(weights) / jnp.where(weights[chosen] > 0, weights[chosen], 1.0)
        factors = jnp.where(jnp.arange(weights.size) == chosen, share * difference, 0.0).reshape(2, -1)
        return jax.tree.map(jnp.add, times(up, factors[0]), times(down, factors[1]))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


def jumps(dist: Grads, x: Event) -> tuple[Grads, Grads]:
    """The weights, for each scalar parameter, of the jumps of its variable to the next value and to the one before."""
    return tuple(jax.tree.map(lambda rate: jnp.maximum(rate, 0.0), rates) for rates in (dist.rise(x), dist.fall(x)))


def _by_variable(weights: AbstractOrdered) -> Float[Array, "variables"]:
    """The sum over the parameters of each variable."""
    first = len(weights.variables)
    return sum(jnp.sum(leaf, axis=tuple(range(first, leaf.ndim))).ravel() for leaf in jax.tree.leaves(weights))
