r"""DLAX: a function of the perturbed logits as control variate, by the difference of its two gradients.

An event is the rounding of perturbed logits $z$, whose law is smooth. So for any function $c$ of $z$, the gradient of
$E[c(z)]$ has two unbiased estimates, by the score of $z$ and along the path $z(\theta)$; their difference

$$\nabla_\theta c(z(\theta)) - c(z)\, \nabla_\theta \log p(z)$$

has mean zero, and is correlated with the estimate for the discrete event $b = \mathrm{harden}(z)$. Unlike in `rebar`
there is no second draw given $b$, hence no conditional law; the price is that the noise in $z$ which $b$ does not tell
stays in.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, AbstractLatentDensity
from .distributions.base import Noise, Scalar, as_floating, precision
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_positive


class LatentNetwork(eqx.Module):
    """A network of one hidden layer on a flattened array, such as perturbed logits; every leaf is an array."""

    hidden: eqx.nn.Linear
    output: eqx.nn.Linear

    def __call__(self, z: Noise) -> Scalar:
        return self.output(jnp.tanh(self.hidden(jnp.ravel(z))))


def silent_network(key: PRNGKey, dist: AbstractDistribution, width: int) -> LatentNetwork:
    """A network for arrays of the size of an event, whose output layer is zero."""
    key_hidden, key_output = jax.random.split(key)
    dtype, size = precision(dist), math.prod(dist.event_shape)
    hidden = eqx.nn.Linear(size, width, dtype=dtype, key=key_hidden)
    output = eqx.nn.Linear(width, "scalar", dtype=dtype, key=key_output)
    return LatentNetwork(hidden, jax.tree.map(jnp.zeros_like, output))


@ESTIMATORS.register("dlax")
class DLAX(AbstractLearnedEstimator):
    r"""DLAX: the score function, with a network of the perturbed logits as control variate.

    With $z$ the perturbed logits, $b = \mathrm{harden}(z)$ and $c$ the network,

    $$\hat g = f(b)\, \nabla_\theta \log p(b) - c(z)\, \nabla_\theta \log p(z) + \nabla_\theta c(z),$$

    where the second gradient is that of the density of $z$ at a fixed point, and the third runs along the path
    $z(\theta)$.

    Unbiased for every $c$: its two terms estimate one gradient, with opposite signs. The network, one hidden layer of
    `width` units with `tanh`, is trained on the second moment of one estimate; its output layer starts at zero, so that
    training starts from `ScoreFunction`. Needs a distribution whose perturbed logits have a density; one evaluation of
    `f`, at an event, and one of the network.

    >>> from estimators import Bernoulli
    >>> DLAX(width=4).evaluations(Bernoulli(logits=[0.0]))
    1

    A constant $c$ is no baseline for the score of $b$ but multiplies that of $z$, which is also correlated with the
    estimate. The objective itself is not in $c$, so it may be a black box.

    **References:** Grathwohl, Choi, Wu, Roeder and Duvenaud, Backpropagation through the void: optimizing control
    variates for black-box gradient estimation, 2018, arXiv:1711.00123.
    """

    width: int = eqx.field(static=True, default=10)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractLatentDensity,)

    def __check_init__(self):
        require_positive(self, "learning_rate")
        require_positive(self, "width")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> LatentNetwork:
        return silent_network(key, dist, self.width)

    def gradient(self, key: PRNGKey, control: LatentNetwork, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        z = dist.perturb(noise)
        b = dist.harden(z)

        def terms(d: Grads) -> tuple[Scalar, Scalar, Scalar]:
            return d.log_prob(b), d.latent_log_prob(z), control(d.perturb(noise))

        (log_prob, _, value), pullback = jax.vjp(terms, dist)
        return pullback((f(b).astype(log_prob.dtype), -value, jnp.ones_like(value)))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
