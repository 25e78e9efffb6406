"""ReinMax, summed over its events: its formula, its mean at each temperature, and that at 1 it is ZGR."""

import jax
import numpy as np
import pytest
from enumerated import BITS, ONE_OF_FOUR, SHAPES, TWO_OF_THREE, enumerated, jacobian, polynomial
from prescribed import counted_evaluations
from scipy import special

from estimators import ZGR, Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.reinmax import ReinMax

each_shape = pytest.mark.parametrize("logits", SHAPES, ids=["bits", "two of three", "one of four"])


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_estimates_equal_the_formula_in_numpy(temperature):
    made = enumerated(ReinMax(temperature), TWO_OF_THREE, polynomial(TWO_OF_THREE, quadratic=True, cubic=True))
    pi, soft = special.softmax(TWO_OF_THREE, axis=-1), special.softmax(TWO_OF_THREE / temperature, axis=-1)
    for x, slope, estimate in zip(made.events, made.slopes, made.estimates, strict=True):
        for i in range(2):
            expected = (2 * jacobian((soft[i] + x[i]) / 2) - jacobian(pi[i]) / 2) @ slope[i]
            np.testing.assert_allclose(estimate[i], expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(made.estimates.sum(axis=-1), 0, atol=1e-14)


@each_shape
def test_at_temperature_one_it_is_zgr_and_exact_for_quadratics(logits):
    f = polynomial(logits, quadratic=True, cubic=True, squares=True)
    np.testing.assert_allclose(
        enumerated(ReinMax(), logits, f).estimates, enumerated(ZGR(), logits, f).estimates, rtol=1e-12, atol=1e-14
    )
    made = enumerated(ReinMax(), logits, polynomial(logits, quadratic=True, squares=True))
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 1.1, 2.0])
def test_mean_on_an_affine_objective(temperature):
    """`[J(pi_t) + (pi - pi_t) (pi - pi_t)^T / 2] f'`, which is the gradient `J(pi) f'` at temperature 1 alone.

    Elsewhere it is not even parallel to the gradient.
    """
    made = enumerated(ReinMax(temperature), ONE_OF_FOUR, polynomial(ONE_OF_FOUR))
    pi, soft, slope = special.softmax(ONE_OF_FOUR[0]), special.softmax(ONE_OF_FOUR[0] / temperature), made.slopes[0, 0]
    expected = jacobian(soft) @ slope + (pi - soft) * np.dot(pi - soft, slope) / 2
    np.testing.assert_allclose(made.mean[0], expected, rtol=1e-11)
    np.testing.assert_allclose(made.exact[0], jacobian(pi) @ slope, rtol=1e-11)
    cosine = np.sum(made.mean * made.exact) / np.linalg.norm(made.mean) / np.linalg.norm(made.exact)
    assert np.allclose(made.mean, made.exact, rtol=1e-10) == (temperature == 1.0)
    assert (cosine < 1 - 1e-5) == (temperature != 1.0)


def test_the_temperature_is_not_that_of_the_sample():
    """Events are weighed by their true law: for bits, `[s (1 - s) + (p - s)^2 / 2] f'`, `s = sigmoid(e / t)`."""
    made = enumerated(ReinMax(2.0), BITS, polynomial(BITS))
    p, s = special.expit(BITS), special.expit(BITS / 2)
    np.testing.assert_allclose(made.mean, (s * (1 - s) + (p - s) ** 2 / 2) * made.slopes[0], rtol=1e-11)


def test_declared_evaluations_and_refusals():
    for dist in (Bernoulli(BITS), Categorical(TWO_OF_THREE)):
        assert counted_evaluations(ReinMax(), dist) == ReinMax().evaluations(dist) == 1
    with pytest.raises(ValueError, match=r"`ReinMax` needs `temperature >= 1`, got 0.5"):
        ReinMax(temperature=0.5)
    jax.vmap(lambda t: ReinMax(temperature=t).temperature)(np.array([0.5, 2.0]))
    reason = incompatibility(ReinMax(), Normal([0.0], [0.0]), np.sum)
    assert reason == "`ReinMax` needs a relaxable distribution, and `Normal` is not one."
    reason = incompatibility(ReinMax(), Bernoulli(BITS), BlackBox(np.sum))
    assert reason == "`ReinMax` needs a differentiable objective, and `BlackBox` does not declare to be one."
