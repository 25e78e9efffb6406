"""Local expectations: each variable summed over its own values, the others as they were drawn.

If the variables of an event are independent, the derivative of the law splits into one term for each of them,
`d/d theta E[f(x)] = sum_i E[sum_c d/d theta p_i(c) f(x with x_i = c)]`, and the inner sum needs no sample of `x_i`. So
what a variable itself contributes to the noise is integrated out, at the price of evaluating `f` at all of its values.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractFactorized
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("local-expectation")
class LocalExpectation(AbstractStatelessEstimator):
    r"""Local expectation gradients.

    For one sample $x$ of `dist`, whose variable $i$ takes the value $c$ with probability $p_i(c)$,

    $$\hat g = \sum_i \sum_c \nabla p_i(c)\, f(x_1, \dots, x_{i-1}, c, x_{i+1}, \dots).$$

    Unbiased: the part of variable $i$ is the conditional expectation of the score function's given the other
    variables, so its variance is at most that of `ScoreFunction` in every coordinate. Exact for one variable, and for a
    sum of functions of one variable each. Needs a factorised distribution; one evaluation of `f` for each value of each
    variable.

    >>> from estimators import Bernoulli, Categorical
    >>> LocalExpectation().evaluations(Bernoulli(logits=[0.0, 1.0, 2.0]))
    6
    >>> LocalExpectation().evaluations(Categorical(logits=jnp.zeros((2, 3))))
    6
    >>> grads = LocalExpectation().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]

    All variables share one draw of the others, so the coordinates of an estimate are correlated. The value that was
    drawn is among those summed, and `f` is evaluated there once for each variable: the count is that of all values. For
    Bernoulli variables this is `MeasureValued`, estimate by estimate.

    **References:** Titsias and Lázaro-Gredilla, Local expectation gradients for black box variational inference, 2015,
    arXiv:1503.01494.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFactorized,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        events = dist.replacements(dist.sample(key))
        values = jax.vmap(jax.vmap(f))(events)
        return jax.grad(lambda d: jnp.vdot(values, d.marginals()))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return dist.marginals().size
