"""Local reparameterization, Flipout and one draw for the minibatch: signs enumerated, Gaussian noise integrated without error.

On a squared error of the pre-activations all variances are closed forms; they are checked against enumeration, and then
compared over batch sizes.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from hermite import rule
from prescribed import moments

from benchmarks.problems import PROBLEMS
from benchmarks.problems.layers import SquaredError
from estimators import (
    AbstractLinearLayer,
    Bernoulli,
    Flipout,
    LocalReparameterization,
    Normal,
    Pathwise,
    incompatibility,
)
from estimators.weight_perturbation import flipped_loss, independent_loss

INPUTS, TARGETS = np.array([[1.0, -0.6], [0.4, 1.5]]), np.array([[0.3], [-1.2]])


class Product(AbstractLinearLayer):
    """`mean_n n (h_n1 h_n2 - 1)^2`: not quadratic, not separable over units, and the examples weigh differently."""

    inputs: jax.Array

    def loss(self, preactivations):
        weights = jnp.arange(1.0, len(preactivations) + 1)
        return jnp.mean(weights * (jnp.prod(preactivations, axis=1) - 1) ** 2)


def flat(grads):
    return jnp.concatenate([grads.loc.ravel(), grads.log_scale.ravel()])


@eqx.filter_jit
def shared(dist, f, noises):
    return jax.vmap(lambda noise: flat(jax.grad(lambda d: f(d.reparameterize(noise)))(dist)))(noises)


@eqx.filter_jit
def independent(dist, f, noises):
    return jax.vmap(lambda noise: flat(jax.grad(independent_loss)(dist, f, noise)))(noises)


@eqx.filter_jit
def flipped(dist, f, noises, of_units, of_inputs):
    """`[signs, noises, parameters]`."""
    one = lambda noise, r, s: flat(jax.grad(flipped_loss)(dist, f, noise, r, s))  # noqa: E731
    return jax.vmap(lambda r, s: jax.vmap(lambda noise: one(noise, r, s))(noises))(of_units, of_inputs)


def signs(*shape):
    return np.array(list(itertools.product([-1.0, 1.0], repeat=int(np.prod(shape))))).reshape(-1, *shape)


def every_sign(examples, inputs, units):
    """All signs of units with all signs of inputs."""
    r, s = signs(examples, units), signs(examples, inputs)
    return np.repeat(r, len(s), axis=0), np.tile(s, (len(r), 1, 1))


def exactly(dist, f, nodes):
    """Mean and variance of each estimator, over everything that it draws."""
    (examples, inputs), units = f.inputs.shape, dist.loc.shape[1]
    weights_noise, weights = rule(inputs * units, nodes)
    weights_noise = weights_noise.reshape(-1, inputs, units)
    own_noise, own_weights = rule(examples * units, nodes)
    r, s = every_sign(examples, inputs, units)
    turned = flipped(dist, f, weights_noise, r, s)
    return {
        Pathwise: moments(weights, shared(dist, f, weights_noise)),
        LocalReparameterization: moments(own_weights, independent(dist, f, own_noise.reshape(-1, examples, units))),
        Flipout: moments(np.tile(weights / len(r), len(r)), turned.reshape(-1, turned.shape[-1])),
    }


def small_dist():
    return Normal([[0.5], [-0.3]], [[-0.4], [0.2]])


def test_all_have_the_mean_of_the_gradient_behind_a_nonlinearity():
    """Two units and two examples whose couplings differ between the three, and must not matter."""
    dist, f = Normal([[0.5, -0.3], [0.2, 0.8]], [[-0.4, 0.2], [0.1, -0.7]]), Product(jnp.asarray(INPUTS))
    noise, weights = rule(4, 3)

    def expectation(d):
        return jnp.vdot(weights, jax.vmap(lambda e: f(d.reparameterize(e)))(noise.reshape(-1, 2, 2)))

    truth = flat(jax.jit(jax.grad(expectation))(dist))
    for mean, _ in exactly(dist, f, 3).values():
        np.testing.assert_allclose(mean, truth, rtol=1e-11)


def closed_forms(dist, f):
    """Variances of the gradients in `loc` and in `log_scale` on `1/B sum_n |x_n W - y_n|^2`, unit by unit.

    With `a_ni = x_ni s_i`, `e_n` the error at `loc` and `v_n = |a_n|^2`, the gradient is `2/B` times a sum over
    examples of `x_ni (e_n + z_n)`, and of `(e_n + a_n . w_n) a_ni w_ni` with `w_n` the noise of that example (for local
    reparameterization, its mean given `a_n . w_n`). Shared noise is one `w` for all; flipped noise has independent
    signs, so that two examples share even terms.
    """
    x, mu, sigma, y = (np.asarray(a, np.float64) for a in (f.inputs, dist.loc, dist.scale, f.targets))
    a = x[:, :, None] * sigma[None]
    error, v = x @ mu - y, np.sum(a**2, axis=1)
    scale = 4 / len(x) ** 2
    common = np.einsum("nkj,mkj->nmj", a, a)
    both = np.einsum("nij,nkj->ikj", a, a)
    apart = np.einsum("ni,nj->ij", x**2, v)
    diagonal = np.einsum("iij->ij", both)
    even = np.einsum("nij->ij", a**2) ** 2 - np.einsum("nij->ij", a**4)
    own = np.einsum("nij,nj->ij", a**2, error**2 + v) + np.einsum("nij->ij", a**4)
    averaged = np.einsum("nij,nj->ij", a**4, error**2 / v + 2)
    together = np.einsum("nij,nj->ij", a, error) ** 2 + np.einsum("ikj->ij", both**2) + diagonal**2
    return {
        Pathwise: (scale * np.einsum("ni,mi,nmj->ij", x, x, common), scale * together),
        LocalReparameterization: (scale * apart, scale * averaged),
        Flipout: (scale * apart, scale * (own + 2 * even)),
    }


def test_variances_on_a_squared_error_are_the_closed_forms():
    dist, f = small_dist(), SquaredError(INPUTS, TARGETS)
    enumerated, forms = exactly(dist, f, 3), closed_forms(dist, f)
    for family, (_, variance) in enumerated.items():
        np.testing.assert_allclose(variance, np.concatenate([part.ravel() for part in forms[family]]), rtol=1e-11)


def test_one_example_shares_noise_with_no_other():
    """Then Flipout is one draw of the weights, and local reparameterization has the same variance in `loc` and less in
    `log_scale`, where it averages over what the pre-activation does not say."""
    found = exactly(small_dist(), SquaredError(INPUTS[:1], TARGETS[:1]), 3)
    np.testing.assert_allclose(found[Flipout][1], found[Pathwise][1], rtol=1e-11)
    np.testing.assert_allclose(found[LocalReparameterization][1][:2], found[Pathwise][1][:2], rtol=1e-11)
    assert np.all(found[LocalReparameterization][1][2:] < found[Pathwise][1][2:])


BATCHES = [2**n for n in range(9)]


def over_batches(part):
    """Variances on the problem of the suite, summed over all parameters of a part."""
    problems = [PROBLEMS.create("bayesian-linear", batch=batch) for batch in BATCHES]
    rows = [closed_forms(problem.dist, problem.f) for problem in problems]
    return {family: np.array([row[family][part].sum() for row in rows]) for family in rows[0]}


def test_over_batch_sizes_shared_noise_levels_out_and_the_others_do_not_in_loc():
    variance = over_batches(0)
    np.testing.assert_allclose(variance[Flipout], variance[LocalReparameterization], rtol=1e-12)
    assert np.all(variance[Flipout][1:] < variance[Pathwise][1:])
    halved = variance[Flipout][5:-1] / variance[Flipout][6:]
    assert np.all((halved > 1.7) & (halved < 2.3))
    assert 0.9 < variance[Pathwise][-2] / variance[Pathwise][-1] < 1.1


def test_over_batch_sizes_flipout_levels_out_in_log_scale_and_local_reparameterization_does_not():
    """The squares of the noise are the same for all examples, whatever their signs. At two examples Flipout has more variance
    than shared noise here, from four on less."""
    variance = over_batches(1)
    assert np.all(variance[LocalReparameterization] < variance[Flipout])
    assert variance[Flipout][1] > variance[Pathwise][1] and np.all(variance[Flipout][2:] < variance[Pathwise][2:])
    halved = variance[LocalReparameterization][5:-1] / variance[LocalReparameterization][6:]
    assert np.all((halved > 1.7) & (halved < 2.3))
    assert 0.9 < variance[Flipout][-2] / variance[Flipout][-1] < 1.15


@pytest.mark.parametrize("seed", range(5))
def test_local_reparameterization_is_never_worse_than_flipout_on_a_squared_error(seed):
    """`v_n >= a_ni^2` in each term, and what Flipout adds between examples is positive."""
    draw = np.random.default_rng(seed).normal
    dist, f = Normal(draw(size=(3, 2)), draw(size=(3, 2))), SquaredError(draw(size=(6, 3)), draw(size=(6, 2)))
    for ours, theirs in zip(
        closed_forms(dist, f)[LocalReparameterization], closed_forms(dist, f)[Flipout], strict=True
    ):
        assert np.all(ours <= theirs * (1 + 1e-12))


def test_flipout_is_not_always_better_than_shared_noise():
    """Two nearly orthogonal examples, and most of the noise in one weight: shared noise correlates them negatively."""
    dist = Normal([[0.0], [0.0]], np.log([[1.0], [0.1]]))
    f = SquaredError([[1.0, 1.0], [1.0, -1.1]], [[0.0], [0.0]])
    found = exactly(dist, f, 3)
    assert found[Pathwise][1][:2].sum() < 0.99 * found[Flipout][1][:2].sum()
    # With one scale for all weights it cannot be: the excess of shared noise is a sum of squares.
    alike = closed_forms(Normal(dist.loc, [[0.0], [0.0]]), f)
    assert alike[Flipout][0].sum() <= alike[Pathwise][0].sum()


@pytest.mark.parametrize("estimator", [Flipout(), LocalReparameterization()], ids=repr)
def test_noise_and_signs_are_drawn_as_they_are_integrated(estimator, key):
    """The second moment would show signs or noise that examples share and must not."""
    problem = PROBLEMS.create("bayesian-linear", batch=8, inputs=2, units=2)
    run = jax.jit(jax.vmap(lambda key: flat(estimator.gradient(key, problem.dist, problem.f))))
    found = np.asarray(run(jax.random.split(key, 40_000)))
    truth = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(problem.truth().gradient)])
    forms = closed_forms(problem.dist, problem.f)
    expected = np.concatenate([np.ravel(part) for part in forms[type(estimator)]])
    assert_mean_equals((found - truth) ** 2 / expected, np.ones(8), detects=0.2)
    other = np.concatenate([np.ravel(part) for part in forms[Pathwise]])
    assert np.max(np.abs(other / expected - 1)) > 0.5


def test_an_example_without_inputs_has_no_noise():
    f = SquaredError([[0.0, 0.0], [1.0, 2.0]], [[1.0], [1.0]])
    grads = independent(small_dist(), f, jnp.ones((1, 2, 1)))
    only = independent(small_dist(), SquaredError([[1.0, 2.0]], [[1.0]]), jnp.ones((1, 1, 1)))
    assert np.linalg.norm(only[0, :2]) > 1
    # The other example has the error -1 whatever the weights, and no part in their gradient.
    np.testing.assert_allclose(grads, only / 2, rtol=1e-12)


def test_what_does_not_fit_is_refused_with_a_reason():
    layer = SquaredError(INPUTS, TARGETS)
    for estimator, name in ((Flipout(), "Flipout"), (LocalReparameterization(), "LocalReparameterization")):
        reason = incompatibility(estimator, small_dist(), lambda x: x.sum())
        assert reason == f"`{name}` needs a linear layer objective, and `function` does not declare to be one."
        reason = incompatibility(estimator, Bernoulli(logits=[[0.0], [1.0]]), layer)
        assert reason == f"`{name}` needs a `Normal` distribution, and `Bernoulli` is not one."
    assert incompatibility(Pathwise(), small_dist(), layer) is None
