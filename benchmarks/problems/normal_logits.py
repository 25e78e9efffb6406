"""Toy expectations over one-hot variables whose logits are normal: the relaxation by Gaussian noise, with its truth.

The last logit of a variable is zero by definition, so that no direction of the gradient is without effect, as one is
where only differences of logits matter. The truth is a sum over the support.
"""

import numpy as np

from estimators import InvertibleGaussian

from .base import PROBLEMS, Expectation
from .categorical import categorical_nonseparable
from .toys import Number, require_at_least


@PROBLEMS.register("invertible-gaussian-nonseparable")
def invertible_gaussian_nonseparable(
    variables: int = 3, categories: int = 4, target: Number = 0.5, skew: Number = 1.0, scale: Number = 1.0
) -> Expectation:
    """The objective of `categorical-nonseparable` under one-hot variables with normal logits: `f` is a square of a weighted
    sum, the mean logits are `0, -skew, -2 skew, ...` but for the last, which is zero and does not vary, and `scale` is the
    standard deviation of the others.

    Truth is a sum over all events, whose probabilities are integrals over one variable.
    """
    name = "invertible-gaussian-nonseparable"
    require_at_least(1, name, variables=variables)
    require_at_least(2, name, categories=categories)
    if scale <= 0:
        raise ValueError(f"`{name}` needs `scale > 0`, got {scale}; it is a standard deviation.")
    loc = np.tile(-skew * np.arange(categories - 1.0), (variables, 1))
    f = categorical_nonseparable(variables, categories, target).f
    return Expectation(InvertibleGaussian(loc, np.full_like(loc, np.log(scale))), f)
