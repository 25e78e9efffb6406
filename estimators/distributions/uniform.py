r"""The uniform distribution, whose support moves with its parameters.

`E[f(x)] = 1 / (2 scale) int f` from `loc - scale` to `loc + scale`, so

$$\frac{\partial}{\partial loc} E[f] = \frac{f(loc + scale) - f(loc - scale)}{2\, scale}, \quad
\frac{\partial}{\partial\log scale} E[f] = \frac{f(loc + scale) + f(loc - scale)}{2} - E[f]:$$

what happens at the edges, of which no score knows, less the mean, which is all that one does. Weak derivatives are
differences of point masses at the edges and of the law itself (Pflug 1989).
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, as_floating
from .coordinates import replaced
from .location_scale import AbstractLocationScale


class Uniform(AbstractLocationScale, AbstractWeaklyDifferentiable):
    """Independent uniform events between `loc - exp(log_scale)` and `loc + exp(log_scale)`, any shape.

    Its density is differentiable where it is positive, but that derivative is no score: the support is not fixed, and
    estimators that multiply by the score are refused.

    >>> from estimators import ScoreFunction, incompatibility
    >>> incompatibility(ScoreFunction(), Uniform(loc=[0.0], log_scale=[0.0]), jnp.sum)
    '`ScoreFunction` needs a fixed support distribution, and `Uniform` is not one.'
    """

    loc: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    log_scale: Float[Array, "*variables"] = eqx.field(converter=as_floating)
    standard_mean: ClassVar[float] = 0.0
    standard_variance: ClassVar[float] = 1 / 3

    def standard_quantile(self, u: Noise) -> Event:
        return 2 * u - 1

    def standard_log_prob(self, z: Event) -> Event:
        # An event at the edge may be rounded over it, by a unit in the last place of whichever is larger.
        slack = 2 * jnp.finfo(z.dtype).eps * (1 + jnp.abs(self.loc) / self.scale)
        return jnp.where(jnp.abs(z) <= 1 + slack, -jnp.log(jnp.full_like(z, 2)), -jnp.inf)

    def weak_derivative(self, key: PRNGKey) -> tuple["Uniform", "Uniform", "Uniform"]:
        """The two edges along `loc`, and along `log_scale` the edge on the side of the event, and the event."""
        x = self.sample(key)
        upper, lower = self.located(jnp.ones_like(x)), self.located(-jnp.ones_like(x))
        nearer = jnp.where(x < self.loc, lower, upper)
        weights = Uniform(1 / (2 * self.scale), jnp.ones_like(self.log_scale))
        return weights, Uniform(replaced(x, upper), replaced(x, nearer)), Uniform(replaced(x, lower), replaced(x, x))
