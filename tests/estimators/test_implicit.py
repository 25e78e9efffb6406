"""Implicit and optimal-transport gradients, integrated over all that they draw, against a quadrature of the expectation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed_continuous import (
    assert_same,
    estimates,
    exact_gradient,
    line,
    log_gamma_rule,
    mean_of,
    normal_rule,
    product,
)

from estimators import (
    Beta,
    Dirichlet,
    Gamma,
    ImplicitReparameterization,
    MultivariateNormal,
    NormalMixture,
    OptimalTransport,
    Poisson,
    StudentT,
    VonMises,
    incompatibility,
)

IMPLICIT, TRANSPORT = ImplicitReparameterization(), OptimalTransport()

GAMMA = Gamma(np.log([0.8, 2.5]), np.array([0.4, -0.3]))
BETA = Beta(np.log([0.9]), np.log([1.8]))
DIRICHLET = Dirichlet(np.log([1.2, 2.0, 3.1]))
STUDENT_T = StudentT(np.log([6.0]), np.array([0.4]), np.array([-0.3]))
VON_MISES = VonMises(np.array([0.7]), np.log([2.2]))
NORMAL = MultivariateNormal([0.3, -0.2], [-0.3, 0.6, 0.2])
MIXTURE = NormalMixture(
    np.array([0.4, -0.3]), np.array([[-0.8, 0.3], [0.7, -0.4]]), np.array([[-0.2, 0.1], [0.2, -0.4]])
)


def tangled(x):
    """Neither separable nor a polynomial, and slow enough for the rules below to follow it where events are large."""
    weights = jnp.arange(1.0, x.size + 1)
    return (
        jnp.sin(0.3 * jnp.vdot(weights, x.ravel()))
        + 0.3 * jnp.prod(x)
        + 0.2 * jnp.sum(x.ravel() * jnp.roll(x.ravel(), 1))
    )


def gamma_rules(step=0.2):
    """Logarithms of events at rate one, and the points and weights of a quadrature of the expectation."""
    logs, probabilities = product(*(log_gamma_rule(a, step) for a in np.exp(GAMMA.log_concentration)))
    x = np.exp(logs - np.asarray(GAMMA.log_rate))
    return logs, probabilities, x, step**2 * np.prod(x, axis=1)


def logistic_rule(first, second, step=0.25):
    """Logits, and events with the weights of the uniform law."""
    y, weights = line(-26 / first - 3, 26 / second + 3, step)
    x = 1 / (1 + np.exp(-y))
    return y[:, None], x[:, None], weights * x * (1 - x)


def simplex_rule(step=0.5):
    """Points of the simplex, with weights for the density of all coordinates but the last."""
    y, weights = product(line(-25, 25, step), line(-25, 25, step))
    x = jax.nn.softmax(np.concatenate([y, np.zeros((len(y), 1))], axis=1), axis=1)
    return np.asarray(x), weights * np.prod(np.asarray(x), axis=1)


def test_gamma():
    """On the line the two are one, draw by draw."""
    logs, probabilities, x, weights = gamma_rules()
    implicit, transport = estimates(IMPLICIT, GAMMA, logs, tangled), estimates(TRANSPORT, GAMMA, x, tangled)
    assert_same(mean_of(probabilities, implicit), exact_gradient(GAMMA, x, weights, tangled))
    for name, values in implicit.items():
        np.testing.assert_allclose(values, transport[name], rtol=1e-9, atol=1e-30)


def test_beta():
    """By both; the implicit one through two gamma variables."""
    _, x, weights = logistic_rule(0.9, 1.8)
    exact = exact_gradient(BETA, x, weights, tangled)
    probabilities = weights * np.exp(np.asarray(jax.vmap(BETA.log_prob)(x)))
    assert_same(mean_of(probabilities, estimates(TRANSPORT, BETA, x, tangled)), exact)
    logs, probabilities = product(log_gamma_rule(0.9), log_gamma_rule(1.8))
    assert_same(mean_of(probabilities, estimates(IMPLICIT, BETA, logs[:, :, None], tangled)), exact)


def test_dirichlet_in_three_values():
    x, weights = simplex_rule()
    exact = exact_gradient(DIRICHLET, x, weights, tangled)
    probabilities = weights * np.exp(np.asarray(jax.vmap(DIRICHLET.log_prob)(x)))
    assert_same(mean_of(probabilities, estimates(TRANSPORT, DIRICHLET, x, tangled)), exact)
    logs, probabilities = product(*(log_gamma_rule(a, 0.4, 20.0) for a in (1.2, 2.0, 3.1)))
    found = estimates(IMPLICIT, DIRICHLET, logs, tangled)
    assert_same(mean_of(probabilities, found, rtol=1e-6), exact, rtol=1e-6)


def test_optimal_transport_is_the_mean_of_implicit_given_the_event():
    """The sum of the gamma variables is independent of the event, and has the concentration of all. So the variance is smaller by the
    mean of the variance given the event, which is positive."""
    events = np.array([[0.2, 0.3, 0.5], [1e-3, 0.9, 0.099], [0.7, 1e-9, 0.3 - 1e-9]])
    total, probabilities = log_gamma_rule(6.3, 0.25)
    logs = np.log(events)[:, None, :] + total[None, :, None]
    implicit = estimates(IMPLICIT, DIRICHLET, logs.reshape(-1, 3), tangled)["log_concentration"].reshape(3, -1, 3)
    transport = estimates(TRANSPORT, DIRICHLET, events, tangled)["log_concentration"]
    np.testing.assert_allclose(np.einsum("t,etp->ep", probabilities, implicit), transport, rtol=1e-8, atol=1e-10)
    assert np.all(np.ptp(implicit, axis=1) > 1e-4 * np.abs(transport))


def test_in_three_values_the_field_is_no_gradient():
    """The circulation of a gradient is zero, so this one has not the least kinetic energy; in two values there is one field only."""
    first, second = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)
    along_first = Dirichlet(jnp.array([1.0, 0.0, 0.0]))

    @jax.jit
    def velocity(x):
        return jax.jvp(lambda d: d.transport(x), (DIRICHLET,), (along_first,))[1]

    x, h = np.array([0.2, 0.3, 0.5]), 1e-4
    slope = (velocity(x + h * first) - velocity(x - h * first)) @ second / (2 * h)
    circulation = slope - (velocity(x + h * second) - velocity(x - h * second)) @ first / (2 * h)
    assert abs(circulation) > 0.1 * np.linalg.norm(velocity(x))


def test_multivariate_normal():
    x, weights = product(line(-12, 12, 0.25), line(-12, 12, 0.25))
    probabilities = weights * np.exp(np.asarray(jax.vmap(NORMAL.log_prob)(x)))
    exact = exact_gradient(NORMAL, x, weights, tangled)
    assert_same(mean_of(probabilities, estimates(TRANSPORT, NORMAL, x, tangled)), exact)


def test_for_the_normal_law_the_field_is_a_gradient_and_of_least_energy():
    """Along each entry of the factor, against the triangular field of reparameterization, which solves the same equation."""

    def pathwise(d, x):
        return d.reparameterize(jnp.linalg.solve(NORMAL.factor, x - NORMAL.loc))

    def velocities(move):
        """Along each entry, at a point: the derivative of its event there."""
        return jax.jit(
            lambda x: jax.jacfwd(lambda t: move(eqx.tree_at(lambda d: d.triangle, NORMAL, t), x))(NORMAL.triangle).T
        )

    optimal, triangular = velocities(MultivariateNormal.transport), velocities(pathwise)
    noise, probabilities = product(normal_rule(0.4), normal_rule(0.4))
    x = jax.vmap(NORMAL.reparameterize)(noise)
    energies = [probabilities @ np.sum(np.asarray(jax.vmap(field)(x)) ** 2, axis=-1) for field in (optimal, triangular)]
    slopes = [np.asarray(jax.jacfwd(field)(x[7])) for field in (optimal, triangular)]
    np.testing.assert_allclose(slopes[0], np.swapaxes(slopes[0], 1, 2), rtol=1e-12, atol=1e-12)
    # Along the first entry the two are one: it stretches the first coordinate and nothing else.
    assert np.all(np.abs(slopes[1] - np.swapaxes(slopes[1], 1, 2)).max(axis=(1, 2))[1:] > 0.1)
    assert np.all(energies[0][1:] < 0.95 * energies[1][1:])
    # Orthogonal to every field that carries nothing: so what is saved is the energy of the difference.
    difference = probabilities @ np.sum(np.asarray(jax.vmap(lambda x: optimal(x) - triangular(x))(x)) ** 2, axis=-1)
    np.testing.assert_allclose(energies[1] - energies[0], difference, rtol=1e-9, atol=1e-14)


def test_beta_is_dirichlet_with_two_values():
    x = np.array([[0.01], [0.4], [0.93]])
    grads = estimates(TRANSPORT, BETA, x, lambda x: jnp.sin(3 * x[0]))
    both = Dirichlet(jnp.concatenate([BETA.log_alpha, BETA.log_beta]))
    pair = estimates(TRANSPORT, both, np.concatenate([x, 1 - x], axis=1), lambda x: jnp.sin(3 * x[0]))
    found = np.concatenate([grads["log_alpha"], grads["log_beta"]], axis=1)
    np.testing.assert_allclose(found, pair["log_concentration"], rtol=1e-10)


def test_student_t():
    """The expectation by quadrature in `x = loc + sinh(y)`."""

    def bounded(x):
        return jnp.sin(0.5 * x[0]) + jnp.cos(0.5 * x[0])

    y, weights = line(-20, 20, 0.1)
    exact = exact_gradient(STUDENT_T, 0.4 + np.sinh(y)[:, None], weights * np.cosh(y), bounded)
    draws, probabilities = product(normal_rule(0.3), log_gamma_rule(3.0, 0.2))
    assert_same(mean_of(probabilities, estimates(IMPLICIT, STUDENT_T, draws[:, :, None], bounded)), exact)


def test_von_mises():
    y, weights = line(-np.pi, np.pi - 2 * np.pi / 80, 2 * np.pi / 80)
    points = np.stack([np.cos(y + 0.7), np.sin(y + 0.7)], axis=-1)[:, None]
    exact = exact_gradient(VON_MISES, points, weights, tangled)
    probabilities = weights * np.exp(np.asarray(jax.vmap(VON_MISES.log_prob)(points)))
    assert_same(mean_of(probabilities, estimates(IMPLICIT, VON_MISES, y[:, None], tangled)), exact, rtol=1e-9)


def test_mixture_in_two_coordinates():
    """The second coordinate moves by its law given the first."""
    x, weights = product(line(-9, 9, 0.2), line(-9, 9, 0.2))
    exact = exact_gradient(MIXTURE, x, weights, tangled)
    probabilities = weights * np.exp(np.asarray(jax.vmap(MIXTURE.log_prob)(x)))
    kept = probabilities > 1e-17
    assert_same(mean_of(probabilities[kept], estimates(IMPLICIT, MIXTURE, x[kept], tangled)), exact, rtol=1e-8)


@pytest.mark.parametrize("dist", [GAMMA, VON_MISES], ids=lambda dist: type(dist).__name__)
def test_the_derivative_of_a_sample_is_the_estimate(dist):
    """Differentiating `sample` finds the velocity and nothing of how the sampler found its draw."""

    @eqx.filter_jit
    def both():
        derivative = jax.grad(lambda d: tangled(d.sample(jax.random.key(3))))(dist)
        return derivative, IMPLICIT.gradient(jax.random.key(3), dist, tangled)

    for one, other in zip(*map(jax.tree.leaves, both()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_does_not_move_is_refused():
    assert "`ImplicitReparameterization` needs an implicitly reparameterizable distribution, and `Poisson`" in (
        incompatibility(IMPLICIT, Poisson([0.0]), jnp.sum)
    )
    assert "`OptimalTransport` needs a transportable distribution, and `StudentT`" in (
        incompatibility(TRANSPORT, STUDENT_T, jnp.sum)
    )
