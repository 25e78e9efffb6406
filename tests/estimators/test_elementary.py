"""The elementary functions, against float64 in units in the last place, and as functions to be differentiated and batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from estimators import elementary

RANGES = {
    "sin": (np.sin, [(-0.8, 0.8), (-100, 100), (-8191, 8191)]),
    "cos": (np.cos, [(-0.8, 0.8), (-100, 100), (-8191, 8191)]),
    "erfinv": (special.erfinv, [(-0.9999, 0.9999), (0.999, 1 - 1e-7), (1e-12, 1e-6)]),
}
BUILTIN = {"sin": jnp.sin, "cos": jnp.cos, "erfinv": jax.lax.erf_inv}


def units(values, exact):
    """Errors in units in the last place of the exact value in float32."""
    return np.abs(values.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("name", RANGES)
def test_accuracy_is_that_of_float32(name):
    """Four units at most; JAX's own inverse error function is off by more than that."""
    exact, ranges = RANGES[name]
    function = jax.jit(getattr(elementary, name))
    for low, high in ranges:
        x = jnp.linspace(low, high, 200_001).astype(jnp.float32)
        assert units(np.asarray(function(x)), exact(np.asarray(x, np.float64))).max() < 4


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles_go_another_way(name):
    """Where the parts of pi / 2 no longer suffice, the whole batch is handed to JAX; NaN and infinity too."""
    function, builtin = getattr(elementary, name), BUILTIN[name]
    x = jnp.array([1e5, -3e7, 1e30, 0.5], jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.vmap(function))(x), builtin(x))
    assert np.isnan(function(jnp.array([0.0, jnp.inf, jnp.nan], jnp.float32))).tolist() == [False, True, True]


def test_ends_of_the_domain():
    np.testing.assert_array_equal(elementary.erfinv(jnp.array([-1, 0, 1], jnp.float32)), [-np.inf, 0, np.inf])


@pytest.mark.parametrize("name", RANGES)
def test_derivatives_and_batches(name):
    """First and second derivatives, under nested maps, are those of JAX's functions; so is everything in float64."""
    function, builtin = getattr(elementary, name), BUILTIN[name]
    x = jnp.linspace(-0.9, 0.9, 12).reshape(3, 4)

    def tower(f):
        return lambda x: jnp.stack([f(x), jax.grad(f)(x), jax.grad(jax.grad(f))(x)])

    for dtype, rtol in [(np.float32, 1e-5), (np.float64, 1e-13)]:
        found = jax.jit(jax.vmap(jax.vmap(tower(function))))(x.astype(dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, jax.vmap(jax.vmap(tower(builtin)))(x.astype(dtype)), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 784])
def test_a_sum_of_softplus(size):
    """To four units of the sum, whatever its length and however large its terms; its derivative is the sigmoid, twice over."""
    x = np.linspace(-200, 200, size).astype(np.float32) * np.cos(np.arange(size)).astype(np.float32)
    value, slope = jax.jit(jax.value_and_grad(elementary.sum_of_softplus))(jnp.asarray(x))
    assert units(np.asarray(value), np.logaddexp(x.astype(np.float64), 0).sum()) < 4
    np.testing.assert_allclose(slope, special.expit(x), rtol=1e-5, atol=1e-30)
    wide = jnp.asarray(x, jnp.float64)
    batched = jax.vmap(elementary.sum_of_softplus)(jnp.stack([wide, -wide]))
    np.testing.assert_allclose(batched, np.logaddexp([wide, -wide], 0).sum(axis=1), rtol=1e-14)
    curvature = jax.hessian(elementary.sum_of_softplus)(wide)
    np.testing.assert_allclose(curvature, np.diag(special.expit(wide) * special.expit(-wide)), rtol=1e-12, atol=1e-15)


def test_other_platforms_keep_their_own():
    """Lowered for an accelerator, a cosine is a cosine."""
    text = jax.jit(elementary.cos).trace(jnp.ones(3, jnp.float32)).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.cosine" in text and "round" not in text


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_derivatives_of_a_softmax(name):
    """Values to the last digit; Jacobian and Hessian are those of JAX's function, with logits up to 40 and a forbidden
    category too."""
    function, builtin = getattr(elementary, name), getattr(jax.nn, name)
    x = jnp.asarray([[0.3, -1.2, 2.0], [40.0, -40.0, 0.0]], jnp.float64)
    np.testing.assert_array_equal(function(x), builtin(x))
    for derivative in (jax.jacrev, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(derivative(function)(x), derivative(builtin)(x), rtol=1e-12, atol=1e-15)
    masked = jnp.array([0.5, -jnp.inf, 1.0])
    np.testing.assert_array_equal(function(masked), builtin(masked))


def test_a_normal_draw_is_computed_once():
    """However many read it, there is one logarithm behind it in the compiled program."""

    @jax.jit
    def readers(x):
        drawn = elementary.erfinv(x)
        return drawn @ drawn, jnp.sum(drawn), drawn[:, None] * drawn[None]

    text = readers.lower(jnp.zeros(64, jnp.float32)).compile().as_text()
    assert sum(" log(" in line for line in text.splitlines()) == 1


def test_no_draws_at_all():
    assert elementary.erfinv(jnp.zeros((0, 3), jnp.float32)).shape == (0, 3)
