"""REBAR and RELAX, proved by integrating both of their noises, by transcription of the paper, and by their limits.

An unbiased control variate hides its mistakes: with the wrong coupling, or trained down the wrong slope, it keeps its
mean. So the mean is integrated, the formula itself is compared with NumPy, and the slope with finite differences; and
broken copies of the estimator show that each of these tests can fail.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import moments, prescribe
from scipy import special, stats

from estimators import ESTIMATORS, Bernoulli, BlackBox, Categorical, Normal, incompatibility
from estimators.base import learned_state
from estimators.rebar import REBAR, RELAX

ASYMMETRIC = np.array([-1.2, 0.4])


def interaction(x):
    """Not separable, not symmetric in its variables and not quadratic."""
    s = jnp.vdot(jnp.linspace(1.0, -0.6, x.size, dtype=x.dtype), x.ravel())
    return (s - 0.45) ** 2 + 0.3 * s**3 + 0.2


def value(x):
    """The same in NumPy, for events along the last axis."""
    s = np.sum(np.linspace(1.0, -0.6, x.shape[-1]) * x, axis=-1)
    return (s - 0.45) ** 2 + 0.3 * s**3 + 0.2


def slope(x):
    """Its derivative."""
    a = np.linspace(1.0, -0.6, x.shape[-1])
    s = np.sum(a * x, axis=-1, keepdims=True)
    return a * (2 * (s - 0.45) + 0.9 * s**2)


def enumerated(logits):
    """The gradient of `E[interaction]` and the variance of the score function, summed over the events."""
    events = np.array(list(itertools.product([0.0, 1.0], repeat=len(logits))))
    probabilities = np.prod(special.expit(logits * (2 * events - 1)), axis=1)
    estimates = value(events)[:, None] * (events - special.expit(logits))
    gradient, _ = moments(probabilities, estimates)
    return gradient, float(np.sum(moments(probabilities, estimates)[1]))


def broken(surrogate, sign=1.0, frozen=False):
    """A second writing of the estimator, to be broken: `sign=-1` rounds the noise and relaxes its mirror image, which
    has the same law, and `frozen` forgets that the conditional draw depends on the leaves."""

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


def rule(logits, resolution=12):
    """Both noises and weights that integrate over their laws: Gauss-Legendre in the uniform variables, in two pieces
    where the first of them decides the event."""
    nodes, weights = np.polynomial.legendre.leggauss(resolution)
    nodes, weights = (nodes + 1) / 2, weights / 2
    axes, products = [], []
    for threshold in special.expit(-logits):
        axes.append(np.concatenate([threshold * nodes, threshold + (1 - threshold) * nodes]))
        products.append(np.concatenate([threshold * weights, (1 - threshold) * weights]))
    points = np.stack(np.meshgrid(*axes, *[nodes] * len(axes), indexing="ij"), axis=-1).reshape(-1, 2 * len(axes))
    products = np.meshgrid(*products, *[weights] * len(axes), indexing="ij")
    noise, fresh = np.split(special.logit(points), 2, axis=1)
    return noise, fresh, np.prod(products, axis=0).ravel()


# As many random points as the rule for two variables has, so that both uses of an estimator share one compiled program.
U, V = np.random.default_rng(3).uniform(0.02, 0.98, size=(2, 4 * 12**4, 2))


def at_random_points(gradient, control):
    """Estimates for the interaction of two variables at random values of both noises."""
    return estimates(gradient, control, jnp.array(ASYMMETRIC), interaction, special.logit(U), special.logit(V))


def integrated(gradient, control, logits):
    """Mean and variance of an estimate over both noises."""
    noise, fresh, weights = rule(logits)
    return moments(weights, estimates(gradient, control, jnp.array(logits), interaction, noise, fresh))


@eqx.filter_jit
def initial_control(estimator, logits):
    return estimator.control(jax.random.key(1), Bernoulli(logits))


def control_of(estimator, logits, spread=0.0):
    """The control of an estimator, every entry moved by `spread` times a normal variable."""
    flat, restore = ravel_pytree(initial_control(estimator, jnp.array(logits)))
    return restore(flat + spread * jnp.asarray(np.random.default_rng(2).normal(size=flat.shape)))


def paper(u, v, c, slope_of_c):
    """The estimate of Tucker et al. (2017) for uniform `u` and `v`; `c` is a function of the perturbed logits."""
    theta = 1 / (1 + np.exp(-ASYMMETRIC))
    z = np.log(theta / (1 - theta)) + np.log(u / (1 - u))
    b = (z > 0) * 1.0
    given = np.where(b == 1, v * theta + (1 - theta), v * (1 - theta))
    conditional = np.log(theta / (1 - theta)) + np.log(given / (1 - given))
    path = 1 + np.where(b == 1, v - 1, -v) * theta * (1 - theta) / (given * (1 - given))
    weight = value(b) - c(conditional)
    return weight[:, None] * (b - theta) + slope_of_c(z) - slope_of_c(conditional) * path


def assert_is_the_formula_of_the_paper(gradient, control, temperature, network=lambda x: (0, 0)):
    """Equality with `paper`, `c` the scaled relaxation plus `network`, which returns its value and its derivative."""
    eta, logits = float(control.coefficient), np.asarray(ASYMMETRIC)

    def c(z):
        x = 1 / (1 + np.exp(-z / temperature))
        return eta * value(x) + network(x)[0]

    def slope_of_c(z):
        x = 1 / (1 + np.exp(-z / temperature))
        return (eta * slope(x) + network(x)[1]) * x * (1 - x) / temperature

    # Fresh noise counts away from the rounding threshold on either side of it, the paper's `v` upwards.
    v = np.where(logits + special.logit(U) > 0, V, 1 - V)
    expected = paper(U, v, c, slope_of_c)
    np.testing.assert_allclose(at_random_points(gradient, control), expected, rtol=1e-8, atol=1e-11)


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
        units = np.tanh((2 * x - 1) @ inner.weight.T + inner.bias)
        slopes = 2 * (outer.weight[0] * (1 - units**2)) @ inner.weight
        return units @ outer.weight[0] + outer.bias, slopes

    assert_is_the_formula_of_the_paper(estimator.gradient, control, np.exp(control.log_temperature), network)


def test_a_wrong_coupling_keeps_the_mean_and_fails_the_formula():
    control, wrong = control_of(REBAR(), ASYMMETRIC), broken(relaxed_objective, sign=-1.0)
    assert_is_the_formula_of_the_paper(broken(relaxed_objective), control, 0.5)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_is_the_formula_of_the_paper(wrong, control, 0.5)
    mean, variance = integrated(wrong, control, ASYMMETRIC)
    np.testing.assert_allclose(mean, enumerated(ASYMMETRIC)[0], rtol=1e-5)
    assert np.all(np.abs(variance / integrated(REBAR().gradient, control, ASYMMETRIC)[1] - 1) > 0.1)


@pytest.mark.parametrize("make", [REBAR, lambda: REBAR(learn_temperature=True), lambda: RELAX(width=3)])
def test_the_mean_is_the_gradient_whatever_the_control(make):
    estimator = make()
    for logits in [ASYMMETRIC, np.array([2.0, -0.5]), np.zeros(2)]:
        control = control_of(estimator, logits, spread=0.4)
        mean, _ = integrated(estimator.gradient, control, logits)
        truth = enumerated(logits)[0]
        np.testing.assert_allclose(mean, truth, atol=5e-5 * np.linalg.norm(truth))


def test_forgetting_the_path_of_the_conditional_draw_fails_the_mean():
    control = control_of(REBAR(), ASYMMETRIC)
    mean, _ = integrated(broken(relaxed_objective, frozen=True), control, ASYMMETRIC)
    assert np.all(np.abs(mean / enumerated(ASYMMETRIC)[0] - 1) > 0.1)


def test_the_mean_is_the_gradient_of_categorical_variables(key):
    """z-tests at false-alarm rate 1e-6 together, with the power to see a bias of 5 % of the gradient with probability
    above 0.998."""
    logits, estimator, number = np.array([[1.0, 0.3, -0.8], [0.5, -0.4, -1.1]]), RELAX(width=3), 100 * 1000

    @jax.jit
    def sums(keys):
        dist = Categorical(logits)
        control = jax.tree.map(lambda leaf: leaf + 0.1, estimator.control(jax.random.key(1), dist))

        def step(_, keys):
            grads = jax.vmap(lambda key: estimator.gradient(key, control, dist, interaction).logits)(keys)
            return None, (jnp.sum(grads, axis=0), jnp.sum(grads**2, axis=0))

        return jax.lax.scan(step, None, keys)[1]

    first, second = (np.sum(part, axis=0) / number for part in sums(jax.random.split(key, (100, 1000))))
    events, p = np.eye(3)[list(itertools.product(range(3), repeat=2))], special.softmax(logits, axis=-1)
    weights = np.prod(np.sum(p * events, axis=-1), axis=-1) * value(events.reshape(9, 6))
    truth = np.tensordot(weights, events - p, axes=1)
    error, threshold = np.sqrt((second - first**2) / number), stats.norm.isf(0.5e-6 / truth.size)
    assert np.all((threshold + 3) * error < 0.05 * np.linalg.norm(truth)), "underpowered"
    np.testing.assert_array_less(np.abs(first - truth), threshold * error)


def score_function(baseline=0.0):
    """The score function's estimates for the events at the random points."""
    events = (ASYMMETRIC + special.logit(U) > 0) * 1.0
    return (value(events)[:, None] - baseline) * (events - special.expit(ASYMMETRIC))


def test_without_its_control_variate_rebar_is_the_score_function():
    estimator = REBAR(coefficient=0.0)
    values = at_random_points(estimator.gradient, control_of(estimator, ASYMMETRIC))
    np.testing.assert_allclose(values, score_function(), rtol=1e-12)


def test_relax_starts_as_rebar_and_with_a_constant_is_the_score_function_with_a_baseline():
    relax, rebar = RELAX(width=3), REBAR(coefficient=1.0)
    start = control_of(relax, ASYMMETRIC)
    expected = at_random_points(rebar.gradient, control_of(rebar, ASYMMETRIC))
    np.testing.assert_allclose(at_random_points(relax.gradient, start), expected, rtol=1e-10, atol=1e-12)
    constant = eqx.tree_at(lambda c: (c.coefficient, c.output.bias), start, (jnp.array(0.0), jnp.full((1,), 0.37)))
    values = at_random_points(relax.gradient, constant)
    np.testing.assert_allclose(values, score_function(baseline=0.37), rtol=1e-12)


@pytest.mark.parametrize("logit", [-1.2, 0.0, 0.9])
def test_for_one_variable_the_control_variate_is_a_constant_baseline_in_the_mean(logit):
    """Given the event, its mean is `-c(0)` times the score, so no coefficient can do better than that baseline."""
    estimator, logits, p = REBAR(coefficient=0.8), np.array([logit]), special.expit(logit)
    noise, fresh, weights = rule(logits, resolution=40)
    control = control_of(estimator, logits)
    values = np.asarray(estimates(estimator.gradient, control, jnp.array(logits), interaction, noise, fresh))[:, 0]
    baseline, ideal = 0.8 * value(np.array([0.5])), []
    for b, probability in [(0.0, 1 - p), (1.0, p)]:
        given = ((noise[:, 0] + logit > 0) == b) * weights / probability
        ideal.append((value(np.array([b])) - baseline) * (b - p))
        np.testing.assert_allclose(given @ values, ideal[-1], rtol=1e-9)
    least = p * (1 - p) * (ideal[1] - ideal[0]) ** 2
    assert weights @ values**2 - (weights @ values) ** 2 > least


@eqx.filter_jit
def statistics(estimator, control, noise, fresh):
    """What `estimate` hands to `adapt`, at given values of both noises."""

    def one(noise, fresh):
        dist = prescribe(jnp.array(ASYMMETRIC), jnp.stack([noise, fresh]), jax.random.split(jax.random.key(0)))
        state = estimator.estimate(jax.random.key(0), learned_state(control), dist, interaction)[1]
        return ravel_pytree(state)[0]

    return jax.vmap(one)(noise, fresh)


@pytest.mark.parametrize("make", [lambda: REBAR(learn_temperature=True), lambda: RELAX(width=3)])
def test_statistics_are_the_slope_of_the_second_moment(make):
    """Against central differences along random directions in the control."""
    estimator, number = make(), 64
    flat, restore = ravel_pytree(control_of(estimator, ASYMMETRIC, spread=0.3))
    slopes = statistics(estimator, restore(flat), *(jnp.array(special.logit(u[:number])) for u in (U, V)))

    def second_moments(flat):
        return np.sum(np.asarray(at_random_points(estimator.gradient, restore(flat)))[:number] ** 2, axis=1)

    for direction in np.random.default_rng(6).normal(size=(4, flat.size)):
        step = 1e-5 * jnp.array(direction)
        expected = (second_moments(flat + step) - second_moments(flat - step)) / 2e-5
        np.testing.assert_allclose(slopes @ direction, expected, rtol=1e-5, atol=1e-7)


@eqx.filter_jit
def train(estimator, logits, key, steps=600, average=64):
    """The control after `steps` steps, each on the mean statistics of some estimates."""
    key_control, key_train = jax.random.split(key)
    dist = Bernoulli(logits)

    def step(state, key):
        keys = jax.random.split(key, average)
        slopes = jax.vmap(lambda key: estimator.estimate(key, state, dist, interaction)[1])(keys)
        return estimator.adapt(state, jax.tree.map(lambda slope: jnp.mean(slope, axis=0), slopes)), None

    return jax.lax.scan(step, estimator.init(key_control, dist), jax.random.split(key_train, steps))[0].control


def test_training_finds_the_coefficient_of_least_variance(key):
    """An estimate is linear in the coefficient: the best one regresses the score function on the control variate."""
    logits, rebar = np.array([-0.5, 0.3, 1.0]), REBAR(coefficient=-1.0, learning_rate=0.02)
    truth, variance = enumerated(logits)
    noise = np.random.default_rng(7).logistic(size=(2, 60_000, 3))

    def deviations(coefficient):
        control = control_of(REBAR(coefficient=coefficient), logits)
        return np.asarray(estimates(rebar.gradient, control, jnp.array(logits), interaction, *noise)) - truth

    plain, full = deviations(0.0), deviations(1.0)
    squares = np.sum(plain**2, axis=1)
    error = 5 * squares.std(ddof=1) / np.sqrt(squares.size)
    assert error < 0.05 * variance, "underpowered"
    assert abs(squares.mean() - variance) < error
    best = -np.sum(plain * (full - plain)) / np.sum((full - plain) ** 2)
    trained = float(train(rebar, jnp.array(logits), key).coefficient)
    np.testing.assert_allclose(trained, best, atol=0.05)
    assert np.mean(np.sum((plain + trained * (full - plain)) ** 2, axis=1)) < 0.6 * variance


def test_only_what_is_trained_is_in_the_control():
    fixed, dynamic = REBAR(temperature=0.3), ESTIMATORS.create("dynamic-rebar", temperature=0.3, coefficient=-0.5)
    assert len(jax.tree.leaves(control_of(fixed, ASYMMETRIC))) == 1
    control = control_of(dynamic, ASYMMETRIC)
    assert isinstance(dynamic, REBAR) and not ESTIMATORS.create("rebar").learn_temperature
    np.testing.assert_allclose([control.coefficient, control.log_temperature], [-0.5, np.log(0.3)], rtol=1e-15)


def test_hyper_parameters_share_one_trace_and_map():
    traces = []

    @eqx.filter_jit
    def run(estimator, key):
        traces.append(None)
        key_control, key_estimate = jax.random.split(key)
        dist = Bernoulli(ASYMMETRIC)
        return estimator.gradient(key_estimate, estimator.control(key_control, dist), dist, interaction).logits

    temperatures = [0.1, 0.5, 2.0]
    loop = [run(RELAX(temperature=t, learning_rate=t), jax.random.key(3)) for t in temperatures]
    assert len(traces) == 1
    mapped = jax.vmap(lambda t: run(RELAX(temperature=t), jax.random.key(3)))(jnp.array(temperatures))
    np.testing.assert_allclose(mapped, loop, rtol=1e-10)
    assert not np.allclose(loop[0], loop[1])
    one, other = REBAR(0.1, 0.2, learning_rate=0.3), REBAR(1.1, 1.2, learning_rate=1.3)
    assert jax.tree.structure(one) == jax.tree.structure(other) and len(jax.tree.leaves(one)) == 3


@pytest.mark.parametrize("make", [REBAR, lambda: RELAX(width=3)])
def test_cost_and_precision(make, key):
    """With float32 leaves all stays in float32, through a step of training too; `f` is called as often as declared."""
    calls, estimator = [], make()

    def counted(x):
        jax.debug.callback(lambda x: calls.append(x.dtype), x)
        return interaction(x)

    dist = Categorical(jnp.zeros((2, 3), jnp.float32))

    @jax.jit
    def run(key):
        key_init, key_estimate = jax.random.split(key)
        state = estimator.init(key_init, dist)
        grads, stats = estimator.estimate(key_estimate, state, dist, counted)
        return grads, state.control, estimator.adapt(state, stats).control

    results = jax.tree.leaves(run(key))
    jax.effects_barrier()
    assert len(calls) == estimator.evaluations(dist) == 3
    assert {leaf.dtype for leaf in results} == set(calls) == {np.dtype(np.float32)}


def test_what_is_wrong_is_said():
    for family in [REBAR, RELAX]:
        for name in ["temperature", "learning_rate"]:
            with pytest.raises(ValueError, match=f"`{family.__name__}` needs `{name} > 0`, got 0.0"):
                family(**{name: 0.0})
        assert "relaxable" in incompatibility(family(), Normal([0.0], [0.0]), jnp.sum)
        assert "differentiable" in incompatibility(family(), Bernoulli([0.0]), BlackBox(jnp.sum))
    with pytest.raises(ValueError, match="`RELAX` needs `width > 0`, got 0"):
        RELAX(width=0)
