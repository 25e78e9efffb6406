r"""ReinMax-CV: ReinMax with the noise of a relaxed event as its control variate.

The Jacobian of `relax` at perturbed logits `z` varies with the event and with the noise that made it, and the mean over the
noise given the event, which `gumbel_rao` takes, varies with the event alone. One that is subtracted from ReinMax and the
other that is added in its place are a control variate,

    \hat g = ReinMax + c (E[S | x] - S),    S = [d relax(z; t) / d z]^T f'(x),

whose mean would be zero with `z` and the conditional noise of one law. Half-way between the mean and the event, where
ReinMax takes its Jacobian, it is not: see the docstring.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .distributions.base import as_floating
from .gumbel_rao import averaged_pullback
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .reinmax import averaged_given, half_way
from .validation import require_positive


@ESTIMATORS.register("reinmax-cv")
class ReinMaxCV(AbstractStatelessEstimator):
    r"""ReinMax-CV: ReinMax with a relaxed event as control variate, less its mean given the event.

    For Gumbel noise $\varepsilon$, $x$ the category of the largest of $\theta + \varepsilon$ in each variable, $\theta$ the
    logits of `dist` and $\pi$ its mean, $m = \log \tfrac12 (\pi + x)$, $t$ the `temperature`, $c$ the `coefficient`, $n$
    the number `num_inner` of draws $z_k$ of $m + \varepsilon'$ given that its largest is at $x$, and
    $S(z) = [\partial\, \mathrm{relax}(z; t) / \partial z]^\top f'(x)$,

    $$\hat g = 2 J\!\left(\tfrac12 (\pi + x)\right) f'(x) - \tfrac12 J(\pi) f'(x)
    + c \left[ \tfrac1n \sum_{k=1}^n S(z_k) - S(m + \varepsilon) \right].$$

    Biased, for an affine `f` too. With `coefficient` 0 it is `ReinMax` at temperature 1, and exact for quadratics. The
    bracket is a control variate in name: $\varepsilon$ was drawn for the logits $\theta$, and given $x$ it is not the noise
    whose largest, added to $m$, is at $x$; so the mean of the bracket is not zero, and adds to the bias. Given $x$ ReinMax
    does not vary, and the bracket does: what it may take away is the variance from one event to another alone.
    Needs a `Categorical` and a differentiable `f`; one evaluation of `f` with its derivative, whatever `num_inner`.

    >>> ReinMaxCV(num_inner=100).evaluations(Categorical(logits=[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    1

    This is the form that the head of this file derives, with the pair that the program of its authors has: a relaxed event
    and its mean given the event, both half-way. There $S$ is taken at $m$ plus the relaxed event itself, where here it is the
    noise $\varepsilon$, and the Jacobian is that of the softmax at temperature 1 divided by $t$; this is the derivative of no
    relaxed event, and its mean is not that of the other either.

    **References:** Wang and Bui, Beyond ReinMax: low-variance gradient estimators for discrete latent variables, 2026,
    arXiv:2603.08257.
    """

    num_inner: int = eqx.field(static=True, default=10)
    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)
    coefficient: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "num_inner")
        require_positive(self, "temperature")

    def gradient(self, key: PRNGKey, dist: Categorical, f: Objective) -> Categorical:
        key_noise, key_inner = jax.random.split(key)
        noise = dist.noise(key_noise)
        x, mean = dist.harden(dist.perturb(noise)), dist.mean()
        slope = jax.grad(f)(x)
        middle = half_way(dist, x)
        reinmax = 2 * dist.covariance((mean + x) / 2, slope) - dist.covariance(mean, slope) / 2
        averaged = averaged_given(jax.random.split(key_inner, self.num_inner), middle, x, self.temperature, slope)
        relaxed = averaged_pullback(middle, middle.perturb(noise)[None], self.temperature, slope)
        return Categorical(reinmax + self.coefficient.astype(x.dtype) * (averaged - relaxed))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
