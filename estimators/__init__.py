"""Estimators of `d/d theta E[f(x)], x ~ p_theta`, behind one interface.

`base` is the contract, `distributions` and `objectives` are what estimators work on, and every other file is a family.
"""

from .actor_critic import GeneralizedAdvantage as GeneralizedAdvantage, StateBaseline as StateBaseline
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
from .bounds import (
    AbstractImportanceWeighted as AbstractImportanceWeighted,
    AbstractMultiSampleBound as AbstractMultiSampleBound,
    ImportanceWeightedBound as ImportanceWeightedBound,
    JackknifeBound as JackknifeBound,
    RenyiBound as RenyiBound,
)
from .bounds_antithetic import LocalARMS as LocalARMS
from .bounds_pathwise import (
    BoundDReG as BoundDReG,
    BoundPathwise as BoundPathwise,
    BoundStickingTheLanding as BoundStickingTheLanding,
)
from .bounds_randomized import MLMC as MLMC, SUMO as SUMO
from .bounds_ranked import TailAdaptive as TailAdaptive
from .bounds_score import (
    VIMCO as VIMCO,
    BoundScoreFunction as BoundScoreFunction,
    OVISAsymptotic as OVISAsymptotic,
    OVISGammaZero as OVISGammaZero,
    OVISMonteCarlo as OVISMonteCarlo,
)
from .bounds_wake import (
    TVO as TVO,
    InclusiveDivergence as InclusiveDivergence,
    RWSDReG as RWSDReG,
    ThermodynamicObjective as ThermodynamicObjective,
    WakePhi as WakePhi,
)
from .carms import CARMSInverseCDF as CARMSInverseCDF, CARMSStickBreaking as CARMSStickBreaking
from .carms_gumbel import CARMSGumbel as CARMSGumbel
from .control_variate_ensemble import ControlVariateEnsemble as ControlVariateEnsemble
from .coupled import Antithetic as Antithetic, LatinHypercube as LatinHypercube, MomentMatched as MomentMatched
from .direct_loss import DirectLossMinimization as DirectLossMinimization
from .distributions import (
    AbstractAcceptanceRejection as AbstractAcceptanceRejection,
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable as AbstractConditionallyRelaxable,
    AbstractCorrelated as AbstractCorrelated,
    AbstractCount as AbstractCount,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractFixedSupport as AbstractFixedSupport,
    AbstractImplicitlyReparameterizable as AbstractImplicitlyReparameterizable,
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractLatentDensity as AbstractLatentDensity,
    AbstractLocationScale as AbstractLocationScale,
    AbstractLogitParameterized as AbstractLogitParameterized,
    AbstractMixture as AbstractMixture,
    AbstractOrdered as AbstractOrdered,
    AbstractOverdispersible as AbstractOverdispersible,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractRotatable as AbstractRotatable,
    AbstractSequential as AbstractSequential,
    AbstractSmoothlyInvertible as AbstractSmoothlyInvertible,
    AbstractStandardizable as AbstractStandardizable,
    AbstractStratifiable as AbstractStratifiable,
    AbstractSummable as AbstractSummable,
    AbstractTransformable as AbstractTransformable,
    AbstractTransportable as AbstractTransportable,
    AbstractUncorrelated as AbstractUncorrelated,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
    Bernoulli as Bernoulli,
    Beta as Beta,
    Binomial as Binomial,
    Categorical as Categorical,
    Delta as Delta,
    Dirichlet as Dirichlet,
    Exponential as Exponential,
    Gamma as Gamma,
    Geometric as Geometric,
    Gumbel as Gumbel,
    InvertibleGaussian as InvertibleGaussian,
    Kumaraswamy as Kumaraswamy,
    Laplace as Laplace,
    Logistic as Logistic,
    LogNormal as LogNormal,
    MultivariateNormal as MultivariateNormal,
    Normal as Normal,
    NormalMixture as NormalMixture,
    Poisson as Poisson,
    StudentT as StudentT,
    TabularPolicy as TabularPolicy,
    TruncatedNormal as TruncatedNormal,
    Uniform as Uniform,
    VonMises as VonMises,
    Weibull as Weibull,
)
from .dlax import DLAX as DLAX
from .double_cv import DoubleCV as DoubleCV
from .entmax import GumbelEntmax as GumbelEntmax, GumbelSparsemax as GumbelSparsemax
from .evidence import (
    GDReG as GDReG,
    ImportanceWeightedEvidence as ImportanceWeightedEvidence,
    JackknifeEvidence as JackknifeEvidence,
    LogEvidence as LogEvidence,
)
from .evidence_bound import (
    AnalyticKL as AnalyticKL,
    StickingTheLanding as StickingTheLanding,
    TotalDerivative as TotalDerivative,
)
from .evolution_strategies import (
    EvolutionStrategies as EvolutionStrategies,
    GuidedES as GuidedES,
    RankShapedES as RankShapedES,
)
from .exact import (
    Derivative as Derivative,
    Enumeration as Enumeration,
    Quadrature as Quadrature,
    Summation as Summation,
)
from .finite_difference import FiniteDifference as FiniteDifference
from .fixed_baselines import (
    ConstantBaseline as ConstantBaseline,
    ExactMeanBaseline as ExactMeanBaseline,
    SelfCritical as SelfCritical,
    TwoSampleBaseline as TwoSampleBaseline,
)
from .gapped_st import GappedStraightThrough as GappedStraightThrough
from .generalized_gumbel_softmax import GeneralizedGumbelSoftmax as GeneralizedGumbelSoftmax
from .generalized_reparameterization import GREP as GREP, RSVI as RSVI
from .go import GO as GO
from .gumbel_rao import GumbelRao as GumbelRao
from .imle import AIMLE as AIMLE, IMLE as IMLE
from .implicit import ImplicitReparameterization as ImplicitReparameterization, OptimalTransport as OptimalTransport
from .joint_control import (
    IncrementalControlVariate as IncrementalControlVariate,
    JointControlVariate as JointControlVariate,
)
from .lax import LAX as LAX, SteinControlVariate as SteinControlVariate
from .local_expectation import LocalExpectation as LocalExpectation
from .measure_valued import MeasureValued as MeasureValued, UncoupledMeasureValued as UncoupledMeasureValued
from .mixture_pathwise import MixturePathwise as MixturePathwise
from .muprop import MuProp as MuProp, SimpleMuProp as SimpleMuProp
from .noise_driven import AbstractNoiseDriven as AbstractNoiseDriven
from .objectives import (
    AbstractDifferentiable as AbstractDifferentiable,
    AbstractFunctional as AbstractFunctional,
    AbstractLinearLayer as AbstractLinearLayer,
    AbstractLogWeight as AbstractLogWeight,
    AbstractObjective as AbstractObjective,
    AbstractRegularizedLogWeight as AbstractRegularizedLogWeight,
    AbstractReturn as AbstractReturn,
    AbstractSum as AbstractSum,
    AbstractSurrogate as AbstractSurrogate,
    AbstractUnrolled as AbstractUnrolled,
    BlackBox as BlackBox,
)
from .optimal_straight_through import OptimalStraightThrough as OptimalStraightThrough
from .overdispersed import Overdispersed as Overdispersed
from .parameter_perturbation import (
    SPSA as SPSA,
    ForwardGradient as ForwardGradient,
    RandomDirections as RandomDirections,
)
from .parameter_shift import ParameterShift as ParameterShift
from .pathwise import Pathwise as Pathwise
from .perturbed_optimizer import PerturbedArgmax as PerturbedArgmax
from .pgpe import PGPE as PGPE
from .policy_gradient import (
    LeaveOneOutRewardToGo as LeaveOneOutRewardToGo,
    RewardToGo as RewardToGo,
    StepBaseline as StepBaseline,
)
from .quadratic_control import QuadraticControlVariate as QuadraticControlVariate
from .quasi_monte_carlo import QuasiMonteCarlo as QuasiMonteCarlo
from .rebar import REBAR as REBAR, RELAX as RELAX
from .registration import ESTIMATORS as ESTIMATORS
from .reinmax import ReinMax as ReinMax, ReinMaxMeanBaseline as ReinMaxMeanBaseline, ReinMaxRao as ReinMaxRao
from .reinmax_cv import ReinMaxCV as ReinMaxCV
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
from .subsampled import DoublyStochastic as DoublyStochastic, MonteCarloControlVariate as MonteCarloControlVariate
from .sum_and_sample import StochasticSumAndSample as StochasticSumAndSample, SumAndSample as SumAndSample
from .taylor import RVRGE as RVRGE, DeltaMethod as DeltaMethod, RVRGEProduct as RVRGEProduct
from .unordered_set import UnorderedSet as UnorderedSet
from .unrolled import NRES as NRES, PES as PES, TruncatedES as TruncatedES
from .velocity_fields import (
    AdaptiveVelocityField as AdaptiveVelocityField,
    UnrestrictedVelocityField as UnrestrictedVelocityField,
)
from .weight_perturbation import Flipout as Flipout, LocalReparameterization as LocalReparameterization
from .without_replacement import (
    NormalizedReinforceWithoutReplacement as NormalizedReinforceWithoutReplacement,
    ReinforceWithoutReplacement as ReinforceWithoutReplacement,
)
from .wrappers import Averaged as Averaged
from .zgr import DARN as DARN, ZGR as ZGR
