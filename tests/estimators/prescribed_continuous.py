"""Distributions whose randomness is written by the test, and rules that integrate over it.

An estimator of this room draws once and is smooth in what it draws. Every law here decays at both ends, at least exponentially, in a
variable that runs over the line, so the trapezoidal rule integrates an estimate to near rounding (Trefethen and Weideman 2014).
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

WRITTEN = ("sample", "variates", "standardized", "accepted", "component_noise", "noise")


@functools.cache
def prescribed_class(cls):
    """`cls` whose draws, of whatever kind, are the leaf `written`; all else is that of `cls`."""

    def written(self, key, *rest):
        del key, rest
        return self.written

    methods = {name: written for name in WRITTEN if hasattr(cls, name)}
    return type(f"Prescribed{cls.__name__}", (cls,), {"__annotations__": {"written": jax.Array}, **methods})


def names_of(dist):
    """The fields that are leaves."""
    return [name for name, value in vars(dist).items() if eqx.is_array(value)]


@eqx.filter_jit
def estimates(estimator, dist, draws, f):
    """The gradient that each of the draws makes, as a dictionary of arrays."""

    def one(draw):
        written = prescribed_class(type(dist))(**vars(dist), written=draw)
        grads = estimator.estimate(jax.random.key(0), None, written, f)[0]
        return {name: getattr(grads, name) for name in names_of(dist)}

    return jax.vmap(one)(jnp.asarray(draws))


def mean_of(weights, grads, rtol=1e-8):
    """The integral of the estimates; the weights are checked to integrate to one."""
    np.testing.assert_allclose(weights.sum(), 1, rtol=rtol)
    return {name: np.tensordot(weights, np.asarray(values), axes=1) for name, values in grads.items()}


@eqx.filter_jit
def exact_gradient(dist, points, weights, f):
    """The derivative of `sum_i weights_i p(points_i) f(points_i)`, a quadrature of the expectation with points that stay where they
    are: no velocity is in it, only `log_prob`, which is tested against SciPy."""

    def expectation(d):
        return jnp.vdot(weights * jnp.exp(jax.vmap(d.log_prob)(points)), jax.vmap(f)(points))

    grads = jax.grad(expectation)(dist)
    return {name: getattr(grads, name) for name in names_of(dist)}


def assert_same(found, exact, rtol=1e-7, atol=1e-9):
    """Two gradients, leaf by leaf; that the exact one has every coordinate is checked too."""
    assert set(found) == set(exact)
    for name, values in exact.items():
        assert np.all(np.abs(values) > 1e-4), (name, values)
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=atol, err_msg=name)


def line(low, high, step):
    """Points and the weight of each."""
    points = np.arange(low, high + step / 2, step)
    return points, np.full(points.shape, step)


def log_gamma_rule(a, step=0.3, decay=26.0):
    """Points and probabilities for the logarithm of a gamma variable with concentration `a`."""
    points, weights = line(-decay / a + np.log(a), np.log(a + 12 * np.sqrt(a) + 30), step)
    return points, weights * np.exp(a * points - np.exp(points) - special.gammaln(a))


def normal_rule(step=0.4):
    points, weights = line(-8.6, 8.6, step)
    return points, weights * np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi)


def product(*rules):
    """All combinations, stacked along a last axis, and the products of their weights."""
    points, weights = zip(*rules, strict=True)
    grids, products = np.meshgrid(*points, indexing="ij"), np.meshgrid(*weights, indexing="ij")
    return np.stack([g.ravel() for g in grids], axis=-1), np.prod([w.ravel() for w in products], axis=0)
