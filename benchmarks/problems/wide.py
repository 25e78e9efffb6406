"""An autoencoder of the size of the literature's: 784 pixels, 200 bits, one linear layer each way.

What the small autoencoders cannot show is width: the gradient of the encoder has 157,000 coordinates, its truth is out of reach of any sum,
and the time of an estimate is that of its matrix products. The networks are random and frozen, so the place is the start of a training.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks.data import load
from estimators import Bernoulli

from .base import PROBLEMS
from .evidence import Event, Image
from .toys import require_at_least, standard_normals
from .vae import VariationalAutoencoder

PIXELS = 28
SEED = 20260101


class LinearEncoder(eqx.Module):
    """From a centred image to bits, whose logits are linear in it."""

    weight: Float[Array, "latents pixels"]
    bias: Float[Array, "latents"]

    def __call__(self, image: Image) -> Bernoulli:
        return Bernoulli(self.weight @ image + self.bias)


class LinearDecoder(eqx.Module):
    """From bits to the logits of pixels, linear in them."""

    weight: Float[Array, "latents pixels"]
    bias: Float[Array, "pixels"]

    def __call__(self, z: Event) -> Image:
        # In this order, a batch of events is one product of matrices whose result needs no transposition.
        return z @ self.weight + self.bias


def binary_images(data: str) -> Float[np.ndarray, "images pixels"]:
    """Images of 28x28 pixels in black and white: MNIST's (on above grey level 127), or the packaged digits, each pixel drawn three by
    three, within a margin of two."""
    if data == "mnist":
        return (load("mnist").images > 127).astype(np.float32)
    if data != "digits":
        raise ValueError(f"Problem 'linear-vae' has the data 'digits' (packaged) and 'mnist'; got {data!r}.")
    small = (load("digits").images > 8).astype(np.float32).reshape(-1, 8, 8)
    large = np.kron(small, np.ones((1, 3, 3), np.float32))
    return np.pad(large, [(0, 0), (2, 2), (2, 2)]).reshape(len(small), -1)


@PROBLEMS.register("linear-vae")
def linear_vae(
    latents: int = 200, data: str = "digits", batch: int = 100, kl: str = "analytic"
) -> VariationalAutoencoder:
    """Many bits with a prior of fair coins behind one linear layer of weights, and images of 28x28 pixels.

    Weights are standard normal over the square root of the number of inputs, drawn for the encoder and then for the decoder; the
    pixels' biases are the log-odds of their means. `data` is `digits`, the packaged ones enlarged, or `mnist`, for which see
    `benchmarks.data.mnist`. The truth is a reference run.

    **References:** Mnih and Gregor, Neural variational inference and learning in belief networks, 2014, arXiv:1402.0030. Tucker et
    al., REBAR, 2017, arXiv:1703.07370, whose linear model this is but for the training.
    """
    require_at_least(1, "linear-vae", latents=latents, batch=batch)
    images, size = binary_images(data), PIXELS**2
    if batch > len(images):
        raise ValueError(f"Problem 'linear-vae' needs a `batch` of 1 to {len(images)} images, got {batch}.")
    inward, outward = standard_normals(SEED, (latents, size), (latents, size))
    mean = (images.sum(axis=0, dtype=np.float64) + 0.5) / (len(images) + 1)
    encoder = LinearEncoder(_float32(inward / np.sqrt(size)), jnp.zeros(latents, jnp.float32))
    decoder = LinearDecoder(_float32(outward / np.sqrt(latents)), _float32(np.log(mean / (1 - mean))))
    prior = Bernoulli(jnp.zeros(latents, jnp.float32))
    return VariationalAutoencoder(encoder, decoder, prior, _float32(images[:batch]), _float32(images.mean(axis=0)), kl)


def _float32(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
