r"""The unordered set: a sample without replacement, with the order of the draws integrated out.

Let $S$ be a sample without replacement and $r$ the probability that it left out. For $A \subseteq S$ let $W(A)$ be the
probability that, of $A$ and the events outside of $S$, those of $A$ come first. By which event comes first of all,

$$W(A) = \sum_{x \in A} \frac{p(x)}{r + p(A)} W(A \setminus x), \qquad W(\emptyset) = 1,$$

and the leave-one-out ratios of the paper are $R(S, x) = W(S \setminus x) / W(S)$ and, with $x$ gone,
$R^{D \setminus x}(S, y) = W(S \setminus \{x, y\}) / W(S \setminus x)$. So $p(x) R(S, x)$ is the probability that $x$
was drawn first, given the set. The recursion runs over all subsets, $2^n$ for $n$ samples, and adds positive terms
only: it is exact to rounding where inclusion and exclusion cancel or where integrals need nodes, and at $r = 0$ too.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, weighted_score
from .distributions import AbstractDistribution, AbstractEnumerable
from .distributions.base import Scalar
from .objectives import Objective
from .registration import ESTIMATORS
from .without_replacement import Samples, listed, sample_without_replacement

# The subsets of more samples than this are too many.
MOST_SAMPLES = 10


def log_precedences(log_p: Samples, log_rest: Scalar) -> Float[Array, "subsets"]:
    """`log W(A)` for every subset `A`, whose members are the bits of its index.

    >>> p = jnp.array([0.5, 0.3])
    >>> first, second = 0.5 * 0.3 / 0.5, 0.3 * 0.5 / 0.7
    >>> print(jnp.exp(log_precedences(jnp.log(p), jnp.log(0.2)))[3].round(6), round(first + second, 6))
    0.514286 0.514286
    """
    codes, bits = np.arange(2**log_p.size)[:, None], 2 ** np.arange(log_p.size)[None]
    members, without, empty = codes & bits > 0, codes & ~bits, codes[:, 0] == 0

    def total(terms: Float[Array, "subsets samples"]) -> Float[Array, "subsets"]:
        return jax.nn.logsumexp(terms, axis=1, where=members)

    rates = jnp.broadcast_to(log_p, members.shape)
    log_totals = jnp.logaddexp(log_rest, total(rates))

    def grow(_, log_w: Float[Array, "subsets"]) -> Float[Array, "subsets"]:
        """Right for the sets of one more member."""
        return jnp.where(empty, 0, total(rates + log_w[without]) - log_totals)

    return jax.lax.fori_loop(0, log_p.size, grow, jnp.where(empty, 0, -jnp.inf).astype(log_p.dtype))


def first_and_second(log_p: Samples, log_rest: Scalar) -> tuple[Samples, Float[Array, "samples samples"]]:
    """`p(x) R(S, x)` for each event `x` of the set, and `p(y) R^{D - x}(S, y)` for each pair, in row `x`."""
    log_w, bits = log_precedences(log_p, log_rest), 2 ** np.arange(log_p.size)
    everything = log_w.size - 1
    one, two = everything & ~bits, everything & ~(bits[:, None] | bits[None])
    return jnp.exp(log_p + log_w[one] - log_w[-1]), jnp.exp(log_p[None] + log_w[two] - log_w[one][:, None])


@ESTIMATORS.register("unordered-set")
class UnorderedSet(AbstractStatelessEstimator):
    r"""The unordered set estimator, with the baseline that is built into it.

    For a set $S$ of `num_samples` events drawn without replacement, with leave-one-out ratios $R$,

    $$\hat g = \sum_{x \in S} p(x)\, R(S, x) \Big[ f(x) - \sum_{y \in S} p(y)\, R^{D \setminus x}(S, y)\, f(y) \Big]
    \nabla \log p(x),$$

    where $R^{D \setminus x}(S, x) = 1$; the inner sum is left out without `baseline`, and for a single sample.

    Unbiased: $p(x) R(S, x)$ is the probability, given $S$, that $x$ was drawn first; and given that it was, the inner
    sum has the mean $E[f]$ whatever $x$. Without `baseline` it is the conditional expectation given $S$ of one score
    function and of `StochasticSumAndSample`, and no worse than either. One sample is `ScoreFunction`. Needs a finite
    support, all of which is listed; `num_samples` evaluations of `f`, or one for each event if there are fewer, and
    then it is exact. Of the order of $2^n$ arithmetic for $n$ samples, of which there may be ten.

    >>> from estimators import Bernoulli
    >>> UnorderedSet(num_samples=3).evaluations(Bernoulli(logits=[0.0, 0.0]))
    3
    >>> grads = UnorderedSet().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: (x.sum() - 0.45) ** 2)
    >>> print(grads.logits.round(6))
    [0.025]

    The ratios are computed by recursion over the subsets of $S$, not by integration, and need no special case where the
    set holds nearly all of the probability.

    **References:** Kool, van Hoof and Welling, Estimating gradients for discrete random variables by sampling without
    replacement, 2020, arXiv:2002.06043.
    """

    num_samples: int = eqx.field(static=True, default=2)
    baseline: bool = eqx.field(static=True, default=True)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractEnumerable,)

    def __check_init__(self):
        if not 1 <= self.num_samples <= MOST_SAMPLES:
            raise ValueError(f"`UnorderedSet` needs `1 <= num_samples <= {MOST_SAMPLES}`, got {self.num_samples}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        events, log_probs = listed(dist)
        indices, _ = sample_without_replacement(key, log_probs, self.evaluations(dist))
        log_rest = jax.nn.logsumexp(log_probs.at[indices].set(-jnp.inf))
        first, second = first_and_second(log_probs[indices], log_rest)
        values = jax.vmap(f)(events[indices])
        baselines = second @ values if self.baseline and indices.size > 1 else jnp.zeros_like(values)
        return weighted_score(dist, events[indices], first * (values - baselines))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return min(self.num_samples, dist.support_size)
