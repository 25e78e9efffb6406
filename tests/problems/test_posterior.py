"""The bound of one approximate posterior: the conjugate model by closed form, quadrature, and its exact posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks import measure
from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import exact_truth, in_float64
from estimators import Pathwise, Quadrature, StickingTheLanding, TotalDerivative


def leaves(truth):
    return np.concatenate([truth.gradient.loc, truth.gradient.log_scale])


def posterior(dimension, noise):
    """Mean and deviation of the exact posterior, by completing the square."""
    order = np.arange(1, dimension + 1)
    x = np.array([1.0, -0.5, 1 / 3, -0.25])[:dimension]
    precision = 1 + order / noise**2
    return x * order / noise**2 / precision, precision**-0.5


@pytest.mark.parametrize("distance, dimension, noise", [(1.0, 1, 0.5), (-0.4, 4, 1.3), (0.0, 3, 0.5)])
def test_truth_is_the_closed_form_of_the_docstring(distance, dimension, noise):
    truth = PROBLEMS.create("conjugate-gaussian", distance=distance, dimension=dimension, noise=noise).truth()
    _, s = posterior(dimension, noise)
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.loc, -distance / s, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(
        truth.gradient.log_scale, np.full(dimension, 1 - np.exp(-distance)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_truth_equals_quadrature_through_the_problem(kl):
    problem = PROBLEMS.create("conjugate-gaussian", distance=0.6, dimension=2, kl=kl)
    np.testing.assert_allclose(leaves(problem.truth()), leaves(exact_truth(problem, Quadrature(65), "")), rtol=1e-11)


def test_at_no_distance_the_log_weight_is_the_evidence_wherever_it_is_asked():
    """`x_i` is normal with variance `1 + sigma_i^2`, and `q` is the posterior; up to the float32 of its leaves."""
    problem = in_float64(PROBLEMS.create("conjugate-gaussian", distance=0.0, dimension=3, noise=0.8))
    m, s = posterior(3, 0.8)
    np.testing.assert_allclose(problem.dist.loc, m, rtol=1e-6)
    np.testing.assert_allclose(problem.dist.scale, s, rtol=1e-6)
    sigma = 0.8 / np.sqrt(np.arange(1, 4))
    evidence = np.sum(stats.norm.logpdf([1.0, -0.5, 1 / 3], 0, np.sqrt(1 + sigma**2)))
    zs = np.random.RandomState(0).standard_normal((5, 3))
    np.testing.assert_allclose(jax.vmap(problem.weight())(jnp.asarray(zs)), np.full(5, evidence), atol=1e-5)
    np.testing.assert_allclose(problem.elbo(problem.dist), evidence, atol=1e-6)


def test_the_landing_in_single_precision():
    """Of the path derivative nothing is left but rounding, of the total derivative the Fisher information of `q`: `1 / s^2` and 2, here to
    a tenth (eight standard errors of the larger)."""
    with jax.enable_x64(False):
        problem = PROBLEMS.create("conjugate-gaussian", distance=0.0)

        def variances(estimator):
            keys = jax.random.split(jax.random.key(0), 20_000)
            grads = jax.jit(jax.vmap(lambda key: problem.gradient(lambda *a: (estimator.gradient(*a), None), key)[0]))(
                keys
            )
            return [float(jnp.var(leaf)) for leaf in (grads.loc, grads.log_scale)]

        assert max(variances(StickingTheLanding())) < 1e-11
        np.testing.assert_allclose(variances(TotalDerivative()), [5.0, 2.0], rtol=0.1)


def test_parts_are_named():
    problem = PROBLEMS.create("conjugate-gaussian")
    assert list(problem.parts(problem.truth().gradient)) == ["distribution", "loc", "log_scale"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"dimension": 0}, "needs `dimension >= 1`"),
        ({"noise": -1.0}, "needs `noise > 0`, got -1.0"),
        ({"kl": "exact"}, "`EvidenceBound` needs `kl` to be 'analytic' or 'sampled', got 'exact'"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PROBLEMS.create("conjugate-gaussian", **arguments)


def test_rounding_of_terms_that_cancel_is_no_bias():
    """At the posterior the path derivative is what float32 leaves of the difference of two terms of order one. Against the size of what
    is left it is biased; against that of a term nothing can be said."""
    with jax.enable_x64(False):
        problem = PROBLEMS.create("conjugate-gaussian", distance=0.0)
        truth = problem.truth()
        assert (
            np.linalg.norm(jax.tree.leaves(truth.gradient)) < 1e-6 < 0.1 < np.linalg.norm(jax.tree.leaves(truth.term))
        )
        verdicts = [
            measure(Pathwise(), problem, jax.random.key(0), replicates=20_000, truth=known).summary()["verdict"]
            for known in (truth, truth._replace(term=None))
        ]
    assert verdicts == ["undetermined", "biased"]
