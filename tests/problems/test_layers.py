"""The Bayesian layers: truths against quadrature over all weights together, and the data against what they claim."""

import jax
import numpy as np
import pytest
from scipy import stats

from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import exact_truth
from benchmarks.problems.layers import quasi_normal
from estimators import Quadrature


def leaves(truth):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(truth.gradient)])


@pytest.mark.parametrize("inputs, units", [(2, 1), (1, 2)])
@pytest.mark.parametrize("name, kind", [("bayesian-linear", "closed form"), ("bayesian-hidden-layer", "quadrature")])
def test_the_truth_equals_quadrature_over_all_weights(name, kind, inputs, units):
    problem = PROBLEMS.create(name, batch=3, inputs=inputs, units=units, scale=0.6)
    truth = problem.truth()
    assert truth.kind == kind and truth.gradient.loc.shape == (inputs, units)
    by_weights = exact_truth(problem, Quadrature(resolution=97), "quadrature")
    np.testing.assert_allclose(leaves(truth), leaves(by_weights), rtol=1e-9, atol=1e-12)


def test_the_linear_truth_by_hand():
    problem = PROBLEMS.create("bayesian-linear", batch=5, scale=0.4)
    x, y = np.asarray(problem.f.inputs), np.asarray(problem.f.targets)
    truth = problem.truth().gradient
    np.testing.assert_allclose(truth.loc, 2 / 5 * x.T @ (x @ np.asarray(problem.dist.loc) - y), rtol=1e-11)
    squares = np.sum(x**2, axis=0)[:, None]
    np.testing.assert_allclose(truth.log_scale, 2 / 5 * 0.4**2 * np.broadcast_to(squares, (4, 2)), rtol=1e-11)


def test_a_smaller_minibatch_is_the_beginning_of_a_larger():
    for name in ("bayesian-linear", "bayesian-hidden-layer"):
        small, large = (PROBLEMS.create(name, batch=batch) for batch in (3, 9))
        np.testing.assert_array_equal(small.f.inputs, large.f.inputs[:3])
        np.testing.assert_allclose(small.f.targets, large.f.targets[:3], rtol=1e-12)
        np.testing.assert_array_equal(small.dist.loc, large.dist.loc)
        np.testing.assert_array_equal(large.f.inputs[:, 0], 1.0)


def test_the_data_have_the_normal_law_and_little_correlation():
    """In one dimension the root is the golden section. The distribution function is met closer than 512 draws mostly do."""
    points = quasi_normal(512, 3)
    one = quasi_normal(4, 1)
    golden = (np.sqrt(5) - 1) / 2
    np.testing.assert_allclose(stats.norm.cdf(one[:, 0]), (0.5 + golden * np.arange(1, 5)) % 1, rtol=1e-12)
    assert max(stats.kstest(column, stats.norm.cdf).statistic for column in points.T) < 0.02
    assert np.max(np.abs(np.corrcoef(points.T) - np.eye(3))) < 0.1


@pytest.mark.parametrize("name", ["bayesian-linear", "bayesian-hidden-layer"])
def test_what_makes_no_sense_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` needs `batch >= 1`, got 0"):
        PROBLEMS.create(name, batch=0)
    with pytest.raises(
        ValueError, match=f"`{name}` needs `scale > 0`, got -1; it is the standard deviation of a weight."
    ):
        PROBLEMS.create(name, scale=-1)
