"""RODEO, summed over all tuples of samples: its Stein operator from the definition, mean, limits and training.

The second writing of an estimate calls no `f` but at the samples, draws bits afresh by summing over both of their values,
and applies the operator to the product of surrogate and score as to any vector function.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates, tuples

from estimators import Bernoulli, BlackBox, Categorical, LeaveOneOut, incompatibility
from estimators.base import learned_state
from estimators.rodeo import RODEO

LOGITS = np.array([-1.0, 0.4, 1.3])
TWO = np.array([-1.0, 0.6])


def two_bits(x):
    """Neither separable nor quadratic."""
    return jnp.sin(1.0 + 2.0 * x[0] - x[1]) + 1.5 * x[0] * x[1] - 0.7 * x[1]


def control_of(spread=0.7):
    """A control with every entry moved by `spread` times a normal variable; its coefficients start at zero."""
    control = eqx.filter_jit(RODEO(width=3).control)(jax.random.key(1), Bernoulli(TWO))
    flat, restore = ravel_pytree(control)
    return restore(flat + spread * jnp.asarray(np.random.default_rng(2).normal(size=flat.shape)))


def enumerated(estimator, control, logits, f):
    """Draws, probabilities, estimates and statistics, for every tuple of samples."""
    events, probabilities = outcomes(logits)
    indices, weights = tuples(probabilities, estimator.num_samples)
    keys = jax.random.split(jax.random.key(0), estimator.num_samples)
    state = None if control is None else learned_state(control)
    grads, stats = prescribed_estimates(estimator, state, logits, events[indices], f, keys)
    return events[indices], weights, np.asarray(grads), stats


def operator(h, x, p):
    """`sum_i E[h(y_i, x without i)] - h(x)`, by the definition."""
    total = 0.0
    for i in range(len(x)):
        for bit, probability in [(0.0, 1 - p[i]), (1.0, p[i])]:
            y = np.array(x)
            y[i] = bit
            total = total + probability * (h(y) - h(x))
    return total


def written_out(control, samples, values, slopes, p):
    """The formula of the docstring, with loops."""
    inner, outer = (jax.tree.map(np.asarray, layer) for layer in (control.hidden, control.output))
    alpha, beta, number = float(control.baseline_coefficient), float(control.score_coefficient), len(samples)

    def surrogate(k, y):
        total = 0.0
        for j in set(range(number)) - {k}:
            change = slopes[j] @ (y - samples[j])
            units = np.tanh(inner.weight @ np.array([values[j], change]) + inner.bias)
            total += change + outer.weight[0] @ units + outer.bias[0]
        return total / (number - 1)

    estimate = np.zeros(len(p))
    for k in range(number):
        baseline = np.mean(
            [
                values[j] + alpha * operator(lambda y, j=j: surrogate(j, y), samples[j], p)
                for j in range(number)
                if j != k
            ]
        )
        estimate += (values[k] - baseline) * (samples[k] - p) / number
        estimate += beta * operator(lambda y, k=k: surrogate(k, y) * (y - p), samples[k], p) / number
    return estimate


def test_it_is_the_formula_with_the_operator_by_its_definition():
    control, p = control_of(), 1 / (1 + np.exp(-TWO))
    draws, _, estimates, _ = enumerated(RODEO(3, width=3), control, TWO, two_bits)
    events = jnp.array(outcomes(TWO)[0])
    table = {
        tuple(np.asarray(x)): (float(v), np.asarray(s))
        for x, v, s in zip(events, *jax.jit(jax.vmap(jax.value_and_grad(two_bits)))(events), strict=True)
    }
    for draw, estimate in zip(draws[::5], estimates[::5], strict=True):
        values, slopes = zip(*(table[tuple(x)] for x in draw), strict=True)
        np.testing.assert_allclose(estimate, written_out(control, draw, values, slopes, p), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("samples", "logits", "f"), [(2, LOGITS, Tangled()), (3, TWO, two_bits), (5, TWO, two_bits)])
def test_the_mean_over_all_samples_is_the_gradient_whatever_the_control(samples, logits, f):
    _, weights, estimates, _ = enumerated(RODEO(samples, width=3), control_of(), logits, f)
    np.testing.assert_allclose(moments(weights, estimates)[0], exact_gradient(logits, f), rtol=1e-9, atol=1e-12)


def test_before_training_it_is_leave_one_out():
    control = eqx.filter_jit(RODEO(width=3).control)(jax.random.key(1), Bernoulli(TWO))
    _, _, estimates, _ = enumerated(RODEO(3, width=3), control, TWO, two_bits)
    _, _, expected, _ = enumerated(LeaveOneOut(3), None, TWO, two_bits)
    np.testing.assert_allclose(estimates, expected, rtol=1e-10, atol=1e-15)


def with_coefficients(alpha, beta):
    """Of a surrogate that is a Taylor expansion."""
    return eqx.tree_at(
        lambda c: (c.baseline_coefficient, c.score_coefficient, c.output.weight, c.output.bias),
        control_of(),
        (jnp.array(alpha), jnp.array(beta), jnp.zeros((1, 3)), jnp.zeros(1)),
    )


def test_of_an_affine_function_of_one_bit_it_is_the_gradient_draw_for_draw():
    """The expansion is then exact, and `f(x) s + (A (f s))(x)` is a constant."""
    logits = np.array([-0.8])
    _, _, estimates, _ = enumerated(RODEO(3, width=3), with_coefficients(0.0, 1.0), logits, lambda x: 1.7 * x[0] - 4)
    expected = exact_gradient(logits, lambda x: 1.7 * x[0] - 4)
    np.testing.assert_allclose(estimates, np.broadcast_to(expected, estimates.shape), rtol=1e-11)


def test_the_mean_statistic_is_the_slope_of_the_second_moment():
    """Along random directions in all that is trained."""
    flat, restore = ravel_pytree(control_of())
    _, weights, _, stats = enumerated(RODEO(3, width=3), restore(flat), TWO, two_bits)
    slopes = ravel_pytree(jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), stats))[0]

    def second_moment(flat):
        _, weights, estimates, _ = enumerated(RODEO(3, width=3), restore(flat), TWO, two_bits)
        return weights @ np.sum(estimates**2, axis=1)

    for direction in np.random.default_rng(6).normal(size=(4, flat.size)):
        step = 1e-5 * jnp.array(direction)
        expected = (second_moment(flat + step) - second_moment(flat - step)) / 2e-5
        np.testing.assert_allclose(slopes @ direction, expected, rtol=1e-6)


def trained_variance(samples):
    """The variance after a few hundred exact steps of training, and that before them."""
    estimator = RODEO(samples, width=3)
    events, probabilities = outcomes(TWO)
    indices, weights = tuples(probabilities, samples)
    keys, draws = jax.random.split(jax.random.key(0), samples), jnp.array(events[indices])
    adapt = RODEO(samples, width=3, learning_rate=0.03).adapt

    @eqx.filter_jit
    def step(state):
        _, stats = prescribed_estimates(estimator, state, jnp.array(TWO), draws, two_bits, keys)
        return adapt(state, jax.tree.map(lambda leaf: jnp.tensordot(jnp.array(weights), leaf, axes=1), stats))

    state = learned_state(estimator.control(jax.random.key(1), Bernoulli(TWO)))
    variances = []
    for steps in (0, 150):
        for _ in range(steps):
            state = step(state)
        grads = enumerated(estimator, state.control, TWO, two_bits)[2]
        variances.append(moments(weights, grads)[1].sum())
    return variances


def test_training_lowers_the_variance_and_so_do_more_samples():
    """A control variate that is summed over samples where it should be averaged would make more of them worse."""
    (plain_of_two, two), (plain_of_three, three) = trained_variance(2), trained_variance(3)
    assert two < 0.7 * plain_of_two and three < 0.9 * plain_of_three and three < two


def test_at_a_fixed_control_more_samples_are_better():
    variances = []
    for samples in (2, 3, 5):
        _, weights, estimates, _ = enumerated(RODEO(samples, width=3), with_coefficients(0.0, 1.0), TWO, two_bits)
        variances.append(moments(weights, estimates)[1].sum())
    assert variances[0] > variances[1] > variances[2]


def test_the_shape_of_the_event_is_that_of_the_logits():
    """Four bits in a square are four bits in a row."""
    row = Bernoulli(jnp.array([-1.0, 0.4, 1.3, 0.1]))
    square = Bernoulli(row.logits.reshape(2, 2))
    f = lambda x: jnp.sin(jnp.vdot(jnp.arange(4.0), x.ravel()))  # noqa: E731

    @jax.jit
    def both():
        return [RODEO(3, width=3).gradient(jax.random.key(5), control_of(), dist, f).logits for dist in (row, square)]

    np.testing.assert_allclose(*(grads.ravel() for grads in both()), rtol=1e-12)


def test_what_it_needs_and_costs():
    dist = Bernoulli(LOGITS)
    assert counted_evaluations(RODEO(3), dist) == RODEO(3).evaluations(dist) == 3
    assert "needs a `Bernoulli` distribution" in incompatibility(RODEO(), Categorical([0.0, 1.0]), jnp.sum)
    assert "needs a differentiable objective" in incompatibility(RODEO(), dist, BlackBox(jnp.sum))
    with pytest.raises(ValueError, match="`RODEO` needs `num_samples >= 2`, got 1; the control variate of a sample"):
        RODEO(num_samples=1)
    for name in ("width", "learning_rate"):
        with pytest.raises(ValueError, match=f"`RODEO` needs `{name} > 0`, got 0"):
            RODEO(**{name: 0})
