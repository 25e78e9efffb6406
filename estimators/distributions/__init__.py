"""Distributions: one family a file, the capabilities they may have in `base`."""

from .base import (
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractOrdered as AbstractOrdered,
    AbstractOverdispersible as AbstractOverdispersible,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractSingular as AbstractSingular,
    AbstractStratifiable as AbstractStratifiable,
    AbstractSummable as AbstractSummable,
    AbstractTransformable as AbstractTransformable,
    AbstractUncorrelated as AbstractUncorrelated,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
)
from .bernoulli import Bernoulli as Bernoulli
from .binomial import Binomial as Binomial
from .categorical import Categorical as Categorical
from .delta import Delta as Delta
from .geometric import Geometric as Geometric
from .normal import Normal as Normal
from .poisson import Poisson as Poisson
