r"""Rao-Blackwellised straight-through: average the relaxed derivative over what the event does not tell.

`StraightThroughGumbelSoftmax` multiplies `f'(x)`, a function of the event, by the Jacobian of `relax` at perturbed
logits `z` that round to `x`. Given `x`, only the Jacobian is random, so that its conditional mean may take its place:

    E[ d relax(z; t) / d theta | harden(z) = x ].

Same mean, and by the law of total variance less variance, with no further evaluation of `f`. The conditional mean is
itself estimated, from draws of `z` given `x`. Those draws stand for the noise that made `z`, which is held fixed: the
derivative is along `perturb`, and not along the map from fresh noise to `z` given `x`, which moves with `theta` too.
Both are Jacobians of a relaxed event, and only the first has the mean of the estimator it improves on.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractConditionallyRelaxable, AbstractDistribution
from .distributions.base import Event, Noise, Scalar, as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


def averaged_pullback(
    dist: AbstractConditionallyRelaxable, latents: Float[Array, "inner ..."], temperature: Scalar, cotangent: Event
) -> Noise:
    """`cotangent` through the mean over `latents` of the Jacobian of `relax`."""
    temperature = temperature.astype(latents.dtype)

    def averaged(latents):
        return jnp.mean(jax.vmap(lambda z: dist.relax(z, temperature))(latents), axis=0)

    _, pullback = jax.vjp(averaged, latents)
    return jnp.sum(pullback(cotangent)[0], axis=0)


@ESTIMATORS.register("gumbel-rao")
class GumbelRao(AbstractStatelessEstimator):
    r"""The Gumbel-Rao estimator: straight-through Gumbel-Softmax, averaged over its noise given the event.

    For a sample $x$, `num_inner` independent perturbed logits $z_k$ given $\mathrm{harden}(z_k) = x$ and $t$ the
    `temperature`,

    $$\hat g = f'(x)^\top\, \frac1n \sum_{k=1}^n \frac{\partial\, \mathrm{relax}(z; t)}{\partial z} \Big|_{z = z_k}
    \frac{\partial\, \mathrm{perturb}(\varepsilon; \theta)}{\partial \theta}.$$

    Biased: it has the mean of `StraightThroughGumbelSoftmax` at the same temperature for every `num_inner`, and its law
    for `num_inner=1`. The variance is $\mathrm{Var}\, E[\hat g \mid x] + \frac1n E\, \mathrm{Var}[\hat g_1 \mid x]$. As
    $t \to 0$ the variance of `StraightThroughGumbelSoftmax` grows like $1 / t$; here the first part stays bounded, and
    only the second, which `num_inner` divides, grows. Needs a conditionally relaxable distribution and a
    differentiable `f`; one evaluation of `f` with its derivative, whatever `num_inner`.

    >>> from estimators import Bernoulli
    >>> GumbelRao(num_inner=100).evaluations(Bernoulli(logits=[0.0]))
    1

    The conditional noise is held fixed, as in the paper (GR-MC$K$): a total derivative of the conditional draw, which
    depends on the logits, has another mean. The default temperature is that of `StraightThroughGumbelSoftmax`, so that
    the two differ in variance alone.

    **References:** Paulus, Maddison and Krause, Rao-Blackwellizing the straight-through Gumbel-Softmax gradient
    estimator, 2021, arXiv:2010.04838.
    """

    num_inner: int = eqx.field(static=True, default=10)
    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractConditionallyRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "num_inner")
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        key_noise, key_inner = jax.random.split(key)
        noise = dist.noise(key_noise)
        # The noise is added to the logits, so the pullback through `perturb` is the same at every noise.
        z, pullback = jax.vjp(lambda d: d.perturb(noise), dist)
        x = dist.harden(z)
        given = jax.vmap(lambda key: dist.conditional(x, dist.noise(key)))(jax.random.split(key_inner, self.num_inner))
        return pullback(averaged_pullback(dist, given, self.temperature, jax.grad(f)(x)))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
