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
from .direct_loss import DirectLossMinimization as DirectLossMinimization
from .distributions import (
    AbstractAdditivelyPerturbed as AbstractAdditivelyPerturbed,
    AbstractDistribution as AbstractDistribution,
    AbstractEnumerable as AbstractEnumerable,
    AbstractIntegrable as AbstractIntegrable,
    AbstractRelaxable as AbstractRelaxable,
    AbstractReparameterizable as AbstractReparameterizable,
    AbstractWeaklyDifferentiable as AbstractWeaklyDifferentiable,
    Bernoulli as Bernoulli,
    Categorical as Categorical,
    Normal as Normal,
)
from .exact import Enumeration as Enumeration, Quadrature as Quadrature
from .imle import IMLE as IMLE
from .measure_valued import MeasureValued as MeasureValued
from .objectives import (
    AbstractDifferentiable as AbstractDifferentiable,
    AbstractObjective as AbstractObjective,
    BlackBox as BlackBox,
)
from .pathwise import Pathwise as Pathwise
from .perturbed_optimizer import PerturbedArgmax as PerturbedArgmax
from .rebar import REBAR as REBAR, RELAX as RELAX
from .registration import ESTIMATORS as ESTIMATORS
from .relaxed import GumbelSoftmax as GumbelSoftmax
from .score_function import LeaveOneOut as LeaveOneOut, ScoreFunction as ScoreFunction
from .straight_through import (
    StraightThrough as StraightThrough,
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)
from .wrappers import Averaged as Averaged
