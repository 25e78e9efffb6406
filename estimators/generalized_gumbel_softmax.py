"""Counts relaxed: cut the law off, choose a value with Gumbel noise, and smooth the choice.

A count is the value that a one-hot vector chooses, `x = sum_k k y_k`, and the one-hot vector can be relaxed as that of a
categorical variable is. There are infinitely many values, so all from the last one on are taken for the last. What is
differentiated is the expectation of `f` at the relaxed count of the law so cut off: two biases, one that falls with the
temperature, and one that falls with the mass beyond the last value.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractCount, AbstractDistribution
from .distributions.base import Event, Noise, Scalar, as_floating, precision
from .elementary import softmax
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive


def truncated_log_masses(dist: AbstractCount, num_values: int) -> Float[Array, "*variables values"]:
    """The logarithms of the masses of 0, 1, ..., and of `num_values - 1` and all that is above it."""
    values = jnp.arange(num_values - 1, dtype=precision(dist))
    below = jax.vmap(lambda n: dist.log_masses(jnp.full(dist.variables, n)), out_axes=-1)(values)
    return jnp.concatenate([below, dist.log_tail(num_values - 1)[..., None]], axis=-1)


def relaxed_count(dist: AbstractCount, noise: Noise, temperature: Scalar) -> Event:
    """The mean of the values under the smoothed choice that `noise`, `[*variables, values]`, makes."""
    values = jnp.arange(noise.shape[-1], dtype=noise.dtype)
    return softmax((truncated_log_masses(dist, len(values)) + noise) / temperature) @ values


@ESTIMATORS.register("generalized-gumbel-softmax")
class GeneralizedGumbelSoftmax(AbstractStatelessEstimator):
    r"""The generalised Gumbel-Softmax estimator (GenGS): the pathwise gradient of a relaxed count.

    With $\pi_k(\theta)$ the masses of the values below $n - 1$, where $n$ is `num_values`, $\pi_{n - 1}$ all the rest,
    $\varepsilon_k$ independent Gumbel noise for each variable and $t$ the `temperature`,

    $$\hat g = \nabla_\theta f\Bigl(\sum_{k=0}^{n-1} k\, y_k\Bigr), \qquad
    y = \mathrm{softmax}\bigl((\log \pi(\theta) + \varepsilon) / t\bigr).$$

    Biased: it is the gradient of a smoothed objective of a law that is cut off. The first bias vanishes as $t \to 0$,
    where the variance grows without bound, the second as `num_values` grows. Needs a distribution of counts and an `f`
    that is differentiable between them; one evaluation of `f` with its derivative, and `num_values` Gumbel draws for
    each variable.

    >>> from estimators import Poisson
    >>> estimator = GeneralizedGumbelSoftmax(num_values=12)
    >>> print(estimator.gradient(jax.random.key(0), Poisson(log_rate=[0.0]), lambda x: 0 * x.sum()).log_rate)
    [0.]

    The mass above the last value is put on it, so that probabilities sum to one; a law that is cut off by conditioning
    on the values below would be another. For one trial of a `Binomial` and two values it is the binary Concrete
    relaxation, `GumbelSoftmax` of a bit.

    **References:** Joo, Kim, Shin and Moon, Generalized Gumbel-Softmax gradient estimator for generic discrete random
    variables, 2020, arXiv:2003.01847.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)
    num_values: int = eqx.field(static=True, default=24)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractCount, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")
        require_at_least(self, "num_values", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = jax.random.gumbel(key, (*dist.variables, self.num_values), precision(dist))
        temperature = self.temperature.astype(noise.dtype)
        return jax.grad(lambda d: f(relaxed_count(d, noise, temperature)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
