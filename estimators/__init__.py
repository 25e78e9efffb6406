"""Estimators of `d/d theta E[f(x)], x ~ p_theta`, behind one interface.

`base` is the contract, `distributions` and `objectives` are what estimators work on, and every other file is a family.
"""

from .antithetic import AR as AR, ARM as ARM, DisARM as DisARM
from .arms import ARMS as ARMS, DirichletCopula as DirichletCopula, GaussianCopula as GaussianCopula
from .arsm import ARS as ARS, ARSM as ARSM
from .base import (
    AbstractEstimator as AbstractEstimator,
    AbstractLearnedEstimator as AbstractLearnedEstimator,
    AbstractStatelessEstimator as AbstractStatelessEstimator,
    attach as attach,
    incompatibility as incompatibility,
)
from .baselines import (
    LearnedBaseline as LearnedBaseline,
    MovingAverageBaseline as MovingAverageBaseline,
    OptimalBaseline as OptimalBaseline,
)
from .bitflip import BitFlip1 as BitFlip1
from .carms import CARMSInverseCDF as CARMSInverseCDF, CARMSStickBreaking as CARMSStickBreaking
from .direct_loss import DirectLossMinimization as DirectLossMinimization
from .distributions import (
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
    Bernoulli as Bernoulli,
    Beta as Beta,
    Binomial as Binomial,
    Categorical as Categorical,
    Dirichlet as Dirichlet,
    Gamma as Gamma,
    Geometric as Geometric,
    Normal as Normal,
    NormalMixture as NormalMixture,
    Poisson as Poisson,
    StudentT as StudentT,
    TruncatedNormal as TruncatedNormal,
    VonMises as VonMises,
)
from .dlax import DLAX as DLAX
from .double_cv import DoubleCV as DoubleCV
from .entmax import GumbelEntmax as GumbelEntmax, GumbelSparsemax as GumbelSparsemax
from .exact import Enumeration as Enumeration, Quadrature as Quadrature, Summation as Summation
from .finite_difference import FiniteDifference as FiniteDifference
from .fixed_baselines import (
    ConstantBaseline as ConstantBaseline,
    ExactMeanBaseline as ExactMeanBaseline,
    SelfCritical as SelfCritical,
    TwoSampleBaseline as TwoSampleBaseline,
)
from .gapped_st import GappedStraightThrough as GappedStraightThrough
from .generalized_reparameterization import GREP as GREP, RSVI as RSVI
from .go import GO as GO
from .gumbel_rao import GumbelRao as GumbelRao
from .imle import IMLE as IMLE
from .implicit import ImplicitReparameterization as ImplicitReparameterization, OptimalTransport as OptimalTransport
from .local_expectation import LocalExpectation as LocalExpectation
from .measure_valued import MeasureValued as MeasureValued
from .mixture_pathwise import MixturePathwise as MixturePathwise
from .muprop import MuProp as MuProp, SimpleMuProp as SimpleMuProp
from .objectives import (
    AbstractDifferentiable as AbstractDifferentiable,
    AbstractLogWeight as AbstractLogWeight,
    AbstractObjective as AbstractObjective,
    BlackBox as BlackBox,
)
from .optimal_straight_through import OptimalStraightThrough as OptimalStraightThrough
from .pathwise import Pathwise as Pathwise
from .perturbed_optimizer import PerturbedArgmax as PerturbedArgmax
from .rebar import REBAR as REBAR, RELAX as RELAX
from .registration import ESTIMATORS as ESTIMATORS
from .reinmax import ReinMax as ReinMax
from .relaxed import GumbelSoftmax as GumbelSoftmax
from .rodeo import RODEO as RODEO
from .sample_statistics import (
    EstimatedCoefficient as EstimatedCoefficient,
    GroupNormalizedAdvantage as GroupNormalizedAdvantage,
    VarGrad as VarGrad,
)
from .score_function import LeaveOneOut as LeaveOneOut, ScoreFunction as ScoreFunction
from .slope_annealed import SlopeAnnealedStraightThrough as SlopeAnnealedStraightThrough
from .stick_breaking import DisARMStickBreaking as DisARMStickBreaking, DisARMTree as DisARMTree
from .stochastic_triples import StochasticTriples as StochasticTriples
from .straight_through import (
    IdentityStraightThrough as IdentityStraightThrough,
    StraightThrough as StraightThrough,
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
    TemperedStraightThrough as TemperedStraightThrough,
)
from .stratified import (
    StratifiedScoreFunction as StratifiedScoreFunction,
    SystematicScoreFunction as SystematicScoreFunction,
)
from .sum_and_sample import StochasticSumAndSample as StochasticSumAndSample, SumAndSample as SumAndSample
from .unordered_set import UnorderedSet as UnorderedSet
from .without_replacement import (
    NormalizedReinforceWithoutReplacement as NormalizedReinforceWithoutReplacement,
    ReinforceWithoutReplacement as ReinforceWithoutReplacement,
)
from .wrappers import Averaged as Averaged
from .zgr import DARN as DARN, ZGR as ZGR
