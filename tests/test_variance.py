"""Measured variances are the exact ones, within their intervals.

The exact variance of a whole estimate comes from a closed form, or from summing over everything that the estimator draws. The
interval is widened to a false alarm of 1e-6 a case, and a case that could not tell a variance 10 % off is a failure.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import Expectation, measure
from benchmarks.harness import stream_key
from benchmarks.problems import PROBLEMS
from estimators import (
    ARM,
    Averaged,
    Bernoulli,
    Categorical,
    DisARM,
    LeaveOneOut,
    MeasureValued,
    Pathwise,
    ScoreFunction,
    StraightThrough,
)

pytestmark = pytest.mark.usefixtures("single_precision")

# Two-sided normal quantile of 1e-6, over that of 95 %.
WIDENING = 4.89 / 1.96


def check(estimator, problem, exact: dict[str, float], replicates: int = 200_000) -> None:
    """Compare the measured variance of each named part with its exact value."""
    m = measure(estimator, problem, stream_key(0, "test of variance"), replicates=replicates)
    for part, value in exact.items():
        s = m.summary(part)
        if value < 1e-9:
            assert s["variance"] < 1e-9
            continue
        width = WIDENING * math.log(s["variance_ci_high"] / s["variance"])
        assert width < 0.1, "underpowered"
        assert abs(math.log(s["variance"] / value)) < width, (part, s["variance"], value)


def scalar_forms(p: float, f0: float, f1: float) -> list:
    """Variances of the gradient in the logit of one Bernoulli variable, in closed form."""
    v, step, small = p * (1 - p), f1 - f0, min(p, 1 - p)
    return [
        (ScoreFunction(), v * ((1 - p) * f1 + p * f0) ** 2),
        (LeaveOneOut(num_samples=2), step**2 * v * (1 - 2 * v) / 2),
        (LeaveOneOut(num_samples=5), step**2 / 5 * (v * (1 - 3 * v) - 2 / 4 * v**2)),
        (ARM(), step**2 * ((1 - abs(1 - 2 * p) ** 3) / 12 - v**2)),
        (DisARM(), step**2 * (1 - small) ** 2 * small * (1 - 2 * small) / 2),
        (MeasureValued(), 0.0),
        (Averaged(ScoreFunction(), 4), v * ((1 - p) * f1 + p * f0) ** 2 / 4),
    ]


@pytest.mark.parametrize("logit", [0.0, -1.2])
def test_one_bernoulli_variable(logit):
    """The toy of REBAR, against the closed forms; at logit 0 DisARM and measure-valued gradients have no variance at all."""
    problem = PROBLEMS.create("bernoulli-quadratic", target=0.45, logit=logit)
    p = 1 / (1 + math.exp(-logit))
    for estimator, exact in scalar_forms(p, 0.45**2, 0.55**2):
        check(estimator, problem, {"distribution": exact})


def enumerated(estimates) -> float:
    """The trace of the covariance of `estimates`, pairs of probability and gradient."""
    weights, gradients = map(np.array, zip(*estimates, strict=True))
    mean = weights @ gradients
    return float(weights @ np.sum((gradients - mean) ** 2, axis=1))


def product(x):
    return (jnp.sum(x * jnp.arange(1.0, x.size + 1).reshape(x.shape)) - 1.3) ** 2


DISTRIBUTIONS = {
    "bernoulli": lambda: Bernoulli(logits=[-1.0, 0.3, 1.5]),
    "categorical": lambda: Categorical(logits=[[0.5, -1.0, 0.0], [2.0, 0.0, -1.0]]),
}


@pytest.mark.parametrize("family", DISTRIBUTIONS)
def test_score_function_and_leave_one_out_are_enumerated(family):
    """Score function over events, leave-one-out over pairs of events, straight-through over events."""
    dist = DISTRIBUTIONS[family]()
    mean = np.asarray(dist.mean())
    events = [(w, np.asarray(x), float(product(x)), np.asarray(jax.grad(product)(x))) for w, x in _weighted(dist)]
    problem = Expectation(dist, product)
    scores = [(w, np.ravel(f * (x - mean))) for w, x, f, _ in events]
    check(ScoreFunction(), problem, {"distribution": enumerated(scores)})
    pairs = [
        (w * u, np.ravel(0.5 * (f - h) * ((x - mean) - (y - mean))))
        for (w, x, f, _), (u, y, h, _) in itertools.product(events, repeat=2)
    ]
    check(LeaveOneOut(num_samples=2), problem, {"distribution": enumerated(pairs)})
    pulled = [(w, np.ravel(jacobian_of_the_mean(dist, slope))) for w, _, _, slope in events]
    check(StraightThrough(), problem, {"distribution": enumerated(pulled)})


def _weighted(dist) -> list:
    return [(float(jnp.exp(dist.log_prob(x))), x) for x in dist.support()]


def jacobian_of_the_mean(dist, slope: np.ndarray) -> np.ndarray:
    """`slope` pulled back through the mean, by hand: `p (1 - p)` or the softmax Jacobian."""
    p = np.asarray(dist.mean())
    if isinstance(dist, Bernoulli):
        return p * (1 - p) * slope
    return p * (slope - np.sum(p * slope, axis=-1, keepdims=True))


def test_gaussian_quadratic_in_closed_form():
    """Mean and scale gradients of (x - k)^2 at a = mu - k = 2.5 and scale 1, where d / d log_scale is d / d scale."""
    a = 2.5
    problem = PROBLEMS.create("gaussian-quadratic", k=-1.5)
    check(Pathwise(), problem, {"loc": 4.0, "log_scale": 4 * a**2 + 8})
    check(ScoreFunction(), problem, {"loc": a**4 + 14 * a**2 + 15, "log_scale": 2 * a**4 + 60 * a**2 + 74}, 2_000_000)
    check(MeasureValued(), problem, {"loc": a**2 * (16 / math.pi - 4), "log_scale": 4 * a**2 + 4})
