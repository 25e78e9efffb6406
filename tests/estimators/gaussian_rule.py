"""Two normal variables whose noise is written by the test, and a rule that integrates over its law.

An estimate is a function of the noise that `Normal.noise` returns. At the nodes of the trapezoidal rule, which for the
standard normal law and a smooth integrand is exact to rounding, the mean and the variance of an estimator come out
without a threshold; the exact gradient is a closed form.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from prescribed import moments

from estimators import Normal

LOC, LOG_SCALE = np.array([0.7, -0.4]), np.array([-0.3, 0.2])
SCALE = np.exp(LOG_SCALE)
LINE = np.linspace(-9.0, 9.0, 65)
NOISE = np.stack(np.meshgrid(LINE, LINE, indexing="ij"), axis=-1).reshape(-1, 2)
WEIGHTS = np.prod(np.exp(-(NOISE**2) / 2) * (LINE[1] - LINE[0]) / np.sqrt(2 * np.pi), axis=1)
EVENTS = LOC + SCALE * NOISE
HESSIAN = np.array([[1.4, -0.6], [-0.6, 0.5]])


def two_normals() -> Normal:
    return Normal(LOC, LOG_SCALE)


def wave(x):
    """Not separable, not quadratic, not even."""
    return jnp.sin(x[0] + 0.5 * x[1] + 0.4) + 0.3 * x[0] ** 2 * x[1] + 2 * jnp.exp(0.3 * x[1])


def bowl(x):
    """Quadratic, with the Hessian `HESSIAN`."""
    return jnp.vdot(x, jnp.asarray(HESSIAN) @ x) / 2 + 0.9 * x[0] - 0.2 * x[1] + 3.0


def _mean_of_wave(d):
    m, v = d.loc, jnp.exp(2 * d.log_scale)
    sine = jnp.sin(m[0] + 0.5 * m[1] + 0.4) * jnp.exp(-(v[0] + 0.25 * v[1]) / 2)
    return sine + 0.3 * (m[0] ** 2 + v[0]) * m[1] + 2 * jnp.exp(0.3 * m[1] + 0.045 * v[1])


def _mean_of_bowl(d):
    return bowl(d.loc) + jnp.vdot(jnp.diagonal(HESSIAN), jnp.exp(2 * d.log_scale)) / 2


def exact_gradient(f) -> np.ndarray:
    """The gradient of `E[wave]` or `E[bowl]` in `loc` and `log_scale`, by differentiating its closed form."""
    return flat(jax.grad({wave: _mean_of_wave, bowl: _mean_of_bowl}[f])(two_normals()))


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@eqx.filter_jit
def at_noise(method, state, dist, f, noise):
    """`method(key, state, dist, f)` at each of the noises, whatever the key, with the leaves of a result in a row."""

    def one(row):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(dist), "noise", lambda self, key: row)
            return ravel_pytree(method(jax.random.key(0), state, dist, f))[0]

    return jax.vmap(one)(noise)


def estimates(estimator, f, state=None) -> np.ndarray:
    """An estimate (`loc`, `log_scale`) and then the statistics, for each node in a row."""
    return np.asarray(at_noise(estimator.estimate, state, two_normals(), f, NOISE))


def integrated(rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the four coordinates of an estimate."""
    return moments(WEIGHTS, np.asarray(rows)[:, :4])


def total_variance(rows) -> float:
    return float(integrated(rows)[1].sum())


def assert_unbiased(rows, f) -> None:
    np.testing.assert_allclose(integrated(rows)[0], exact_gradient(f), rtol=1e-9)


def assert_slope_of_the_second_moment(rows_of, control, coordinates=4) -> None:
    """The mean statistic is the derivative of the second moment of an estimate in `control`, by central differences."""
    start, restore = ravel_pytree(control)
    slope = WEIGHTS @ rows_of(restore(start))[:, coordinates:]

    def second_moment(point):
        return WEIGHTS @ np.sum(rows_of(restore(point))[:, :coordinates] ** 2, axis=1)

    for direction in np.random.default_rng(6).normal(size=(2, start.size)):
        step = 1e-5 * jnp.asarray(direction)
        expected = (second_moment(start + step) - second_moment(start - step)) / 2e-5
        np.testing.assert_allclose(slope @ direction, expected, rtol=1e-6)


def assert_form(estimator, shape) -> None:
    """An estimate for events of `shape` has leaves of that shape; nothing is computed."""
    dist = Normal(np.zeros(shape), np.zeros(shape))

    def one(key):
        state = estimator.init(jax.random.key(1), dist)
        return estimator.estimate(key, state, dist, lambda x: jnp.sum(x**3))[0]

    shapes = jax.eval_shape(one, jax.random.key(0))
    assert isinstance(shapes, Normal) and {leaf.shape for leaf in jax.tree.leaves(shapes)} == {shape}
