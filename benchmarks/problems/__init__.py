"""Problems: the expectations whose gradients are measured, each with its truth.

`base` says what a problem is; every other file is a family, registered in `PROBLEMS`.
"""

from .base import (
    PROBLEMS as PROBLEMS,
    AbstractProblem as AbstractProblem,
    Expectation as Expectation,
    Truth as Truth,
    mismatch as mismatch,
)
from .toys import bernoulli_quadratic as bernoulli_quadratic
