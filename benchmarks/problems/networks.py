"""The networks of the autoencoders, and their frozen parameters.

Each model has one npz file in `checkpoints`, written by `make_checkpoints`, with the parameters along one trajectory: at the start, after a
little training, and near convergence. The arrays in the file are the definition of a problem; training anew reproduces them up to
rounding, which training amplifies.
"""

import dataclasses
import math
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from estimators import AbstractDistribution, Bernoulli, Categorical, Normal

CHECKPOINTS = ("initial", "early", "late")
PIXELS = 64
HIDDEN_UNITS = 32

# The family of each model's latent variables, and the shape of one event.
LATENTS: dict[str, tuple[type[AbstractDistribution], tuple[int, ...]]] = {
    "gaussian-vae": (Normal, (2,)),
    "bernoulli-vae": (Bernoulli, (8,)),
    "categorical-vae": (Categorical, (3, 6)),
}


class Encoder(eqx.Module):
    """From a centred image to a distribution: one layer of tanh units, then a linear head for each leaf."""

    hidden: eqx.nn.Linear
    heads: tuple[eqx.nn.Linear, ...]
    family: type[AbstractDistribution] = eqx.field(static=True)
    event_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, image: Float[Array, "pixels"]) -> AbstractDistribution:
        features = jnp.tanh(self.hidden(image))
        return self.family(*(head(features).reshape(self.event_shape) for head in self.heads))


class Decoder(eqx.Module):
    """From a latent event to the logits of the pixels, through one layer of tanh units."""

    hidden: eqx.nn.Linear
    pixels: eqx.nn.Linear

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "pixels"]:
        return self.pixels(jnp.tanh(self.hidden(z.reshape(-1))))


class Checkpoint(NamedTuple):
    """Networks at one point of a trajectory, the steps that led there, and the mean evidence bound of all digits in nats."""

    encoder: Encoder
    decoder: Decoder
    steps: int
    elbo: float


def networks(model: str, key: Key[Array, ""]) -> tuple[Encoder, Decoder]:
    """Networks with random weights, in float32 whatever the default."""
    family, event_shape = LATENTS[model]
    size, leaves = math.prod(event_shape), len(dataclasses.fields(family))
    key_in, key_hidden, key_pixels, *key_heads = jax.random.split(key, 3 + leaves)

    def linear(inputs: int, outputs: int, key: Key[Array, ""]) -> eqx.nn.Linear:
        return eqx.nn.Linear(inputs, outputs, dtype=jnp.float32, key=key)

    heads = tuple(linear(HIDDEN_UNITS, size, key_head) for key_head in key_heads)
    encoder = Encoder(linear(PIXELS, HIDDEN_UNITS, key_in), heads, family, event_shape)
    return encoder, Decoder(linear(size, HIDDEN_UNITS, key_hidden), linear(HIDDEN_UNITS, PIXELS, key_pixels))


def restore(model: str, checkpoint: str) -> Checkpoint:
    """The networks of `model` at a frozen checkpoint."""
    if checkpoint not in CHECKPOINTS:
        raise ValueError(f"Problem {model!r} has the checkpoints {', '.join(CHECKPOINTS)}; got {checkpoint!r}.")
    template = eqx.filter_eval_shape(networks, model, jax.random.key(0))
    place = files(__package__) / "checkpoints" / f"{model}.npz"
    with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        encoder, decoder = jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.asarray(archive[f"{checkpoint}/{_name(path)}"], leaf.dtype), template
        )
        return Checkpoint(encoder, decoder, int(archive[f"{checkpoint}/steps"]), float(archive[f"{checkpoint}/elbo"]))


def save(place: Path, trajectory: dict[str, Checkpoint]) -> None:
    """Write the checkpoints of one model, each array under its checkpoint and its place in the networks."""
    arrays = {}
    for checkpoint, frozen in trajectory.items():
        leaves = jax.tree_util.tree_leaves_with_path((frozen.encoder, frozen.decoder))
        arrays |= {f"{checkpoint}/{_name(path)}": np.asarray(leaf) for path, leaf in leaves}
        arrays |= {f"{checkpoint}/steps": np.asarray(frozen.steps), f"{checkpoint}/elbo": np.asarray(frozen.elbo)}
    np.savez_compressed(place, **arrays)


def _name(path: PyTree) -> str:
    """`encoder.hidden.weight`, for the path of a leaf in a pair of networks."""
    network = ("encoder", "decoder")[path[0].idx]
    return f"{network}.{jax.tree_util.keystr(path[1:], simple=True, separator='.')}"
