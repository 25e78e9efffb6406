"""ZGR and DARN, summed over their events: their formulas, their means, and the identities that connect them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated import BITS, ONE_OF_FOUR, SHAPES, TWO_OF_THREE, enumerated, jacobian, polynomial
from prescribed import counted_evaluations, prescribe, prescribed_estimates
from scipy import special

from estimators import Bernoulli, BlackBox, Categorical, Normal, ReinMax, StraightThrough, incompatibility
from estimators.straight_through import StraightThroughGumbelSoftmax, TemperedStraightThrough
from estimators.zgr import DARN, ZGR

each_shape = pytest.mark.parametrize("logits", SHAPES, ids=["bits", "two of three", "one of four"])


@pytest.mark.parametrize("logits", [TWO_OF_THREE, ONE_OF_FOUR], ids=["two of three", "one of four"])
def test_estimates_are_the_pairs_of_categories(logits):
    """`1/2 sum_k pi_k (x - e_k) f'(x)^T (x - e_k)`, and DARN without the sum, for each variable; they sum to zero."""
    f = polynomial(logits, quadratic=True, cubic=True)
    zgr, darn = enumerated(ZGR(), logits, f), enumerated(DARN(), logits, f)
    pi = special.softmax(logits, axis=-1)
    for row, categories in zip(pi, range(len(pi)), strict=True):
        x, slope = zgr.events[:, categories], zgr.slopes[:, categories]
        gaps = x[:, None] - np.eye(len(row))
        expected = np.einsum("k,eki,ekj,ej->ei", row, gaps, gaps, slope) / 2
        np.testing.assert_allclose(zgr.estimates[:, categories], expected, rtol=1e-12, atol=1e-14)
        expected = (x - row) * np.sum((x - row) * slope, axis=1, keepdims=True)
        np.testing.assert_allclose(darn.estimates[:, categories], expected, rtol=1e-12, atol=1e-14)
    for made in (zgr, darn):
        np.testing.assert_allclose(made.estimates.sum(axis=-1), 0, atol=1e-14)


def test_on_bits_zgr_is_darn_with_the_baseline_at_one_half():
    """`(b - p) (b - 1/2) f'(b)`, as Gregor et al. have it, which is half the chance of the other event times `f'`."""
    f, p = polynomial(BITS, quadratic=True, cubic=True), special.expit(BITS)
    made = enumerated(ZGR(), BITS, f)
    np.testing.assert_allclose(made.estimates, (made.events - p) * (made.events - 0.5) * made.slopes, rtol=1e-12)
    other = np.where(made.events > 0, 1 - p, p)
    np.testing.assert_allclose(made.estimates, other / 2 * made.slopes, rtol=1e-12)
    made = enumerated(DARN(), BITS, f)
    np.testing.assert_allclose(made.estimates, (made.events - p) ** 2 * made.slopes, rtol=1e-12)


@each_shape
def test_zgr_is_exact_for_what_is_quadratic_in_each_variable(logits):
    """With products across variables, of degree four in all; ST and DARN err there, oppositely and alike."""
    f = polynomial(logits, quadratic=True, squares=True)
    made = enumerated(ZGR(), logits, f)
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11, atol=1e-13)
    through, darn = enumerated(StraightThrough(), logits, f), enumerated(DARN(), logits, f)
    np.testing.assert_allclose(made.estimates, (through.estimates + darn.estimates) / 2, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(darn.mean - made.exact, made.exact - through.mean, rtol=1e-10, atol=1e-13)
    assert np.all(np.abs(darn.mean - made.exact) > 1e-3)


@each_shape
def test_an_affine_objective_has_no_bias_but_variance(logits):
    for estimator in (ZGR(), DARN()):
        made = enumerated(estimator, logits, polynomial(logits))
        np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11, atol=1e-13)
        assert np.all(made.variance > 1e-6)


def test_beyond_quadratics_the_mean_is_the_trapezoidal_rule():
    """One variable of four categories: `1/2 sum_ck pi_c pi_k (e_c - e_k) (f'(e_c) + f'(e_k))/2 . (e_c - e_k)`."""
    made = enumerated(ZGR(), ONE_OF_FOUR, polynomial(ONE_OF_FOUR, quadratic=True, cubic=True))
    pi, slopes, each = special.softmax(ONE_OF_FOUR[0]), made.slopes[:, 0], np.eye(4)
    gaps = each[:, None] - each[None]
    differences = np.einsum("ckj,ckj->ck", gaps, (slopes[:, None] + slopes[None]) / 2)
    expected = np.einsum("c,k,cki,ck->i", pi, pi, gaps, differences) / 2
    np.testing.assert_allclose(made.mean[0], expected, rtol=1e-11)
    assert np.all(np.abs(made.mean - made.exact) > 5e-3)


@pytest.mark.parametrize("logit", [-1.0, 0.7])
def test_darn_mean_on_one_bit_is_the_closed_form(logit):
    logits, p = np.array([logit]), special.expit(logit)
    made = enumerated(DARN(), logits, polynomial(logits, quadratic=True, cubic=True))
    slope = dict(zip(made.events[:, 0], made.slopes[:, 0], strict=True))
    np.testing.assert_allclose(made.mean, [p * (1 - p) * ((1 - p) * slope[1.0] + p * slope[0.0])], rtol=1e-12)


@pytest.mark.parametrize("estimator", [ZGR(), DARN(), ReinMax(1.5), TemperedStraightThrough(0.7)], ids=repr)
def test_bits_are_two_categories(estimator):
    """Logits `[0, e]`, and an `f` of the second coordinate."""
    f = polynomial(BITS, quadratic=True, cubic=True)
    pairs = np.stack([np.zeros(3), BITS], axis=-1)
    bits, categories = enumerated(estimator, BITS, f), enumerated(estimator, pairs, OfSecond(f))
    # Two categories are enumerated in the order of their first coordinate, and of the last variable first.
    order = [np.flatnonzero(np.all(bits.events == event[:, 1], axis=1)).item() for event in categories.events]
    expected = bits.estimates[order]
    np.testing.assert_allclose(categories.estimates[..., 1], expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(categories.estimates[..., 0], -expected, rtol=1e-11, atol=1e-14)


class OfSecond:
    """`f` of the second of two categories."""

    def __init__(self, f):
        self.f = f

    def __call__(self, x):
        return self.f(x[:, 1])


@pytest.mark.parametrize("b", [0.0, 1.0])
def test_zgr_is_the_limit_of_straight_through_gumbel_softmax_given_the_event(b):
    """For a bit and `f' = 1`; the error falls in proportion to the temperature, and is extrapolated away."""
    logit, p = 0.7, special.expit(0.7)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    steps = (nodes + 1) * 20 * (2 * b - 1)

    def given_the_bit(temperature):
        z = temperature * steps
        values, _ = prescribed_estimates(
            StraightThroughGumbelSoftmax(temperature), None, jnp.array([logit]), z[:, None, None] - logit, jnp.sum
        )
        density = special.expit(z - logit) * special.expit(logit - z) / (p if b else 1 - p)
        return temperature * 20 * np.sum(weights * density * np.asarray(values)[:, 0])

    zgr = ZGR().gradient(jax.random.key(0), prescribe(jnp.array([logit]), jnp.array([[b]])), jnp.sum).logits
    np.testing.assert_allclose(2 * given_the_bit(0.005) - given_the_bit(0.01), zgr[0], rtol=1e-4)
    assert 1e-3 < abs(given_the_bit(0.01) / zgr[0] - 1) < 1e-2


def test_declared_evaluations_and_refusals():
    for estimator in (ZGR(), DARN()):
        for dist in (Bernoulli(BITS), Categorical(TWO_OF_THREE)):
            assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1
        name = type(estimator).__name__
        reason = incompatibility(estimator, Normal([0.0], [0.0]), np.sum)
        assert reason == f"`{name}` needs a relaxable distribution, and `Normal` is not one."
        reason = incompatibility(estimator, Bernoulli(BITS), BlackBox(np.sum))
        assert reason == f"`{name}` needs a differentiable objective, and `BlackBox` does not declare to be one."


@pytest.mark.parametrize("estimator", [ZGR(), DARN()], ids=repr)
def test_rare_categories(estimator):
    logits = np.log(np.array([[0.98, 0.01, 0.01]]))
    made = enumerated(estimator, logits, polynomial(logits))
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-10)
    np.testing.assert_allclose(made.mean[0], jacobian(np.array([0.98, 0.01, 0.01])) @ made.slopes[0, 0], rtol=1e-10)
