"""Adaptive velocity fields: what they add carries nothing, whatever was learned, and what is learned is the best of it.

An estimate of the mean of one coordinate is the velocity of that coordinate, so fields are read off the estimator itself.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_rule import (
    LINE,
    NOISE,
    WEIGHTS,
    assert_form,
    assert_slope_of_the_second_moment,
    at_noise,
    bowl,
    exact_gradient as exact_for_two_normals,
    two_normals,
    wave,
)
from hermite import rule
from jax.flatten_util import ravel_pytree
from prescribed import moments
from prescribed_continuous import exact_gradient

from estimators import BlackBox, Gamma, MultivariateNormal, Normal, OptimalTransport, Pathwise, incompatibility
from estimators.base import learned_state
from estimators.velocity_fields import AdaptiveVelocityField, UnrestrictedVelocityField

ADAPTIVE, UNRESTRICTED = AdaptiveVelocityField(), UnrestrictedVelocityField()
PAIR = MultivariateNormal([0.7, -0.4], [-0.3, 0.9, 0.2])
TRIPLE = MultivariateNormal([0.7, -1.2, 0.3], [-0.3, 0.8, 0.4, -0.5, 0.2, 0.1])
INDEPENDENT = Normal(np.array([0.7, -1.2, 0.3]), np.array([-0.3, 0.4, 0.1]))
BOTH = pytest.mark.parametrize("estimator", [ADAPTIVE, UNRESTRICTED], ids=lambda e: type(e).__name__)


def arbitrary(estimator, dist):
    """A control with no zero in it."""
    start, restore = ravel_pytree(estimator.control(jax.random.key(0), dist))
    return restore(jnp.asarray(np.random.default_rng(5).normal(size=start.size)))


def tangled(x):
    """Of three coordinates, not quadratic and not separable."""
    return jnp.sin(x[0] + 0.5 * x[1] * x[2]) + 0.3 * x[0] ** 2 * x[2] + jnp.exp(0.3 * x[1])


def rows(estimator, dist, f, control=None, noise=NOISE):
    """Estimates at each of the noises."""
    if control is None:
        return np.asarray(at_noise(estimator.estimate, None, dist, f, noise))
    return np.asarray(at_noise(estimator.gradient, control, dist, f, noise))


@eqx.filter_jit
def by_key(method, *arguments):
    """Gradients for a few keys, in rows."""
    keys = jax.random.split(jax.random.key(20), 3)
    return jax.vmap(lambda key: ravel_pytree(method(key, *arguments))[0])(keys)


def velocities(estimator, control, dist, x):
    """Along each parameter, at `x`; the estimator is told the noise that makes `x`."""
    factor = dist.factor if isinstance(dist, MultivariateNormal) else jnp.diag(dist.scale)
    noise = jnp.linalg.solve(factor, x - dist.loc)

    def along(axis):
        return ravel_pytree(estimator.gradient(jax.random.key(0), control, dist, lambda y: y @ axis))[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(dist), "noise", lambda self, key: noise)
        return jax.vmap(along, out_axes=1)(jnp.eye(x.size))


at_point = eqx.filter_jit(velocities)


@pytest.mark.parametrize(
    "estimator, dist",
    [(ADAPTIVE, TRIPLE), (UNRESTRICTED, TRIPLE), (UNRESTRICTED, INDEPENDENT)],
    ids=["adaptive", "unrestricted", "independent"],
)
def test_what_is_added_carries_nothing_and_the_whole_carries_the_law(estimator, dist):
    """`div(q v) / q = div v + <v, grad log q>` is zero for the whirl, and for the whole field minus the score."""
    controls = jax.tree.map(jnp.zeros_like, arbitrary(estimator, dist)), arbitrary(estimator, dist)

    @jax.jit
    def at(x):
        slope = jax.grad(dist.log_prob)(x)
        fields = [lambda x, c=c: velocities(estimator, c, dist, x) for c in controls]
        flows = [jnp.trace(jax.jacfwd(v)(x), axis1=1, axis2=2) + v(x) @ slope for v in fields]
        return fields[1](x) - fields[0](x), flows, ravel_pytree(jax.grad(lambda d: d.log_prob(x))(dist))[0]

    for x in np.random.default_rng(3).normal(size=(5, 3)):
        whirl, (bare, whole), score = at(x)
        assert np.abs(whirl).max() > 0.1
        np.testing.assert_allclose(whole - bare, 0, atol=1e-12)
        np.testing.assert_allclose(whole, -score, rtol=1e-10, atol=1e-12)


def test_each_entry_of_the_factor_turns_its_own_plane():
    """`L A^{ab} L^{-1} (x - loc)`, with `(B^T C)_{ab}` at `(a, b)` of `A^{ab}` and its negative at `(b, a)`."""
    control, x = arbitrary(ADAPTIVE, TRIPLE), np.array([0.4, -0.9, 1.1])
    found, bare = (at_point(ADAPTIVE, c, TRIPLE, x) for c in (control, jax.tree.map(jnp.zeros_like, control)))
    speeds, factor = np.asarray(control.left.T @ control.right), np.asarray(TRIPLE.factor)
    noise = np.linalg.solve(factor, x - np.asarray(TRIPLE.loc))
    expected = np.zeros((3 + 6, 3))
    for place, (a, b) in {4: (1, 0), 6: (2, 0), 7: (2, 1)}.items():
        turn = np.zeros((3, 3))
        turn[a, b], turn[b, a] = speeds[a, b], -speeds[a, b]
        expected[place] = factor @ turn @ noise
    np.testing.assert_allclose(found - bare, expected, rtol=1e-11, atol=1e-12)


def with_speeds(dist, *leaves):
    """A control of the unrestricted field for a normal law."""
    start = UNRESTRICTED.control(jax.random.key(0), dist)
    return jax.tree.unflatten(jax.tree.structure(start), [jnp.asarray(leaf) for leaf in leaves])


def test_optimal_transport_is_among_the_unrestricted_fields():
    """Its slope `S` along a parameter has `S L = dL + L A` with `A` antisymmetric: with these it is the same, draw by draw."""

    def moved(triangle):
        return eqx.tree_at(lambda d: d.triangle, TRIPLE, triangle)

    @jax.jit
    def slopes_and_tangents(x):
        velocity = lambda x: jax.jacfwd(lambda t: moved(t).transport(x))(TRIPLE.triangle).T  # noqa: E731
        return jax.jacfwd(velocity)(x), jax.jacfwd(lambda t: moved(t).factor)(TRIPLE.triangle)

    slopes, tangents = map(np.asarray, slopes_and_tangents(jnp.array([0.4, -0.9, 1.1])))
    factor = np.asarray(TRIPLE.factor)
    turns = np.linalg.inv(factor) @ (slopes @ factor - np.moveaxis(tangents, 2, 0))
    np.testing.assert_allclose(turns, -np.swapaxes(turns, 1, 2), atol=1e-12)
    control = with_speeds(TRIPLE, np.zeros((3, 3)), turns[:, *np.tril_indices(3, -1)])
    found = by_key(UNRESTRICTED.gradient, control, TRIPLE, tangled)
    np.testing.assert_allclose(found, by_key(OptimalTransport().gradient, TRIPLE, tangled), rtol=1e-10, atol=1e-12)
    assert np.abs(turns).max() > 0.1


@BOTH
def test_the_mean_is_the_gradient_whatever_the_control(estimator):
    """Against a quadrature with points that stay where they are."""
    points = jax.vmap(PAIR.reparameterize)(NOISE)
    cells = np.full(len(NOISE), (LINE[1] - LINE[0]) ** 2 * np.linalg.det(np.asarray(PAIR.factor)))
    exact = ravel_pytree(exact_gradient(PAIR, points, cells, wave))[0]
    found = rows(estimator, PAIR, wave, arbitrary(estimator, PAIR))
    np.testing.assert_allclose(WEIGHTS @ found, exact, rtol=1e-9)


def test_the_mean_is_the_gradient_for_independent_variables_too():
    found = rows(UNRESTRICTED, two_normals(), wave, arbitrary(UNRESTRICTED, two_normals()))
    np.testing.assert_allclose(WEIGHTS @ found, exact_for_two_normals(wave), rtol=1e-9)


@BOTH
def test_it_starts_as_pathwise(estimator):
    start = estimator.control(jax.random.key(0), PAIR)
    np.testing.assert_allclose(rows(estimator, PAIR, wave, start), rows(Pathwise(), PAIR, wave), rtol=1e-12, atol=1e-14)


@BOTH
def test_the_mean_statistic_is_the_slope_of_the_second_moment(estimator):
    def rows_of(control):
        return np.asarray(at_noise(estimator.estimate, learned_state(control), PAIR, bowl, NOISE))

    assert_slope_of_the_second_moment(rows_of, arbitrary(estimator, PAIR), coordinates=5)


# Exact for an estimate of the gradient of a quadratic function, and for its square.
FEW, SHARES = rule(dimension=2, nodes=5)


def least_variances():
    """Pathwise, and the least with the twist added to the entry below the diagonal alone, and to every parameter: it is one
    control variate, since two coordinates have one plane."""
    path = rows(Pathwise(), PAIR, bowl, noise=FEW)
    turned = rows(UNRESTRICTED, PAIR, bowl, with_speeds(PAIR, np.ones((2, 1)), np.ones((3, 1))), FEW)
    twist = turned[:, 0] - path[:, 0]
    variances = moments(SHARES, path)[1]
    saved = (SHARES @ (path * twist[:, None])) ** 2 / (SHARES @ twist**2)
    return variances.sum(), variances.sum() - saved[3], variances.sum() - saved.sum()


@eqx.filter_jit
def trained(estimator, state, steps=500):
    """The control after steps down the exact slope of the second moment."""
    restore = ravel_pytree(state.control)[1]

    def step(state, _):
        made = at_noise(estimator.estimate, state, PAIR, bowl, FEW)
        return estimator.adapt(state, restore(SHARES @ made[:, 5:])), None

    return jax.lax.scan(step, state, None, length=steps)[0]


def test_training_finds_the_least_variance_which_is_below_that_of_optimal_transport():
    pathwise, own, least = least_variances()
    found = []
    for estimator in (AdaptiveVelocityField(learning_rate=0.02), UnrestrictedVelocityField(learning_rate=0.02)):
        start = learned_state(estimator.control(jax.random.key(0), PAIR))
        made = rows(estimator, PAIR, bowl, trained(estimator, start).control, FEW)
        found.append(moments(SHARES, made)[1].sum())
    np.testing.assert_allclose(found, [own, least], rtol=1e-6)
    transport = moments(SHARES, rows(OptimalTransport(), PAIR, bowl, noise=FEW))[1].sum()
    assert least < 0.95 * transport and least < 0.95 * own and own < 0.95 * pathwise, (least, transport, own, pathwise)


def test_shapes():
    assert_form(UNRESTRICTED, (2, 3))
    assert_form(UNRESTRICTED, ())
    assert AdaptiveVelocityField(rank=3).control(jax.random.key(0), TRIPLE).left.shape == (3, 3)
    assert UNRESTRICTED.control(jax.random.key(0), TRIPLE).triangle.shape == (6, 3)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="`AdaptiveVelocityField` needs `rank >= 1`, got 0"):
        AdaptiveVelocityField(rank=0)
    for cls in (AdaptiveVelocityField, UnrestrictedVelocityField):
        with pytest.raises(ValueError, match=f"`{cls.__name__}` needs `learning_rate > 0`, got 0.0"):
            cls(learning_rate=0.0)
    assert "needs a correlated distribution, and `Normal` is not one" in incompatibility(ADAPTIVE, INDEPENDENT, jnp.sum)
    assert "needs a rotatable distribution, and `Gamma` is not one" in incompatibility(
        UNRESTRICTED, Gamma([0.0], [0.0]), jnp.sum
    )
    assert "needs a differentiable objective" in incompatibility(ADAPTIVE, PAIR, BlackBox(jnp.sum))
