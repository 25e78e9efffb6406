"""ReinMax, summed over its events: its formula, its mean at each temperature, and that at 1 it is ZGR.

So is the form with the plain mean for baseline. ReinMax-Rao draws noise given the event, over which it is integrated
where there are two categories.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from enumerated import BITS, ONE_OF_FOUR, SHAPES, TWO_OF_THREE, PrescribedCategorical, enumerated, jacobian, polynomial
from prescribed import counted_evaluations
from scipy import integrate, special

from estimators import ZGR, Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.reinmax import ReinMax, ReinMaxMeanBaseline, ReinMaxRao

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


def quartic(logits):
    """Not a sum over the categories of a variable: of such a sum every baseline makes the same mean."""
    ends = jnp.asarray(np.random.default_rng(1).normal(size=(2, logits.size)))
    return eqx.tree_at(lambda f: (f.first, f.second), polynomial(logits, quadratic=True), tuple(ends))


@pytest.mark.parametrize("logits", [TWO_OF_THREE, ONE_OF_FOUR], ids=["two of three", "one of four"])
def test_the_mean_baseline_is_exact_for_quadratics(logits):
    """And of a quartic it makes another mean than ReinMax, for pairs are weighed otherwise."""
    made = enumerated(ReinMaxMeanBaseline(), logits, polynomial(logits, quadratic=True, squares=True))
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11, atol=1e-13)
    made, plain = (enumerated(estimator, logits, quartic(logits)) for estimator in (ReinMaxMeanBaseline(), ReinMax()))
    np.testing.assert_allclose(made.estimates.sum(axis=-1), 0, atol=1e-13)
    assert np.abs(made.mean - made.exact).max() > 1e-4 and np.abs(made.mean - plain.mean).max() > 1e-4


def test_the_mean_baseline_weighs_pairs_as_the_derivation_says():
    """`1/C sum_ij 1/2 (f'(e_i) + f'(e_j))^T (e_i - e_j) pi_i (e_i - pi)`; ReinMax has `pi_j` in place of `1/C`."""
    pi, each = special.softmax(ONE_OF_FOUR[0]), np.eye(4)
    for estimator, weight in [(ReinMaxMeanBaseline(), np.full(4, 0.25)), (ReinMax(), pi)]:
        made = enumerated(estimator, ONE_OF_FOUR, quartic(ONE_OF_FOUR))
        slope, expected = made.slopes[:, 0], np.zeros(4)
        for i in range(4):
            for j in range(4):
                difference = (slope[i] + slope[j]) @ (each[i] - each[j]) / 2
                expected += weight[j] * difference * pi[i] * (each[i] - pi)
        np.testing.assert_allclose(made.mean[0], expected, rtol=1e-11, atol=1e-14)


def test_of_two_categories_the_mean_baseline_is_reinmax():
    logits = np.array([[0.4, -0.9], [1.0, 2.0]])
    f = polynomial(logits, quadratic=True, cubic=True, squares=True)
    pair = [enumerated(estimator, logits, f).estimates for estimator in (ReinMaxMeanBaseline(), ReinMax())]
    np.testing.assert_allclose(*pair, rtol=1e-11, atol=1e-13)


@eqx.filter_jit
def at_event(estimator, logits, event, f, keys):
    """Estimates at one event, over what else is drawn."""
    dist = PrescribedCategorical(logits, event)
    return jax.vmap(lambda key: estimator.gradient(key, dist, f).logits)(keys)


def slope_given_the_event(q, temperature):
    """The mean of `sigma'(d / t) / t` for logistic `d` at `logit(q)`, given that it is positive."""
    location = special.logit(q)

    def integrand(d):
        s = special.expit(d / temperature)
        density = special.expit(d - location) * special.expit(location - d)
        return s * (1 - s) / temperature * density / q

    return sum(
        integrate.quad(integrand, *edge)[0] for edge in [(0, 10 * min(temperature, 1)), (10 * min(temperature, 1), 60)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_the_mean_of_reinmax_rao_at_an_event_of_two_categories(temperature, key):
    logits = np.array([[0.4, -0.9]])
    f, pi = polynomial(logits, quadratic=True, cubic=True), special.softmax(logits[0])
    estimator = ReinMaxRao(num_inner=100, temperature=temperature)
    for event, key_event in zip(np.eye(2), jax.random.split(key), strict=True):
        slope = np.asarray(jax.grad(f)(jnp.asarray(event[None])))[0]
        expected = 2 * slope_given_the_event((1 + pi @ event) / 2, temperature) - pi[0] * pi[1] / 2
        expected = expected * (slope[0] - slope[1]) * np.array([1, -1])
        keys = jax.random.split(key_event, 4_000)
        found = at_event(estimator, jnp.asarray(logits), jnp.asarray(event[None]), f, keys)
        assert_mean_equals(found[:, 0], expected, detects=0.1)


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_the_limits_of_reinmax_rao_are_halves_of_darn_and_of_straight_through(p):
    """Of the factor of `f'_0 - f'_1`, for an event of probability `p`: `(1 - p)^2 / 2` and `-p (1 - p) / 2`."""
    low, high = (2 * slope_given_the_event((1 + p) / 2, t) - p * (1 - p) / 2 for t in (1e-3, 1e3))
    np.testing.assert_allclose([low, high], [(1 - p) ** 2 / 2, -p * (1 - p) / 2], atol=2e-3)


def test_reinmax_rao_is_gumbel_rao_half_way_less_half_of_straight_through():
    """Draw by draw, on the noise that both make of one key."""
    f = polynomial(TWO_OF_THREE, quadratic=True, cubic=True)
    x = np.eye(3)[[2, 0]]
    pi = special.softmax(TWO_OF_THREE, axis=-1)
    slope = np.asarray(jax.grad(f)(jnp.asarray(x)))
    key_inner = jax.random.split(jax.random.key(3))[1]
    noise = np.stack([jax.random.gumbel(k, (2, 3)) for k in jax.random.split(key_inner, 4)])
    log_q, top = np.log((pi + x) / 2), np.sum(x * noise, axis=-1, keepdims=True)
    z = np.where(x > 0, top, -np.logaddexp(-(log_q + noise), -top))
    soft, expected = special.softmax(z / 0.7, axis=-1), np.zeros((2, 3))
    for v in range(2):
        first = np.mean([jacobian(each) for each in soft[:, v]], axis=0) / 0.7
        expected[v] = (2 * first - jacobian(pi[v]) / 2) @ slope[v]
    estimator = ReinMaxRao(num_inner=4, temperature=0.7)
    keys = jax.random.key(3)[None]
    found = at_event(estimator, jnp.asarray(TWO_OF_THREE), jnp.asarray(x), f, keys)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


def test_evaluations_and_refusals_of_the_relatives():
    dist = Categorical(TWO_OF_THREE)
    for estimator in (ReinMaxMeanBaseline(), ReinMaxRao(num_inner=3)):
        assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1
        name = type(estimator).__name__
        reason = incompatibility(estimator, Bernoulli(BITS), np.sum)
        assert reason == f"`{name}` needs a `Categorical` distribution, and `Bernoulli` is not one."
        assert "differentiable" in incompatibility(estimator, dist, BlackBox(np.sum))
    with pytest.raises(ValueError, match="`ReinMaxRao` needs `num_inner > 0`, got 0"):
        ReinMaxRao(num_inner=0)
    with pytest.raises(ValueError, match="`ReinMaxRao` needs `temperature > 0`, got 0.0"):
        ReinMaxRao(temperature=0.0)
