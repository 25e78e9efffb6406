"""The Bernoulli toys against a second route, and what every toy owes: truth in float64, one shape for a whole grid.

The second route knows nothing of `Bernoulli`: for independent bits,
`d/d logit_i E[f] = p_i (1 - p_i) (E[f | b_i = 1] - E[f | b_i = 0])`, summed with `itertools`.
"""

import inspect
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.problems import PROBLEMS, AbstractProblem, mismatch, toys
from benchmarks.problems.base import exact_truth
from benchmarks.problems.toys import Affine
from estimators import ESTIMATORS, AbstractDifferentiable, Enumeration, incompatibility

ROOMS = ("toys", "categorical", "gaussian", "counting", "separable", "chains")
TOYS = [name for name in PROBLEMS if PROBLEMS.factory(name).__module__.split(".")[-1] in ROOMS]


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=float)))


def two_conditionals(logits, f):
    """The gradient of `E[f(b)]` by conditioning on one bit after another."""
    p = sigmoid(logits)
    gradient = np.zeros(p.size)
    for bits in itertools.product((0, 1), repeat=p.size):
        b = np.array(bits)
        masses = np.where(b == 1, p, 1 - p)
        for i in range(p.size):
            others = np.prod(np.delete(masses, i))
            gradient[i] += p[i] * (1 - p[i]) * (2 * b[i] - 1) * others * f(b)
    return gradient


def spread(dimension):
    return [-1.5 + 2.5 * i / (dimension - 1) for i in range(dimension)]


def qubo(dimension, seed):
    normals = np.random.RandomState(seed).standard_normal((dimension, dimension))
    return lambda b: sum(b[i] * b[j] * normals[i, j] for i in range(dimension) for j in range(dimension))


# Name, arguments, logits and `f` written out again.
INSTANCES = [
    ("bernoulli-quadratic", {"target": 0.499, "logit": -2.0}, [-2.0], lambda b: (b[0] - 0.499) ** 2),
    ("bernoulli-rare", {}, [-4.0] * 3, lambda b: (b[0] - 0.6) ** 2 + (b[1] - 0.51) ** 2 + (b[2] - 0.48) ** 2),
    (
        "bernoulli-separable",
        {"dimension": 5, "target": 0.45, "power": 1.5},
        spread(5),
        lambda b: sum(abs(bit - 0.45) ** 1.5 for bit in b) / 5,
    ),
    (
        "bernoulli-nonseparable",
        {"target": 0.3},
        spread(4),
        lambda b: (0.1 * b[0] + 0.2 * b[1] + 0.3 * b[2] + 0.4 * b[3] - 0.3) ** 2,
    ),
    ("bernoulli-qubo", {"seed": 3}, spread(6), qubo(6, 3)),
    ("bernoulli-linear", {"dimension": 5}, spread(5), lambda b: -b[0] + 2 * b[1] - 3 * b[2] + 4 * b[3] - 5 * b[4]),
    ("bernoulli-parity", {}, spread(4), lambda b: (-1.0) ** b.sum()),
    ("bernoulli-step", {"threshold": 3}, spread(4), lambda b: float(b.sum() >= 3)),
]


@pytest.mark.parametrize("name, arguments, logits, f", INSTANCES, ids=[row[0] for row in INSTANCES])
def test_truth_is_the_difference_of_two_conditional_means(name, arguments, logits, f):
    problem = PROBLEMS.create(name, **arguments)
    truth = problem.truth().gradient.logits
    np.testing.assert_allclose(truth, two_conditionals(logits, f), rtol=1e-11, atol=1e-13)
    # The module is the formula, too: a closed form need not call it.
    events = np.array(list(itertools.product((0.0, 1.0), repeat=len(logits))))
    np.testing.assert_allclose(jax.vmap(problem.f)(events), [f(b) for b in events], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(problem.dist.logits, logits, rtol=0, atol=1e-14)


def test_enumeration_agrees_with_a_closed_form():
    problem = PROBLEMS.create("bernoulli-qubo")
    truth = problem.truth()
    enumerated = exact_truth(problem, Enumeration(), "enumeration")
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.logits, enumerated.gradient.logits, rtol=1e-11, atol=1e-13)


def test_every_bernoulli_toy_has_a_second_route():
    assert {row[0] for row in INSTANCES} == {
        name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == toys.__name__
    }


@pytest.mark.parametrize("target, value", [(0.45, 0.025), (0.49, 0.005), (0.499, 5e-4)])
def test_published_toys_at_one_half(target, value):
    truth = PROBLEMS.create("bernoulli-quadratic", target=target).truth()
    np.testing.assert_allclose(truth.gradient.logits, [value], rtol=1e-12)


def test_rare_toy_is_the_tied_one_at_logit_zero_and_rare_at_minus_four():
    truth = PROBLEMS.create("bernoulli-rare", logit=0.0).truth()
    assert math.isclose(truth.gradient.logits.sum(), -0.045, rel_tol=1e-12)
    rare = PROBLEMS.create("bernoulli-rare").dist
    assert 0.947 < float(jnp.exp(rare.log_prob(jnp.zeros(3)))) < 0.948


def test_parity_gradient_is_a_product():
    p = sigmoid(spread(4))
    factors = 1 - 2 * p
    expected = [-2 * p[i] * (1 - p[i]) * np.prod(np.delete(factors, i)) for i in range(4)]
    truth = PROBLEMS.create("bernoulli-parity").truth()
    np.testing.assert_allclose(truth.gradient.logits, expected, rtol=1e-12)


def test_linear_gradient_is_weight_times_variance():
    p = sigmoid(spread(4))
    truth = PROBLEMS.create("bernoulli-linear").truth()
    np.testing.assert_allclose(truth.gradient.logits, p * (1 - p) * [-1, 2, -3, 4], rtol=1e-12)


def test_nonseparable_truth_in_thirty_dimensions():
    """`sum_i i b_i` is an integer with a law computed by convolution, so 2^30 events are summed exactly."""
    dimension, target = 30, 0.4
    p = sigmoid(spread(dimension))

    def mean_given(index, bit):
        law = np.ones(1)
        for i in range(dimension):
            q = float(bit) if i == index else p[i]
            law = np.concatenate([law * (1 - q), np.zeros(i + 1)]) + np.concatenate([np.zeros(i + 1), law * q])
        sums = np.arange(law.size) / (dimension * (dimension + 1) / 2)
        return law @ (sums - target) ** 2

    second = [p[i] * (1 - p[i]) * (mean_given(i, 1) - mean_given(i, 0)) for i in range(dimension)]
    truth = PROBLEMS.create("bernoulli-nonseparable", dimension=dimension, target=target).truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.logits, second, rtol=1e-10, atol=1e-15)


def test_double_control_variates_toy_has_the_truth_of_one_bit():
    """Two hundred bits, each of which is one quadratic toy divided by two hundred."""
    p = sigmoid(spread(200))
    truth = PROBLEMS.create("bernoulli-separable").truth()
    np.testing.assert_allclose(truth.gradient.logits, p * (1 - p) * (1 - 2 * 0.499) / 200, rtol=1e-12)


def test_qubo_instance_is_pinned():
    """These numbers are the definition of the problem: they may never change."""
    normals = [[1.764052345967664, 0.4001572083672233], [0.9787379841057392, 2.240893199201458]]
    matrix = PROBLEMS.create("bernoulli-qubo", dimension=2).f.matrix
    np.testing.assert_allclose(matrix, (np.array(normals) + np.array(normals).T) / 2, rtol=1e-15)
    other = PROBLEMS.create("bernoulli-qubo", dimension=2, seed=1).f.matrix
    assert abs(np.asarray(other - matrix)).min() > 0.01


@jax.jit
def straight_through_mean(problem):
    """`E[p_i (1 - p_i) d f / d b_i]`, enumerated."""
    dist = problem.dist
    events, p = dist.support(), dist.mean()
    masses = jnp.exp(jax.vmap(dist.log_prob)(events))
    return masses @ jax.vmap(jax.grad(problem.f))(events) * p * (1 - p)


@pytest.mark.parametrize(
    "name, unbiased", [("bernoulli-linear", True), ("bernoulli-parity", True), ("bernoulli-nonseparable", False)]
)
def test_straight_through_is_unbiased_where_a_docstring_says_so(name, unbiased):
    problem = PROBLEMS.create(name)
    truth = problem.truth().gradient.logits
    relative = np.linalg.norm(straight_through_mean(problem) - truth) / np.linalg.norm(truth)
    assert relative < 1e-12 if unbiased else relative > 0.1


@jax.jit
def least_variance_of_a_constant_baseline(problem):
    """For each logit, `min_c Var((f - c) s) / E[s^2]`, enumerated."""
    dist = problem.dist
    events = dist.support()
    masses = jnp.exp(jax.vmap(dist.log_prob)(events))
    values, scores = jax.vmap(problem.f)(events)[:, None], events - dist.mean()[None]
    second = masses @ scores**2
    best = masses @ (values * scores**2) / second
    estimates = (values - best[None]) * scores
    return (masses @ estimates**2 - (masses @ estimates) ** 2) / second


def test_constant_baseline_solves_the_scalar_toy_and_not_the_others():
    scalar = PROBLEMS.create("bernoulli-quadratic", logit=-1.0)
    assert abs(least_variance_of_a_constant_baseline(scalar)).max() < 1e-15
    nonseparable = PROBLEMS.create("bernoulli-nonseparable")
    values = jax.vmap(nonseparable.f)(nonseparable.dist.support())
    assert least_variance_of_a_constant_baseline(nonseparable).min() > 0.1 * float(values.var())
    signs = np.sign(nonseparable.truth().gradient.logits)
    assert set(signs) == {-1.0, 1.0}


@pytest.mark.parametrize("name", ["bernoulli-step", "gaussian-step"])
def test_derivative_estimators_refuse_a_step(name):
    problem = PROBLEMS.create(name)
    differentiating = [
        instance
        for estimator in ESTIMATORS
        if AbstractDifferentiable in (instance := ESTIMATORS.create(estimator)).requires
        and not incompatibility(instance, problem.dist, jnp.sum)
    ]
    assert differentiating
    for estimator in differentiating:
        assert "needs a differentiable objective" in mismatch(estimator, problem)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("bernoulli-nonseparable", {"dimension": 0}),
        ("bernoulli-linear", {"dimension": -1}),
        ("categorical-quadratic", {"dimension": 1}),
        ("categorical-linear", {"categories": 1}),
        ("gaussian-quadratic", {"dimension": 0}),
        ("gaussian-cosine", {"scale": 0}),
        ("gaussian-exponential", {"k": -0.1}),
    ],
)
def test_impossible_arguments_are_refused_in_a_sentence(name, arguments):
    ((argument, given),) = arguments.items()
    with pytest.raises(ValueError, match=rf"^`{name}` needs `{argument} >=? \d`, got {given}"):
        PROBLEMS.create(name, **arguments)


def test_default_offset_is_a_leaf():
    assert isinstance(Affine(np.ones(2)).offset, jax.Array)


def moved(name):
    """The toy with every real argument changed, and its shape and seed left alone."""
    parameters = inspect.signature(PROBLEMS.factory(name)).parameters.values()
    return PROBLEMS.create(
        name, **{p.name: p.default * 1.25 + 0.125 for p in parameters if isinstance(p.default, float)}
    )


@pytest.mark.parametrize("name", TOYS)
def test_a_grid_of_one_toy_shares_one_program(name):
    """Equal structure, static parts included, and equal shapes and types: what a compiled program is looked up by."""
    default, other = PROBLEMS.create(name), moved(name)
    assert isinstance(default, AbstractProblem)
    arrays, static = eqx.partition(default, eqx.is_array)
    other_arrays, other_static = eqx.partition(other, eqx.is_array)
    assert jax.tree.structure(default) == jax.tree.structure(other)
    assert jax.tree.leaves(static) == jax.tree.leaves(other_static) == []
    assert jax.tree.map(jax.typeof, arrays) == jax.tree.map(jax.typeof, other_arrays)
    has_arguments = any(
        isinstance(p.default, float) for p in inspect.signature(PROBLEMS.factory(name)).parameters.values()
    )
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(default), jax.tree.leaves(other), strict=True)]
    assert all(same) != has_arguments


@pytest.mark.parametrize("name", TOYS)
def test_truth_is_float64_on_the_host_in_either_precision(name):
    exact = PROBLEMS.create(name).truth()
    with jax.enable_x64(False):
        problem = PROBLEMS.create(name)
        truth = problem.truth()
        assert {leaf.dtype.name for leaf in jax.tree.leaves(problem)} == {"float32"}
        assert jax.eval_shape(lambda: problem.f(problem.dist.sample(jax.random.key(0)))).dtype == jnp.float32
    assert truth.kind == exact.kind and truth.standard_error is None
    assert jax.tree.structure(truth.gradient) == jax.tree.structure(problem.dist)
    for single, double, leaf in zip(*map(jax.tree.leaves, (truth.gradient, exact.gradient, problem.dist)), strict=True):
        assert type(single) is np.ndarray and single.dtype == np.float64 == double.dtype
        assert single.shape == leaf.shape and np.isfinite(single).all()
        # Only the parameters were rounded to float32; `1 - 2 * 0.499` loses three of their digits.
        np.testing.assert_allclose(single, double, rtol=5e-5, atol=1e-6 * np.abs(double).max())
        assert np.linalg.norm(double) > 0
