"""Toy expectations over categorical variables: what more than two categories show and bits hide.

Events are one-hot along the last axis. Only differences of logits matter, so a gradient sums to zero over the
categories of each variable (the gauge), and an estimate that does not has a bias along a direction that changes
nothing. The truth is a sum over the support.
"""

import numpy as np

from estimators import Categorical

from .base import PROBLEMS, Expectation
from .toys import Affine, Number, QuadraticForm, WeightedSquare, require_at_least, standard_normals


def skewed(family: str, variables: int, categories: int, skew: Number) -> Categorical:
    """Independent variables with logits `0, -skew, -2 skew, ...`: likely first categories, rare last ones."""
    require_at_least(1, family, variables=variables)
    require_at_least(2, family, categories=categories)
    return Categorical(logits=np.tile(-skew * np.arange(categories, dtype=float), (variables, 1)))


@PROBLEMS.register("categorical-quadratic")
def categorical_quadratic(dimension: int = 8, seed: int = 0) -> Expectation:
    """One variable and `f(z) = z^T A z + b . z`, `A = Q^T Q`.

    `Q`, `b` and the logits are standard normal, drawn in this order. The synthetic problem of the generalized
    straight-through estimators, at 4, 8 and 12 categories. On one-hot events `f` is linear, and estimators that use its
    derivative are misled by a curvature that the events never show.

    **References:** Generalized and optimal straight-through estimators, AISTATS 2026.
    """
    require_at_least(2, "categorical-quadratic", dimension=dimension)
    factor, vector, logits = standard_normals(seed, (dimension, dimension), (dimension,), (dimension,))
    return Expectation(Categorical(logits), QuadraticForm(factor.T @ factor, vector))


@PROBLEMS.register("categorical-nonseparable")
def categorical_nonseparable(
    variables: int = 3, categories: int = 4, target: Number = 0.5, skew: Number = 1.0
) -> Expectation:
    """`f(z) = (1/V sum_vc w_vc z_vc - target)^2` with `w_vc = (v c mod (C + 1)) / C`, counting from one.

    The logits are `0, -skew, -2 skew, ...`. Each variable orders its categories differently (for four categories the
    weights are a Latin rectangle), what a category is worth depends on the other variables, and the last categories are
    rare: at skew 1 the fourth has probability 0.03.
    """
    dist = skewed("categorical-nonseparable", variables, categories, skew)
    product = np.outer(np.arange(1, variables + 1), np.arange(1, categories + 1))
    weights = product % (categories + 1) / (categories * variables)
    return Expectation(dist, WeightedSquare(weights, target))


@PROBLEMS.register("categorical-linear")
def categorical_linear(variables: int = 3, categories: int = 3, skew: Number = 1.0) -> Expectation:
    """`f(z) = sum_vc w_vc z_vc` with `w = C (1, 2, 3, ...)` row by row; logits `0, -skew, -2 skew, ...`.

    The objective of the CARMS toy, at deterministic logits. Straight-through is exact for it, and the mean of `f` is
    far from zero, which is what baselines are for.

    **References:** Dimitriev and Zhou, CARMS, 2021, arXiv:2110.14002.
    """
    dist = skewed("categorical-linear", variables, categories, skew)
    weights = categories * np.arange(1.0, variables * categories + 1).reshape(variables, categories)
    return Expectation(dist, Affine(weights))


@PROBLEMS.register("categorical-reward")
def categorical_reward(categories: int = 30, gain: Number = 30.0, skew: Number = 0.0) -> Expectation:
    """One variable of many categories and the reward `f(z) = 0.5 + z / (C gain)`, with `z` in `1, ..., C`.

    The logits are `0, -skew, -2 skew, ...`. The toy of ARSM: rewards that differ by a thousandth on top of one half, so
    that an estimator without a baseline measures little else than the constant.

    **References:** Yin, Yue and Zhou, ARSM, 2019, arXiv:1905.01413.
    """
    dist = skewed("categorical-reward", 1, categories, skew)
    return Expectation(dist, Affine(np.arange(1.0, categories + 1)[None] / (categories * gain), 0.5))
