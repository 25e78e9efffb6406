"""The categorical toys against a second route, and the gauge.

The second route knows nothing of `Categorical`: for independent variables with probabilities `pi`,
`d/d logit_vc E[f] = pi_vc (E[f | variable v is c] - E[f])`, summed with `itertools`.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.problems import PROBLEMS, categorical


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def by_conditioning(logits, f):
    """The gradient of `E[f(z)]`, where `f` takes one category (counted from zero) for each variable."""
    pi = softmax(logits)
    variables, categories = pi.shape
    total, joint = 0.0, np.zeros_like(pi)
    for events in itertools.product(range(categories), repeat=variables):
        mass = np.prod(pi[np.arange(variables), events])
        total += mass * f(*events)
        joint[np.arange(variables), events] += mass * f(*events)
    return joint - pi * total


def skewed(variables, categories, skew):
    return np.array([[-skew * c for c in range(categories)] for _ in range(variables)])


def random_quadratic(dimension, seed):
    """Logits, and the quadratic at the one-hot events: the diagonal of `Q^T Q`, and `b`."""
    generator = np.random.RandomState(seed)
    factor = generator.standard_normal((dimension, dimension))
    vector, logits = generator.standard_normal(dimension), generator.standard_normal(dimension)
    return logits[None], lambda z: np.sum(factor[:, z] ** 2) + vector[z]


LATIN = np.array([[1, 2, 3, 4], [2, 4, 1, 3], [3, 1, 4, 2]]) / 4
INSTANCES = {
    "categorical-nonseparable": (
        {"target": 0.3, "skew": 0.7},
        skewed(3, 4, 0.7),
        lambda a, b, c: ((LATIN[0, a] + LATIN[1, b] + LATIN[2, c]) / 3 - 0.3) ** 2,
    ),
    "categorical-linear": ({}, skewed(3, 3, 1.0), lambda a, b, c: 3.0 * (a + 1 + b + 4 + c + 7)),
    "categorical-quadratic": ({"seed": 1}, *random_quadratic(8, 1)),
    "categorical-reward": ({}, skewed(1, 30, 0.0), lambda z: 0.5 + (z + 1) / 900),
}


@functools.cache
def problem_and_gradient(name):
    """Made once for the whole file."""
    problem = PROBLEMS.create(name, **INSTANCES[name][0])
    truth = problem.truth()
    assert truth.kind == "enumeration"
    return problem, truth.gradient.logits


@pytest.mark.parametrize("name", INSTANCES)
def test_truth_by_conditioning_on_each_category(name):
    _, logits, f = INSTANCES[name]
    gradient = problem_and_gradient(name)[1]
    np.testing.assert_allclose(gradient.reshape(logits.shape), by_conditioning(logits, f), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dimension, seed", [(4, 0), (12, 2)])
def test_quadratic_truth_at_the_other_published_sizes(dimension, seed):
    logits, f = random_quadratic(dimension, seed)
    truth = PROBLEMS.create("categorical-quadratic", dimension=dimension, seed=seed).truth()
    np.testing.assert_allclose(truth.gradient.logits, by_conditioning(logits, f)[0], rtol=1e-11, atol=1e-13)


def test_every_categorical_toy_has_a_second_route():
    assert set(INSTANCES) == {name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == categorical.__name__}


@pytest.mark.parametrize("name", INSTANCES)
def test_gradient_sums_to_zero_over_the_categories(name):
    gradient = problem_and_gradient(name)[1]
    assert np.abs(gradient.sum(axis=-1)).max() < 1e-14 * max(1.0, np.abs(gradient).max())
    assert np.abs(gradient).max(axis=-1).min() > 1e-4


def test_quadratic_instance_is_pinned():
    """These numbers are the definition of the problem: they may never change."""
    problem = PROBLEMS.create("categorical-quadratic", dimension=2)
    factor = np.array([[1.764052345967664, 0.4001572083672233], [0.9787379841057392, 2.240893199201458]])
    np.testing.assert_allclose(problem.f.matrix, factor.T @ factor, rtol=1e-14)
    np.testing.assert_allclose(problem.f.vector, [1.8675579901499675, -0.977277879876411], rtol=1e-14)
    np.testing.assert_allclose(problem.dist.logits, [0.9500884175255894, -0.1513572082976979], rtol=1e-14)


@jax.jit
def straight_through_mean(problem):
    """`J^T E[f'(z)]` with `J` the derivative of the probabilities: what straight-through has as its mean."""
    dist = problem.dist
    events = dist.support()
    masses, pi = jnp.exp(jax.vmap(dist.log_prob)(events)), dist.mean()
    slope = jnp.tensordot(masses, jax.vmap(jax.grad(problem.f))(events), axes=1)
    return pi * (slope - (pi * slope).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    "name, unbiased",
    [("categorical-linear", True), ("categorical-quadratic", False), ("categorical-nonseparable", False)],
)
def test_straight_through_is_exact_for_a_linear_objective_only(name, unbiased):
    problem, truth = problem_and_gradient(name)
    relative = np.linalg.norm(straight_through_mean(problem) - truth) / np.linalg.norm(truth)
    assert relative < 1e-12 if unbiased else relative > 0.1


def test_nonseparable_objective_is_no_sum_over_variables():
    """The mixed difference over two variables, which vanishes for a sum, does not."""
    f = PROBLEMS.create("categorical-nonseparable").f
    categories = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [3, 1, 0]])
    corner, first, second, both = jax.vmap(f)(np.eye(4)[categories])
    np.testing.assert_allclose(both - first - second + corner, 2 * (0.75 / 3) * (0.5 / 3), rtol=1e-12)
