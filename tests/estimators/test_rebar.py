"""REBAR and RELAX, proved by integrating both of their noises, by transcription of the paper's formula, and by their limits.

An unbiased control variate hides its mistakes: with the wrong coupling, or trained down the wrong slope, it keeps its mean. So the
mean is integrated, the formula itself is compared with NumPy, and the slope with finite differences; and broken copies of
the estimator show that each of these tests can fail.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import counted_evaluations, exact_gradient, moments, outcomes, prescribe
from scipy import special, stats

from estimators import ESTIMATORS, Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.base import squared_norm, weighted_score
from estimators.rebar import REBAR, RELAX

ASYMMETRIC = np.array([-1.2, 0.4])


def interaction(x):
    """Not separable, not symmetric in its variables and not quadratic."""
    s = jnp.vdot(jnp.linspace(1.0, -0.6, x.size, dtype=x.dtype), x.ravel())
    return (s - 0.45) ** 2 + 0.3 * s**3 + 0.2


def broken(surrogate, sign=1.0, frozen=False):
    """A second writing of the estimator, to be broken: `sign=-1` rounds the noise and relaxes its mirror image, which has the same law,
    and `frozen` forgets that the conditional draw depends on the leaves."""

    def gradient(key, control, dist, f):
        key_noise, key_fresh = jax.random.split(key)
        noise, fresh = dist.noise(key_noise), dist.noise(key_fresh)
        b = dist.harden(dist.perturb(noise))

        def loss(d, weight):
            conditional = dist.conditional(b, fresh) if frozen else d.conditional(b, fresh)
            path = surrogate(control, f, d.perturb(sign * noise)) - surrogate(control, f, conditional)
            return weight * d.log_prob(b) + path

        return jax.grad(loss)(dist, f(b) - surrogate(control, f, dist.conditional(b, fresh)))

    return gradient


def relaxed_objective(control, f, z):
    """REBAR's surrogate at temperature 1/2."""
    return control.coefficient * f(jax.nn.sigmoid(2 * z))


@eqx.filter_jit
def estimates(gradient, control, logits, f, noise, fresh):
    """Estimates for Bernoulli variables at the given values of both noises, stacked."""

    def one(noise, fresh):
        dist = prescribe(logits, jnp.stack([noise, fresh]), jax.random.split(jax.random.key(0)))
        return gradient(jax.random.key(0), control, dist, f).logits

    return jax.vmap(one)(jnp.asarray(noise), jnp.asarray(fresh))


def rule(logits, resolution):
    """Both noises and weights that integrate over their laws: Gauss-Legendre in the uniform variables, in two pieces where the
    first of them decides the event. One variable needs `2 resolution^2` points, two the square of that."""
    nodes, weights = np.polynomial.legendre.leggauss(resolution)
    nodes, weights = (nodes + 1) / 2, weights / 2
    axes, products = [], []
    for threshold in special.expit(-np.asarray(logits)):
        axes.append(np.concatenate([threshold * nodes, threshold + (1 - threshold) * nodes]))
        products.append(np.concatenate([threshold * weights, (1 - threshold) * weights]))
    points = np.stack(np.meshgrid(*axes, *[nodes] * len(axes), indexing="ij"), axis=-1).reshape(-1, 2 * len(axes))
    products = np.meshgrid(*products, *[weights] * len(axes), indexing="ij")
    noise, fresh = np.split(special.logit(points), 2, axis=1)
    return noise, fresh, np.prod(products, axis=0).ravel()


def integrated(gradient, control, logits, f=interaction, resolution=40):
    """Mean and variance of an estimate over both noises."""
    noise, fresh, weights = rule(logits, resolution)
    return moments(weights, estimates(gradient, control, jnp.array(logits), f, noise, fresh))


def control_of(estimator, logits, spread=0.0):
    """The control of an estimator, every entry moved by `spread` times a normal variable."""
    flat, restore = ravel_pytree(estimator.control(jax.random.key(1), Bernoulli(logits)))
    return restore(flat + spread * jnp.asarray(np.random.default_rng(2).normal(size=flat.shape)))


def paper(logits, u, v, f, c, slope):
    """The estimate of Tucker et al. (2017) for uniform `u` and `v`, `c` and its derivative `slope` as functions of the logits `z`."""
    theta = 1 / (1 + np.exp(-logits))
    z = np.log(theta / (1 - theta)) + np.log(u / (1 - u))
    b = (z > 0) * 1.0
    given = np.where(b == 1, v * theta + (1 - theta), v * (1 - theta))
    conditional = np.log(theta / (1 - theta)) + np.log(given / (1 - given))
    path = 1 + np.where(b == 1, v - 1, -v) * theta * (1 - theta) / (given * (1 - given))
    return (f(b) - c(conditional)) * (b - theta) + slope(z) - slope(conditional) * path


def assert_is_the_formula_of_the_paper(gradient, control, temperature, network=None):
    """Equality of `gradient` with `paper` for the interaction of two variables, `c = coefficient f(relaxed) + network(2 relaxed - 1)`."""
    a = np.array([1.0, -0.6])

    def value(x):
        return (a @ x - 0.45) ** 2 + 0.3 * (a @ x) ** 3 + 0.2

    def c(z):
        x = 1 / (1 + np.exp(-z / temperature))
        return control.coefficient * value(x) + (0 if network is None else network(x)[0])

    def slope(z):
        x = 1 / (1 + np.exp(-z / temperature))
        total = control.coefficient * a * (2 * (a @ x - 0.45) + 0.9 * (a @ x) ** 2)
        return (total + (0 if network is None else network(x)[1])) * x * (1 - x) / temperature

    u, v = np.random.default_rng(3).uniform(0.02, 0.98, size=(2, 32, 2))
    expected = [paper(ASYMMETRIC, *pair, value, c, slope) for pair in zip(u, v, strict=True)]
    # The distribution's fresh noise counts away from the rounding threshold on either side of it, the paper's `v` upwards.
    fresh = np.where(ASYMMETRIC + special.logit(u) > 0, special.logit(v), -special.logit(v))
    values = estimates(gradient, control, jnp.array(ASYMMETRIC), interaction, special.logit(u), fresh)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_rebar_is_the_formula_of_the_paper(temperature):
    for coefficient in [1.0, -0.7]:
        estimator = REBAR(temperature, coefficient)
        control = control_of(estimator, ASYMMETRIC)
        assert_is_the_formula_of_the_paper(estimator.gradient, control, temperature)
    dynamic = REBAR(temperature, learn_temperature=True)
    control = control_of(dynamic, ASYMMETRIC, spread=0.3)
    assert_is_the_formula_of_the_paper(dynamic.gradient, control, np.exp(control.log_temperature))


def test_relax_is_the_formula_of_the_paper():
    estimator = RELAX(width=3)
    control = control_of(estimator, ASYMMETRIC, spread=0.5)
    inner, outer = (jax.tree.map(np.asarray, layer) for layer in (control.hidden, control.output))

    def network(x):
        units = np.tanh(inner.weight @ (2 * x - 1) + inner.bias)
        slope = 2 * inner.weight.T @ (outer.weight[0] * (1 - units**2))
        return outer.weight[0] @ units + outer.bias, slope

    assert_is_the_formula_of_the_paper(estimator.gradient, control, np.exp(control.log_temperature), network)


def test_a_wrong_coupling_keeps_the_mean_and_fails_the_formula():
    control, wrong = control_of(REBAR(), ASYMMETRIC), broken(relaxed_objective, sign=-1.0)
    assert_is_the_formula_of_the_paper(broken(relaxed_objective), control, 0.5)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_is_the_formula_of_the_paper(wrong, control, 0.5)
    mean, variance = integrated(wrong, control, ASYMMETRIC[:1])
    np.testing.assert_allclose(mean, exact_gradient(jnp.array(ASYMMETRIC[:1]), interaction), rtol=1e-9)
    assert abs(variance / integrated(REBAR().gradient, control, ASYMMETRIC[:1])[1] - 1) > 0.1


@pytest.mark.parametrize("make", [REBAR, lambda: REBAR(learn_temperature=True), lambda: RELAX(width=3)])
def test_the_mean_is_the_gradient_whatever_the_control(make):
    estimator = make()
    for logit in [-2.0, -0.5, 0.0, 1.3]:
        control = control_of(estimator, np.array([logit]), spread=0.4)
        mean, _ = integrated(estimator.gradient, control, np.array([logit]))
        np.testing.assert_allclose(mean, exact_gradient(jnp.array([logit]), interaction), rtol=1e-8)
    control = control_of(estimator, ASYMMETRIC, spread=0.4)
    mean, _ = integrated(estimator.gradient, control, ASYMMETRIC, resolution=12)
    np.testing.assert_allclose(mean, exact_gradient(jnp.array(ASYMMETRIC), interaction), rtol=1e-5)


def test_forgetting_the_path_of_the_conditional_draw_fails_the_mean():
    control = control_of(REBAR(), ASYMMETRIC[:1])
    mean, _ = integrated(broken(relaxed_objective, frozen=True), control, ASYMMETRIC[:1])
    assert abs(mean / exact_gradient(jnp.array(ASYMMETRIC[:1]), interaction) - 1) > 0.1


@pytest.mark.parametrize("estimator", [REBAR(), RELAX(width=3)])
def test_the_mean_is_the_gradient_of_categorical_variables(estimator, key):
    """z-tests at false-alarm rate 1e-6 together, with the power to see a bias of 5 % of the gradient with probability above 0.998."""
    dist = Categorical(jnp.array([[-1.0, 0.3, 0.8], [0.5, 2.0, -0.4]]))
    control = estimator.control(jax.random.key(1), dist)
    control = jax.tree.map(lambda leaf: leaf + 0.2, control)

    @jax.jit
    def total(keys):
        def step(_, keys):
            grads = jax.vmap(lambda key: estimator.gradient(key, control, dist, interaction).logits)(keys)
            return None, (jnp.sum(grads, axis=0), jnp.sum(grads**2, axis=0))

        return jax.tree.map(lambda part: jnp.sum(part, axis=0), jax.lax.scan(step, None, keys)[1])

    number = 200 * 1000
    first, second = (np.asarray(part) / number for part in total(jax.random.split(key, (200, 1000))))

    def expectation(logits):
        events = dist.support()
        return jnp.exp(jax.vmap(Categorical(logits).log_prob)(events)) @ jax.vmap(interaction)(events)

    truth = np.asarray(jax.jit(jax.grad(expectation))(dist.logits))
    error, threshold = np.sqrt((second - first**2) / number), stats.norm.isf(0.5e-6 / truth.size)
    assert np.all((threshold + 3) * error < 0.05 * np.linalg.norm(truth)), "underpowered"
    np.testing.assert_array_less(np.abs(first - truth), threshold * error)


def random_noise(size=24):
    return np.random.default_rng(5).logistic(size=(2, size, 2))


def score_function(noise, baseline=0.0):
    """The score function's estimates for the events that `noise` rounds to."""

    @jax.jit
    @jax.vmap
    def one(noise):
        dist = Bernoulli(ASYMMETRIC)
        b = dist.harden(dist.perturb(noise))
        return weighted_score(dist, b[None], interaction(b)[None] - baseline).logits

    return one(jnp.asarray(noise))


def test_without_its_control_variate_it_is_the_score_function():
    noise, fresh = random_noise()
    estimator = REBAR(coefficient=0.0)
    values = estimates(estimator.gradient, control_of(estimator, ASYMMETRIC), ASYMMETRIC, interaction, noise, fresh)
    np.testing.assert_allclose(values, score_function(noise), rtol=1e-13)


def test_relax_starts_as_rebar_and_with_a_constant_is_the_score_function_with_a_baseline():
    noise, fresh = random_noise()
    relax, rebar = RELAX(width=3), REBAR(coefficient=1.0)
    start = control_of(relax, ASYMMETRIC)
    values = estimates(relax.gradient, start, ASYMMETRIC, interaction, noise, fresh)
    expected = estimates(rebar.gradient, control_of(rebar, ASYMMETRIC), ASYMMETRIC, interaction, noise, fresh)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    constant = eqx.tree_at(lambda c: (c.coefficient, c.output.bias), start, (jnp.array(0.0), jnp.full((1,), 0.37)))
    values = estimates(relax.gradient, constant, ASYMMETRIC, interaction, noise, fresh)
    np.testing.assert_allclose(values, score_function(noise, baseline=0.37), rtol=1e-12)


@pytest.mark.parametrize("logit", [-1.2, 0.0, 0.9])
def test_for_one_variable_the_control_variate_is_a_constant_baseline_in_the_mean(logit):
    """Given the event, its mean is `-c(0)` times the score, so no coefficient can do better than that baseline."""
    estimator, logits, p = REBAR(coefficient=0.8), np.array([logit]), special.expit(logit)
    noise, fresh, weights = rule(logits, 40)
    control = control_of(estimator, logits)
    values = np.asarray(estimates(estimator.gradient, control, jnp.array(logits), interaction, noise, fresh))[:, 0]
    baseline, ideal = 0.8 * float(interaction(jnp.array([0.5]))), []
    for b, probability in [(0.0, 1 - p), (1.0, p)]:
        given = ((noise[:, 0] + logit > 0) == b) * weights / probability
        ideal.append((float(interaction(jnp.array([b]))) - baseline) * (b - p))
        np.testing.assert_allclose(given @ values, ideal[-1], rtol=1e-9)
    least = p * (1 - p) * (ideal[1] - ideal[0]) ** 2
    assert weights @ values**2 - (weights @ values) ** 2 > least


@pytest.mark.parametrize("make", [lambda: REBAR(learn_temperature=True), lambda: RELAX(width=3)])
def test_statistics_are_the_slope_of_the_second_moment(make):
    estimator = make()
    control, noise = control_of(estimator, ASYMMETRIC, spread=0.3), random_noise(6)
    flat, restore = ravel_pytree(control)

    def dist_of(noise, fresh):
        return prescribe(jnp.array(ASYMMETRIC), jnp.stack([noise, fresh]), jax.random.split(jax.random.key(0)))

    @jax.jit
    @jax.vmap
    def slope(noise, fresh):
        state = eqx.tree_at(lambda s: s.control, estimator.init(jax.random.key(1), Bernoulli(ASYMMETRIC)), control)
        return ravel_pytree(estimator.estimate(jax.random.key(0), state, dist_of(noise, fresh), interaction)[1])[0]

    @jax.jit
    @jax.vmap
    def second_moments(noise, fresh):
        def one(flat):
            grads = estimator.gradient(jax.random.key(0), restore(flat), dist_of(noise, fresh), interaction)
            return squared_norm(grads)

        steps = 1e-5 * jnp.eye(flat.size)
        return (jax.vmap(one)(flat[None] + steps) - jax.vmap(one)(flat[None] - steps)) / 2e-5

    np.testing.assert_allclose(slope(*noise), second_moments(*noise), rtol=1e-6, atol=1e-8)


def test_training_finds_the_coefficient_of_least_variance_and_beats_the_score_function(key):
    """Three variables. An estimate is linear in the coefficient, so the best one is a regression of the score function on the
    control variate; the score function's variance is known by enumeration."""
    logits, rebar = np.array([-0.5, 0.3, 1.0]), REBAR(coefficient=-1.0, learning_rate=0.02)
    key_train, key_measure = jax.random.split(key)
    events, probabilities = outcomes(jnp.array(logits))
    truth = exact_gradient(jnp.array(logits), interaction)
    scores = np.asarray(events) - special.expit(logits)
    enumerated = probabilities @ ((jax.vmap(interaction)(events)[:, None] * scores) ** 2).sum(axis=1) - truth @ truth
    trained = train(rebar, logits, key_train).coefficient

    @jax.jit
    @jax.vmap
    def pair(key):
        dist, relaxation = Bernoulli(logits), rebar.control(jax.random.key(1), Bernoulli(logits))

        def at(coefficient):
            control = eqx.tree_at(lambda c: c.coefficient, relaxation, coefficient)
            return rebar.gradient(key, control, dist, interaction).logits

        return jax.vmap(at)(jnp.array([0.0, 1.0]))

    plain, full = np.moveaxis(np.asarray(pair(jax.random.split(key_measure, 60_000))), 1, 0) - truth
    variate = full - plain
    best = -np.sum(plain * variate) / np.sum(variate**2)
    np.testing.assert_allclose(np.sum(plain**2) / len(plain), enumerated, rtol=0.03)
    np.testing.assert_allclose(trained, best, atol=0.05)
    assert np.sum((plain + float(trained) * variate) ** 2) / len(plain) < 0.6 * enumerated
