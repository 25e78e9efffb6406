"""Relaxations: smooth the event and differentiate through it.

A discrete event is the rounding of perturbed logits `z`, and rounding has derivative zero. Put a smooth `relax(z, t)`
in its place and the pathwise gradient exists: it is the exact gradient of `E[f(relax(z, t))]`, another objective, which
tends to `E[f(x)]` as the temperature falls while the variance grows like `1 / t`. Estimators that live with that bias
belong here; those that round going forward are in `straight_through`, those that remove the bias in `rebar`.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractRelaxable
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("gumbel-softmax")
class GumbelSoftmax(AbstractStatelessEstimator):
    r"""The Gumbel-Softmax (Concrete) estimator: the pathwise gradient of the relaxed event.

    With `noise` drawn, $z = \mathrm{perturb}(\varepsilon; \theta)$ the perturbed logits and $t$ the `temperature`,

    $$\hat g = \nabla_\theta f(\mathrm{relax}(z; t)).$$

    Biased: it is the gradient of the smoothed objective. The bias vanishes as $t \to 0$, where the variance grows
    without bound. Needs a relaxable distribution and an `f` that is differentiable between its events; one evaluation
    of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> estimator = GumbelSoftmax(temperature=1.0)
    >>> print(estimator.gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 0 * x.sum()).logits)
    [0.]

    For Bernoulli variables this is the binary Concrete relaxation, a sigmoid of logistic noise; a softmax of two Gumbel
    variables at this temperature has the same law. For an `InvertibleGaussian` it is the reparameterization IGR-I, whose
    noise is normal. `f` sees the soft event, and the hard one in `StraightThroughGumbelSoftmax`.

    **References:** Maddison, Mnih and Teh, The Concrete distribution: a continuous relaxation of discrete random
    variables, 2017, arXiv:1611.00712. Jang, Gu and Poole, Categorical reparameterization with Gumbel-Softmax, 2017,
    arXiv:1611.01144. Potapczynski, Loaiza-Ganem and Cunningham, Invertible Gaussian reparameterization, 2020,
    arXiv:1912.09588.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        temperature = self.temperature.astype(noise.dtype)
        return jax.grad(lambda d: f(d.relax(d.perturb(noise), temperature)))(dist)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
