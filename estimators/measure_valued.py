"""Measure-valued gradients: the derivative of the law as a difference of two laws.

Along a scalar parameter `theta_i` the derivative of a law is a signed measure of total mass zero, so it is a multiple
of a difference of two laws, `d/d theta_i p = c_i (p_i^+ - p_i^-)`, and `d/d theta_i E[f(x)] = c_i (E[f(x^+)] -
E[f(x^-)])` with `x^+` and `x^-` drawn from them, in any coupling. Neither `f` nor `log p` is differentiated. Which laws
they are is for the distribution to know (`weak_derivative`).
"""

from typing import ClassVar

import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractWeaklyDifferentiable, Normal
from .objectives import Objective
from .registration import ESTIMATORS


def differences(weights: Grads, plus: Grads, minus: Grads, dist: Grads, f: Objective) -> Grads:
    """For each scalar parameter its weight times the difference of the values of `f` at its two draws."""

    def difference(weights: Float[Array, "..."], plus: Float[Array, "..."], minus: Float[Array, "..."]):
        events = (weights.size, *dist.event_shape)
        values = jax.vmap(f)(plus.reshape(events)) - jax.vmap(f)(minus.reshape(events))
        return weights * values.reshape(weights.shape)

    return jax.tree.map(difference, weights, plus, minus)


@ESTIMATORS.register("measure-valued")
class MeasureValued(AbstractStatelessEstimator):
    r"""The measure-valued (weak derivative) estimator.

    For each scalar parameter $\theta_i$, with weight $c_i$ and coupled draws $x_i^+$, $x_i^-$ from the weak derivative
    of `dist`,

    $$\hat g_i = c_i\, (f(x_i^+) - f(x_i^-)).$$

    Unbiased. Needs a weakly differentiable distribution; two evaluations of `f` for each scalar parameter, so its cost
    grows with their number where that of most estimators does not. All parameters share the draw of the variables that
    they leave alone, so the coordinates of one estimate are correlated.

    >>> from estimators import Bernoulli
    >>> dist = Bernoulli(logits=[0.0])
    >>> MeasureValued().evaluations(dist)
    2
    >>> grads = MeasureValued().gradient(jax.random.key(0), dist, lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]

    **References:** Pflug, Sampling derivatives of probabilities, 1989. Heidergott and Vazquez-Abad, Measure-valued
    differentiation for stochastic processes: the finite horizon case, 2000. Mohamed, Rosca, Figurnov and Mnih, Monte
    Carlo gradient estimation in machine learning, 2020, arXiv:1906.10652.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractWeaklyDifferentiable,)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        return differences(*dist.weak_derivative(key), dist, f)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 2 * sum(leaf.size for leaf in jax.tree.leaves(dist))


@ESTIMATORS.register("uncoupled-measure-valued")
class UncoupledMeasureValued(AbstractStatelessEstimator):
    r"""The measure-valued estimator with independent draws from the two laws.

    For each scalar parameter $\theta_i$, with weight $c_i$ and draws $x_i^+$ and $x_i^-$ from the weak derivative of
    `dist`, made of two independent keys,

    $$\hat g_i = c_i\, (f(x_i^+) - f(x_i^-)).$$

    Unbiased: the mean of a difference does not ask how its terms depend on each other. Its variance is the sum of those
    of the two terms, which stays where `f` is even about the mean and the coupled difference along it is zero; it is
    here to show what the coupling of `MeasureValued` is worth. Needs a `Normal`, which the published comparison is
    about; two evaluations of `f` for each scalar parameter.

    >>> from estimators import Normal
    >>> UncoupledMeasureValued().evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    4

    Nothing is shared between the two draws, neither what is random in the replaced variable nor the variables that a
    parameter leaves alone; all parameters share the two draws of those. For $(x - k)^2$ and one normal variable with
    mean $\mu$ and standard deviation $\sigma$, with $a = \mu - k$, the variances are $(8 / \pi - 2) a^2 + 4 \sigma^2 /
    \pi$ along $\mu$ and $16 a^2 + 8 \sigma^2$ along $\sigma$, where the coupled ones are $(16 / \pi - 4) a^2$ and $4
    a^2 + 4 \sigma^2$.

    **References:** Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine learning, 2020,
    arXiv:1906.10652.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal,)

    def gradient(self, key: PRNGKey, dist: Normal, f: Objective) -> Normal:
        key_plus, key_minus = jax.random.split(key)
        weights, plus, _ = dist.weak_derivative(key_plus)
        _, _, minus = dist.weak_derivative(key_minus)
        return differences(weights, plus, minus, dist, f)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 2 * sum(leaf.size for leaf in jax.tree.leaves(dist))
