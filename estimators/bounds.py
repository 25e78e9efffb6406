r"""Bounds made of importance weights: what their estimators are asked to differentiate.

For `K` independent events of `q`, the `dist` of an estimator, let `log w_k = log p(x, z_k) - log q(z_k)`. The objectives
of this room are `E[B(log w_1, ..., log w_K)]` with a symmetric `B`. The parameters of `q` are in it twice, in the events
and in `log q`, and the target is the total derivative: with `b_k = dB / d log w_k`, in two ways,

    E[sum_k b_k d/dtheta log w_k(z_k(theta); theta)] = E[sum_k (B - b_k) d/dtheta log q(z_k)].

For `K = 1` and `B = log w` the part inside, `E[-b_k d/dtheta log q(z_k)]`, has mean zero, which is why `AbstractLogWeight`
may hold a frozen copy of `q` and be an objective like any other. For `K > 1` it has not. So a bound is a *functional*: it
has no value at one event, the estimators of the rooms `bounds_pathwise`, `bounds_score`, `bounds_antithetic`, `bounds_randomized` and
`bounds_ranked` require it by name, and all others are refused.

`K` and `B` belong to the objective, since the target depends on them. A bound holds `log p(x, z)` and not `q`, which is
always the `dist` at hand. A derivative with respect to `z` may be taken only of a `log p(x, z)` that has one.
"""

import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .distributions.base import AbstractDistribution, Scalar, as_floating
from .objectives import AbstractFunctional, Objective

LogWeights = Float[Array, "samples"]


class AbstractImportanceWeighted(AbstractFunctional):
    """A functional of `q` made of the weights `w(z) = p(x, z) / q(z)`."""

    log_joint: eqx.AbstractVar[Objective]

    @property
    def inner(self) -> Objective:
        return self.log_joint

    def log_weights(self, q: AbstractDistribution, zs: Float[Array, "samples ..."]) -> LogWeights:
        """`log p(x, z) - log q(z)` for each of the events."""
        return jax.vmap(self.log_joint)(zs) - jax.vmap(q.log_prob)(zs)


class AbstractMultiSampleBound(AbstractImportanceWeighted):
    """`E[B(log w_1, ..., log w_K)]` for `K = num_samples` independent events of `q` and a symmetric, smooth `B`.

    `value` is `B`. It is equivariant, `B(log w + c) = B(log w) + c`, so that its slopes sum to one.
    """

    num_samples: eqx.AbstractVar[int]

    @property
    def arity(self) -> int:
        return self.num_samples

    @abstractmethod
    def value(self, log_weights: LogWeights) -> Scalar:
        """`B`, the bound of so many weights."""

    @abstractmethod
    def curvature(self, log_weights: LogWeights) -> LogWeights:
        """The second derivative of `B` in each log-weight, what doubly reparameterised gradients subtract."""

    def slopes(self, log_weights: LogWeights) -> LogWeights:
        """The derivative of `B` in each log-weight."""
        return jax.grad(self.value)(log_weights)


def without_each(log_weights: LogWeights) -> Float[Array, "samples samples"]:
    """Row `k` holds the log-weights with that of sample `k` taken out."""
    return jnp.where(jnp.eye(len(log_weights), dtype=bool), -jnp.inf, log_weights[None])


def with_each(log_weights: LogWeights, replacements: LogWeights) -> Float[Array, "samples samples"]:
    """Row `k` holds the log-weights with that of sample `k` replaced."""
    return jnp.where(jnp.eye(len(log_weights), dtype=bool), replacements[:, None], log_weights[None])


def log_mean_exp(log_weights: LogWeights) -> Scalar:
    """`log mean_k w_k`."""
    return jax.nn.logsumexp(log_weights) - math.log(len(log_weights))


def require_samples(functional: eqx.Module, least: int) -> None:
    """Raise `ValueError` if `num_samples` is below `least`."""
    if functional.num_samples < least:
        name = type(functional).__name__
        raise ValueError(f"`{name}` needs `num_samples >= {least}`, got {functional.num_samples}.")


class ImportanceWeightedBound(AbstractMultiSampleBound):
    r"""The importance-weighted bound $E[\log \frac1K \sum_k w_k]$ on $\log p(x)$; one sample is the evidence bound.

    >>> bound = ImportanceWeightedBound(lambda z: -jnp.sum(z**2), num_samples=2)
    >>> print(bound.value(jnp.log(jnp.array([1.0, 3.0]))) == jnp.log(2.0))
    True

    **References:** Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519.
    """

    log_joint: Objective
    num_samples: int = eqx.field(static=True)

    def __check_init__(self):
        require_samples(self, 1)

    def value(self, log_weights: LogWeights) -> Scalar:
        return log_mean_exp(log_weights)

    def curvature(self, log_weights: LogWeights) -> LogWeights:
        share = jax.nn.softmax(log_weights)
        return share - share**2


class RenyiBound(AbstractMultiSampleBound):
    r"""The Rényi bound of `num_samples` weights, $E[\frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha}]$.

    `alpha` 0 is the importance-weighted bound, and the limit at 1 the evidence bound. Below 0 it tends to an upper
    bound on $\log p(x)$ as $K$ grows, at -1 to that of the chi-squared divergence. What is estimated is the gradient for
    the $K$ at hand (called VR-IWAE by Daudel et al.), not that of the limit.

    **References:** Li and Turner, Rényi divergence variational inference, 2016, arXiv:1602.02311. Dieng, Tran, Ranganath,
    Paisley and Blei, Variational inference via chi upper bound minimization, 2017, arXiv:1611.00328. Daudel, Benton, Shi
    and Doucet, Alpha-divergence variational inference meets importance weighted auto-encoders, 2023, arXiv:2210.06226.
    """

    log_joint: Objective
    num_samples: int = eqx.field(static=True)
    alpha: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    def __check_init__(self):
        require_samples(self, 1)
        if not isinstance(self.alpha, jax.core.Tracer) and self.alpha == 1:
            raise ValueError(
                "`RenyiBound` needs `alpha != 1`, where its limit is `ImportanceWeightedBound` of 1 sample."
            )

    def value(self, log_weights: LogWeights) -> Scalar:
        power = (1 - self.alpha).astype(log_weights.dtype)
        return log_mean_exp(power * log_weights) / power

    def curvature(self, log_weights: LogWeights) -> LogWeights:
        power = (1 - self.alpha).astype(log_weights.dtype)
        share = jax.nn.softmax(power * log_weights)
        return power * (share - share**2)


class JackknifeBound(AbstractMultiSampleBound):
    r"""The first-order jackknife of the importance-weighted bound $L_K$.

    $$E[K L_K - (K - 1)\, \tfrac1K \sum_k L_{K - 1}^{(-k)}],$$

    with the weight $k$ left out of $L_{K - 1}^{(-k)}$. Its distance from $\log p(x)$ is of the order $K^{-2}$ and not
    $K^{-1}$, and it need not lie below.

    **References:** Nowozin, Debiasing evidence approximations: on importance-weighted autoencoders and jackknife
    variational inference, 2018.
    """

    log_joint: Objective
    num_samples: int = eqx.field(static=True)

    def __check_init__(self):
        require_samples(self, 2)

    def value(self, log_weights: LogWeights) -> Scalar:
        number = self.num_samples
        others = jax.nn.logsumexp(without_each(log_weights), axis=1) - math.log(number - 1)
        return number * log_mean_exp(log_weights) - (number - 1) * jnp.mean(others)

    def curvature(self, log_weights: LogWeights) -> LogWeights:
        number = self.num_samples
        share, shares = jax.nn.softmax(log_weights), jax.nn.softmax(without_each(log_weights), axis=1)
        return number * (share - share**2) - (number - 1) * jnp.mean(shares - shares**2, axis=0)
