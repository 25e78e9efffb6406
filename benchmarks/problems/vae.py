"""Variational autoencoders on real images, small enough that the gradient of the evidence bound is known exactly.

An encoder turns an image into a distribution `q`, a decoder turns a latent event into pixel logits; the gradient of the evidence
bound with respect to `q` is estimated once for each datapoint, with noise of its own, and one pullback carries the estimates to the
encoder. The two forms of the bound (see `evidence`) have the same gradient but not the same variance: the argument `kl` says which is
estimated.

The networks are frozen at three points of a trajectory along the exact gradient, so that no estimator is measured on ground that it
or a rival has prepared, and sampling noise is not mixed with the noise of minibatches.
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from benchmarks.data import load
from estimators import (
    AbstractDifferentiable,
    AbstractDistribution,
    AbstractEnumerable,
    AbstractIntegrable,
    Enumeration,
    Quadrature,
)

from .base import MOST_EVENTS, PROBLEMS, AbstractProblem, Estimate, Gradient, PRNGKey, Scalar, Truth, exact_truth
from .evidence import Event, Image, LogWeight, Reconstruction, evidence_bound
from .forms import estimated, integrand, leaves_of, require_form, through_encoder
from .networks import LATENTS, Decoder, Encoder, restore

# Nodes to a dimension for the truth of a plane of latents; twice as many change it by less than 1e-11 of itself.
RESOLUTION = 65


class VariationalAutoencoder(AbstractProblem):
    """The gradient of the mean evidence bound of a batch of binary images, to be followed upwards.

    `kl` says who takes care of the divergence: with `"analytic"`, its exact gradient is added to the estimate for the
    reconstruction; with `"sampled"`, it is inside `f`. The gradient has two parts: `distribution`, with respect to the leaves of the
    datapoints' `q`, stacked along a leading axis and each divided by the size of the batch; and `encoder`, with respect to its arrays.
    """

    encoder: Callable[[Image], AbstractDistribution]
    decoder: Callable[[Event], Image]
    prior: AbstractDistribution
    images: Float[Array, "batch pixels"]
    center: Image
    kl: str = eqx.field(static=True, default="analytic")

    def __check_init__(self):
        require_form("VariationalAutoencoder", self.kl)

    def posteriors(self) -> AbstractDistribution:
        """The `q` of every image of the batch, stacked."""
        return jax.vmap(self.encoder)(self.images - self.center[None])

    def weight(self, dist: AbstractDistribution, image: Image) -> LogWeight:
        """The integrand of the bound of one datapoint."""
        return LogWeight(Reconstruction(self.decoder, image), self.prior, dist)

    def objective(self, dist: AbstractDistribution, image: Image) -> AbstractDifferentiable:
        """The `f` of one datapoint."""
        return integrand(self.weight(dist, image), self.kl)

    def example(self) -> tuple[AbstractDistribution, AbstractDifferentiable]:
        dist = self.encoder(self.images[0] - self.center)
        return dist, self.objective(dist, self.images[0])

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Gradient, PyTree]:
        def datapoint(key: PRNGKey, dist: AbstractDistribution, image: Image) -> tuple[AbstractDistribution, PyTree]:
            return estimated(estimate, key, self.weight(dist, image), self.kl)

        return through_encoder(datapoint, key, self.encoder, self.images - self.center[None], self.images)

    def parts(self, gradient: Gradient) -> dict[str, PyTree]:
        return {**gradient, **leaves_of(gradient["distribution"])}

    def truth(self) -> Truth | None:
        dist, _ = eqx.filter_eval_shape(self.example)
        if isinstance(dist, AbstractEnumerable) and dist.support_size <= MOST_EVENTS:
            return exact_truth(self, Enumeration(), "enumeration")
        if isinstance(dist, AbstractIntegrable) and math.prod(dist.event_shape) <= 2:
            return exact_truth(self, Quadrature(RESOLUTION), "quadrature")
        return None

    def elbo(self, nodes: int = 64) -> Scalar:
        """The exact mean evidence bound of the batch, in nats, differentiable in every array of the problem."""
        return self.elbo_at(self.posteriors(), nodes)

    def elbo_at(self, dists: AbstractDistribution, nodes: int = 64) -> Scalar:
        """The same at any stacked `dists`; `nodes` to a dimension where it is an integral."""
        bounds = jax.vmap(lambda dist, image: evidence_bound(dist, self.decoder, self.prior, image, nodes))
        return jnp.mean(bounds(dists, self.images))


def binary_digits() -> Float[np.ndarray, "images pixels"]:
    """The 8x8 digits in black and white, the first of each class and then the others, in the order of the data set.

    Binarised once and for all: a pixel is on if its grey level is above 8, that is if more than half of the block that it counts is.
    """
    images, labels = load("digits")
    first = np.unique(labels, return_index=True)[1]
    others = np.setdiff1d(np.arange(len(labels)), first)
    return (images[np.concatenate([first, others])] > 8).astype(np.float32)


def assemble(
    model: str, encoder: Encoder, decoder: Decoder, batch: int, kl: str = "analytic"
) -> VariationalAutoencoder:
    """The problem of `model` with these networks, on the first `batch` digits.

    The prior has all its leaves at zero: standard normal, fair coins, fair dice.
    """
    images = binary_digits()
    if not 1 <= batch <= len(images):
        raise ValueError(f"Problem {model!r} needs a `batch` of 1 to {len(images)} images, got {batch}.")
    family, event_shape = LATENTS[model]
    prior = family(*(jnp.zeros(event_shape, jnp.float32) for _ in dataclasses.fields(family)))
    center = np.mean(images, axis=0, dtype=np.float64).astype(np.float32)
    return VariationalAutoencoder(encoder, decoder, prior, jnp.asarray(images[:batch]), jnp.asarray(center), kl)


def frozen(model: str, checkpoint: str, kl: str, batch: int) -> VariationalAutoencoder:
    """The problem of `model` at one of its checkpoints."""
    networks = restore(model, checkpoint)
    return assemble(model, networks.encoder, networks.decoder, batch, kl)


@PROBLEMS.register("gaussian-vae")
def gaussian_vae(checkpoint: str = "early", kl: str = "analytic", batch: int = 10) -> VariationalAutoencoder:
    """Two normal latents with a standard normal prior, and digits of 8x8 pixels.

    Mean evidence bound of all digits: -24.82 nats at the `initial` checkpoint, -21.73 `early`, -18.19 `late`.

    **References:** Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114.
    """
    return frozen("gaussian-vae", checkpoint, kl, batch)


@PROBLEMS.register("bernoulli-vae")
def bernoulli_vae(checkpoint: str = "early", kl: str = "analytic", batch: int = 10) -> VariationalAutoencoder:
    """Eight bits with a prior of fair coins, and digits of 8x8 pixels.

    Mean evidence bound of all digits: -24.64 nats at the `initial` checkpoint, -20.75 `early`, -16.63 `late`.

    **References:** Tucker et al., REBAR, 2017, arXiv:1703.07370, for the setting at full size.
    """
    return frozen("bernoulli-vae", checkpoint, kl, batch)


@PROBLEMS.register("categorical-vae")
def categorical_vae(checkpoint: str = "early", kl: str = "analytic", batch: int = 10) -> VariationalAutoencoder:
    """Three variables of six categories with a uniform prior, and digits of 8x8 pixels.

    Mean evidence bound of all digits: -24.53 nats at the `initial` checkpoint, -20.22 `early`, -16.02 `late`.

    **References:** Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, 2017, arXiv:1611.01144, for the setting at
    full size.
    """
    return frozen("categorical-vae", checkpoint, kl, batch)
