r"""Gapped straight-through: logits moved to where the event leads, instead of noise that makes it lead.

Gumbel noise makes the category that was drawn the largest perturbed logit, by a random margin. All that this does for
the derivative of a tempered softmax can be had without noise: given the one-hot event `x` of logits `l`, put

    l'_j = max(l)                        for the category of x,
    l'_j = min(l_j, max(l) - gap)        for the others,

so that the event is consistent with `l'` (it is their argmax) and leads by at least `gap`. Both moves are constants of
the derivative. The margin of the Gumbel-max trick is a truncated logistic variable: with `zeta = logit(pi_x)`, the top
leads the largest of the others by `zeta + e` given that this is positive, whose mean is

    E[zeta + e | zeta + e > 0] = softplus(zeta) / sigmoid(zeta) = -log(1 - pi_x) / pi_x,

at least 1 and growing with the probability of the event.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .distributions.base import Event, as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive

Logits = Float[Array, "*variables categories"]
Gap = Float[Array, "*variables 1"]


def expected_gap(log_probs: Logits, x: Event) -> Gap:
    """By how much the category of `x` leads on average after Gumbel noise: `-log(1 - pi) / pi` with its probability.

    >>> print(expected_gap(jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.array([1.0, 0.0, 0.0])).round(4))
    [1.3863]
    """
    rest = jax.nn.logsumexp(jnp.where(x > 0, -jnp.inf, log_probs), axis=-1, keepdims=True)
    # Below -40 the ratio is 1 to the last digit of a double, and further below both of its parts underflow.
    logit = jnp.maximum(jnp.sum(x * log_probs, axis=-1, keepdims=True) - rest, -40)
    return jax.nn.softplus(logit) / jax.nn.sigmoid(logit)


def gapped(log_probs: Logits, x: Event, gap: Gap | Float[Array, ""]) -> Logits:
    """The logits moved as little as makes the category of `x` the largest, by at least `gap`."""
    top = jnp.max(log_probs, axis=-1, keepdims=True)
    return jnp.where(x > 0, top, jnp.minimum(log_probs, top - gap))


def _as_gap(value) -> Float[Array, ""] | None:
    return None if value is None else as_floating(value)


@ESTIMATORS.register("gapped-straight-through")
@ESTIMATORS.register("gapped-straight-through-p", gap=None)
class GappedStraightThrough(AbstractStatelessEstimator):
    r"""The gapped straight-through estimator: the softmax of logits that were moved until the event leads by a gap.

    For a sample $x$ of `dist` with normalised logits $\ell = \log \pi$, $m$ the largest of them, $t$ the `temperature`,
    $\ell'_j = m$ for the category of $x$ and $\ell'_j = \min(\ell_j, m - \mathrm{gap})$ for the others,

    $$\hat g = \tfrac1t \left(\mathrm{diag}(y) - y\, y^\top\right) f'(x), \qquad y = \mathrm{softmax}(\ell' / t).$$

    Biased, for an affine `f` too: the mean over $x$ of that Jacobian is not that of $\pi$. The event is the only thing
    that is random, so a mean is a sum over events, and so is a variance. With `gap=None` the gap is the one of the
    Gumbel-max trick on average, $-\log(1 - \pi_x) / \pi_x$ (GST-p; GST-1.0 is `gap=1.0`). Needs a `Categorical` and a
    differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Categorical
    >>> dist = Categorical(logits=[0.0, 0.0])
    >>> grads = GappedStraightThrough(gap=0.0).gradient(jax.random.key(0), dist, lambda x: 4 * x[0])
    >>> print(grads.logits)
    [ 1. -1.]

    The moves are constants: the derivative is taken along the logits with $\ell' - \ell$ fixed, and the factor $1 / t$
    is kept. The authors' program shrinks $\pi_x$ by $10^{-5}$ before its logarithm; here the ratio is computed from the
    logits and needs no guard. For a gap of zero and an event that is the mode it is a tempered `StraightThrough`.

    **References:** Fan, Chi, Rudnicky and Ramadge, Training discrete deep generative models via gapped straight-through
    estimator, 2022, arXiv:2206.07235.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    gap: Float[Array, ""] | None = eqx.field(converter=_as_gap, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")
        known = self.gap is not None and not isinstance(self.gap, jax.core.Tracer)
        if known and np.any(np.asarray(self.gap) < 0):
            raise ValueError(
                f"`GappedStraightThrough` needs `gap >= 0`, got {self.gap}; give a number, or `None` for the mean gap."
            )

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        x = dist.sample(key)
        gap = expected_gap(dist.log_probs, x) if self.gap is None else self.gap.astype(x.dtype)
        moved = gapped(dist.log_probs, x, gap)
        # A shift of all logits by one number is in the null space of the softmax, so this is the pullback to `logits`.
        _, pullback = jax.vjp(lambda z: dist.relax(z, self.temperature.astype(x.dtype)), moved)
        return Categorical(pullback(jax.grad(f)(x))[0])

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
