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
    AbstractIntegrable as AbstractIntegrable,
    AbstractInvertible as AbstractInvertible,
    AbstractOrdered as AbstractOrdered,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractSummable as AbstractSummable,
    AbstractTransformable as AbstractTransformable,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
    Bernoulli as Bernoulli,
    Binomial as Binomial,
    Categorical as Categorical,
    Geometric as Geometric,
    Normal as Normal,
    Poisson as Poisson,
)
from .exact import Enumeration as Enumeration, Quadrature as Quadrature, Summation as Summation
from .finite_difference import FiniteDifference as FiniteDifference
from .go import GO as GO
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
from .stochastic_triples import StochasticTriples as StochasticTriples
from .straight_through import (
    StraightThrough as StraightThrough,
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)
from .wrappers import Averaged as Averaged
