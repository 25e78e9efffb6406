"""The work that is measured: four tasks, each as the suite does it, as a user would, and as a loop written by hand.

T1  200 bits, mean((b - .499)^2), leave-one-out with two samples
T2  200 normal variables, sum(cos(x)), pathwise and score function
T3  20 variables of 10 categories, the square of a weighted sum, Gumbel-Softmax, straight-through and score function
T4  the encoder of an autoencoder with 784 pixels and 200 bits, batch 100, leave-one-out with two samples and DisARM
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from estimators import (
    AbstractEstimator,
    DisARM,
    GumbelSoftmax,
    LeaveOneOut,
    Pathwise,
    ScoreFunction,
    StraightThrough,
)

from ..problems import PROBLEMS, AbstractProblem
from . import bare, naive


class Task(NamedTuple):
    """One piece of work. `loss` and `parameters` are the naive script's, `gradients(chunk)` and `arrays` the hand-written loop's;
    `replicates` is for how many each is timed, `batches` which sizes of a call the naive script may choose from."""

    name: str
    estimator: AbstractEstimator
    problem: AbstractProblem
    loss: naive.Loss
    parameters: jax.Array
    gradients: Callable[[int], bare.Gradients]
    arrays: tuple
    chunk: int
    replicates: int
    naive_replicates: int
    batches: tuple[int, ...]


def tasks() -> list[Task]:
    """All of them, in order."""
    return [bits(), *normals(), *categories(), *autoencoders()]


def bits() -> Task:
    """T1."""
    problem = PROBLEMS.create("bernoulli-separable")
    logits = problem.dist.logits
    work = LeaveOneOut(num_samples=2), problem, naive.bits_leave_one_out, logits, bare.bits_leave_one_out, (logits,)
    return Task("T1 leave-one-out", *work, 256, 4_000_000, 200_000, (1_000, 4_000, 20_000))


def normals() -> list[Task]:
    """T2."""
    problem = PROBLEMS.create("gaussian-cosine", k=1, dimension=200)
    arrays = problem.dist.loc, problem.dist.log_scale
    rows = jnp.stack(arrays)
    sizes = 256, 4_000_000, 200_000, (1_000, 4_000, 20_000)
    return [
        Task("T2 pathwise", Pathwise(), problem, naive.cosine_pathwise, rows, bare.cosine_pathwise, arrays, *sizes),
        Task(
            "T2 score function", ScoreFunction(), problem, naive.cosine_score, rows, bare.cosine_score, arrays, *sizes
        ),
    ]


def categories() -> list[Task]:
    """T3."""
    problem = PROBLEMS.create("categorical-nonseparable", variables=20, categories=10)
    logits, weights = problem.dist.logits, problem.f.weights
    each = (
        ("Gumbel-Softmax", GumbelSoftmax(), naive.categories_gumbel_softmax, bare.categories_gumbel_softmax),
        ("straight-through", StraightThrough(), naive.categories_straight_through, bare.categories_straight_through),
        ("score function", ScoreFunction(), naive.categories_score, bare.categories_score),
    )
    sizes = 256, 4_000_000, 200_000, (1_000, 4_000, 20_000)
    return [
        Task(f"T3 {name}", estimator, problem, loss(weights), logits, gradients, (logits, weights), *sizes)
        for name, estimator, loss, gradients in each
    ]


def autoencoders() -> list[Task]:
    """T4, on MNIST where `SCOREPATH_DATA_DIR` has it and on the packaged digits otherwise."""
    problem = PROBLEMS.create("linear-vae", data="mnist" if "SCOREPATH_DATA_DIR" in os.environ else "digits")
    encoder, decoder, images = problem.encoder, problem.decoder, problem.images
    arrays = images, images - problem.center[None], encoder.weight, encoder.bias, decoder.weight, decoder.bias
    return [
        Task(
            f"T4 {name}",
            estimator,
            problem,
            naive.autoencoder(*arrays[:2], encoder.bias, decoder.weight, decoder.bias, antithetic),
            encoder.weight,
            bare.autoencoder(antithetic),
            arrays,
            1,
            8_192,
            128,
            (1, 8, 32),
        )
        for name, estimator, antithetic in [
            ("leave-one-out", LeaveOneOut(num_samples=2), False),
            ("DisARM", DisARM(), True),
        ]
    ]
