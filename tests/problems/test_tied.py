"""The tied toy: its truth by the three bits, and an estimate as it reaches the one logit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure
from benchmarks.problems import PROBLEMS, mismatch
from estimators import ARM, LeaveOneOut


@pytest.mark.parametrize("logit", [0.0, -4.0, 1.0])
def test_truth_is_the_sum_of_three_bits(logit):
    truth = PROBLEMS.create("categorical-tied", logit=logit).truth()
    p = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(truth.gradient["logit"], p * (1 - p) * (3 - 2 * (0.6 + 0.51 + 0.48)), rtol=1e-11)
    untied = PROBLEMS.create("bernoulli-rare", logit=logit).truth()
    np.testing.assert_allclose(truth.gradient["logit"], untied.gradient.logits.sum(), rtol=1e-11)
    assert truth.kind == "enumeration"


def test_published_value_and_the_law_of_the_states():
    truth = PROBLEMS.create("categorical-tied").truth()
    np.testing.assert_allclose(truth.gradient["logit"], -0.045, rtol=1e-12)
    dist, f = PROBLEMS.create("categorical-tied", logit=-4).example()
    probabilities = np.asarray(dist.mean())
    p = 1 / (1 + np.exp(4.0))
    np.testing.assert_allclose(probabilities[[0, 3, 7]], [(1 - p) ** 3, p**2 * (1 - p), p**3], rtol=1e-12)
    assert 0.947 < probabilities[0] < 0.948
    np.testing.assert_allclose(f(jnp.eye(8)[3]), 0.6**2 + 0.49**2 + 0.52**2, rtol=1e-14)


def test_the_best_state_is_the_published_optimum():
    """The least value that one shared logit can reach is 0.6705, all bits on; all off, it is 0.8505."""
    _, f = PROBLEMS.create("categorical-tied").example()
    values = np.asarray(jax.vmap(f)(jnp.eye(8)))
    np.testing.assert_allclose(values[[0, 7]], [0.8505, 0.6705], rtol=1e-12)


def test_an_estimate_is_pulled_back_to_the_logit():
    problem = PROBLEMS.create("categorical-tied", logit=0.3)

    def estimate(key, dist, f):
        del f
        return jax.tree.map(lambda leaf: jnp.arange(8.0), dist), None

    gradient, _ = problem.gradient(estimate, jax.random.key(0))
    ones = [0, 1, 1, 2, 1, 2, 2, 3]
    np.testing.assert_allclose(gradient["logit"], np.dot(np.arange(8.0), ones), rtol=1e-14)
    assert list(problem.parts(gradient)) == ["logit", "distribution"]


def test_it_is_measured_like_any_other():
    problem = PROBLEMS.create("categorical-tied")
    m = measure(LeaveOneOut(), problem, jax.random.key(0), replicates=20_000)
    assert m.mean["logit"].shape == () and m.summary()["bias_p_value"] > 1e-6
    np.testing.assert_allclose(m.truth["logit"], -0.045, rtol=1e-6)
    assert mismatch(ARM(), problem) == "`ARM` needs a `Bernoulli` distribution, and `Categorical` is not one."


def test_both_precisions():
    with jax.enable_x64(False):
        problem = PROBLEMS.create("categorical-tied", logit=-4)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(problem)} == {"float32"}
        truth = problem.truth()
    assert truth.gradient["logit"].dtype == np.float64
    exact = PROBLEMS.create("categorical-tied", logit=-4).truth()
    np.testing.assert_allclose(truth.gradient["logit"], exact.gradient["logit"], rtol=1e-5)
