"""Relaxed and straight-through estimators, proved by integrating their noise, by closed forms and by transcription.

Nothing is drawn here but in one test of the mean: a distribution that returns the noise it is given makes an estimate a
function of numbers, which can be integrated, or compared with the formula written out in NumPy.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import prescribe
from scipy import integrate, special, stats

from estimators import Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.relaxed import GumbelSoftmax
from estimators.straight_through import StraightThrough, StraightThroughGumbelSoftmax

LOGITS = [-2.0, -0.7, 0.0, 1.3]


class PrescribedCategorical(Categorical):
    """Categorical variables whose noise is given."""

    draw: Float[Array, "*variables categories"]

    def noise(self, key):
        del key
        return self.draw


@eqx.filter_jit
def estimates(estimator, logits, f, draws):
    """Estimates for the given draws, stacked: a vector of logits is of Bernoulli variables, a matrix of categorical."""

    def one(draw):
        dist = prescribe(logits, draw[None]) if logits.ndim == 1 else PrescribedCategorical(logits, draw)
        return estimator.gradient(jax.random.key(0), dist, f).logits

    return jax.vmap(one)(jnp.asarray(draws))


def logistic_rule(logit, resolution=200):
    """Noise and weights that integrate over the logistic law, by Gauss-Legendre in the uniform variable on either side
    of the rounding threshold, where an estimate may jump."""
    nodes, weights = np.polynomial.legendre.leggauss(resolution)
    threshold = special.expit(-logit)
    u = np.concatenate([threshold * (nodes + 1) / 2, threshold + (1 - threshold) * (nodes + 1) / 2])
    weights = np.concatenate([threshold * weights / 2, (1 - threshold) * weights / 2])
    return special.logit(u)[:, None], weights


def mean_over_noise(estimator, logit, f):
    """The mean of an estimate for one Bernoulli variable."""
    noise, weights = logistic_rule(logit)
    return float(weights @ np.asarray(estimates(estimator, jnp.array([logit]), f, noise))[:, 0])


def cubic(x):
    return jnp.sum(1.5 * x**3 - x**2 + 0.2 * x + 0.4)


def quadratic(x):
    return jnp.sum((x - 0.45) ** 2)


def affine(x):
    return 3.0 * jnp.sum(x * (1.0 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape))) - 1.0


def interaction(x):
    """Not separable, and not symmetric in its variables."""
    s = jnp.vdot(jnp.linspace(-0.6, 1.7, x.size, dtype=x.dtype), x.ravel())
    return (s - 0.45) ** 2 + 0.3 * s**3


def interaction_slope(x):
    """The derivative of `interaction`, in NumPy."""
    a = np.linspace(-0.6, 1.7, x.size).reshape(x.shape)
    s = np.sum(a * x)
    return a * (2 * (s - 0.45) + 0.9 * s**2)


@pytest.mark.parametrize("logit", LOGITS)
def test_gumbel_softmax_is_the_gradient_of_the_smoothed_objective(logit):
    def smoothed(logit, temperature):
        def integrand(e):
            x = special.expit((logit + e) / temperature)
            return (1.5 * x**3 - x**2 + 0.2 * x + 0.4) * special.expit(e) * special.expit(-e)

        return sum(integrate.quad(integrand, *part, epsabs=1e-13)[0] for part in [(-40, -logit), (-logit, 40)])

    for temperature in [0.25, 0.5, 1.0]:
        slope = (smoothed(logit + 1e-4, temperature) - smoothed(logit - 1e-4, temperature)) / 2e-4
        mean = mean_over_noise(GumbelSoftmax(temperature=temperature), logit, cubic)
        np.testing.assert_allclose(mean, slope, atol=1e-7)


@pytest.mark.parametrize("logit", [-1.0, 0.6])
def test_gumbel_softmax_bias_falls_in_proportion_to_the_temperature(logit):
    """`E f(relax(z, t)) - E f(x) = t density(z = 0) int f(sigmoid(w)) - f(w > 0) dw + ...`; the integral is -1 for a
    quadratic."""
    p = special.expit(logit)
    temperatures = np.array([0.2, 0.1, 0.05, 0.025])
    truth = p * (1 - p) * (1 - 2 * 0.45)
    bias = np.array([mean_over_noise(GumbelSoftmax(temperature=t), logit, quadratic) - truth for t in temperatures])
    assert np.all(np.diff(np.abs(bias)) < 0)
    error = np.abs(bias / temperatures + p * (1 - p) * (1 - 2 * p))
    assert np.all(error[1:] < 0.6 * error[:-1]) and error[-1] < 2e-3


def test_gumbel_softmax_may_have_the_wrong_sign():
    p = special.expit(-1.0)
    assert p * (1 - p) * (1 - 2 * 0.45) > 0 > mean_over_noise(GumbelSoftmax(temperature=0.25), -1.0, quadratic)


@pytest.mark.parametrize("logit", LOGITS)
def test_straight_through_mean_is_the_closed_form(logit):
    p = special.expit(logit)
    both = jnp.array([[0.0], [1.0]])
    values = np.asarray(estimates(StraightThrough(), jnp.array([logit]), cubic, both))[:, 0]
    slope = {x: 4.5 * x**2 - 2 * x + 0.2 for x in (0, 1)}
    np.testing.assert_allclose(values, p * (1 - p) * np.array([slope[0], slope[1]]), rtol=1e-13)
    quadratics = np.asarray(estimates(StraightThrough(), jnp.array([logit]), quadratic, both))[:, 0]
    bias = np.array([1 - p, p]) @ quadratics - p * (1 - p) * (1 - 2 * 0.45)
    np.testing.assert_allclose(bias, p * (1 - p) * (2 * p - 1), atol=1e-15)


def test_straight_through_is_exact_for_an_affine_objective_at_every_event():
    logits, noise = np.array([[-1.0, 0.3, 0.8], [0.0, 2.0, -0.4]]), np.random.default_rng(0).gumbel(size=(12, 2, 3))
    values = estimates(StraightThrough(), jnp.array(logits), affine, noise)
    p, slope = special.softmax(logits, axis=-1), 3.0 * np.arange(1, 7).reshape(2, 3)
    truth = p * (slope - np.sum(p * slope, axis=-1, keepdims=True))
    np.testing.assert_allclose(values, np.broadcast_to(truth, values.shape), rtol=1e-12)


def test_straight_through_gumbel_softmax_on_an_affine_objective_is_the_relaxation_and_biased():
    for temperature in [0.5, 1.0, 2.0]:
        estimator, relaxation = StraightThroughGumbelSoftmax(temperature), GumbelSoftmax(temperature)
        noise, _ = logistic_rule(-0.7)
        pair = [estimates(e, jnp.array([-0.7]), affine, noise) for e in (estimator, relaxation)]
        np.testing.assert_allclose(*pair, rtol=1e-12)
        truth = 3.0 * special.expit(0.7) * special.expit(-0.7)
        assert abs(mean_over_noise(estimator, -0.7, affine) / truth - 1) > 0.03


def test_bernoulli_estimates_equal_their_formulas_in_numpy():
    logits, noise = np.array([-1.0, 0.2, 1.5]), np.random.default_rng(0).logistic(size=(12, 3))
    for temperature in [0.3, 1.0]:
        soft, through, plain = [], [], []
        for e in noise:
            z = logits + e
            y, x, p = special.expit(z / temperature), (z > 0) * 1.0, special.expit(logits)
            soft.append(interaction_slope(y) * y * (1 - y) / temperature)
            through.append(interaction_slope(x) * y * (1 - y) / temperature)
            plain.append(interaction_slope(x) * p * (1 - p))
        for estimator, draws, expected in [
            (GumbelSoftmax(temperature), noise, soft),
            (StraightThroughGumbelSoftmax(temperature), noise, through),
            (StraightThrough(), (logits + noise > 0) * 1.0, plain),
        ]:
            values = estimates(estimator, jnp.array(logits), interaction, draws)
            np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-13)


def test_categorical_estimates_equal_their_formulas_in_numpy():
    logits = np.array([[-1.0, 0.3, 0.8], [0.0, 2.0, -0.4]])
    noise = np.random.default_rng(0).gumbel(size=(12, 2, 3))

    def pulled_back(cotangent, y):
        return y * (cotangent - np.sum(y * cotangent, axis=-1, keepdims=True))

    for temperature in [0.3, 1.0]:
        soft, through, plain = [], [], []
        for e in noise:
            z = logits + e
            y, x = special.softmax(z / temperature, axis=-1), np.eye(3)[np.argmax(z, axis=-1)]
            soft.append(pulled_back(interaction_slope(y), y) / temperature)
            through.append(pulled_back(interaction_slope(x), y) / temperature)
            plain.append(pulled_back(interaction_slope(x), special.softmax(logits, axis=-1)))
        for estimator, expected in [
            (GumbelSoftmax(temperature), soft),
            (StraightThroughGumbelSoftmax(temperature), through),
            (StraightThrough(), plain),
        ]:
            values = estimates(estimator, jnp.array(logits), interaction, noise)
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(np.sum(values, axis=-1), 0, atol=1e-12)


def test_estimates_from_keys_have_the_mean_of_the_noise(key):
    """z-tests at false-alarm rate 1e-6 together, with the power to see a relative error of 3 % with probability above
    0.998."""
    estimators, p = [GumbelSoftmax(), StraightThroughGumbelSoftmax(), StraightThrough()], special.expit(-0.7)

    @jax.jit
    @jax.vmap
    def draw(key):
        dist = Bernoulli(logits=[-0.7])
        keys = jax.random.split(key, 3)
        return [e.gradient(k, dist, cubic).logits[0] for e, k in zip(estimators, keys, strict=True)]

    values = np.array(draw(jax.random.split(key, 200_000)))
    means = [*(mean_over_noise(e, -0.7, cubic) for e in estimators[:2]), p * (1 - p) * (p * 2.7 + (1 - p) * 0.2)]
    error, threshold = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]), stats.norm.isf(1e-6 / 6)
    assert np.all((threshold + 3) * error < 0.03 * np.abs(means)), "underpowered"
    np.testing.assert_array_less(np.abs(values.mean(axis=1) - means), threshold * error)


@pytest.mark.parametrize("family", [GumbelSoftmax, StraightThroughGumbelSoftmax])
def test_temperatures_share_one_trace_and_map(family):
    traces = []

    @eqx.filter_jit
    def run(estimator, key):
        traces.append(None)
        return estimator.gradient(key, Bernoulli(logits=[-1.0, 0.5]), interaction).logits

    temperatures = [0.1, 0.5, 2.0]
    loop = [run(family(temperature=t), jax.random.key(3)) for t in temperatures]
    assert len(traces) == 1
    mapped = jax.vmap(lambda t: run(family(temperature=t), jax.random.key(3)))(jnp.array(temperatures))
    np.testing.assert_allclose(mapped, loop, rtol=1e-12)
    assert not np.allclose(loop[0], loop[1])


@pytest.mark.parametrize("estimator", [GumbelSoftmax(), StraightThrough(), StraightThroughGumbelSoftmax()])
def test_cost_and_precision(estimator, key):
    calls = []

    def counted(x):
        jax.debug.callback(lambda x: calls.append(x.dtype), x)
        return interaction(x)

    dist = Categorical(jnp.zeros((2, 3), jnp.float32))
    grads = jax.jit(lambda key: estimator.gradient(key, dist, counted))(key)
    jax.effects_barrier()
    assert len(calls) == estimator.evaluations(dist) == 1
    assert grads.logits.dtype == calls[0] == jnp.float32


def test_what_is_wrong_is_said():
    for family in [GumbelSoftmax, StraightThroughGumbelSoftmax]:
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `temperature > 0`, got -1.0"):
            family(temperature=-1.0)
        assert "relaxable" in incompatibility(family(), Normal([0.0], [0.0]), jnp.sum)
        assert "differentiable" in incompatibility(family(), Bernoulli([0.0]), BlackBox(jnp.sum))
