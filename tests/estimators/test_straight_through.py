"""The straight-through forms of Bengio et al. and of another temperature, summed over their events."""

import numpy as np
import pytest
from enumerated import BITS, SHAPES, TWO_OF_THREE, enumerated, jacobian, polynomial
from prescribed import counted_evaluations
from scipy import special

from estimators import Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.straight_through import IdentityStraightThrough, StraightThrough, TemperedStraightThrough

each_shape = pytest.mark.parametrize("logits", SHAPES, ids=["bits", "two of three", "one of four"])


def test_identity_estimates_are_the_slope_at_the_event():
    made = enumerated(IdentityStraightThrough(), BITS, polynomial(BITS, quadratic=True, cubic=True))
    np.testing.assert_array_equal(made.estimates, made.slopes)


def test_identity_mean_on_one_bit_and_its_size_on_an_affine_objective():
    """`p f'(1) + (1 - p) f'(0)`; for an affine `f`, the gradient without its factor `p (1 - p)`."""
    made = enumerated(IdentityStraightThrough(), BITS[:1], polynomial(BITS[:1], quadratic=True, cubic=True))
    p, slope = special.expit(BITS[0]), dict(zip(made.events[:, 0], made.slopes[:, 0], strict=True))
    np.testing.assert_allclose(made.mean, [p * slope[1.0] + (1 - p) * slope[0.0]], rtol=1e-12)
    made, p = enumerated(IdentityStraightThrough(), BITS, polynomial(BITS)), special.expit(BITS)
    np.testing.assert_allclose(made.mean, made.exact / (p * (1 - p)), rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tempered_estimates_are_the_formula_with_its_factor(temperature):
    """The events have their true law, of which a mean that is pinned here is the average."""
    made = enumerated(
        TemperedStraightThrough(temperature), TWO_OF_THREE, polynomial(TWO_OF_THREE, quadratic=True, cubic=True)
    )
    soft = special.softmax(TWO_OF_THREE / temperature, axis=-1)
    expected = np.stack([made.slopes[:, i] @ jacobian(soft[i]) / temperature for i in range(2)], axis=1)
    np.testing.assert_allclose(made.estimates, expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(made.estimates.sum(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(made.mean, np.tensordot(made.probabilities, expected, axes=1), rtol=1e-11)


@each_shape
def test_tempered_is_exact_for_an_affine_objective_at_temperature_one_alone(logits):
    f = polynomial(logits)
    made = enumerated(TemperedStraightThrough(1.0), logits, f)
    np.testing.assert_allclose(made.estimates, enumerated(StraightThrough(), logits, f).estimates, rtol=1e-12)
    np.testing.assert_allclose(made.estimates, np.broadcast_to(made.exact, made.estimates.shape), rtol=1e-11)
    for temperature in (0.5, 2.0):
        made = enumerated(TemperedStraightThrough(temperature), logits, f)
        np.testing.assert_allclose(made.variance, 0, atol=1e-25)
        assert np.all(np.abs(made.mean / made.exact - 1) > 0.01)


def test_straight_through_is_exact_in_the_mean_for_products_across_variables():
    """`f` is affine in each bit, and the derivative at a sample is not the mean one."""
    f = polynomial(BITS, quadratic=True)
    f = type(f)(f.linear, f.matrix - np.diag(np.diag(f.matrix)), f.cubic, f.first, f.second)
    made = enumerated(StraightThrough(), BITS, f)
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-12)
    assert np.all(made.variance > 1e-3)


def test_declared_evaluations_and_refusals():
    for estimator in (IdentityStraightThrough(), TemperedStraightThrough()):
        dist = Bernoulli(BITS)
        assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1
        assert "differentiable objective" in incompatibility(estimator, dist, BlackBox(np.sum))
    with pytest.raises(ValueError, match=r"`TemperedStraightThrough` needs `temperature > 0`, got 0.0"):
        TemperedStraightThrough(temperature=0.0)
    reason = incompatibility(IdentityStraightThrough(), Categorical(TWO_OF_THREE), np.sum)
    assert reason == "`IdentityStraightThrough` needs a `Bernoulli` distribution, and `Categorical` is not one."
    reason = incompatibility(TemperedStraightThrough(), Normal([0.0], [0.0]), np.sum)
    assert reason == "`TemperedStraightThrough` needs a relaxable distribution, and `Normal` is not one."
