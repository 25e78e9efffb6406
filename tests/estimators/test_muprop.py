"""MuProp, summed over all events, and its remainder in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates
from prescribed_categorical import (
    LOGITS as CATEGORICAL,
    categorical_estimates,
    exact_gradient as categorical_gradient,
    outcomes as categorical_outcomes,
    tied,
)

from estimators import Bernoulli, BlackBox, ConstantBaseline, ExactMeanBaseline, Normal, incompatibility
from estimators.muprop import MuProp, SimpleMuProp

LOGITS = np.array([-1.0, 0.4, 1.3])

each = pytest.mark.parametrize("estimator", [MuProp(), SimpleMuProp()], ids=["MuProp", "SimpleMuProp"])


def enumerated(estimator, logits, f):
    events, probabilities = outcomes(logits)
    keys = jax.random.split(jax.random.key(0), 1)
    return probabilities, np.asarray(prescribed_estimates(estimator, None, logits, events[:, None], f, keys)[0])


class Quadratic(eqx.Module):
    """`x^T matrix x + vector . x + 3`, for events of any shape."""

    matrix: jax.Array
    vector: jax.Array

    def __call__(self, x):
        return x.ravel() @ self.matrix @ x.ravel() + self.vector @ x.ravel() + 3


def quadratic(size, curved=1.0):
    rng = np.random.default_rng(1)
    return Quadratic(jnp.array(curved * rng.normal(size=(size, size))), jnp.array(rng.normal(size=size)))


@each
def test_the_mean_over_all_events_is_the_gradient(estimator):
    mean, _ = moments(*enumerated(estimator, LOGITS, Tangled()))
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-10, atol=1e-13)


@each
def test_the_mean_over_all_one_hot_events_is_the_gradient(estimator):
    events, probabilities = categorical_outcomes()
    keys = jax.random.split(jax.random.key(0), 1)
    mean, _ = moments(probabilities, categorical_estimates(estimator.gradient, events[:, None], tied, keys))
    np.testing.assert_allclose(mean, categorical_gradient(tied), rtol=1e-10, atol=1e-13)


def test_of_an_affine_function_it_is_the_gradient_event_by_event():
    f = quadratic(3, curved=0.0)
    _, estimates = enumerated(MuProp(), LOGITS, f)
    np.testing.assert_allclose(estimates, np.broadcast_to(exact_gradient(LOGITS, f), (8, 3)), rtol=1e-11)


def test_of_a_quadratic_function_the_second_order_is_left():
    f = quadratic(3)
    events, _ = outcomes(LOGITS)
    p = 1 / (1 + np.exp(-LOGITS))
    d, hessian = events - p, np.asarray(f.matrix + f.matrix.T)
    slope = hessian @ p + np.asarray(f.vector)
    expected = 0.5 * np.einsum("ni,ij,nj->n", d, hessian, d)[:, None] * d + slope * p * (1 - p)
    np.testing.assert_allclose(enumerated(MuProp(), LOGITS, f)[1], expected, rtol=1e-10)


def test_of_a_quadratic_function_of_one_hot_events_too():
    f, (events, _) = quadratic(6), categorical_outcomes()
    pi = np.exp(CATEGORICAL) / np.exp(CATEGORICAL).sum(axis=1, keepdims=True)
    d, hessian = (events - pi).reshape(9, 6), np.asarray(f.matrix + f.matrix.T)
    slope = (hessian @ pi.ravel() + np.asarray(f.vector)).reshape(2, 3)
    expected = 0.5 * np.einsum("ni,ij,nj->n", d, hessian, d)[:, None, None] * (events - pi)
    expected += pi * (slope - np.sum(pi * slope, axis=1, keepdims=True))
    keys = jax.random.split(jax.random.key(0), 1)
    values = categorical_estimates(MuProp().gradient, events[:, None], f, keys)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-13)


def test_the_simple_form_is_a_constant_baseline_at_the_mean():
    baseline = float(Tangled()(1 / (1 + jnp.exp(-jnp.array(LOGITS)))))
    _, expected = enumerated(ConstantBaseline(baseline), LOGITS, Tangled())
    np.testing.assert_allclose(enumerated(SimpleMuProp(), LOGITS, Tangled())[1], expected, rtol=1e-11, atol=1e-14)


def multilinear(x):
    return x[0] * x[1] * x[2] - 2 * x[0] * x[2] + 0.3 * x[1] + 0.1


def test_of_a_multilinear_function_the_simple_form_has_the_exact_mean_as_baseline():
    _, expected = enumerated(ExactMeanBaseline(), LOGITS, multilinear)
    np.testing.assert_allclose(enumerated(SimpleMuProp(), LOGITS, multilinear)[1], expected, rtol=1e-10, atol=1e-14)


@each
def test_it_needs_a_mean_and_a_function_that_is_defined_there(estimator):
    assert counted_evaluations(estimator, Bernoulli(LOGITS)) == estimator.evaluations(Bernoulli(LOGITS)) == 2
    assert "needs a relaxable distribution" in incompatibility(estimator, Normal([0.0], [0.0]), jnp.sum)
    assert "needs a differentiable objective" in incompatibility(estimator, Bernoulli(LOGITS), BlackBox(jnp.sum))
