"""Distributions: one family a file, the capabilities they may have in `base`."""

from .base import (
    AbstractAcceptanceRejection as AbstractAcceptanceRejection,
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractImplicitlyReparameterizable as AbstractImplicitlyReparameterizable,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractMixture as AbstractMixture,
    AbstractOrdered as AbstractOrdered,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractStandardizable as AbstractStandardizable,
    AbstractSummable as AbstractSummable,
    AbstractTransformable as AbstractTransformable,
    AbstractTransportable as AbstractTransportable,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
)
from .bernoulli import Bernoulli as Bernoulli
from .beta import Beta as Beta
from .binomial import Binomial as Binomial
from .categorical import Categorical as Categorical
from .dirichlet import Dirichlet as Dirichlet
from .gamma import Gamma as Gamma
from .geometric import Geometric as Geometric
from .normal import Normal as Normal
from .normal_mixture import NormalMixture as NormalMixture
from .poisson import Poisson as Poisson
from .student_t import StudentT as StudentT
from .truncated_normal import TruncatedNormal as TruncatedNormal
from .von_mises import VonMises as VonMises
