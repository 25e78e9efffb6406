"""Distributions: one family a file, the capabilities they may have in `base`."""

from .base import (
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractFixedSupport as AbstractFixedSupport,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractOrdered as AbstractOrdered,
    AbstractOverdispersible as AbstractOverdispersible,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractSequential as AbstractSequential,
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
from .exponential import Exponential as Exponential
from .extreme_value import Gumbel as Gumbel, Weibull as Weibull
from .geometric import Geometric as Geometric
from .kumaraswamy import Kumaraswamy as Kumaraswamy
from .location_scale import AbstractLocationScale as AbstractLocationScale, Laplace as Laplace, Logistic as Logistic
from .lognormal import LogNormal as LogNormal
from .multivariate_normal import MultivariateNormal as MultivariateNormal
from .normal import Normal as Normal
from .poisson import Poisson as Poisson
from .policy import TabularPolicy as TabularPolicy
from .smoothly_invertible import AbstractSmoothlyInvertible as AbstractSmoothlyInvertible
from .uniform import Uniform as Uniform
