"""The score function: gradients from values of `f` alone.

`d/d theta E[f(x)] = E[f(x) d/d theta log p(x)]`, and since the score has mean zero, any baseline independent of the
sample may be taken from `f(x)` without bias. Both rest on a support that does not move with the parameters
(`AbstractFixedSupport`): nothing enters at its edges then. What goes into that baseline is all that tells the estimators
of this room apart; the ones with a baseline learned along the way live in `baselines`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import AbstractDistribution, AbstractFixedSupport
from .distributions.base import Noise
from .noise_driven import AbstractNoiseDriven
from .objectives import Objective
from .registration import ESTIMATORS


@ESTIMATORS.register("score-function")
class ScoreFunction(AbstractNoiseDriven):
    r"""The score-function (REINFORCE, likelihood-ratio) estimator with no baseline.

    For samples $x_1, \dots, x_n$ of `dist`,

    $$\hat g = \frac1n \sum_i f(x_i)\, \nabla \log p(x_i).$$

    Unbiased. Needs `log_prob` and a fixed support; `num_samples` evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> ScoreFunction().evaluations(Bernoulli(logits=[0.0]))
    1

    **References:** Glynn, Likelihood ratio gradient estimation for stochastic systems, 1990. Williams, Simple
    statistical gradient-following algorithms for connectionist reinforcement learning, 1992.
    """

    num_samples: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        if self.num_samples < 1:
            raise ValueError(f"`ScoreFunction` needs `num_samples >= 1`, got {self.num_samples}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, self.num_samples)
        return weighted_score(dist, xs, jax.vmap(f)(xs) / self.num_samples)

    def from_noise(self, noise: Noise, dist: Grads, f: Objective) -> Grads:
        x = dist.transform(noise)
        return weighted_score(dist, x[None], f(x)[None])

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("leave-one-out")
class LeaveOneOut(AbstractStatelessEstimator):
    r"""The score function with the mean of the other samples as baseline (RLOO, VIMCO's relative for `E[f]`).

    For samples $x_1, \dots, x_n$ of `dist`, with $\bar f$ the mean of $f(x_i)$,

    $$\hat g = \frac{1}{n - 1} \sum_i (f(x_i) - \bar f)\, \nabla \log p(x_i),$$

    the sample covariance of `f` and the score. Unbiased: $f(x_i) - \bar f$ is $(n - 1) / n$ times the difference from
    the mean of the others, and the factor is undone. Needs `log_prob` and a fixed support; `num_samples` evaluations of
    `f`.

    >>> from estimators import Bernoulli
    >>> LeaveOneOut(num_samples=4).evaluations(Bernoulli(logits=[0.0]))
    4

    **References:** Salimans and Knowles, On using control variates with stochastic approximation for variational Bayes,
    2014, arXiv:1401.1022. Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free!, 2019.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        if self.num_samples < 2:
            raise ValueError(
                f"`LeaveOneOut` needs `num_samples >= 2`, got {self.num_samples}; use `ScoreFunction` for a single sample."
            )

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, self.num_samples)
        values = jax.vmap(f)(xs)
        return weighted_score(dist, xs, (values - jnp.mean(values)) / (self.num_samples - 1))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
