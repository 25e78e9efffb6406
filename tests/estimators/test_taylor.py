"""The delta method and RV-RGE, integrated over their noise, against their formulas, and on a quadratic function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    EVENTS,
    HESSIAN,
    LOC,
    NOISE,
    SCALE,
    WEIGHTS,
    assert_form,
    assert_unbiased,
    at_noise,
    bowl,
    estimates,
    exact_gradient,
    integrated,
    two_normals,
    wave,
)

from benchmarks.problems.gaussian import Rosenbrock
from estimators import Bernoulli, BlackBox, DeltaMethod, Normal, Pathwise, ScoreFunction, incompatibility
from estimators.base import score
from estimators.taylor import RVRGE, RVRGEProduct, expansion

FORMS = {
    "delta": DeltaMethod,
    "full": RVRGE,
    "diagonal": lambda: RVRGE(curvature="diagonal"),
    "product": RVRGEProduct,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_mean_is_the_gradient(form):
    assert_unbiased(estimates(FORMS[form](), wave), wave)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_formula(form):
    """With the derivatives of `wave` at the events and at the mean, the rest by NumPy."""
    slope, hessian = (np.asarray(jax.jit(d(wave))(LOC)) for d in (jax.grad, jax.hessian))
    step, curvature = SCALE * NOISE, np.diag(np.diag(hessian)) if form == "diagonal" else hessian
    along = step @ curvature
    exact = np.concatenate([slope, np.diag(hessian) * SCALE**2])
    if form == "delta":
        rest = np.asarray(jax.vmap(wave)(EVENTS)) - float(wave(LOC)) - step @ slope - np.sum(step * along, axis=1) / 2
        expected = rest[:, None] * np.concatenate([NOISE / SCALE, NOISE**2 - 1], axis=1) + exact
    else:
        here = np.asarray(jax.jit(jax.vmap(jax.grad(wave)))(EVENTS))
        if form == "product":
            scale = (here - slope) * step
        else:
            scale = (here - slope - along) * step + np.diag(hessian) * SCALE**2
        expected = np.concatenate([here - along, scale], axis=1)
    np.testing.assert_allclose(estimates(FORMS[form](), wave), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_quadratic_function_leaves_what_the_form_leaves_out(form):
    """Nothing by the full Hessian; by its diagonal the rest of the matrix; by one product the curvature along
    `log_scale`, of which the variance is that of `s_i e_i sum_j H_ij s_j e_j`."""
    mean, variance = integrated(estimates(FORMS[form](), bowl))
    np.testing.assert_allclose(mean, exact_gradient(bowl), rtol=1e-10)
    v, squares = SCALE**2, HESSIAN**2
    across = np.array([squares[0, 1] * v[1], squares[1, 0] * v[0]])
    expected = {
        "delta": np.zeros(4),
        "full": np.zeros(4),
        "diagonal": np.concatenate([across, v * across]),
        "product": np.concatenate([np.zeros(2), v * (2 * np.diag(squares) * v + across)]),
    }
    np.testing.assert_allclose(variance, expected[form], rtol=1e-9, atol=1e-20)


class MovingCentre(DeltaMethod):
    """Wrong on purpose: the derivative of `E[q]` runs through the point of the expansion too."""

    def gradient(self, key, dist, f):
        x, quadratic = dist.sample(key), expansion(f, dist.mean())
        rest = jax.tree.map(lambda s: (f(x) - quadratic(x)) * s, score(dist, x))
        moving = jax.grad(lambda d: expansion(f, d.mean()).expectation(d))(dist)
        return jax.tree.map(jnp.add, rest, moving)


def test_a_centre_that_moves_is_found_out():
    """Its bias is half the variances times the third derivatives."""
    rows = estimates(MovingCentre(), wave)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(rows, wave)
    third = np.asarray(jax.jit(jax.jacfwd(lambda m: jnp.diagonal(jax.hessian(wave)(m))))(LOC))
    bias = np.concatenate([SCALE**2 @ third / 2, np.zeros(2)])
    np.testing.assert_allclose(integrated(rows)[0] - exact_gradient(wave), bias, rtol=1e-8, atol=1e-9)


def test_moments_of_the_distribution_by_quadrature():
    dist = two_normals()
    np.testing.assert_allclose(dist.mean(), WEIGHTS @ EVENTS, rtol=1e-13)
    np.testing.assert_allclose(dist.variance(), WEIGHTS @ (EVENTS - LOC) ** 2, rtol=1e-13)


def test_variance_against_pathwise_and_score_function():
    path, plain = (integrated(estimates(estimator, wave))[1] for estimator in (Pathwise(), ScoreFunction()))
    assert np.sum(integrated(estimates(RVRGE(), wave))[1]) < 0.4 * np.sum(path)
    assert np.sum(integrated(estimates(RVRGEProduct(), wave))[1]) < 0.5 * np.sum(path)
    assert np.all(integrated(estimates(DeltaMethod(), wave))[1] < 0.3 * plain)


def test_the_bent_valley_of_rosenbrock_in_closed_form():
    """At the origin the Hessian is diagonal. With `u` and `v` the two events, what it leaves of the gradient is
    `-400 u (v - u^2)` and `-200 u^2`, whose variances are small beside those of pathwise along the second axis only."""
    u, v = Normal([0.0, 0.0], [np.log(0.5)] * 2), 0.25
    left = [
        400**2 * (v**2 + 15 * v**3),
        200**2 * 2 * v**2,
        400**2 * (3 * v**3 + 105 * v**4 - 9 * v**4),
        200**2 * 3 * v**3,
    ]
    rows, path = (at_noise(e.estimate, None, u, Rosenbrock(100.0), NOISE) for e in (RVRGE(), Pathwise()))
    np.testing.assert_allclose(integrated(rows)[1], left, rtol=1e-9)
    assert np.array_equal(integrated(rows)[1] < integrated(path)[1] / 2, [False, True, False, True])


@pytest.mark.parametrize("form", FORMS)
def test_shapes(form):
    estimator = FORMS[form]()
    assert_form(estimator, (2, 3))
    assert_form(estimator, ())


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`RVRGE` needs a `curvature` of full or diagonal, got 'none'"):
        RVRGE(curvature="none")
    bit, normal = Bernoulli([0.0]), Normal([0.0], [0.0])
    assert "needs an uncorrelated distribution" in incompatibility(DeltaMethod(), bit, jnp.sum)
    assert "needs a reparameterizable distribution" in incompatibility(RVRGE(), bit, jnp.sum)
    assert "needs a `Normal` distribution" in incompatibility(RVRGEProduct(), bit, jnp.sum)
    for form in FORMS.values():
        assert "needs a differentiable objective" in incompatibility(form(), normal, BlackBox(jnp.sum))
