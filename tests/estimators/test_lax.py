"""LAX and the Stein control variate: integrated over their noise for arbitrary controls, and their two limits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    EVENTS,
    HESSIAN,
    NOISE,
    SCALE,
    WEIGHTS,
    assert_form,
    assert_slope_of_the_second_moment,
    assert_unbiased,
    at_noise,
    bowl,
    estimates,
    exact_gradient,
    total_variance,
    two_normals,
    wave,
)
from jax.flatten_util import ravel_pytree

from estimators import Bernoulli, BlackBox, Normal, Pathwise, ScoreFunction, incompatibility
from estimators.base import learned_state
from estimators.lax import LAX, SteinControlVariate

FORMS = pytest.mark.parametrize("form", [LAX, SteinControlVariate])
SCORES = np.concatenate([NOISE / SCALE, NOISE**2 - 1], axis=1)


def control_of(estimator, spread=0.0):
    """The first control, with every entry moved by `spread` times a normal variable."""
    start, restore = ravel_pytree(estimator.control(jax.random.key(1), two_normals()))
    return restore(start + spread * jnp.asarray(np.random.default_rng(2).normal(size=start.shape)))


def rows_of(form):
    return lambda control: estimates(form(width=3), wave, learned_state(control))


@FORMS
def test_the_mean_is_the_gradient_whatever_the_control(form):
    assert_unbiased(rows_of(form)(control_of(form(width=3), spread=0.7)), wave)


@FORMS
def test_it_is_its_formula(form):
    """With the network, its derivatives and the score by NumPy."""
    control = control_of(form(width=3), spread=0.7)
    inner, outer = (jax.tree.map(np.asarray, layer) for layer in (control.hidden, control.output))
    units, weights = np.tanh(EVENTS @ inner.weight.T + inner.bias), outer.weight[0]
    value, first = units @ weights + outer.bias, (weights * (1 - units**2)) @ inner.weight
    second = (-2 * weights * units * (1 - units**2)) @ inner.weight**2
    along_scale = SCALE * NOISE * first if form is LAX else SCALE**2 * second
    difference = np.asarray(jax.vmap(wave)(EVENTS)) - value
    expected = difference[:, None] * SCORES + np.concatenate([first, along_scale], axis=1)
    np.testing.assert_allclose(rows_of(form)(control)[:, :4], expected, rtol=1e-9, atol=1e-9)


@FORMS
def test_it_starts_as_the_score_function(form):
    rows = rows_of(form)(control_of(form(width=3)))
    np.testing.assert_allclose(rows[:, :4], estimates(ScoreFunction(), wave), rtol=1e-12, atol=1e-12)


def test_lax_with_the_objective_for_its_control_is_pathwise():
    rows = at_noise(LAX().gradient, wave, two_normals(), wave, NOISE)
    np.testing.assert_allclose(rows, estimates(Pathwise(), wave), rtol=1e-13, atol=1e-13)


def with_the_objective(f):
    """The Stein control variate with `f` itself for its control: Stein's identity for `f`, without a score."""
    return np.asarray(at_noise(SteinControlVariate().gradient, f, two_normals(), f, NOISE))


def test_stein_with_the_objective_for_its_control_needs_its_derivatives_alone():
    rows = with_the_objective(wave)
    diagonals = jax.jit(jax.vmap(lambda x: jnp.diagonal(jax.hessian(wave)(x))))(EVENTS)
    expected = np.concatenate([jax.jit(jax.vmap(jax.grad(wave)))(EVENTS), SCALE**2 * np.asarray(diagonals)], axis=1)
    np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-13)
    assert_unbiased(rows, wave)


def test_along_the_scale_of_a_quadratic_function_stein_is_exact_where_the_path_is_not():
    exact, stein = exact_gradient(bowl), with_the_objective(bowl)
    np.testing.assert_allclose(stein[:, 2:], np.tile(SCALE**2 * np.diag(HESSIAN), (len(NOISE), 1)), rtol=1e-12)
    np.testing.assert_allclose(exact[2:], SCALE**2 * np.diag(HESSIAN), rtol=1e-12)
    assert np.all(WEIGHTS @ (estimates(Pathwise(), bowl)[:, 2:] - exact[2:]) ** 2 > 1)


@FORMS
def test_the_mean_statistic_is_the_slope_of_the_second_moment(form):
    assert_slope_of_the_second_moment(rows_of(form), control_of(form(width=3), spread=0.5))


@FORMS
def test_following_it_lowers_the_variance(form):
    """A few steps down the exact slope, from the score function."""
    state = learned_state(control_of(form(width=3)))
    rows, restore = rows_of(form)(state.control), ravel_pytree(state.control)[1]
    start, step = total_variance(rows), eqx.filter_jit(form(width=3, learning_rate=0.1).adapt)
    for _ in range(40):
        state = step(state, restore(jnp.asarray(WEIGHTS @ rows[:, 4:])))
        rows = rows_of(form)(state.control)
    assert total_variance(rows) < 0.25 * start


@FORMS
def test_shapes_and_needs(form):
    estimator, normal = form(width=3), Normal([0.0], [0.0])
    assert_form(estimator, (2, 3))
    assert_form(estimator, ())
    assert incompatibility(estimator, normal, BlackBox(jnp.sum)) is None
    for name in ("learning_rate", "width"):
        with pytest.raises(ValueError, match=f"`{form.__name__}` needs `{name} > 0`, got 0"):
            form(**{name: 0})


def test_distributions_that_do_not_fit_are_refused():
    assert "needs a reparameterizable distribution" in incompatibility(LAX(), Bernoulli([0.0]), jnp.sum)
    assert "needs a `Normal` distribution" in incompatibility(SteinControlVariate(), Bernoulli([0.0]), jnp.sum)
