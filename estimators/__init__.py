"""Estimators of `d/d theta E[f(x)], x ~ p_theta`, behind one interface.

`base` is the contract, `distributions` and `objectives` are what estimators work on, and every other file is a family.
"""

from .antithetic import ARM as ARM, DisARM as DisARM
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
from .distributions import (
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractFactorized as AbstractFactorized,
    AbstractIntegrable as AbstractIntegrable,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
    Bernoulli as Bernoulli,
    Categorical as Categorical,
    Normal as Normal,
)
from .exact import Enumeration as Enumeration, Quadrature as Quadrature
from .local_expectation import LocalExpectation as LocalExpectation
from .measure_valued import MeasureValued as MeasureValued
from .objectives import (
    AbstractDifferentiable as AbstractDifferentiable,
    AbstractObjective as AbstractObjective,
    BlackBox as BlackBox,
)
from .pathwise import Pathwise as Pathwise
from .rebar import REBAR as REBAR, RELAX as RELAX
from .registration import ESTIMATORS as ESTIMATORS
from .relaxed import GumbelSoftmax as GumbelSoftmax
from .score_function import LeaveOneOut as LeaveOneOut, ScoreFunction as ScoreFunction
from .straight_through import (
    StraightThrough as StraightThrough,
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)
from .sum_and_sample import StochasticSumAndSample as StochasticSumAndSample, SumAndSample as SumAndSample
from .unordered_set import UnorderedSet as UnorderedSet
from .without_replacement import (
    NormalizedReinforceWithoutReplacement as NormalizedReinforceWithoutReplacement,
    ReinforceWithoutReplacement as ReinforceWithoutReplacement,
)
from .wrappers import Averaged as Averaged
