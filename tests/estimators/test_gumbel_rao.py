"""Gumbel-Rao, integrated: its mean and its second moments against those of straight-through Gumbel-Softmax.

The event and the noise given the event are prescribed apart, so that Gumbel-Rao is a sum over events of integrals over
the noise that `conditional` is given. Straight-through Gumbel-Softmax is integrated over the law of the perturbed
logits, region by region, in which no `conditional` occurs.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import PrescribedBernoulli, counted_evaluations, moments, outcomes, prescribe, tuples
from scipy import special

from estimators import (
    Bernoulli,
    BlackBox,
    Categorical,
    GumbelRao,
    Normal,
    StraightThroughGumbelSoftmax,
    incompatibility,
)

LOGITS = np.array([-0.8, 1.3])
SKEWED = np.array([0.5, -1.2, 0.9])
# Noise that makes an event whatever the logits.
CERTAIN = 300.0


class PrescribedCategorical(Categorical):
    """A `Categorical` whose noise is written by the test, key by key."""

    draws: Float[Array, "draws *variables categories"]
    words: Float[Array, "draws words"]

    def noise(self, key):
        return PrescribedBernoulli._prescribed(self, key)


class TotalDerivative(GumbelRao):
    """Wrong on purpose: differentiates the conditional draw, which depends on the logits, along with the relaxation."""

    def gradient(self, key, dist, f):
        key_noise, key_inner = jax.random.split(key)
        x = dist.harden(dist.perturb(dist.noise(key_noise)))
        fresh = jax.vmap(dist.noise)(jax.random.split(key_inner, self.num_inner))

        def averaged(d):
            return jnp.mean(jax.vmap(lambda e: d.relax(d.conditional(x, e), self.temperature))(fresh), axis=0)

        return jax.vjp(averaged, dist)[1](jax.grad(f)(x))[0]


def interaction(x):
    """Not separable, and with a derivative that differs from event to event."""
    weights = jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype))
    s = jnp.vdot(weights, x.ravel())
    return jnp.sin(1 + 2 * s) + 0.7 * s**3 - x.ravel()[0]


def interaction_slope(x):
    """The derivative of `interaction`, in NumPy."""
    weights = np.cos(np.arange(1, x.size + 1)).reshape(x.shape)
    s = np.sum(weights * x)
    return weights * (2 * np.cos(1 + 2 * s) + 2.1 * s**2) - np.eye(1, x.size).reshape(x.shape)


@eqx.filter_jit
def estimates(estimator, logits, draws):
    """The estimates of all cases. A case is its draws: the noise of the event, then any inner ones of Gumbel-Rao."""

    def one(draws):
        keys = None
        if isinstance(estimator, GumbelRao):
            key_noise, key_inner = jax.random.split(jax.random.key(0))
            keys = jnp.concatenate([key_noise[None], jax.random.split(key_inner, estimator.num_inner)])
        dist = prescribe(logits, draws, keys)
        if logits.shape[-1] == 3:
            dist = PrescribedCategorical(logits, draws, dist.words)
        return estimator.gradient(jax.random.key(0), dist, interaction).logits

    return jax.vmap(one)(draws)


def integrated(estimator, logits, draws):
    return np.asarray(estimates(estimator, jnp.asarray(logits), jnp.asarray(draws)))


def second_moments(weights, values):
    """Mean, and the matrix of mean products of the coordinates."""
    mean, _ = moments(weights, values)
    return mean, np.einsum("n,ni,nj->ij", weights, values, values)


def product(nodes, weights):
    """The product of one rule for each variable."""
    return np.array(list(itertools.product(*nodes))), np.prod(list(itertools.product(*weights)), axis=1)


def gauss(resolution):
    """Gauss-Legendre on the unit interval."""
    nodes, weights = np.polynomial.legendre.leggauss(resolution)
    return (nodes + 1) / 2, weights / 2


def given_events(events, probabilities, noises, weights):
    """Cases of Gumbel-Rao: every event with all tuples of inner noises, and their weights."""
    outer = CERTAIN * (2 * events - 1)
    draws = [[event[None], *inner[None]] for event in outer for inner in noises]
    draws = np.array([np.concatenate(case) for case in draws])
    return draws, np.outer(probabilities, weights).ravel()


def rao_on_bits(estimator, resolution=28):
    """Sum over the events, product of Gauss rules over the inner noise of two bits."""
    u, weights = gauss(resolution)
    noises, weights = product([special.logit(u)] * 2, [weights] * 2)
    draws, weights = given_events(*outcomes(LOGITS), noises[:, None], weights)
    return second_moments(weights, integrated(estimator, LOGITS, draws))


def straight_through_on_bits(temperature, resolution=28):
    """Product of Gauss rules on either side of the rounding thresholds."""
    u, w = gauss(resolution)
    nodes, weights = [], []
    for threshold in special.expit(-LOGITS):
        nodes.append(special.logit(np.concatenate([threshold * u, threshold + (1 - threshold) * u])))
        weights.append(np.concatenate([threshold * w, (1 - threshold) * w]))
    noises, weights = product(nodes, weights)
    estimator = StraightThroughGumbelSoftmax(temperature=temperature)
    return second_moments(weights, integrated(estimator, LOGITS, noises[:, None]))


def plane(step=0.25, reach=37.0):
    """A trapezoidal grid of the plane: exact to rounding for what is analytic in a strip and decays exponentially."""
    axis = np.arange(-reach, reach + step / 2, step)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2), step**2


def differences_density(locations, differences):
    """The density of the differences of two Gumbel variables to a third: `locations` are less that of the third."""
    w = np.exp(locations - differences)
    return 2 * np.prod(w, axis=-1) / (1 + np.sum(w, axis=-1)) ** 3


def insert(values, category, differences):
    """Vectors whose other coordinates are `differences`, with `values` at the category."""
    return np.insert(differences, category, values, axis=-1)


def rao_on_three_categories(estimator):
    """Only differences of Gumbel noises matter: two of them are integrated, with the noise at the event zero."""
    others, cell = plane()
    weights = cell * differences_density(np.zeros(2), others)
    draws, total = [], []
    for category, probability in enumerate(special.softmax(SKEWED)):
        outer = np.broadcast_to(CERTAIN * np.eye(3)[category], (len(others), 3))
        draws.append(np.stack([outer, insert(0.0, category, others)], axis=1))
        total.append(probability * weights)
    return second_moments(np.concatenate(total), integrated(estimator, SKEWED, np.concatenate(draws)))


def straight_through_on_three_categories(temperature):
    """Region by region: differences `-softplus(-w)` to the top fill the negative quadrant as `w` fills the plane."""
    w, cell = plane()
    log_probs, behind, slope = special.log_softmax(SKEWED), -np.logaddexp(0, -w), np.prod(special.expit(-w), axis=1)
    draws, total = [], []
    for category in range(3):
        locations = np.delete(log_probs, category) - log_probs[category]
        total.append(cell * slope * differences_density(locations, behind))
        draws.append(insert(0.0, category, behind) - log_probs)
    estimator = StraightThroughGumbelSoftmax(temperature=temperature)
    return second_moments(np.concatenate(total), integrated(estimator, SKEWED, np.concatenate(draws)[:, None]))


def assert_moments_agree(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_with_one_inner_draw_it_is_straight_through_in_law_on_two_bits(temperature):
    rao = rao_on_bits(GumbelRao(num_inner=1, temperature=temperature))
    assert_moments_agree(rao, straight_through_on_bits(temperature))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_with_one_inner_draw_it_is_straight_through_in_law_on_three_categories(temperature):
    rao = rao_on_three_categories(GumbelRao(num_inner=1, temperature=temperature))
    assert_moments_agree(rao, straight_through_on_three_categories(temperature))


def test_the_total_derivative_of_the_conditional_draw_is_rejected():
    wrong = TotalDerivative(num_inner=1, temperature=0.5)
    for found, expected in [
        (rao_on_bits(wrong), straight_through_on_bits(0.5)),
        (rao_on_three_categories(wrong), straight_through_on_three_categories(0.5)),
    ]:
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            assert_moments_agree(found[:1], expected[:1])
        assert np.linalg.norm(found[0] - expected[0]) > 0.3 * np.linalg.norm(expected[0])


@pytest.mark.parametrize("num_inner", [1, 2, 3, 5])
def test_inner_draws_are_independent_given_the_event_and_averaged(num_inner):
    """Under any law of the inner noise, here one of three values, in all tuples."""
    logits, (u, weights) = LOGITS[1:], gauss(3)
    events, probabilities = outcomes(logits)
    draws, all_weights = given_events(events, probabilities, special.logit(u)[:, None, None], weights)
    one = integrated(GumbelRao(num_inner=1, temperature=0.7), logits, draws)[:, 0].reshape(2, 3)
    given = one @ weights
    within, between = probabilities @ ((one - given[:, None]) ** 2 @ weights), moments(probabilities, given)[1]

    indices, weights = tuples(weights, num_inner)
    draws, weights = given_events(events, probabilities, special.logit(u)[indices][..., None], weights)
    mean, variance = moments(weights, integrated(GumbelRao(num_inner, temperature=0.7), logits, draws))
    np.testing.assert_allclose(mean, [probabilities @ given], rtol=1e-12)
    np.testing.assert_allclose(variance, [between + within / num_inner], rtol=1e-11)


@pytest.mark.parametrize("logit", [-1.4, 0.0, 0.6])
@pytest.mark.parametrize("temperature", [0.02, 0.01])
def test_the_mean_at_low_temperature_is_half_the_sum_of_the_slopes_at_both_events(logit, temperature):
    """With `d` the density of the perturbed logit, of which the derivative of a sigmoid sees one side of zero, the mean
    is `d(0) / 2 (f'(0) + f'(1))`, which is exact for a quadratic, and the next `t log(2) d'(0) (f'(1) - f'(0))`."""
    p = special.expit(logit)
    slopes = np.array([interaction_slope(np.array([x]))[0] for x in (0.0, 1.0)])
    u, weights = gauss(200)
    size, mean = 60 * temperature * u, 0.0
    for x in (0.0, 1.0):
        sign = 2 * x - 1
        # The inverse of `conditional`: the noise of which the latent is `sign * size`.
        noise = np.log(np.expm1(size)) - np.logaddexp(0, sign * logit)
        draws, _ = given_events(np.array([[x]]), np.ones(1), noise[:, None, None], weights)
        density = special.expit(sign * size - logit) * special.expit(logit - sign * size)
        estimator = GumbelRao(num_inner=1, temperature=temperature)
        mean += 60 * temperature * (weights * density) @ integrated(estimator, np.array([logit]), draws)[:, 0]
    v = p * (1 - p)
    orders = [v / 2 * sum(slopes), np.log(2) * v * (2 * p - 1) * (slopes[1] - slopes[0])]
    orders.append(np.pi**2 / 12 * v * (1 - 6 * v) * sum(slopes))
    assert abs(mean - np.polynomial.polynomial.polyval(temperature, orders)) < 0.3 * temperature**3


def test_categorical_estimates_equal_the_formula_in_numpy():
    logits = np.array([SKEWED, [0.0, 2.0, -0.4]])
    noises = np.random.default_rng(0).gumbel(size=(8, 3, 2, 3))
    values = integrated(GumbelRao(num_inner=2, temperature=0.3), logits, noises)
    for draws, value in zip(noises, values, strict=True):
        log_probs = special.log_softmax(logits, axis=-1)
        x = np.eye(3)[np.argmax(log_probs + draws[0], axis=-1)]
        expected = np.zeros((2, 3))
        for inner in draws[1:]:
            for row in range(2):
                top = inner[row] @ x[row]
                z = np.where(x[row] > 0, top, -np.log(np.exp(-log_probs[row] - inner[row]) + np.exp(-top)))
                y, cotangent = special.softmax(z / 0.3), interaction_slope(x)[row]
                expected[row] += y * (cotangent - y @ cotangent) / 0.3 / 2
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "logits",
    [np.array([[-10.0, 0.0, 10.0], [10.0, 10.0, -10.0]]), np.array([-10.0, 10.0])],
    ids=["categorical", "bits"],
)
def test_single_precision_is_right_at_extreme_logits_and_low_temperature(logits):
    """For every event, however improbable, to what is lost in perturbed logits of size 20 divided by 0.05."""
    rng, shape = np.random.default_rng(0), (20, 1, *logits.shape)
    if logits.ndim == 1:
        each, inner = outcomes(logits)[0], rng.logistic(size=shape)
    else:
        each, inner = np.asarray(Categorical(logits).support()), rng.gumbel(size=shape)
    draws, _ = given_events(each, np.ones(len(each)), inner, np.ones(20))
    estimator = GumbelRao(num_inner=1, temperature=0.05)
    double = integrated(estimator, logits, draws)
    single = np.asarray(estimates(estimator, jnp.asarray(logits, jnp.float32), jnp.asarray(draws, jnp.float32)))
    assert single.dtype == np.float32 and np.all(np.isfinite(single)) and np.any(double != 0)
    np.testing.assert_allclose(single, double, rtol=2e-3, atol=2e-3)


def test_declared_evaluations_are_the_calls_of_f():
    estimator, dist = GumbelRao(num_inner=3), Bernoulli(LOGITS)
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 1


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`GumbelRao` needs `num_inner > 0`, got 0"):
        GumbelRao(num_inner=0)
    with pytest.raises(ValueError, match="`GumbelRao` needs `temperature > 0`, got -1.0"):
        GumbelRao(temperature=-1.0)
    assert "relaxable" in incompatibility(GumbelRao(), Normal([0.0], [0.0]), jnp.sum)
    assert "differentiable" in incompatibility(GumbelRao(), Bernoulli([0.0]), BlackBox(jnp.sum))
