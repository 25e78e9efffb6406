"""The published toys that are sums over variables, against numbers written out again and against enumeration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure
from benchmarks.problems import PROBLEMS, separable
from benchmarks.problems.base import exact_truth
from estimators import ESTIMATORS, Enumeration


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def slope(logits, values):
    """The gradient of the mean of `values` under one categorical variable: the covariance with each indicator."""
    pi = softmax(logits)
    return np.array([p * (v - pi @ values) for p, v in zip(pi, values, strict=True)])


def targets(low, high, dimension, logit):
    p = sigmoid(logit)
    steps = [low + (high - low) * i / (dimension - 1) for i in range(dimension)]
    return np.array([p * (1 - p) * ((1 - t) ** 2 - t**2) for t in steps])


def polynomial(power):
    logits = np.random.RandomState(0).uniform(-0.01, 0.01, (128, 2))
    return np.stack([slope(row, np.array([0.45**power, 0.55**power]) / 128) for row in logits])


def embedding(power):
    generator = np.random.RandomState(0)
    w, logits = generator.uniform(0, 1, (128, 4)), generator.uniform(-0.01, 0.01, (128, 4))
    return np.stack([slope(*row) for row in zip(logits, abs(w - 0.45) ** power / 128, strict=True)])


def dirichlet(concentration):
    rows = np.random.RandomState(0).dirichlet([concentration] * 3, 3)
    return np.stack([slope(np.log(row), 3 * np.arange(3 * v + 1, 3 * v + 4)) for v, row in enumerate(rows)])


# The published points: name, arguments, the gradient.
INSTANCES = [
    ("bernoulli-targets", {}, lambda: targets(0, 1, 100, 0.0)),
    ("bernoulli-targets", {"dimension": 3, "low": 0.2, "high": 0.9, "logit": -1}, lambda: targets(0.2, 0.9, 3, -1.0)),
    ("bernoulli-near-half", {}, lambda: np.array([0.005, 0.0005, -0.0005, -0.005])),
    *(("categorical-polynomial", {"power": p}, lambda p=p: polynomial(p)) for p in (1.5, 2.0, 3.0)),
    *(("categorical-embedding", {"power": p}, lambda p=p: embedding(p)) for p in (1.5, 2.0, 3.0)),
    *(("categorical-dirichlet", {"concentration": k}, lambda k=k: dirichlet(k)) for k in (1, 10, 100, 1000)),
]


@pytest.mark.parametrize(
    "name, arguments, gradient", INSTANCES, ids=lambda part: "" if callable(part) or not part else str(part)
)
def test_truth_at_the_published_points(name, arguments, gradient):
    truth = PROBLEMS.create(name, **arguments).truth()
    assert truth.kind in ("closed form", "enumeration")
    np.testing.assert_allclose(truth.gradient.logits, gradient(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("bernoulli-targets", {"dimension": 4, "logit": 0.7}),
        ("bernoulli-near-half", {"logit": -1.0}),
        ("categorical-polynomial", {"variables": 3, "power": 1.5, "seed": 1}),
        ("categorical-embedding", {"variables": 3, "power": 3.0, "target": 0.2}),
    ],
)
def test_enumeration_agrees_with_the_closed_form(name, arguments):
    """On the values of `f` itself, which a closed form need not call."""
    problem = PROBLEMS.create(name, **arguments)
    truth, enumerated = problem.truth(), exact_truth(problem, Enumeration(), "enumeration")
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.logits, enumerated.gradient.logits, rtol=1e-10, atol=1e-15)


def test_every_separable_toy_has_a_published_point():
    registered = {name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == separable.__name__}
    assert {name for name, _, _ in INSTANCES} == registered


def test_polynomial_programming_is_that_of_bits():
    """`f` of the second category is `f` of the bit, and so is the gradient up to the gauge."""
    problem = PROBLEMS.create("categorical-polynomial", variables=5, power=1.5)
    bits = PROBLEMS.create("bernoulli-separable", dimension=5, target=0.45, power=1.5)
    b = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(problem.f(jnp.stack([1 - b, b], axis=-1)), bits.f(b), rtol=1e-14)
    np.testing.assert_allclose(problem.truth().gradient.logits.sum(axis=-1), 0, atol=1e-16)


def test_drawn_numbers_are_pinned():
    """They are the definition of the problems: they may never change."""
    polynomial = PROBLEMS.create("categorical-polynomial", variables=1)
    np.testing.assert_allclose(polynomial.dist.logits, [[0.0009762700785464953, 0.0043037873274483895]], rtol=1e-14)
    embedding = PROBLEMS.create("categorical-embedding", variables=1, categories=2)
    np.testing.assert_allclose(embedding.f.embedding, [[0.5488135039273248, 0.7151893663724195]], rtol=1e-14)
    np.testing.assert_allclose(embedding.dist.logits, [[0.0020552675214328773, 0.0008976636599379376]], rtol=1e-14)
    dirichlet = PROBLEMS.create("categorical-dirichlet", variables=1, categories=2)
    np.testing.assert_allclose(jnp.exp(dirichlet.dist.logits), [[0.38788988378278344, 0.6121101162172167]], rtol=1e-13)


def test_the_derivative_is_finite_where_a_value_meets_the_target():
    """A power of 1.5 has a corner in its second derivative, not in its first."""
    problem = PROBLEMS.create("categorical-polynomial", variables=1, target=1.0, power=1.5)
    np.testing.assert_allclose(jax.grad(problem.f)(jnp.array([[0.0, 1.0]])), 0, atol=1e-15)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("bernoulli-targets", {"dimension": 1}),
        ("categorical-polynomial", {"variables": 0}),
        ("categorical-embedding", {"categories": 1}),
        ("categorical-dirichlet", {"concentration": 0}),
    ],
)
def test_impossible_arguments_are_refused_in_a_sentence(name, arguments):
    ((argument, given),) = arguments.items()
    with pytest.raises(ValueError, match=rf"^`{name}` needs `{argument} >=? \d`, got {given}"):
        PROBLEMS.create(name, **arguments)


@pytest.mark.parametrize("name", ["bernoulli-separable", "categorical-polynomial", "categorical-embedding"])
def test_the_term_is_what_a_gradient_is_a_difference_of(name):
    """The mean of `f` times the derivative of a probability along its own logit, by enumeration of a small one."""
    sizes = {"dimension": 5} if name.startswith("bernoulli") else {"variables": 3}
    problem = PROBLEMS.create(name, **sizes)
    events = problem.dist.support()
    weights = jnp.exp(jax.vmap(problem.dist.log_prob)(events))
    mean, p = weights @ jax.vmap(problem.f)(events), problem.dist.mean()
    expected = mean * (p * (1 - p) if name.startswith("bernoulli") else p)
    np.testing.assert_allclose(problem.truth().term.logits, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli-separable", "categorical-polynomial"])
def test_rounding_is_not_bias(name, key):
    """In float32 a difference of two values of `f` that nearly agree is off by more than its own rounding."""
    with jax.enable_x64(False):
        s = measure(ESTIMATORS.create("local-expectation"), PROBLEMS.create(name), key, replicates=2_000).summary()
    assert s["bias_sq"] > 0 and s["verdict"] == "unbiased within eps"
