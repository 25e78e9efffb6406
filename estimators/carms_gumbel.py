r"""CARMS-G: mutually antithetic samples of categorical variables, as races whose times are coupled.

A category wins a race with the least time `E_c / pi_c`, for independent standard exponential `E_c`, with probability
`pi_c`; taking `-log E_c` for noise, this is Gumbel-max. Let `E_ck = -log u_ck`, where for every category the `u_ck` of the
samples `k = 1, ..., n` are a draw of the copula of `carms`. Then each race has the right law, and in two of them a
category is slow in one where it is fast in the other. What is left is the probability `P(i, j)` that `i` wins the first
race and `j` the second. With `m = n - 1`, both times of `c` exceed `s` and `t` with the probability

    S_c(s, t) = max(0, exp(-pi_c s / m) + exp(-pi_c t / m) - 1)^m,

and if `i` wins at `s` and `j`, another one, at `t`, then `i` is later than `t` in the second race, `j` later than `s` in
the first, and the others are later in both:

    P(i, j) = int int (d/ds S_i) (d/dt S_j) prod_{c != i, j} S_c ds dt.

Let `p` be the largest probability, `r_c = pi_c / p`, `a = exp(-p s / m)` and `b = exp(-p t / m)`. All `S_c` are positive
where that of `p` is: on the triangle `a, b < 1 < a + b`, and there `S_c = g_c^m` for `g_c = a^r_c + b^r_c - 1`. Hence

    P(i, j) = r_i r_j Q(i, j),    Q(i, j) = m^2 int int a^(r_i - 1) b^(r_j - 1) / (g_i g_j) prod_c g_c^m da db,

positive for any two categories, and the ratio of the estimator is `pi_i pi_j / P(i, j) = p^2 / Q(i, j)`, in which no
rare category is divided by its probability. For `n = 2` and `C` equally probable categories `P(i, j)` is
`1 / (C (C - 1))`: two samples are never the same. For two categories of any probabilities it is the smaller one, so that
a pair is that of `DisARM`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .carms import of_the_others, pairwise_gradient, require_samples
from .distributions import AbstractDistribution, Categorical
from .objectives import Objective
from .registration import ESTIMATORS

# Points of the rule in either direction. Its relative error was below 1e-9 for up to 200 categories and 21 samples,
# however lopsided the categories.
POINTS = (28, 20)

Nodes = Float[Array, "nodes"]


def winners(
    parts: Float[Array, "*variables categories samples"], logits: Float[Array, "*variables categories"]
) -> Float[Array, "*variables samples categories"]:
    """The one-hot winner of the race of each sample; `parts`, independent exponential variables, make the copula."""
    # As `-log u = m log(1 + part / others)`, exact for the small times that win.
    times = jnp.log1p(parts / of_the_others(parts))
    winner = jnp.argmax(logits[..., None] - jnp.log(times), axis=-2)
    return jax.nn.one_hot(winner, logits.shape[-1], dtype=logits.dtype)


def half_triangle(rate: Float[Array, ""]) -> tuple[Nodes, Nodes, Nodes]:
    """Points `(log a, log b)` of the triangle with `a > b`, and their weights, for an integrand like
    `exp(-rate (2 - a - b))` near `a = b = 1`.

    There `b = 1 - y` with `y < 1/2`, and the points crowd where that integrand lives. Towards the corner at `b = 0`
    it is a power of `b`, so that the fourth root of `b` is the variable. Across, `a` is linear between its bounds.
    """
    (x, wx), (v, wv) = (np.polynomial.legendre.leggauss(points) for points in POINTS)
    x, v = (jnp.asarray((nodes + 1) / 2, rate.dtype) for nodes in (x, v))
    w = jnp.asarray(np.outer(wx, wv) / 4, rate.dtype)
    shrink = -jnp.expm1(-rate / 8)
    y = -4 / rate * jnp.log1p(-shrink * x)
    b = 0.5 * x**4
    log_a = [jnp.log1p(-jnp.outer(side, v)) for side in (y, b)]
    log_b = [jnp.broadcast_to(side[:, None], w.shape) for side in (jnp.log1p(-y), jnp.log(b))]
    stretch = [y * 4 / rate * shrink / (1 - shrink * x), b * 2 * x**3]
    weights = [w * side[:, None] for side in stretch]
    return tuple(jnp.concatenate([part.ravel() for part in parts]) for parts in (log_a, log_b, weights))


def pair_ratios(pi: Float[Array, "categories"], num_samples: int) -> Float[Array, "categories categories"]:
    """`pi_i pi_j / P(i, j)` for `i` and `j` that differ; the diagonal has no meaning."""
    power, largest = num_samples - 1, jnp.max(pi)
    r = (pi / largest)[None]
    log_a, log_b, weights = half_triangle(power * jnp.sum(r))
    log_a, log_b = log_a[:, None], log_b[:, None]
    g = jnp.exp(r * log_b) + jnp.expm1(r * log_a)
    joint = weights * jnp.exp(power * jnp.sum(jnp.log(g), axis=1))
    left, right = (jnp.exp((r - 1) * side) / g for side in (log_a, log_b))
    half = left.T @ (joint[:, None] * right)
    return largest**2 / (power**2 * (half + half.T))


@ESTIMATORS.register("carms-g")
class CARMSGumbel(AbstractStatelessEstimator):
    r"""CARMS with Gumbel-max (CARMS-G): the noise of every category is coupled over the samples.

    For each category $c$ of each variable of `dist`, $u_{ck} = (1 - d_{ck})^{n - 1}$ with $d_c$ uniform on the simplex
    of the $n$ samples (`num_samples`), and sample $k$ is the category with the largest
    $\log \pi_c - \log(-\log u_{ck})$. With $P(i, j)$ the probability of the categories $i = x_k$, $j = x_l$ in two
    samples,

    $$\hat g = \frac{1}{2 n (n - 1)} \sum_{k, l} (f(x_k) - f(x_l)) \frac{\pi_i \pi_j}{P(i, j)} (x_k - x_l).$$

    Unbiased: $P(i, j) > 0$ for all $i \ne j$. Needs a `Categorical`; `num_samples` evaluations of `f`, and for each
    variable a quadrature over the unit triangle for $P$, which does not depend on the draw. With two categories it is
    `DisARM` at `num_samples=2`. Variables are independent, and each has the ratio of its own categories only. The order
    of the categories plays no part. A ratio may exceed one, so that leave-one-out may have less variance.

    >>> CARMSGumbel(num_samples=4).evaluations(Categorical(logits=jnp.zeros((2, 5))))
    4

    $P$ is an integral in two dimensions, for any number of categories and samples. The authors estimate it from further
    draws of the coupled noise, and bound and smooth the ratio, which is then neither exact nor its inverse unbiased;
    here it is integrated to rounding, and nothing is clipped: this is the limit of many such draws.

    **References:** Dimitriev and Zhou, CARMS: Categorical-antithetic-REINFORCE multi-sample gradient estimator, 2021,
    arXiv:2110.14002.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def __check_init__(self):
        require_samples(self)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        shape = (*dist.logits.shape, self.num_samples)
        xs = winners(jax.random.exponential(key, shape, dist.logits.dtype), dist.logits)
        ratios = jnp.vectorize(lambda pi: pair_ratios(pi, self.num_samples), signature="(c)->(c,c)")(dist.mean())
        return pairwise_gradient(f, xs, xs @ ratios @ jnp.moveaxis(xs, -1, -2))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
