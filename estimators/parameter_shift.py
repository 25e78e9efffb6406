r"""Parameter shift: a derivative that is a difference of two values, however far apart, because the function is a
sinusoid.

If $L(\theta) = A + B \cos \theta + C \sin \theta$, then $L'(\theta) = (L(\theta + s) - L(\theta - s)) / (2 \sin s)$ for
every $s$ that is no multiple of $\pi$: no step has to be small. Expectations of a measured qubit are sinusoids in the
angle by which it was rotated, and classically such a qubit is a Bernoulli variable of probability $p = \sin^2(\theta /
2)$. In any other parametrisation the rule holds for the angle, and the chain rule leads back.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Bernoulli
from .distributions.base import as_floating
from .distributions.coordinates import replaced
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_below, require_positive


@ESTIMATORS.register("parameter-shift")
class ParameterShift(AbstractStatelessEstimator):
    r"""The parameter-shift rule in the angles of Bernoulli variables, carried to their logits.

    With the angles $\theta_i = 2 \arctan e^{\eta_i / 2}$ of the logits $\eta$ of `dist`, for which the probabilities
    are $p_i = \sin^2(\theta_i / 2)$, a `shift` $s$, and $x^{\pm i}$ an event drawn with the angle $\theta_i \pm s$ in
    place of $\theta_i$,

    $$\hat g_i = \sqrt{p_i (1 - p_i)}\, \frac{f(x^{+i}) - f(x^{-i})}{2 \sin s}.$$

    Unbiased for every shift: $E[f(x)]$ is affine in $p_i$, so a sinusoid in $\theta_i$ and not only nearly one, and
    $d \theta_i / d \eta_i = \sqrt{p_i (1 - p_i)}$. Needs a `Bernoulli`, and of `f` its values; two evaluations for each
    scalar parameter. The default $\pi / 2$ makes the smallest difference to be divided by. One bit whose value changes
    `f` by $D$ then has the variance $D^2 v^{3/2} (1 - 2 \sqrt v) / 2$, $v = p (1 - p)$, which is zero at $p = 1 / 2$;
    other shifts have more.

    >>> from estimators import Bernoulli
    >>> ParameterShift().evaluations(Bernoulli(logits=[0.0, 1.0]))
    4

    All events of one estimate are made of the same uniform variables, one for each bit, as in `FiniteDifference`. A
    quantum device draws them independently, and its variance is larger. The rule has no place for distributions whose
    expectations are not sinusoids in a parameter; among those here Bernoulli variables alone have such a parameter, and
    nothing of the kind holds for the logits themselves.

    **References:** Mitarai, Negoro, Kitagawa and Fujii, Quantum circuit learning, 2018, arXiv:1803.00745. Schuld,
    Bergholm, Gogolin, Izaac and Killoran, Evaluating analytic gradients on quantum hardware, 2019, arXiv:1811.11184.
    """

    shift: Float[Array, ""] = eqx.field(converter=as_floating, default=math.pi / 2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli,)

    def __check_init__(self):
        require_positive(self, "shift")
        require_below(self, "shift", math.pi)

    def gradient(self, key: PRNGKey, dist: Bernoulli, f: Objective) -> Bernoulli:
        u = jax.random.uniform(key, dist.event_shape, dist.logits.dtype)
        angle, shift = 2 * jnp.arctan(jnp.exp(dist.logits / 2)), self.shift.astype(dist.logits.dtype)

        def values(angles: Float[Array, "..."]) -> Float[Array, "..."]:
            """`f` with each bit in turn drawn with its angle of `angles`."""
            bits = (u < jnp.sin(angles / 2) ** 2).astype(u.dtype)
            events = replaced((u < jnp.sin(angle / 2) ** 2).astype(u.dtype), bits)
            return jax.vmap(f)(events.reshape(-1, *dist.event_shape)).reshape(angle.shape)

        difference = (values(angle + shift) - values(angle - shift)) / (2 * jnp.sin(shift))
        return Bernoulli(jnp.sin(angle) / 2 * difference)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return 2 * dist.logits.size
