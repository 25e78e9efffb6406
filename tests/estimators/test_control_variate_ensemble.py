"""The ensemble: each control variate has mean zero, and the coefficients are those of a weighted least-squares fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    NOISE,
    WEIGHTS,
    assert_form,
    assert_unbiased,
    at_noise,
    bowl,
    estimates,
    exact_gradient,
    integrated,
    total_variance,
    two_normals,
    wave,
)
from jax.flatten_util import ravel_pytree

from estimators import RVRGE, Bernoulli, BlackBox, Normal, Pathwise, incompatibility
from estimators.control_variate_ensemble import MEMBERS, ControlVariateEnsemble, members


def first_state(estimator):
    return estimator.init(jax.random.key(0), two_normals())


def exact_state(estimator, f):
    """The state that has seen the exact moments."""
    state = first_state(estimator)
    rows = estimates(estimator, f, state)
    restore = ravel_pytree(state.mean)[1]
    return estimator.adapt(state, restore(jnp.asarray(WEIGHTS @ rows[:, 4:])))


def parts(key, state, dist, f):
    return members(dist, f, dist.noise(key))


def columns_of(f):
    """The pathwise estimate `[nodes, leaves, 2]` and the control variates `[nodes, leaves, members, 2]`."""
    rows = np.asarray(at_noise(parts, None, two_normals(), f, NOISE))
    return rows[:, :4].reshape(-1, 2, 2), rows[:, 4:].reshape(-1, 2, MEMBERS, 2)


def test_before_anything_was_seen_it_is_pathwise():
    estimator = ControlVariateEnsemble()
    rows = estimates(estimator, wave, first_state(estimator))
    np.testing.assert_allclose(rows[:, :4], estimates(Pathwise(), wave), rtol=1e-13, atol=1e-14)


def test_every_control_variate_has_mean_zero_and_some_spread():
    """But the first along `loc`, which is a constant there and taken away."""
    path, columns = columns_of(wave)
    np.testing.assert_allclose(np.tensordot(WEIGHTS, path, axes=1).ravel(), exact_gradient(wave), rtol=1e-10)
    np.testing.assert_allclose(np.tensordot(WEIGHTS, columns, axes=1), 0, atol=1e-10)
    spread = np.tensordot(WEIGHTS, np.sum(columns**2, axis=-1), axes=1)
    np.testing.assert_allclose(spread[0, 0], 0, atol=1e-25)
    assert np.all(np.delete(spread.ravel(), 0) > 0.01)


def test_the_mean_is_the_gradient_whatever_the_state():
    estimator = ControlVariateEnsemble()
    state = exact_state(estimator, wave)
    skewed = eqx.tree_at(lambda s: s.mean[1].loc, state, jnp.array([0.0, 1.7, -2.0, 0.4]))
    assert_unbiased(estimates(estimator, wave, skewed), wave)
    assert_unbiased(estimates(estimator, wave, state), wave)


def test_the_coefficients_are_those_of_a_regression_over_the_noise():
    """Least squares of the pathwise estimate on the control variates, leaf by leaf, for hardly any ridge."""
    path, columns = columns_of(wave)
    estimator = ControlVariateEnsemble(ridge=1e-12)
    state = exact_state(estimator, wave)
    root, least = np.sqrt(WEIGHTS)[:, None], 0.0
    for leaf, (found, chosen) in enumerate(
        zip(jax.tree.leaves(estimator.coefficients(state)), (slice(1, 4), slice(0, 4)), strict=True)
    ):
        centred = path[:, leaf] - exact_gradient(wave).reshape(2, 2)[leaf]
        design = (root[..., None] * np.swapaxes(columns[:, leaf, chosen], 1, 2)).reshape(-1, len(found[chosen]))
        a, residual, *_ = np.linalg.lstsq(design, (root * centred).ravel(), rcond=None)
        np.testing.assert_allclose(found[chosen], a, rtol=1e-6)
        least += residual[0]
    rows = estimates(estimator, wave, state)
    np.testing.assert_allclose(total_variance(rows), least, rtol=1e-8)
    assert total_variance(rows) < 0.75 * total_variance(estimates(RVRGE(), wave))


def test_a_ridge_shrinks_and_with_exact_moments_never_harms():
    plain = integrated(estimates(Pathwise(), wave))[1]
    variances = [plain.sum()]
    for ridge in (100.0, 1.0, 1e-3):
        estimator = ControlVariateEnsemble(ridge=ridge)
        variances.append(total_variance(estimates(estimator, wave, exact_state(estimator, wave))))
    assert np.all(np.diff(variances) < 0)


def test_the_ridge_knows_no_unit():
    """A millionth of `f` has a millionth of the estimate and of each control variate: the same coefficients."""
    estimator = ControlVariateEnsemble(ridge=0.1)
    state = exact_state(estimator, wave)
    scaled = eqx.tree_at(lambda s: s.mean, state, jax.tree.map(lambda leaf: 1e-12 * leaf, state.mean))
    for leaf, other in zip(*(jax.tree.leaves(estimator.coefficients(s)) for s in (state, scaled)), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-10)


def test_a_quadratic_function_leaves_nothing():
    """The second control variate is the noise of the gradient then."""
    estimator = ControlVariateEnsemble(ridge=1e-14)
    rows = estimates(estimator, bowl, exact_state(estimator, bowl))
    np.testing.assert_allclose(integrated(rows)[1], 0, atol=1e-10)


def test_shapes():
    estimator = ControlVariateEnsemble()
    assert_form(estimator, (2, 3))
    assert_form(estimator, ())


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`ControlVariateEnsemble` needs `ridge > 0`, got 0.0"):
        ControlVariateEnsemble(ridge=0.0)
    estimator = ControlVariateEnsemble()
    assert "needs a reparameterizable distribution" in incompatibility(estimator, Bernoulli([0.0]), jnp.sum)
    assert "needs a differentiable objective" in incompatibility(estimator, Normal([0.0], [0.0]), BlackBox(jnp.sum))
