r"""Statistics of a group of samples: what is subtracted, divided by or differentiated is estimated from several draws.

With $f_k$ the values and $s_k = \nabla_\theta \log p(x_k)$ the scores of independent samples, `LeaveOneOut` is the
sample covariance of the two. Here a standard deviation divides it (which costs the unbiasedness, for a group's own
deviation depends on its samples), the coefficient of a control variate is a ratio of covariances (which keeps it, as
long as they are those of other samples), and the covariance is found by differentiating a variance.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, AbstractStatelessEstimator, Grads, PRNGKey, draw, score, weighted_score
from .distributions import AbstractDistribution, AbstractFixedSupport
from .distributions.base import as_floating
from .objectives import AbstractLogWeight, Objective
from .registration import ESTIMATORS
from .validation import require_positive


def _require_at_least(estimator: AbstractEstimator, name: str, least: int, why: str) -> None:
    if getattr(estimator, name) < least:
        given = getattr(estimator, name)
        raise ValueError(f"`{type(estimator).__name__}` needs `{name} >= {least}`, got {given}; {why}.")


@ESTIMATORS.register("group-normalized-advantage")
class GroupNormalizedAdvantage(AbstractStatelessEstimator):
    r"""The score function with values standardised within the group of samples (the advantage of GRPO).

    For samples $x_1, \dots, x_n$ of `dist`, $\bar f$ the mean of $f(x_i)$ and $\epsilon$ the `epsilon`,

    $$\hat g = \frac1n \sum_i \frac{f(x_i) - \bar f}{\sigma + \epsilon}\, \nabla \log p(x_i), \qquad
    \sigma^2 = \frac{1}{n - 1} \sum_i (f(x_i) - \bar f)^2.$$

    Biased: $\sigma$ depends on the samples, so even the direction of the mean is not that of the gradient. An
    $\epsilon$ aside, a multiple of `f` gives the same estimate, and the size of the gradient is lost. For $n = 2$ the
    mean on one Bernoulli variable is $p (1 - p)\, \mathrm{sign}(f(1) - f(0)) / \sqrt 2$. Needs `log_prob` and a fixed
    support; `num_samples` evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> GroupNormalizedAdvantage(num_samples=4).evaluations(Bernoulli(logits=[0.0]))
    4

    The standard deviation divides by $n - 1$, as the defaults of common libraries do; the paper does not say. Its own
    sample is in the mean, and no $n / (n - 1)$ undoes that: this is $(n - 1) / n$ times `LeaveOneOut`, divided by
    $\sigma + \epsilon$. A group of equal values gives zero. The clipped ratio and the penalty of the paper's objective
    belong to its training loop and are not here.

    **References:** Shao et al., DeepSeekMath: pushing the limits of mathematical reasoning in open language models,
    2024, arXiv:2402.03300.
    """

    num_samples: int = eqx.field(static=True, default=4)
    epsilon: Float[Array, ""] = eqx.field(converter=as_floating, default=1e-6)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        _require_at_least(self, "num_samples", 2, "one value has no spread")
        require_positive(self, "epsilon")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, self.num_samples)
        values = jax.vmap(f)(xs)
        # About the first value equal ones are zero; about their mean a rounding error would be divided by itself.
        values = values - values[0]
        scale = jnp.std(values, ddof=1) + self.epsilon.astype(values.dtype)
        return weighted_score(dist, xs, (values - jnp.mean(values)) / (scale * self.num_samples))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("estimated-coefficient")
class EstimatedCoefficient(AbstractStatelessEstimator):
    r"""The score function with the score as control variate, its coefficient estimated from other samples.

    For samples $x_1, \dots, x_n$ of `dist` with scores $s_k = \nabla \log p(x_k)$, and for each parameter $i$,

    $$\hat g_i = \frac1n \sum_k (f(x_k) - a_i)\, s_{k,i}, \qquad
    a_i = \frac{\widehat{\mathrm{Cov}}(f s_i, s_i)}{\widehat{\mathrm{Var}}(s_i)},$$

    where covariance and variance are those of `num_pilots` further samples, and $a_i = 0$ if their scores are equal.

    Unbiased, because the pilots are independent of the samples; with the samples' own coefficient it would not be. Few
    pilots make a noisy coefficient, which can be worse than none. Needs `log_prob` and a fixed support;
    `num_samples + num_pilots` evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> EstimatedCoefficient(num_samples=1, num_pilots=3).evaluations(Bernoulli(logits=[0.0]))
    4

    This is the control variate of black-box variational inference with one coefficient for each parameter; the paper
    has one for each latent variable, with both sums over its parameters, and does not say that the samples are fresh.
    There is no $\epsilon$ in the denominator: the estimate is equivariant to the scale of `f`.

    **References:** Ranganath, Gerrish and Blei, Black box variational inference, 2014, arXiv:1401.0118.
    """

    num_samples: int = eqx.field(static=True, default=1)
    num_pilots: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport,)

    def __check_init__(self):
        _require_at_least(self, "num_samples", 1, "the pilots are for the coefficient only")
        _require_at_least(self, "num_pilots", 2, "a covariance takes two")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        key_samples, key_pilots = jax.random.split(key)
        coefficient = self._coefficient(key_pilots, dist, f)
        xs = draw(key_samples, dist, self.num_samples)
        values = jax.vmap(f)(xs) / self.num_samples
        plain = weighted_score(dist, xs, values)
        scores = weighted_score(dist, xs, jnp.full_like(values, 1 / self.num_samples))
        return jax.tree.map(lambda g, a, s: g - a * s, plain, coefficient, scores)

    def _coefficient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs = draw(key, dist, self.num_pilots)
        values, scores = jax.vmap(f)(xs), jax.vmap(lambda x: score(dist, x))(xs)
        return jax.tree.map(lambda s: _regression(jax.vmap(jnp.multiply)(values.astype(s.dtype), s), s), scores)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples + self.num_pilots


def _regression(y: Float[Array, "samples ..."], x: Float[Array, "samples ..."]) -> Float[Array, "..."]:
    """The slope of `y` on `x` along the first axis; zero where `x` is constant."""
    # About the first sample, lest equal values differ from their mean by a rounding error.
    y, x = y - y[:1], x - x[:1]
    x = x - jnp.mean(x, axis=0, keepdims=True)
    variance = jnp.sum(x**2, axis=0)
    return jnp.sum(x * y, axis=0) / jnp.where(variance > 0, variance, 1)


@ESTIMATORS.register("vargrad")
class VarGrad(AbstractStatelessEstimator):
    r"""The gradient of the log-variance loss, as an estimator of the gradient of an evidence bound.

    For samples $z_1, \dots, z_n$ of `dist`, held fixed, and `f` the integrand $\log p(x, z) - \log q(z)$ of a bound,

    $$\hat g = -\nabla_\theta\, \tfrac12\, \widehat{\mathrm{Var}}_k [\log q_\theta(z_k) - \log p(x, z_k)],$$

    with $n - 1$ in the denominator of the variance and $q_\theta$ the `dist`.

    Unbiased for the gradient of the bound $E[f(z)]$: carrying out the derivative gives `LeaveOneOut` on the integrand,
    estimate by estimate. Needs an `f` that reveals $\log p(x, z)$ and whose own $q$ is `dist`; `num_samples`
    evaluations of $\log p(x, z)$.

    >>> from estimators import Bernoulli
    >>> VarGrad(num_samples=3).evaluations(Bernoulli(logits=[0.0]))
    3

    The sign is that of the bound, which is maximised; the loss of the paper is minimised.

    **References:** Richter, Boustati, Nüsken, Ruiz and Akyildiz, VarGrad: a low-variance gradient estimator for
    variational inference, 2020, arXiv:2010.10436.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractLogWeight)

    def __check_init__(self):
        _require_at_least(self, "num_samples", 2, "one value has no variance")

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractLogWeight) -> Grads:
        zs = draw(key, dist, self.num_samples)
        log_joint = jax.vmap(f.log_joint)(zs)

        def negative_loss(d: Grads) -> Float[Array, ""]:
            return -jnp.var(jax.vmap(d.log_prob)(zs) - log_joint, ddof=1) / 2

        return jax.grad(negative_loss)(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
