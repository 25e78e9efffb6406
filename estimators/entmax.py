r"""Sparse relaxations: projections onto the simplex that reach its faces, in place of the softmax.

For a strongly convex `h`, the relaxed event `argmax_p <z, p> - t h(p)` over the simplex tends to the argmax of `z` as
`t` falls. With the negative entropy for `h` it is `softmax(z / t)`. With `(sum_i p_i^a - p_i) / (a (a - 1))` (Tsallis)
it is `entmax_a(z / t)`,

    p_i = max((a - 1) z_i / t - tau, 0)^(1 / (a - 1)),    tau such that sum_i p_i = 1,

sparsemax for `a = 2`: categories far enough below the top get probability zero exactly, and no derivative. The Jacobian
is `diag(q) - q q^T / sum(q)` with `q_i = p_i^(2 - a)` on the support and zero elsewhere.

Here `tau` is found in closed form. Category `i` is in the support if and only if the sum is still less than one at
`tau = (a - 1) z_i / t`, which takes no more than differences of the `z`; and on a known support the equation for `tau`
is linear (`a = 2`) or quadratic (`a = 3/2`). The support being piecewise constant, the derivative of that closed form
is the Jacobian.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive

Vectors = Float[Array, "*variables categories"]


def _support(z: Vectors, power: int) -> Vectors:
    """One where `sum_j max(z_j - z_i, 0)^power < 1`, else zero; `categories^2` differences, and no sorting."""
    excess = jnp.maximum(z[..., None, :] - z[..., :, None], 0)
    return (jnp.sum(excess**power, axis=-1) < 1).astype(z.dtype)


def _mean(z: Vectors, support: Vectors) -> Float[Array, "*variables 1"]:
    return jnp.sum(support * z, axis=-1, keepdims=True) / jnp.sum(support, axis=-1, keepdims=True)


def sparsemax(z: Vectors) -> Vectors:
    """The Euclidean projection of `z` onto the simplex along the last axis; differentiable almost everywhere.

    >>> print(sparsemax(jnp.array([1.0, 0.5, -1.0])))
    [0.75 0.25 0.  ]
    """
    support = _support(z, 1)
    return jnp.maximum(z - _mean(z, support) + 1 / jnp.sum(support, axis=-1, keepdims=True), 0)


def entmax15(z: Vectors) -> Vectors:
    """`argmax_p <z, p> - (4 / 3) sum_i (p_i^1.5 - p_i)` over the simplex along the last axis, `entmax` with `a = 1.5`.

    >>> print(entmax15(jnp.array([0.0, 0.0, -3.0])).round(6))
    [0.5 0.5 0. ]
    """
    z = z / 2
    support = _support(z, 2)
    mean, size = _mean(z, support), jnp.sum(support, axis=-1, keepdims=True)
    # On the support, the squares of `z - threshold` sum to one: to `size (mean - threshold)^2` and this.
    scatter = jnp.sum(support * (z - mean) ** 2, axis=-1, keepdims=True)
    return support * (z - mean + jnp.sqrt((1 - scatter) / size)) ** 2


def _smoothed_gradient(
    key: PRNGKey, dist: Categorical, f: Objective, temperature: Float[Array, ""], projection: Callable
) -> Categorical:
    """The derivative of `f(projection(z / temperature))` along the perturbed logits `z`."""
    noise = dist.noise(key)
    return jax.grad(lambda d: f(projection(d.perturb(noise) / temperature.astype(noise.dtype))))(dist)


@ESTIMATORS.register("gumbel-sparsemax")
class GumbelSparsemax(AbstractStatelessEstimator):
    r"""The Gumbel-sparsemax estimator: the pathwise gradient of a relaxed event that may be sparse, or a true event.

    With `noise` drawn, $z = \mathrm{perturb}(\varepsilon; \theta)$ the perturbed logits and $t$ the `temperature`,

    $$\hat g = \nabla_\theta f(p), \qquad
    p = \mathrm{sparsemax}(z / t) = \arg\min_{p \in \Delta} \|p - z / t\|^2.$$

    Biased: it is the gradient of $E[f(p)]$. The bias vanishes as $t \to 0$, where the variance grows without bound. The
    estimate is zero for a variable whose top category leads by $t$ or more, since $p$ is an event there; for two
    categories at logits $\eta$ apart and an affine `f`, the slope $p (1 - p)$ of the truth becomes
    $[\sigma(\eta + t) - \sigma(\eta - t)] / (2 t)$. Needs a `Categorical` and an `f` that is differentiable between its
    events; one evaluation of `f` with its derivative, and time and memory of the square of the number of categories.

    >>> from estimators import Categorical
    >>> dist = Categorical(logits=[0.0, 9.0])
    >>> print(GumbelSparsemax(temperature=0.1).gradient(jax.random.key(0), dist, lambda x: x[0]).logits)
    [0. 0.]

    The sparsemax is of the perturbed logits over the temperature, so that the argmax is its limit, and the factor
    $1 / t$ of its derivative is kept.

    **References:** Paulus, Choi, Tarlow, Krause and Maddison, Gradient estimation with stochastic softmax tricks, 2020,
    arXiv:2006.08063. Martins and Astudillo, From softmax to sparsemax: a sparse model of attention and multi-label
    classification, 2016, arXiv:1602.02068.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        return _smoothed_gradient(key, dist, f, self.temperature, sparsemax)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("gumbel-entmax")
class GumbelEntmax(AbstractStatelessEstimator):
    r"""The Gumbel-entmax estimator with $\alpha = 1.5$: half-way between Gumbel-Softmax and Gumbel-sparsemax.

    With `noise` drawn, $z = \mathrm{perturb}(\varepsilon; \theta)$ the perturbed logits and $t$ the `temperature`,

    $$\hat g = \nabla_\theta f(p), \qquad
    p = \arg\max_{p \in \Delta}\, z^\top p / t - \tfrac43 \textstyle\sum_i (p_i^{3/2} - p_i).$$

    Biased: it is the gradient of $E[f(p)]$. The bias vanishes as $t \to 0$, where the variance grows without bound. The
    estimate is zero for a variable whose top category leads by $2 t$ or more, since $p$ is an event there; unlike that
    of sparsemax, the derivative of $p$ is continuous in $z$. Needs a `Categorical` and an `f` that is differentiable
    between its events; one evaluation of `f` with its derivative, and time and memory of the square of the number of
    categories.

    >>> from estimators import Categorical
    >>> dist = Categorical(logits=[0.0, 9.0])
    >>> print(GumbelEntmax(temperature=0.1).gradient(jax.random.key(0), dist, lambda x: x[0]).logits)
    [0. 0.]

    One temperature is not another: `entmax` is of the whole of $z / t$, of which half enters the squares, so that the
    same $t$ smooths a wider band here than in `GumbelSparsemax`. The factor $1 / t$ of the derivative is kept.

    **References:** Paulus, Choi, Tarlow, Krause and Maddison, Gradient estimation with stochastic softmax tricks, 2020,
    arXiv:2006.08063. Peters, Niculae and Martins, Sparse sequence-to-sequence models, 2019, arXiv:1905.05702.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        return _smoothed_gradient(key, dist, f, self.temperature, entmax15)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
