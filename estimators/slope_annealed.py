r"""Slope annealing: straight-through with a sigmoid that is steeper going backward than the law is.

A binary unit `x ~ Bernoulli(p)` is differentiated as if it were `sigmoid(a eta)`, which tends to the step at zero as
the slope `a` grows. For a unit that *is* a step the two then agree better and better, which is what the trick was made
for: the slope rises along the training of a network with such units. For a unit that is drawn, a steeper sigmoid moves
away from the mean of what is drawn, and this room is for measuring what that costs.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Bernoulli
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("slope-annealed-straight-through")
class SlopeAnnealedStraightThrough(AbstractStatelessEstimator):
    r"""The straight-through estimator with the derivative of a sigmoid of another slope.

    For a sample $x$ of `dist` with logits $\eta$ and $a$ the `slope`,

    $$\hat g_i = f'_i(x)\, a\, \sigma(a \eta_i)\, \sigma(-a \eta_i).$$

    Biased, for an affine `f` too unless $a = 1$, where it is `StraightThrough`. For one variable with success
    probability $p$ its mean is $a\, \sigma(a \eta)\, \sigma(-a \eta)\, [p f'(1) + (1 - p) f'(0)]$: that of
    `StraightThrough` times a factor, which is $a$ at $\eta = 0$ and, for $a > 1$, vanishes as $|\eta|$ grows. Needs a
    `Bernoulli` and a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> estimator = SlopeAnnealedStraightThrough(slope=4.0)
    >>> print(estimator.gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: x.sum()).logits)
    [1.]

    The slope is in the backward pass alone. In the paper it is a part of the unit, whose law changes while it is
    annealed; under a law that is given, a slope in both passes is a change of units, which gives $a$ times
    `StraightThrough`. The sigmoid is the logistic one, whose mean at slope 1 is that of the events, and not the paper's
    piecewise linear one. Annealing is the user's: `slope` is a number, which the paper raises from 1 to 5.

    **References:** Chung, Ahn and Bengio, Hierarchical multiscale recurrent neural networks, 2017, arXiv:1609.01704.
    """

    slope: Float[Array, ""] = eqx.field(converter=as_floating, default=2.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Bernoulli, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "slope")

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        x = dist.sample(key)
        slope = self.slope.astype(x.dtype)
        steep = slope * dist.logits
        return Bernoulli(jax.grad(f)(x) * slope * jax.nn.sigmoid(steep) * jax.nn.sigmoid(-steep))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
