"""Straight-through estimators: round going forward, pretend not to have rounded going backward.

The objective sees a true event `x`; its derivative `f'(x)` is then pulled back through something smooth in the leaves
that the event resembles. What that is tells the estimators of this room apart, and the literature calls several by one
name: the identity or the mean, at temperature 1 or another, of the sample's own noise or of none. Each docstring below
says which it is. Those that mend the bias on quadratics are in `zgr`, `reinmax` and `optimal_straight_through`.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractLogitParameterized, AbstractRelaxable, Bernoulli
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("straight-through")
class StraightThrough(AbstractStatelessEstimator):
    r"""The straight-through estimator, with the derivative of the mean in place of that of the sample.

    For a sample $x$ of `dist`,

    $$\hat g = f'(x)^\top \, \frac{\partial\, \mathrm{mean}(\theta)}{\partial \theta}.$$

    Biased, but exact for an affine `f`, whose $f'$ does not depend on $x$, and exact in the mean for an `f` that is
    affine in each variable while the others are fixed. For one Bernoulli variable with success
    probability $p$ its mean is $p (1 - p) [p f'(1) + (1 - p) f'(0)]$; for $f(x) = (x - c)^2$ the bias is
    $p (1 - p) (2 p - 1)$, none at $p = 1/2$. Needs a relaxable distribution (for its mean) and a differentiable `f`;
    one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> grads = StraightThrough().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [0.5]

    This is the form whose Jacobian is that of the mean with respect to the logits: $p (1 - p)$ for a Bernoulli
    variable, $\mathrm{diag}(\pi) - \pi \pi^\top$ for a categorical one, the softmax at temperature 1. The form of
    Bengio et al. that leaves this factor out (the identity from sample to logits) is `IdentityStraightThrough`, and the
    softmax at another temperature `TemperedStraightThrough`; neither is exact for an affine `f`.

    **References:** Bengio, Léonard and Courville, Estimating or propagating gradients through stochastic neurons for
    conditional computation, 2013, arXiv:1308.3432.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        _, pullback = jax.vjp(lambda d: d.mean(), dist)
        return pullback(jax.grad(f)(x))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("identity-straight-through")
class IdentityStraightThrough(AbstractStatelessEstimator):
    r"""The straight-through estimator in its first form: the derivative at the sample is that of the logits.

    For a sample $x$ of `dist`,

    $$\hat g = f'(x).$$

    Biased, for an affine `f` too, by the factor $p (1 - p)$ of each variable that it leaves out: the mean is
    $p f'(1) + (1 - p) f'(0)$ for one variable, and the sign may be right where the size is not. Needs a `Bernoulli` and
    a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> grads = IdentityStraightThrough().gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum())
    >>> print(grads.logits)
    [2.]

    The same paper multiplies by the derivative of the sigmoid as an alternative, which is `StraightThrough`. On one-hot
    events the identity would be no gradient in the logits at all, for its categories do not sum to zero, and it would
    depend on how `f` is continued off the simplex; so it is refused there.

    **References:** Bengio, Léonard and Courville, Estimating or propagating gradients through stochastic neurons for
    conditional computation, 2013, arXiv:1308.3432.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Bernoulli, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        _, pullback = jax.vjp(lambda d: d.logits, dist)
        return pullback(jax.grad(f)(x))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("tempered-straight-through")
class TemperedStraightThrough(AbstractStatelessEstimator):
    r"""The straight-through estimator with the derivative of the mean at another temperature.

    For a sample $x$ of `dist` (at temperature 1) and $t$ the `temperature`,

    $$\hat g = f'(x)^\top \, \frac{\partial\, \mathrm{softmax}(\theta / t)}{\partial \theta},$$

    with $\theta$ the logits, and the sigmoid in place of the softmax for Bernoulli variables.

    Biased, for an affine `f` too unless $t = 1$, where it is `StraightThrough`. Needs a relaxable distribution with
    logits and a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> estimator = TemperedStraightThrough(temperature=2.0)
    >>> print(estimator.gradient(jax.random.key(0), Bernoulli(logits=[0.0]), lambda x: 2 * x.sum()).logits)
    [0.25]

    The factor $1 / t$ of the chain rule is kept, so the norm of an estimate falls with the temperature; programs that
    take the Jacobian of the softmax *at* $\theta / t$ leave it out. The logits carry no noise, and that is all that
    tells this from `StraightThroughGumbelSoftmax`.

    **References:** Bengio, Léonard and Courville, Estimating or propagating gradients through stochastic neurons for
    conditional computation, 2013, arXiv:1308.3432. Liu, Dong, Liu, Yu and Gao, Bridging discrete and backpropagation:
    straight-through and beyond, 2023, arXiv:2304.08612.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=2.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractLogitParameterized, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        temperature = self.temperature.astype(x.dtype)
        _, pullback = jax.vjp(lambda d: d.relax(d.logits, temperature), dist)
        return pullback(jax.grad(f)(x))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("straight-through-gumbel-softmax")
class StraightThroughGumbelSoftmax(AbstractStatelessEstimator):
    r"""The straight-through Gumbel-Softmax estimator: the event is hard, its derivative that of the relaxed event.

    With `noise` drawn, $z = \mathrm{perturb}(\varepsilon; \theta)$ the perturbed logits, $x = \mathrm{harden}(z)$ and
    $t$ the `temperature`,

    $$\hat g = f'(x)^\top \, \frac{\partial\, \mathrm{relax}(z; t)}{\partial \theta}.$$

    Biased, for an affine `f` too: there it is `GumbelSoftmax`, estimate by estimate. Needs a relaxable distribution and
    a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> StraightThroughGumbelSoftmax(temperature=0.5).evaluations(Bernoulli(logits=[0.0]))
    1

    The hard and the soft event are those of the *same* perturbed logits, as in Jang et al., and the factor $1 / t$ of
    the relaxation's derivative is kept, so the norm of an estimate depends on the temperature. A fresh sample in the
    forward pass, the softmax of unperturbed logits in the backward pass, or a derivative without $1 / t$ make other
    estimators.

    **References:** Jang, Gu and Poole, Categorical reparameterization with Gumbel-Softmax, 2017, arXiv:1611.01144.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        x = dist.harden(dist.perturb(noise))
        temperature = self.temperature.astype(noise.dtype)
        _, pullback = jax.vjp(lambda d: d.relax(d.perturb(noise), temperature), dist)
        return pullback(jax.grad(f)(x))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
