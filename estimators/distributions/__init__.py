"""Distributions: one family a file, the capabilities they may have in `base`, `discrete` and `continuous`."""

from .base import (
    AbstractDistribution as AbstractDistribution,
    AbstractFixedSupport as AbstractFixedSupport,
    AbstractStratifiable as AbstractStratifiable,
    AbstractTransformable as AbstractTransformable,
    AbstractUncorrelated as AbstractUncorrelated,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
)
from .bernoulli import Bernoulli as Bernoulli
from .beta import Beta as Beta
from .binomial import Binomial as Binomial
from .categorical import Categorical as Categorical
from .continuous import (
    AbstractAcceptanceRejection as AbstractAcceptanceRejection,
    AbstractCorrelated as AbstractCorrelated,
    AbstractImplicitlyReparameterizable as AbstractImplicitlyReparameterizable,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractMixture as AbstractMixture,
    AbstractOverdispersible as AbstractOverdispersible,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractRotatable as AbstractRotatable,
    AbstractStandardizable as AbstractStandardizable,
    AbstractTransportable as AbstractTransportable,
)
from .delta import Delta as Delta
from .dirichlet import Dirichlet as Dirichlet
from .discrete import (
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable as AbstractConditionallyRelaxable,
    AbstractCount as AbstractCount,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractOrdered as AbstractOrdered,
    AbstractRelaxable as AbstractRelaxable,
    AbstractSequential as AbstractSequential,
    AbstractSummable as AbstractSummable,
)
from .exponential import Exponential as Exponential
from .extreme_value import Gumbel as Gumbel, Weibull as Weibull
from .gamma import Gamma as Gamma
from .geometric import Geometric as Geometric
from .invertible_gaussian import InvertibleGaussian as InvertibleGaussian
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
