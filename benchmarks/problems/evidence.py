"""The evidence bound of a latent variable model with binary pixels: its integrands, its divergence, and its exact value.

    ELBO = E[log p(x | z)] - KL(q || p) = E[log p(x, z) - log q(z)],    z ~ q.

`Reconstruction` and `LogWeight` are what the two forms leave to an estimator, `divergence` is what the first adds in closed form, and
`evidence_bound` is the second form summed over all events. The sum shares no code with the estimators: it is the other route to
every truth.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import (
    AbstractDifferentiable,
    AbstractDistribution,
    AbstractRegularizedLogWeight,
    Bernoulli,
    Categorical,
    Normal,
)
from estimators.elementary import sum_of_softplus

from .base import Scalar

Event = Float[Array, "..."]
Image = Float[Array, "pixels"]

# Nine standard deviations leave out less than 1e-18 of a normal law.
HALF_WIDTH = 9.0


class Reconstruction(AbstractDifferentiable):
    """`f(z) = log p(x | z)`, the log-probability of a binary image under independent pixels; a relaxed `z` is decoded as it is."""

    decoder: Callable[[Event], Image]
    image: Image

    def __call__(self, z: Event) -> Scalar:
        logits = self.decoder(z)
        return jnp.vdot(self.image, logits) - sum_of_softplus(logits)


class LogWeight(AbstractRegularizedLogWeight):
    """`f(z) = log p(x, z) - log q(z)`, the whole integrand of the bound; `reconstruction` is `log p(x | z)`.

    An estimator differentiates its own `dist` and never `posterior`. Pathwise gradients of it are therefore "sticking the landing"
    (Roeder, Wu and Duvenaud, 2017, arXiv:1703.09194). On a relaxed `z` the log-masses are continued as the linear functions that they
    are: the mean over relaxed events is no bound on anything, which is part of the bias of the estimators that take it.
    """

    reconstruction: AbstractDifferentiable
    prior: AbstractDistribution
    posterior: AbstractDistribution

    def log_likelihood(self, z: Event) -> Scalar:
        return self.reconstruction(z)

    def divergence(self, dist: AbstractDistribution) -> Scalar:
        return divergence(dist, self.prior)


@functools.singledispatch
def divergence(dist: AbstractDistribution, prior: AbstractDistribution) -> Scalar:
    """The Kullback-Leibler divergence `KL(dist || prior)` of two distributions of one family, in closed form."""
    del prior
    raise TypeError(f"The divergence of a `{type(dist).__name__}` has no closed form here; use `kl='sampled'`.")


@divergence.register(Bernoulli)
@divergence.register(Categorical)
def _(dist: AbstractDistribution, prior: AbstractDistribution) -> Scalar:
    # Log-masses are linear in the event, so their expectation is their value at the expected event.
    return dist.log_prob(dist.mean()) - prior.log_prob(dist.mean())


@divergence.register(Normal)
def _(dist: Normal, prior: Normal) -> Scalar:
    widening = dist.log_scale - prior.log_scale
    distance = (dist.loc - prior.loc) / prior.scale
    return 0.5 * jnp.sum(jnp.exp(2 * widening) + distance**2 - 1 - 2 * widening)


def evidence_bound(
    dist: AbstractDistribution, decoder: Callable[[Event], Image], prior: AbstractDistribution, image: Image, nodes: int
) -> Scalar:
    """The bound of one image, exactly; `nodes` to a dimension where the sum stands for an integral."""
    terms = summation(dist, nodes)
    logits = jax.vmap(decoder)(terms.events)
    signed = jnp.where(jnp.broadcast_to(image, logits.shape) > 0, logits, -logits)
    log_joint = jnp.sum(jax.nn.log_sigmoid(signed), axis=1) + jax.vmap(prior.log_prob)(terms.events)
    return jnp.vdot(terms.weights, log_joint - terms.log_densities)


class Terms(NamedTuple):
    """An expectation as a sum: events, what each weighs, and the logarithm of its density."""

    events: Float[Array, "terms ..."]
    weights: Float[Array, "terms"]
    log_densities: Float[Array, "terms"]


@functools.singledispatch
def summation(dist: AbstractDistribution, nodes: int) -> Terms:
    """The terms of an expectation under `dist`."""
    del nodes
    raise TypeError(f"The expectation under a `{type(dist).__name__}` is not a sum that can be written out.")


@summation.register(Bernoulli)
def _(dist: Bernoulli, nodes: int) -> Terms:
    del nodes
    events = dist.support()
    signed = jnp.where(events > 0, dist.logits[None], -dist.logits[None])
    log_mass = jnp.sum(jax.nn.log_sigmoid(signed).reshape(len(events), -1), axis=1)
    return Terms(events, jnp.exp(log_mass), log_mass)


@summation.register(Categorical)
def _(dist: Categorical, nodes: int) -> Terms:
    del nodes
    events = dist.support()
    normalised = dist.logits - jax.nn.logsumexp(dist.logits, axis=-1, keepdims=True)
    log_mass = jnp.sum(jnp.where(events > 0, normalised[None], 0.0).reshape(len(events), -1), axis=1)
    return Terms(events, jnp.exp(log_mass), log_mass)


@summation.register(Normal)
def _(dist: Normal, nodes: int) -> Terms:
    """Midpoints of `nodes` equal cells to a dimension, which converges as fast as the trapezoidal rule at other points."""
    cell = 2 * HALF_WIDTH / nodes
    line = cell * (np.arange(nodes) + 0.5) - HALF_WIDTH
    noise = np.array(list(itertools.product(line, repeat=dist.loc.size)))
    log_density = np.sum(-0.5 * noise**2 - 0.5 * np.log(2 * np.pi), axis=1)
    weights = jnp.asarray(cell**dist.loc.size * np.exp(log_density), dist.loc.dtype)
    stretched = jnp.exp(dist.log_scale)[None] * jnp.asarray(noise, dist.loc.dtype).reshape(-1, *dist.loc.shape)
    log_densities = jnp.asarray(log_density, dist.loc.dtype) - jnp.sum(dist.log_scale)
    return Terms(dist.loc[None] + stretched, weights, log_densities)
