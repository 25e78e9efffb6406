"""Train the autoencoders and freeze them: `python -m benchmarks.problems.make_checkpoints [FOLDER]`, some minutes.

Adam follows the exact gradient of the evidence bound of encoder and decoder together (a sum over all events, or a product rule on
the plane of latents), on minibatches, with a step that falls to zero along a cosine, so that the end is a maximum and not the
noise around one. All digits are trained on: a checkpoint is a place where gradients are measured and claims nothing about unseen
images. Run in float32, as the problems are.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .base import Scalar
from .networks import LATENTS, Checkpoint, Decoder, Encoder, networks, save
from .vae import VariationalAutoencoder, assemble, binary_digits

SEED = 20260101
LEARNING_RATE = 1e-2
MINIBATCH = 100
STEPS = {"initial": 0, "early": 100, "late": 5_000}
# Nodes to a dimension of the plane of latents: the gradient is good to 1e-4 of itself, far below what a minibatch leaves open.
NODES = 24


def initialise(model: str) -> tuple[Encoder, Decoder]:
    """Random networks, but for the pixels' biases: they start at the log-odds of the pixels' means."""
    encoder, decoder = networks(model, jax.random.key(SEED))
    images = binary_digits()
    mean = (np.sum(images, axis=0, dtype=np.float64) + 0.5) / (len(images) + 1)
    bias = jnp.asarray(np.log(mean / (1 - mean)), jnp.float32)
    return encoder, eqx.tree_at(lambda decoder: decoder.pixels.bias, decoder, bias)


def minibatches() -> Iterator[Float[np.ndarray, "minibatch pixels"]]:
    """All digits in a new order at each pass; the few left over by a pass wait for the next."""
    images, generator = binary_digits(), np.random.default_rng(SEED)
    while True:
        order = generator.permutation(len(images))
        for start in range(0, len(images) - MINIBATCH + 1, MINIBATCH):
            yield images[order[start : start + MINIBATCH]]


def trajectory(model: str) -> Iterator[tuple[Encoder, Decoder]]:
    """The networks after no step, one step, two steps, and so on."""
    trained = initialise(model)
    problem = assemble(model, *trained, batch=MINIBATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, max(STEPS.values())))

    @jax.jit
    def ascend(trained: PyTree, state: optax.OptState, images: Float[Array, "minibatch pixels"]) -> PyTree:
        def loss(trained: PyTree) -> Scalar:
            return -rebuild(problem, trained, images).elbo(NODES)

        updates, state = optimizer.update(jax.grad(loss)(trained), state)
        return optax.apply_updates(trained, updates), state

    state = optimizer.init(trained)
    for images in minibatches():
        yield trained
        trained, state = ascend(trained, state, images)


def rebuild(problem: VariationalAutoencoder, trained: PyTree, images: Float[Array, "..."]) -> VariationalAutoencoder:
    """The same problem with other networks, on other images."""
    return eqx.tree_at(lambda p: (p.encoder, p.decoder, p.images), problem, (*trained, images))


def mean_elbo(model: str, trained: tuple[Encoder, Decoder], nodes: int = 64) -> float:
    """The mean evidence bound of all digits, in nats."""
    images = binary_digits()
    problem = assemble(model, *trained, batch=1)

    @jax.jit
    def bounds(images: Float[Array, "images pixels"]) -> Float[Array, "images"]:
        return jax.lax.map(lambda image: rebuild(problem, trained, image[None]).elbo(nodes), images, batch_size=64)

    return float(np.mean(np.asarray(bounds(images)), dtype=np.float64))


def make(model: str) -> dict[str, Checkpoint]:
    """Train `model` and keep its checkpoints."""
    names = {steps: name for name, steps in STEPS.items()}
    kept = {}
    for step, trained in enumerate(itertools.islice(trajectory(model), max(names) + 1)):
        if step in names:
            kept[names[step]] = Checkpoint(*trained, step, mean_elbo(model, trained))
            print(f"{model} {names[step]}: {kept[names[step]].elbo:.4f} nats after {step} steps", flush=True)
    return kept


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "checkpoints"
    for model in LATENTS:
        save(folder / f"{model}.npz", make(model))
