r"""Inverse transform sampling that can be differentiated.

With `F` the distribution function and `p` the density of one real variable, `x = F^{-1}(u; theta)` is a draw for uniform
`u`, and at fixed `u`

$$\frac{\partial x}{\partial\theta} = -\frac{\partial F(x) / \partial\theta}{p(x)},$$

so a quantile function in closed form is a reparameterization, the only non-decreasing one.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import NEGLIGIBLE, Event, Noise
from .continuous import AbstractIntegrable, AbstractInvertible
from .coordinates import product_rule


class AbstractSmoothlyInvertible(AbstractInvertible, AbstractIntegrable):
    """Independent continuous variables whose quantile function is differentiable in the leaves.

    As a function of `u` it is smooth inside (0, 1) but for a kink at the median, if there is one.
    """

    def reparameterize(self, noise: Noise) -> Event:
        return self.quantile(noise)

    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
        """The tanh-sinh rule (Takahasi and Mori 1974) on each side of the median: the trapezoidal rule after `u = 1 / (1
        + exp(-pi sinh t))`, whose weights fall so fast that it does not matter how events grow as `u` nears 0 or 1. Half
        of the nodes, one more if their number is odd, are below the median."""
        (below, of_below), (above, of_above) = _tanh_sinh((resolution + 1) // 2), _tanh_sinh(resolution // 2)
        line = np.concatenate([below / 2, 1 - above / 2])
        weights = np.concatenate([of_below / 2, of_above / 2])
        (dtype,) = {leaf.dtype for leaf in jax.tree.leaves(self)}
        return product_rule(jnp.asarray(line, dtype), jnp.asarray(weights, dtype), self.event_shape)


def _tanh_sinh(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the integral over (0, 1), equally spaced in `t`."""
    end = math.asinh(NEGLIGIBLE / math.pi)
    t = end * (2 * np.arange(number) + 1 - number) / number
    u, rest = (1 / (1 + np.exp(sign * math.pi * np.sinh(t))) for sign in (-1, 1))
    return u, 2 * end / number * math.pi * np.cosh(t) * u * rest


def interior(u: Noise) -> Noise:
    """`u` of [0, 1) moved inside (0, 1), so that no quantile is infinite: by half of the spacing of uniform draws.

    >>> print(interior(jnp.array([0.0, 0.5], jnp.float32)))
    [5.9604645e-08 5.0000000e-01]
    """
    margin = jnp.finfo(u.dtype).eps / 2
    return jnp.clip(u, margin, 1 - margin)
