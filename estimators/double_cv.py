r"""Double control variates: leave-one-out, with a linear control variate whose slope comes from the other samples.

For independent samples with scores $s_k$, mean event $\mu$ and slopes $f'(x_k)$, let $\bar v_{-k}$ be the mean of the
slopes of the samples other than $k$, and $c_k = \bar v_{-k}^\top (x_k - \mu)$. Then

$$E[c_k s_k] = E[f'(x)]^\top\, \partial \mu / \partial \theta, \qquad E[c_j s_k] = 0 \text{ for } j \ne k:$$

the first as in `muprop`, because $\bar v_{-k}$ is independent of $x_k$; the second because $x_j - \mu$ has mean zero
given all other samples, whatever $\bar v_{-j}$ knows of $x_k$. So $c$ may be added to `f` inside leave-one-out, in the
term of a sample and in its baseline, and the first expectation, for which the mean slope of all samples is unbiased,
taken away.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import AbstractDistribution, AbstractRelaxable
from .distributions.base import Scalar, as_floating, precision
from .muprop import through_the_mean
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("double-cv")
class DoubleCV(AbstractLearnedEstimator):
    r"""Double control variates: leave-one-out on `f` plus a linear control variate, its expectation taken away.

    For samples $x_1, \dots, x_n$ of `dist` with mean $\mu$, $\bar v$ the mean of all $f'(x_k)$ and $\bar v_{-k}$ that
    of all but the $k$-th, $\tilde f_k = f(x_k) + \alpha\, \bar v_{-k}^\top (x_k - \mu)$ and $\alpha$ the `coefficient`,

    $$\hat g = \frac1n \sum_k \Big[\tilde f_k - \frac{1}{n - 1} \sum_{j \ne k} \tilde f_j\Big] \nabla \log p(x_k)
    - \alpha\, \bar v^\top \frac{\partial \mu}{\partial \theta}.$$

    Unbiased for every $\alpha$: $\bar v_{-k}$ is independent of $x_k$. With $\alpha = 0$ it is `LeaveOneOut`; with
    $\alpha = -1$ and an affine `f` it is the gradient itself, draw for draw. $\alpha$ is one real number of either
    sign, which starts at `coefficient` and is trained on the second moment of one estimate. Needs a relaxable
    distribution (for its mean) and an `f` that is differentiable at its events; `num_samples` evaluations of `f`, each
    with its derivative.

    >>> from estimators import Bernoulli
    >>> DoubleCV(num_samples=3).evaluations(Bernoulli(logits=[0.0]))
    3

    The paper is about Bernoulli variables, where the last factor is $p (1 - p)$; nothing in it but the mean is needed,
    and categorical variables are treated here in the same way. The slope is that of the other samples' mean and the
    subtracted term that of all samples.

    **References:** Titsias and Shi, Double control variates for gradient estimation in discrete latent variable models,
    2022, arXiv:2111.05300.
    """

    num_samples: int = eqx.field(static=True, default=2)
    coefficient: Float[Array, ""] = eqx.field(converter=as_floating, default=-1.0)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_samples_besides(self)
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> Scalar:
        del key
        return self.coefficient.astype(precision(dist))

    def gradient(self, key: PRNGKey, control: Scalar, dist: Grads, f: Objective) -> Grads:
        xs, mean = draw(key, dist, self.num_samples), dist.mean()
        values, slopes = jax.vmap(jax.value_and_grad(f))(xs)
        others = (jnp.sum(slopes, axis=0, keepdims=True) - slopes) / (self.num_samples - 1)
        signal = values + control * jax.vmap(lambda v, x: jnp.vdot(v, x - mean))(others, xs)
        centred = weighted_score(dist, xs, (signal - jnp.mean(signal)) / (self.num_samples - 1))
        correction = through_the_mean(dist, control * jnp.mean(slopes, axis=0))
        return jax.tree.map(jnp.subtract, centred, correction)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


def require_samples_besides(estimator: AbstractLearnedEstimator) -> None:
    """Raise `ValueError` unless there are two samples, so that each has another beside it."""
    if estimator.num_samples < 2:
        raise ValueError(
            f"`{type(estimator).__name__}` needs `num_samples >= 2`, got {estimator.num_samples}; "
            "the control variate of a sample is made of the others."
        )
