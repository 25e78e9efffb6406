"""The cells of the coverage page: laws and estimators whose mean and variance are known exactly.

With an estimate `g(u)` of randomness `u`, `Var g_j = sum_u p(u) g_j(u)^2 - (sum_u p(u) g_j(u))^2`: a sum over the events, over
pairs of them for leave-one-out, or over Gauss-Hermite nodes, exact since the integrands are polynomials there. `light`
cells are those whose intervals must cover, `heavy` ones those whose tails must be flagged instead; of those in between
nothing is claimed.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators import ESTIMATORS, AbstractEnumerable, LeaveOneOut, Pathwise, ScoreFunction
from estimators.base import score

from .adaptor import GradientFunction, Unseen
from .harness import warm_up
from .measurement import flatten
from .planted import planted
from .problems import PROBLEMS, AbstractProblem, Truth
from .problems.base import in_float64
from .simulation import Subject

# Coordinates of a law.
WIDTH = 4


class Cell(NamedTuple):
    """What is measured, the part of its gradient that is looked at, and the exact variances of all coordinates."""

    subject: Subject
    part: str
    variance: np.ndarray
    tails: str


LAWS: dict[str, tuple[Callable, float, float, str]] = {
    "normal": (lambda key: jax.random.normal(key, (WIDTH,)), 0.0, 1.0, "light"),
    "Student t, 10 degrees": (lambda key: jax.random.t(key, 10.0, (WIDTH,)), 0.0, 10 / 8, "light"),
    "uniform": (lambda key: jax.random.uniform(key, (WIDTH,)), 0.5, 1 / 12, "light"),
    "exponential": (lambda key: jax.random.exponential(key, (WIDTH,)), 1.0, 1.0, "between"),
    "Student t, 5 degrees": (lambda key: jax.random.t(key, 5.0, (WIDTH,)), 0.0, 5 / 3, "between"),
    "Student t, 2.5 degrees": (lambda key: jax.random.t(key, 2.5, (WIDTH,)), 0.0, 5.0, "heavy"),
    "lognormal": (
        lambda key: jnp.exp(jax.random.normal(key, (WIDTH,))),
        math.exp(0.5),
        math.e * (math.e - 1),
        "heavy",
    ),
}


def cells() -> dict[str, Cell]:
    """All cells by what they are called."""
    return {**{name: _law(*law) for name, law in LAWS.items()}, **_bernoulli(), **_gaussian()}


def _law(function: Callable, mean: float, variance: float, tails: str) -> Cell:
    truth = Truth(np.full(WIDTH, mean), "closed form")
    subject = Subject(GradientFunction(function), Unseen(truth.gradient), truth)
    return Cell(subject, "gradient", np.full(WIDTH, variance), tails)


def _bernoulli() -> dict[str, Cell]:
    named = PROBLEMS.create("bernoulli-nonseparable")
    single = PROBLEMS.create("bernoulli-quadratic", logit=-1.2)
    rare = PROBLEMS.create("bernoulli-rare")
    return {
        "score-function on bernoulli-nonseparable": _cell(ScoreFunction(), named, *_score_function(named), "light"),
        "score-function on bernoulli-quadratic": _cell(ScoreFunction(), single, *_score_function(single), "light"),
        "leave-one-out on bernoulli-nonseparable": _cell(LeaveOneOut(num_samples=2), named, *_pairs(named), "light"),
        "score-function on bernoulli-rare": _cell(ScoreFunction(), rare, *_score_function(rare), "between"),
    }


def _gaussian() -> dict[str, Cell]:
    problem = PROBLEMS.create("gaussian-quadratic")
    found = _score_function(problem)
    return {
        "pathwise on gaussian-quadratic, scale": _cell(
            Pathwise(), problem, *_pathwise(problem), "between", part="log_scale"
        ),
        "score-function on gaussian-quadratic, scale": _cell(
            ScoreFunction(), problem, *found, "heavy", part="log_scale"
        ),
    }


def _cell(estimator, problem: AbstractProblem, weights, gradients, tails: str, part: str = "distribution") -> Cell:
    mean = weights @ gradients
    return Cell(Subject(estimator, problem, problem.truth()), part, weights @ (gradients - mean) ** 2, tails)


def _events(problem: AbstractProblem) -> tuple[np.ndarray, jax.Array]:
    """Probabilities and events, or weights and nodes of a one-dimensional Gaussian."""
    if isinstance(problem.dist, AbstractEnumerable):
        events = problem.dist.support()
        return np.exp(jax.vmap(problem.dist.log_prob)(events)), events
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return weights / weights.sum(), jnp.asarray(
        np.asarray(problem.dist.loc) + np.asarray(problem.dist.scale) * nodes[:, None]
    )


def _score_function(problem: AbstractProblem) -> tuple[np.ndarray, np.ndarray]:
    """The estimate `f(x) d/d theta log p(x)` at every event."""
    with jax.enable_x64(True):
        exact = in_float64(problem)
        weights, events = _events(exact)
        scores = [flatten(score(exact.dist, x)) for x in events]
        return weights, np.array([float(exact.f(x)) for x in events])[:, None] * np.stack(scores)


def _pairs(problem: AbstractProblem) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out with two samples, `1/2 (f(x) - f(y)) (d log p(x) - d log p(y))`, at every pair of events."""
    with jax.enable_x64(True):
        exact = in_float64(problem)
        weights, events = _events(exact)
        values = np.array([float(exact.f(x)) for x in events])
        scores = np.stack([flatten(score(exact.dist, x)) for x in events])
    estimates = (values[:, None] - values)[..., None] * (scores[:, None] - scores) / 2
    return np.outer(weights, weights).ravel(), estimates.reshape(len(weights) ** 2, -1)


def _pathwise(problem: AbstractProblem) -> tuple[np.ndarray, np.ndarray]:
    """The estimate `f'(x) (1, x - loc)`, with respect to `loc` and `log_scale`, at every node."""
    with jax.enable_x64(True):
        exact = in_float64(problem)
        weights, events = _events(exact)
        slopes = np.concatenate([jax.grad(exact.f)(x) for x in events])
        return weights, np.stack([slopes, slopes * np.ravel(np.asarray(events) - np.asarray(exact.dist.loc))], axis=1)


def unbiased_family() -> list[tuple[str, Subject]]:
    """Two hundred cells of estimators that are unbiased by proof: ten pairs of an estimator with a problem, each at twenty
    points of its family."""
    points = {
        "bernoulli-quadratic": [
            {"logit": float(x), "target": t} for x in np.linspace(-2, 2, 10) for t in (0.45, 0.499)
        ],
        "bernoulli-nonseparable": [{"target": float(t)} for t in np.linspace(-0.5, 1.5, 20)],
        "gaussian-quadratic": [{"k": float(k)} for k in np.linspace(-3, 3, 20)],
    }
    pairs = {
        "bernoulli-quadratic": ("score-function", "leave-one-out", "arm", "disarm"),
        "bernoulli-nonseparable": ("score-function", "leave-one-out", "disarm"),
        "gaussian-quadratic": ("score-function", "pathwise", "measure-valued"),
    }
    family = []
    for name, estimators in pairs.items():
        for number, point in enumerate(points[name]):
            problem = PROBLEMS.create(name, **point)
            truth = problem.truth()
            family += [
                (f"{estimator} on {name} {number}", Subject(ESTIMATORS.create(estimator), problem, truth))
                for estimator in estimators
            ]
    return family


def planted_bugs(key: jax.Array) -> dict[str, Subject]:
    """The planted bugs on one problem, with what they adapt adapted."""
    problem = PROBLEMS.create("bernoulli-nonseparable")
    truth = problem.truth()
    return {
        name: Subject(estimator, problem, truth, warm_up(estimator, problem, key, 200))
        for name, estimator in planted().items()
    }
