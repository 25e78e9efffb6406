r"""Direct loss minimisation: how far the argmax moves when the objective is added to what it maximises.

For the perturbed logits $z$ of a categorical variable with logits $\eta$, and a function `f` of its category,
$\mathrm{argmax}(z)$ has the law $\mathrm{softmax}(\eta)$ and $\mathrm{argmax}(z + \epsilon f)$ the law
$\mathrm{softmax}(\eta + \epsilon f)$. So the mean move is a finite difference of the softmax along `f`,

$$\tfrac1\epsilon E[x_\epsilon - x] = \tfrac1\epsilon [\mathrm{softmax}(\eta + \epsilon f) - \mathrm{softmax}(\eta)]
\;\to\; (\mathrm{diag}(\pi) - \pi \pi^\top) f = \nabla_\eta E[f],$$

for the Jacobian of the softmax is symmetric. Both argmaxes see the same noise, or the variance would be of order
$\epsilon^{-2}$ instead of $\epsilon^{-1}$.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractAdditivelyPerturbed, AbstractDistribution
from .distributions.base import Event, as_floating
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_nonzero


def gains(dist: AbstractAdditivelyPerturbed, x: Event, f: Objective) -> Event:
    """For each entry of `x`, what `f` gains as that entry grows from 0 to 1 and the other variables stay as they are;
    for a categorical variable, up to a constant that changes no argmax."""
    switched = dist.switched(x).reshape(x.size, *x.shape)
    change = jnp.diagonal(switched.reshape(x.size, x.size)) - x.ravel()
    return ((jax.vmap(f)(switched) - f(x)).astype(x.dtype) * change).reshape(x.shape)


@ESTIMATORS.register("direct-loss")
class DirectLossMinimization(AbstractStatelessEstimator):
    r"""Direct optimization through the argmax: the move of the event when `f` is added to the perturbed logits.

    With $z$ the perturbed logits, $x = \mathrm{harden}(z)$ and $F(x)$ the values of `f` at each category of each
    variable in turn, the other variables left at $x$ (for a bit, the difference of the two),

    $$\hat g = \frac{1}{\epsilon}\, [\mathrm{harden}(z + \epsilon F(x)) - x].$$

    Biased, and the bias vanishes as the step `epsilon` does. The mean is a finite difference along $F$, which does not
    depend on what the variable itself is: for one variable $v$ of logits $\eta_v$ it is

    $$E[\hat g_v] = \tfrac1\epsilon\, E[\mathrm{softmax}(\eta_v + \epsilon F_v(x)) - \mathrm{softmax}(\eta_v)],$$

    a sigmoid in place of the softmax for a bit, and the expectation over the other variables. The variance grows like
    $1 / |\epsilon|$: an estimate is zero unless the event moves, and of size $1 / |\epsilon|$ if it does. Needs a
    distribution that is perturbed additively, and values of `f` on the support only; one evaluation of `f` and one for
    each entry of an event.

    >>> from estimators import Categorical
    >>> DirectLossMinimization().evaluations(Categorical(logits=jnp.zeros((2, 3))))
    7

    For one variable this is the exact argmax of $z + \epsilon f$ over all its events. For several the argmax of an `f`
    that is not a sum runs over the product space; as in the paper, `f` is replaced there by the sum of its values at one
    changed variable, which leaves the limit as it is. A negative `epsilon` moves away from large values.

    **References:** Lorberbom, Gane, Jaakkola and Hazan, Direct optimization through argmax for discrete variational
    auto-encoder, 2019, arXiv:1806.02867.
    """

    epsilon: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractAdditivelyPerturbed,)

    def __check_init__(self):
        require_nonzero(self, "epsilon")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        z, pullback = jax.vjp(lambda d: d.perturb(noise), dist)
        x, epsilon = dist.harden(z), self.epsilon.astype(noise.dtype)
        moved = dist.harden(z + epsilon * gains(dist, x, f))
        return pullback((moved - x) / epsilon)[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 1 + math.prod(dist.event_shape)
