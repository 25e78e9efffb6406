r"""Categorical events made of coin flips, and antithetic pairs of the coins.

A binary tree with the categories for leaves turns a categorical variable into one bit for each inner node `v`: the
event goes down from the root, to the side of the ones where `b_v = 1`, and `b_v` is Bernoulli with the logit

    alpha_v = logsumexp(logits on the side of the ones) - logsumexp(logits on the side of the zeros).

So `E[f]` is an expectation over independent bits, DisARM estimates its gradient in `alpha`, and the derivative of
`alpha` takes it back to the logits. That gradient sums to zero over the categories, for a constant added to all logits
leaves `alpha` alone.

Only the bits on the way of an event show in it. Let `s_v = 1[v on the way] (b_v - sigmoid(alpha_v))`, the score of the
event in `alpha_v`. Given the two events `x` and `x'` of an antithetic pair of bits, the factor of DisARM has the mean

    E[sigmoid(|alpha_v|) (b_v - b'_v) | x, x'] = w_v (s_v(x) - s_v(x')),

with `w_v = sigmoid(|alpha_v|)` where `v` is on the way of both, and 1 elsewhere: where it is on the way of `x` alone
and `b_v = 1`, say, `b'_v` is zero with probability `min(p, 1 - p) / p`, and `max(p, 1 - p)` times that is `1 - p`.
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .antithetic import require_pairs
from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Bernoulli, Categorical
from .objectives import Objective
from .registration import ESTIMATORS

Event = Float[Array, "*variables categories"]
Bits = Float[Array, "*variables nodes"]


class Tree(NamedTuple):
    """A binary tree over categories: for each inner node, the categories on either side."""

    ones: np.ndarray
    zeros: np.ndarray

    def logits(self, logits: Event) -> Bits:
        """The logits of the bits, of the logits of the categories."""

        def difference(logits: Float[Array, "categories"]) -> Float[Array, "nodes"]:
            sides = [jnp.where(side, logits[None], -jnp.inf) for side in self]
            return jax.nn.logsumexp(sides[0], axis=-1) - jax.nn.logsumexp(sides[1], axis=-1)

        return jnp.vectorize(difference, signature="(c)->(v)")(logits)

    def event(self, bits: Bits) -> Event:
        """The one-hot event that the bits lead to: of its category, all the bits above it agree."""
        agreeing = bits @ self.ones + (1 - bits) @ self.zeros
        above = np.sum(self.ones | self.zeros, axis=0)
        return (agreeing == jnp.broadcast_to(above, agreeing.shape)).astype(bits.dtype)

    def on_the_way(self, x: Event) -> Bits:
        """Whether each node is passed by the event, as zero or one."""
        return x @ (self.ones | self.zeros).T

    def score(self, x: Event, alpha: Bits) -> Bits:
        """The derivative of the log-probability of the event in the logits of the bits."""
        return x @ self.ones.T - self.on_the_way(x) * jax.nn.sigmoid(alpha)


def stick(categories: int) -> Tree:
    """One category against all that follow, in turn."""
    ones = np.eye(categories, dtype=bool)[:-1]
    return Tree(ones, np.cumsum(ones, axis=1) > ones)


def balanced(categories: int) -> Tree:
    """Runs of neighbouring categories split in halves, level by level."""
    each, runs, sides = np.arange(categories), [(0, categories)], []
    for start, end in runs:
        middle = (start + end) // 2
        if middle > start:
            sides.append([(start <= each) & (each < middle), (middle <= each) & (each < end)])
            runs += [(start, middle), (middle, end)]
    return Tree(*np.array(sides, bool).reshape(-1, 2, categories).swapaxes(0, 1))


def reordered(x: Event, order: Array) -> Event:
    """The entries along the last axis in that order, which each variable has for itself."""
    return jnp.take_along_axis(x, order, axis=-1)


def antithetic_difference(tree: Tree, dist: Categorical, f: Objective, noise: Bits, order: Array) -> Bits:
    """The estimate in the logits of the bits, of the logistic `noise` of one pair; the leaves in that order."""
    bits = Bernoulli(tree.logits(reordered(dist.logits, order)))
    x, mirrored = (tree.event(bits.harden(bits.perturb(sign * noise))) for sign in (1, -1))
    back = jnp.argsort(order, axis=-1)
    shared = tree.on_the_way(x) * tree.on_the_way(mirrored)
    weights = jnp.where(shared > 0, jax.nn.sigmoid(jnp.abs(bits.logits)), 1)
    scores = tree.score(x, bits.logits) - tree.score(mirrored, bits.logits)
    return 0.5 * (f(reordered(x, back)) - f(reordered(mirrored, back))) * weights * scores


def antithetic_gradient(
    key: PRNGKey, tree: Tree, dist: Categorical, f: Objective, num_pairs: int, order: Array
) -> Categorical:
    """The mean over pairs, taken back to the logits of the categories."""
    alpha, pullback = jax.vjp(lambda d: tree.logits(reordered(d.logits, order)), dist)
    noises = jax.random.logistic(key, (num_pairs, *alpha.shape), alpha.dtype)
    estimates = jax.vmap(lambda noise: antithetic_difference(tree, dist, f, noise, order))(noises)
    return pullback(jnp.mean(estimates, axis=0))[0]


@ESTIMATORS.register("disarm-sb")
class DisARMStickBreaking(AbstractStatelessEstimator):
    r"""DisARM on the bits of a stick-breaking construction, given the two events (DisARM-SB).

    The categories of `dist`, in ascending order of probability, have the bits $b_v$ with the logits $\alpha_v =
    \phi_v - \log \sum_{c > v} e^{\phi_c}$, and the event is the first $v$ with $b_v = 1$. For the events $x$, $x'$ of
    an antithetic pair of bits, $s_v(x) = 1[v \le x] (b_v - \sigma(\alpha_v))$, and $w_v = \sigma(|\alpha_v|)$ where
    $v \le \min(x, x')$ and 1 elsewhere,

    $$\hat g = \sum_v \tfrac12 (f(x) - f(x'))\, w_v\, (s_v(x) - s_v(x'))\, \nabla_\phi \alpha_v,$$

    averaged over `num_pairs` independent pairs.

    Unbiased in any order, as the order does not depend on the draw. It is the conditional expectation given $x$ and
    $x'$ of DisARM on all bits, so its variance is at most that; with two categories it is `DisARM`. Needs a
    `Categorical`; `2 * num_pairs` evaluations of `f`. Variables are independent, and each has bits of its own.

    >>> DisARMStickBreaking().evaluations(Categorical(logits=jnp.zeros((2, 5))))
    2

    This is the form with the bits that do not show in the events integrated out, in closed form. In ascending order no
    two bits of a pair are both one, so that the events of a pair coincide in the most probable category only, and the
    numbering of the categories does not matter. In other orders the variance is another, and may be less.

    **References:** Dong, Mnih and Tucker, Coupled gradient estimators for discrete latent variables, 2021,
    arXiv:2106.08056.
    """

    num_pairs: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def __check_init__(self):
        require_pairs(self)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        order = jnp.argsort(dist.logits, axis=-1)
        return antithetic_gradient(key, stick(dist.logits.shape[-1]), dist, f, self.num_pairs, order)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_pairs


@ESTIMATORS.register("disarm-tree")
class DisARMTree(AbstractStatelessEstimator):
    r"""DisARM on the bits of a balanced binary tree over the categories, given the two events (DisARM-Tree).

    The categories of `dist`, in the order of their numbers, are split in halves, the halves in halves, and so on. The
    bit $b_v$ of each split has the logit $\alpha_v$, the log-odds of its first half. For the events $x$, $x'$ of an
    antithetic pair of bits, $s_v(x)$ the difference $b_v - \sigma(\alpha_v)$ if the event passes the split $v$ and 0 if
    not, and $w_v = \sigma(|\alpha_v|)$ where both events pass $v$ and 1 elsewhere,

    $$\hat g = \sum_v \tfrac12 (f(x) - f(x'))\, w_v\, (s_v(x) - s_v(x'))\, \nabla_\phi \alpha_v,$$

    with $\phi$ the logits of `dist`, averaged over `num_pairs` independent pairs.

    Unbiased. It is the conditional expectation given $x$ and $x'$ of DisARM on all bits, so its variance is at most
    that; with two categories it is `DisARM`. Needs a `Categorical`; `2 * num_pairs` evaluations of `f`. Variables are
    independent, and each has bits of its own.

    >>> DisARMTree(num_pairs=3).evaluations(Categorical(logits=jnp.zeros((2, 5))))
    6

    This is the form with the bits that do not show in the events integrated out, in closed form. Of an odd number of
    categories the first half is the smaller. The estimate depends on the numbering of the categories.

    **References:** Dong, Mnih and Tucker, Coupled gradient estimators for discrete latent variables, 2021,
    arXiv:2106.08056.
    """

    num_pairs: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Categorical,)

    def __check_init__(self):
        require_pairs(self)

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        categories = dist.logits.shape[-1]
        order = jnp.broadcast_to(jnp.arange(categories), dist.logits.shape)
        return antithetic_gradient(key, balanced(categories), dist, f, self.num_pairs, order)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_pairs
