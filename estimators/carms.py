r"""CARMS: any number of mutually antithetic samples of categorical variables.

Let the samples `x_1, ..., x_n` be exchangeable in each variable, independent across variables, each with the law of the
distribution, and let `P(i, j)` be the probability that one variable is `i` in the first and `j` in the second. Then

    g = 1 / (2 n (n - 1)) sum_kl (f(x_k) - f(x_l)) (x_k - x_l) pi_i pi_j / P(i, j),    i = x_k, j = x_l,

is unbiased for every `f` if and only if `P(i, j) > 0` for all `i != j` of positive probability. Given `i` and `j` in
one variable, the other variables of `x_k` have their law, and so have those of `x_l`: a term has the mean that it has
for independent samples, where the sum is leave-one-out, though only the variable's own coupling is undone. `P(i, i)`
may be zero, and should be: equal samples say nothing.

The copula is that of `u_k = (1 - d_k)^(n - 1)` with `d` uniform on the simplex: each `u_k` is uniform, as `P(d_1 > a,
d_2 > b) = max(0, 1 - a - b)^(n - 1)`, and small values exclude each other. At `n = 2` it is `u` and `1 - u`: of `C`
intervals at most `2 C - 1` ordered pairs meet, so an inverse distribution function in one fixed order is biased from
three categories on. The two classes below are two ways to have `P > 0`, and `carms_gumbel` is a third.
"""

import itertools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .base import AbstractEstimator, AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .objectives import Objective
from .registration import ESTIMATORS
from .stick_breaking import reordered, stick

Events = Float[Array, "*variables samples categories"]
Ratios = Float[Array, "*variables samples samples"]


def of_the_others(parts: Float[Array, "*variables samples"]) -> Float[Array, "*variables samples"]:
    """For each sample, the parts of all others: one minus its share of the whole would lose the small values."""
    itself = jnp.broadcast_to(jnp.eye(parts.shape[-1], dtype=bool), (*parts.shape, parts.shape[-1]))
    return jnp.sum(jnp.where(itself, 0, parts[..., None, :]), axis=-1)


def uniforms(key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "*variables samples"]:
    """Draws of the copula, the samples along the last axis."""
    parts = jax.random.exponential(key, shape, dtype)
    return (of_the_others(parts) / jnp.sum(parts, axis=-1, keepdims=True)) ** (shape[-1] - 1)


def both_below(a: Float[Array, "..."], b: Float[Array, "..."], num_samples: int) -> Float[Array, "..."]:
    """The probability that one draw of the copula is below `a` and another below `b`."""
    power = num_samples - 1
    return jnp.maximum(a ** (1 / power) + b ** (1 / power) - 1, 0) ** power


def pairwise_gradient(f: Objective, xs: Events, ratios: Ratios) -> Categorical:
    """The estimate at the head of this file."""
    values = jax.vmap(f)(jnp.moveaxis(xs, -2, 0))
    num_samples = len(values)
    differences = (values[:, None] - values[None]) / (2 * num_samples * (num_samples - 1))
    weights = jnp.broadcast_to(differences, ratios.shape) * ratios
    steps = xs[..., :, None, :] - xs[..., None, :, :]
    return Categorical(jnp.sum(weights[..., None] * steps, axis=(-3, -2)))


def require_samples(estimator: AbstractEstimator) -> None:
    if estimator.num_samples < 2:
        name, number = type(estimator).__name__, estimator.num_samples
        raise ValueError(f"`{name}` needs `num_samples >= 2`, got {number}; a sample is compared with the others.")


def orders(categories: int) -> Int[np.ndarray, "orders categories"]:
    """Each pair of categories once as the first and the last, the others between them."""
    ends = list(itertools.combinations(range(categories), 2)) or [(0, 0)]
    return np.array([[i, *(c for c in range(categories) if c not in (i, j)), j][:categories] for i, j in ends])


def inverse_cdf(
    p: Float[Array, "categories"], u: Float[Array, "samples"], which: Int[Array, ""]
) -> tuple[Float[Array, "samples categories"], Float[Array, "samples samples"]]:
    """Samples of one variable and their ratios, of the copula `u` in the order number `which` of the ascending `p`."""
    ascending = jnp.argsort(p)
    table = ascending[orders(p.size)]
    inner = jnp.cumsum(p[table], axis=1)[:, :-1]
    category = table[which, jnp.sum(u[:, None] >= inner[which][None], axis=1)]
    edges = jnp.pad(jnp.pad(inner, ((0, 0), (1, 0))), ((0, 0), (0, 1)), constant_values=1)
    places = jnp.argsort(table, axis=1)[:, category]
    low, high = (jnp.take_along_axis(edges, places + end, axis=1) for end in (0, 1))

    def below(a: Float[Array, "orders samples"], b: Float[Array, "orders samples"]):
        return both_below(a[:, :, None], b[:, None, :], u.size)

    joint = jnp.mean(below(high, high) - below(low, high) - below(high, low) + below(low, low), axis=0)
    independent = p[category][:, None] * p[category][None]
    # The bound holds in real numbers, by the order with `i` and `j` at its ends; the difference may round to less.
    joint = jnp.maximum(joint, jnp.maximum(independent / len(table), jnp.finfo(p.dtype).tiny))
    return jax.nn.one_hot(category, p.size, dtype=p.dtype), independent / joint


def broken_sticks(
    logits: Float[Array, "*variables categories"], u: Float[Array, "*variables nodes samples"]
) -> tuple[Events, Ratios]:
    """Samples and their ratios, of one draw `u` of the copula for each bit.

    `P(i, j)` is a product over the bits that both samples show: all before the first of the two are zero in both, and
    there they differ. In ascending order a bit has a probability `q` up to 1/2. One after which two samples may still
    differ is followed by `k >= 2` categories and has up to `1 / (k + 1)`: so `P(0, 0) >= 1 - 2 q` is positive there,
    and the product of all `(1 - q)^2 / P(0, 0)` is less than 2. At two samples, where the next bit has the probability
    `q' >= q / (1 - q)`, a factor and the last one are `(1 - q)^2 / (1 - 2 q) (1 - q') <= 1 - q`, a last one again.
    """
    order, tree = jnp.argsort(logits, axis=-1), stick(logits.shape[-1])
    q = jax.nn.sigmoid(tree.logits(reordered(logits, order)))
    x = tree.event(jnp.moveaxis((u < q[..., None]).astype(q.dtype), -1, -2))

    def both(first: np.ndarray, second: np.ndarray) -> Float[Array, "*variables samples samples nodes"]:
        return (x @ first.T)[..., :, None, :] * (x @ second.T)[..., None, :, :]

    both_one = both_below(q, q, u.shape[-1])
    agreeing = ((1 - q) ** 2 / (1 - 2 * q + both_one))[..., None, None, :]
    differing = ((1 - q) / (1 - both_one / jnp.maximum(q, jnp.finfo(q.dtype).tiny)))[..., None, None, :]
    onward = tree.zeros & (np.sum(tree.zeros, axis=1, keepdims=True) > 1)
    differ = both(tree.ones, tree.zeros) + both(tree.zeros, tree.ones)
    factors = jnp.where(both(onward, onward) > 0, agreeing, jnp.where(differ > 0, differing, 1))
    back = jnp.broadcast_to(jnp.argsort(order, axis=-1)[..., None, :], x.shape)
    return reordered(x, back), jnp.prod(factors, axis=-1)


@ESTIMATORS.register("carms-i")
class CARMSInverseCDF(AbstractStatelessEstimator):
    r"""CARMS with the inverse distribution function, in an order of the categories drawn at random (CARMS-I).

    For each variable of `dist`, $u_k = (1 - d_k)^{n - 1}$ with $d$ uniform on the simplex of the $n$ samples
    (`num_samples`), and one of the $C (C - 1) / 2$ orders, each with another pair of categories at its ends. Sample $k$
    is the category whose interval $u_k$ falls into when the probabilities $\pi$ are laid end to end in that order. With
    $P(i, j)$ the probability of the categories $i = x_k$, $j = x_l$ in two samples, the mean over the orders,

    $$\hat g = \frac{1}{2 n (n - 1)} \sum_{k, l} (f(x_k) - f(x_l)) \frac{\pi_i \pi_j}{P(i, j)} (x_k - x_l).$$

    Unbiased: any two categories are at the ends of an order, where a small $u_k$ and a large $u_l$ meet them, so that
    $P(i, j) \ge \pi_i \pi_j \cdot 2 / (C (C - 1))$. No ratio exceeds $C (C - 1) / 2$, and none is clipped. With two
    categories it is `DisARM` at `num_samples=2`, and ARMS with the Dirichlet copula at more. Needs a `Categorical`;
    `num_samples` evaluations of `f`. Variables are independent, and each has the ratio of its own categories only.

    >>> CARMSInverseCDF(num_samples=3).evaluations(Categorical(logits=jnp.zeros((2, 5))))
    3

    One order serves all samples of a variable. Of the categories at the ends the less probable is the first, and those
    between them ascend. $P$ is no estimate: it is had by inclusion and exclusion, from sums of probabilities, so that
    in single precision a category of probability 1e-4 has its ratios to three digits.

    **References:** Dimitriev and Zhou, CARMS: Categorical-antithetic-REINFORCE multi-sample gradient estimator, 2021,
    arXiv:2110.14002.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def __check_init__(self):
        require_samples(self)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        key_uniforms, key_order = jax.random.split(key)
        variables, categories = dist.logits.shape[:-1], dist.logits.shape[-1]
        u = uniforms(key_uniforms, (*variables, self.num_samples), dist.logits.dtype)
        which = jax.random.randint(key_order, variables, 0, len(orders(categories)))
        variable = jnp.vectorize(inverse_cdf, signature="(c),(n),()->(n,c),(n,n)")
        return pairwise_gradient(f, *variable(dist.mean(), u, which))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("carms-sb")
class CARMSStickBreaking(AbstractStatelessEstimator):
    r"""CARMS with stick-breaking (CARMS-SB): the bits of the categories in ascending order are coupled.

    The categories of `dist`, in ascending order of their probabilities $\pi$, have bits with the probabilities
    $q_v = \pi_v / \sum_{c \ge v} \pi_c$; bit $v$ of sample $k$ is $1[u_{kv} < q_v]$, where $u_{kv} = (1 -
    d_{kv})^{n - 1}$ with $d_v$ uniform on the simplex of the $n$ samples (`num_samples`), and the sample is the first
    $v$ whose bit is one. With $P(i, j)$ the probability of the categories $i = x_k$, $j = x_l$ in two samples,

    $$\hat g = \frac{1}{2 n (n - 1)} \sum_{k, l} (f(x_k) - f(x_l)) \frac{\pi_i \pi_j}{P(i, j)} (x_k - x_l).$$

    Unbiased: in ascending order $P(i, j) > 0$ for all $i \ne j$. No ratio exceeds 1 at two samples and $2 (1 - 1 / C)$
    at more, for $C$ categories, and none is clipped. So for one variable and two samples the variance is at most that
    of leave-one-out, for every `f`. With two categories it is `DisARM` at `num_samples=2`, and ARMS with the Dirichlet
    copula at more. Needs a `Categorical`; `num_samples` evaluations of `f`. Variables are independent, and each has the
    ratio of its own categories only.

    >>> CARMSStickBreaking().evaluations(Categorical(logits=jnp.zeros((2, 5))))
    2

    The ratio is a product over the bits that both samples show. At two samples this is the importance-weighted
    estimator of Dong et al. (DisARM-IW) with their stick-breaking coupling; `DisARMStickBreaking` makes the same pairs
    and weighs each bit by itself.

    **References:** Dimitriev and Zhou, CARMS: Categorical-antithetic-REINFORCE multi-sample gradient estimator, 2021,
    arXiv:2110.14002. Dong, Mnih and Tucker, Coupled gradient estimators for discrete latent variables, 2021,
    arXiv:2106.08056.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def __check_init__(self):
        require_samples(self)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        shape = (*dist.logits.shape[:-1], dist.logits.shape[-1] - 1, self.num_samples)
        return pairwise_gradient(f, *broken_sticks(dist.logits, uniforms(key, shape, dist.logits.dtype)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
