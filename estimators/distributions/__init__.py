"""Distributions: one family a file, the capabilities they may have in `base`."""

from .base import (
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractIntegrable as AbstractIntegrable,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
)
from .bernoulli import Bernoulli as Bernoulli
from .categorical import Categorical as Categorical
from .normal import Normal as Normal
