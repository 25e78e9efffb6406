"""Distributions: one family a file, the capabilities they may have in `base`."""

from .base import (
    AbstractAcceptanceRejection as AbstractAcceptanceRejection,
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractFixedSupport as AbstractFixedSupport,
    AbstractImplicitlyReparameterizable as AbstractImplicitlyReparameterizable,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractMixture as AbstractMixture,
    AbstractOrdered as AbstractOrdered,
    AbstractOverdispersible as AbstractOverdispersible,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractSequential as AbstractSequential,
    AbstractStandardizable as AbstractStandardizable,
    AbstractStratifiable as AbstractStratifiable,
    AbstractSummable as AbstractSummable,
    AbstractTransformable as AbstractTransformable,
    AbstractTransportable as AbstractTransportable,
    AbstractUncorrelated as AbstractUncorrelated,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
)
from .bernoulli import Bernoulli as Bernoulli
from .beta import Beta as Beta
from .binomial import Binomial as Binomial
from .categorical import Categorical as Categorical
from .delta import Delta as Delta
from .dirichlet import Dirichlet as Dirichlet
from .exponential import Exponential as Exponential
from .extreme_value import Gumbel as Gumbel, Weibull as Weibull
from .gamma import Gamma as Gamma
from .geometric import Geometric as Geometric
from .kumaraswamy import Kumaraswamy as Kumaraswamy
from .location_scale import AbstractLocationScale as AbstractLocationScale, Laplace as Laplace, Logistic as Logistic
from .lognormal import LogNormal as LogNormal
from .multivariate_normal import MultivariateNormal as MultivariateNormal
from .normal import Normal as Normal
from .normal_mixture import NormalMixture as NormalMixture
from .poisson import Poisson as Poisson
from .policy import TabularPolicy as TabularPolicy
from .smoothly_invertible import AbstractSmoothlyInvertible as AbstractSmoothlyInvertible
from .student_t import StudentT as StudentT
from .truncated_normal import TruncatedNormal as TruncatedNormal
from .uniform import Uniform as Uniform
from .von_mises import VonMises as VonMises
