"""GenGS on prescribed noise, against categories and bits, and where its two biases come from."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counts import BINOMIAL, GEOMETRIC, POISSON, laws, leaf

from estimators import Bernoulli, Binomial, BlackBox, GeneralizedGumbelSoftmax, Geometric, Poisson, incompatibility
from estimators.generalized_gumbel_softmax import relaxed_count, truncated_log_masses

named = pytest.mark.parametrize("dist", [BINOMIAL, GEOMETRIC, POISSON], ids=lambda dist: type(dist).__name__)


def smooth(x):
    """Neither separable nor symmetric."""
    weights = jnp.linspace(-0.6, 1.7, x.size, dtype=x.dtype).reshape(x.shape)
    return jnp.sin(jnp.vdot(weights, x)) + 0.1 * jnp.sum(x) ** 2


@named
@pytest.mark.parametrize("dtype, rtol", [(jnp.float32, 2e-5), (jnp.float64, 1e-10)], ids=["float32", "float64"])
@pytest.mark.parametrize("num_values", [2, 5, 16])
def test_masses_are_those_of_scipy(dist, dtype, rtol, num_values):
    """Small ones too: at a high temperature the root of a mass counts, and that of a rounding error would be seen."""
    masses = np.exp(truncated_log_masses(jax.tree.map(lambda leaf: leaf.astype(dtype), dist), num_values))
    values = np.arange(num_values - 1)
    expected = [[*law.pmf(values), law.sf(num_values - 2)] for law in laws(dist)]
    assert masses.dtype == dtype
    np.testing.assert_allclose(masses, expected, rtol=rtol)
    np.testing.assert_allclose(np.sum(expected, axis=1), 1, rtol=1e-12)


def moved(dist, step):
    """With all parameters larger by `step`."""
    return jax.tree.map(lambda parameter: parameter + step, dist)


@named
@pytest.mark.parametrize("n", [1, 2, 9])
def test_tails_and_their_derivatives_are_those_of_scipy(dist, n):
    tails, slopes = jax.jvp(lambda d: d.log_tail(n), (dist,), (jax.tree.map(jnp.ones_like, dist),))
    below, exact, above = (np.array([law.logsf(n - 1) for law in laws(moved(dist, h))]) for h in (-1e-5, 0, 1e-5))
    np.testing.assert_allclose(tails, exact, rtol=1e-10)
    there = np.isfinite(exact)
    np.testing.assert_allclose(slopes[there], (above[there] - below[there]) / 2e-5, rtol=1e-7)
    # Beyond the support there is nothing to move.
    assert np.all(np.asarray(slopes)[~there] == 0)


@named
def test_an_estimate_is_its_formula(dist, key):
    """`d/dp sum_k k softmax((log pi + e) / t)_k` written out in NumPy, with the derivative of `log pi` by differences."""
    estimator = GeneralizedGumbelSoftmax(temperature=0.7, num_values=6)
    noise = np.asarray(jax.random.gumbel(jax.random.clone(key), (*dist.variables, 6)))
    values = np.arange(6)

    def masses(step):
        return np.array([[*law.pmf(values[:-1]), law.sf(4)] for law in laws(moved(dist, step))])

    pi, change = masses(0), (masses(1e-5) - masses(-1e-5)) / 2e-5
    # Beyond the support the mass is zero and stays so.
    along = np.divide(change, pi, out=np.zeros_like(pi), where=pi > 0)
    weights = np.power(pi, 1 / 0.7) * np.exp(noise / 0.7)
    y = weights / weights.sum(axis=-1, keepdims=True)
    x = y @ values
    slopes = np.sum(y * along * (values - x[:, None]), axis=-1) / 0.7
    expected = np.asarray(jax.grad(smooth)(jnp.asarray(x))) * slopes
    found = eqx.filter_jit(estimator.gradient)(key, dist, smooth)
    np.testing.assert_allclose(leaf(found), expected, rtol=1e-6, atol=1e-9)


def test_one_trial_is_a_relaxed_bit(key):
    """The difference of two Gumbel variables is logistic noise, and the relaxed count is the relaxed bit of that noise."""
    logits = np.array([-1.3, 0.4, 2.0])
    noise = jax.random.gumbel(key, (3, 2))

    def bits(dist):
        return dist.relax(dist.perturb(noise[:, 1] - noise[:, 0]), jnp.asarray(0.4))

    def counts(dist):
        return relaxed_count(dist, noise, jnp.asarray(0.4))

    bit, count = Bernoulli(logits), Binomial(logits, 1)
    np.testing.assert_allclose(counts(count), bits(bit), rtol=1e-10)
    slope, other = jax.grad(lambda d: smooth(counts(d)))(count), jax.grad(lambda d: smooth(bits(d)))(bit)
    np.testing.assert_allclose(slope.logits, other.logits, rtol=1e-9)


def test_cold_counts_are_those_of_the_law_cut_off(key):
    """The argmax of masses with Gumbel noise has the law of the masses: at a low temperature the relaxed count is rounded."""
    dist, draws = Poisson(np.array([0.4])), 20_000
    noise = jax.random.gumbel(key, (draws, 1, 4))
    counts = np.asarray(jax.jit(jax.vmap(lambda e: relaxed_count(dist, e, jnp.asarray(1e-3))))(noise)).ravel()
    (law,) = laws(dist)
    expected = np.array([*law.pmf(np.arange(3)), law.sf(2)])
    shares = np.array([np.mean(np.abs(counts - value) < 1e-3) for value in range(4)])
    assert shares.sum() > 0.99
    assert np.all(np.abs(shares - expected) < 4.5 * np.sqrt(expected * (1 - expected) / draws) + 1 - shares.sum())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_estimates_are_finite(dtype, key):
    """Beyond a support that ends, and at extreme rates."""
    for dist in (
        Binomial(jnp.array([-1.0, 3.0], dtype), 2),
        Poisson(jnp.array([-10.0, 10.0], dtype)),
        Geometric(jnp.array([-10.0, 10.0], dtype)),
    ):
        keys = jax.random.split(jax.random.clone(key), 50)
        found = leaf(jax.vmap(lambda k, dist=dist: GeneralizedGumbelSoftmax().gradient(k, dist, smooth))(keys))
        assert found.dtype == dtype and np.all(np.isfinite(found))


def test_values_beyond_the_support_change_nothing(key):
    """Not at a high temperature either, in the precision of the command line."""
    dist = Binomial(jnp.array([-1.0, 0.4], jnp.float32), 3)
    noise = jax.random.gumbel(key, (2, 24), jnp.float32)
    few, many = (jax.jit(relaxed_count)(dist, noise[:, :n], jnp.asarray(5.0, jnp.float32)) for n in (4, 24))
    np.testing.assert_allclose(many, few, rtol=1e-6)


def test_what_it_needs():
    estimator = GeneralizedGumbelSoftmax()
    reason = incompatibility(estimator, Bernoulli(np.zeros(2)), smooth)
    assert reason == "`GeneralizedGumbelSoftmax` needs a count distribution, and `Bernoulli` is not one."
    assert "differentiable" in incompatibility(estimator, POISSON, BlackBox(smooth))
    for arguments, name in [({"temperature": 0.0}, "temperature"), ({"num_values": 1}, "num_values")]:
        with pytest.raises(ValueError, match=f"needs `{name} >"):
            GeneralizedGumbelSoftmax(**arguments)
