"""Problems: the expectations whose gradients are measured, each with its truth.

`base` says what a problem is; every other file is a family, registered in `PROBLEMS`.
"""

from . import (
    bounds as bounds,
    categorical as categorical,
    chains as chains,
    counting as counting,
    gamma as gamma,
    gaussian as gaussian,
    layers as layers,
    linear_gaussian as linear_gaussian,
    location_scale as location_scale,
    logistic as logistic,
    normal_logits as normal_logits,
    policy as policy,
    posterior as posterior,
    separable as separable,
    shapes as shapes,
    tied as tied,
    toys as toys,
    unrolled as unrolled,
    vae as vae,
    wide as wide,
)
from .base import (
    PROBLEMS as PROBLEMS,
    AbstractProblem as AbstractProblem,
    Expectation as Expectation,
    Truth as Truth,
    mismatch as mismatch,
)
from .gaussian import mohamed_grid as mohamed_grid
from .toys import bernoulli_quadratic as bernoulli_quadratic
