"""Finite differences: integrated over the common noise, their mean is the difference of the two expectations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from counts import (
    BERNOULLI,
    BINOMIAL,
    CATEGORICAL,
    laws,
    leaf,
    outcomes,
    prescribed,
    product,
    tangled,
)
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from prescribed import counted_evaluations, moments

from estimators import (
    AbstractDistribution,
    Bernoulli,
    Categorical,
    FiniteDifference,
    Geometric,
    Normal,
    Pathwise,
    Poisson,
    incompatibility,
)


def ends(dist, step):
    """The distributions at the two ends of each parameter, and at the centre."""
    centre, rebuild = ravel_pytree(dist)
    moved = [(rebuild(centre + e), rebuild(centre - e)) for e in step * np.eye(centre.size)]
    return moved, rebuild(centre)


def expected(dist, f, step):
    """`(L(theta + h e_i) - L(theta - h e_i)) / 2 h`, each expectation a sum over the support."""

    moved, centre = ends(dist, step)
    events = outcomes(centre)[0] if isinstance(dist, Categorical) else widest(moved)
    values = np.asarray(jax.jit(jax.vmap(f))(events))

    def expectation(dist):
        if isinstance(dist, Categorical):
            return outcomes(dist)[1] @ values
        flat = events.reshape(len(events), -1).T
        return np.prod([law.pmf(x) for law, x in zip(laws(dist), flat, strict=True)], axis=0) @ values

    differences = [(expectation(plus) - expectation(minus)) / (2 * step) for plus, minus in moved]
    return np.reshape(differences, leaf(dist).shape)


def widest(moved):
    """Events that carry all of the mass at every one of the ends."""
    columns = zip(*(laws(dist) for pair in moved for dist in pair), strict=True)
    counts = [np.arange(max(law.ppf(1 - 1e-15) for law in column) + 1) for column in columns]
    return product(counts).reshape(-1, *moved[0][0].event_shape)


def common_noise(dist, step):
    """Weights and middles of the intervals of the uniform variables on which no event changes at any of the ends."""
    moved, centre = ends(dist, step)
    columns = []
    for index in range(leaf(dist).size):
        functions = [laws(d)[index] for d in (*moved[index], centre)]
        edges = [law.cdf(np.arange(law.ppf(1 - 1e-15))) for law in functions]
        # A bit is one where the uniform variable is large, as a count is large: the distribution functions are the edges.
        edges = np.unique(np.concatenate([[0.0, 1.0], *edges]))
        columns.append(np.stack([np.diff(edges), (edges[1:] + edges[:-1]) / 2], axis=1))
    weights, middles = np.moveaxis(product(columns), -1, 0)
    return np.prod(weights, axis=1), middles.reshape(-1, *dist.event_shape)


CASES = {
    "bernoulli": BERNOULLI,
    "binomial": BINOMIAL,
    "geometric": Geometric(np.array([0.7])),
    "poisson": Poisson(np.array([0.9])),
    "two-poisson": Poisson(np.array([-2.0, -0.4])),
}


def assert_exact(estimator, dist, step):
    weights, noise = common_noise(dist, step)
    mean, _ = moments(weights, leaf(prescribed(estimator, dist, tangled, noise)))
    np.testing.assert_allclose(mean, expected(dist, tangled, step), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dist", CASES.values(), ids=CASES)
def test_the_mean_is_the_difference_of_the_expectations(dist):
    assert_exact(FiniteDifference(step=0.3), dist, 0.3)


class OneSided(FiniteDifference):
    """Wrong on purpose: the step once, where the ends are two steps apart."""

    def gradient(self, key, dist, f):
        return jax.tree.map(lambda leaf: 2 * leaf, FiniteDifference.gradient(self, key, dist, f))


@pytest.mark.parametrize("wrong", [OneSided(step=0.3), FiniteDifference(step=0.31)], ids=["factor", "step"])
def test_wrong_factors_and_steps_are_rejected(wrong):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_exact(wrong, BERNOULLI, 0.3)


def test_the_mean_on_one_hot_events(key):
    """By Monte Carlo: the noise has no intervals."""
    exact = expected(CATEGORICAL, tangled, 0.5)
    keys = jax.random.split(key, 60_000)
    grads = jax.jit(jax.vmap(lambda key: FiniteDifference(step=0.5).gradient(key, CATEGORICAL, tangled)))(keys)
    assert_mean_equals(grads.logits, exact, detects=0.1 * np.linalg.norm(exact))


@pytest.mark.parametrize("step", [0.1, 0.5])
def test_closed_form_variance_on_one_bit(step):
    """The ends differ with probability `d = p(logit + h) - p(logit - h)`: variance `D^2 d (1 - d) / 4 h^2`."""
    logit, difference = 0.7, -1.4
    dist = Bernoulli(np.array([logit]))
    weights, noise = common_noise(dist, step)
    grads = leaf(prescribed(FiniteDifference(step), dist, lambda x: 0.3 + difference * x[0], noise))
    mean, variance = moments(weights, grads)
    apart = 1 / (1 + np.exp(-logit - step)) - 1 / (1 + np.exp(-logit + step))
    np.testing.assert_allclose(mean, [difference * apart / (2 * step)], rtol=1e-11)
    np.testing.assert_allclose(variance, [difference**2 * apart * (1 - apart) / (4 * step**2)], rtol=1e-10)


@pytest.mark.parametrize("step", [0.01, 0.3])
def test_closed_form_on_a_normal_by_quadrature(step):
    """`(x - k)^2` has no third derivative along `loc`, and the expectation `exp(2 log_scale)` along `log_scale`."""
    loc, log_scale, k = 1.0, 0.2, -1.5
    dist = Normal(loc=[loc], log_scale=[log_scale])
    noise, weights = dist.nodes(257)

    @jax.jit
    @jax.vmap
    def estimates(noise):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Normal, "noise", lambda self, key: noise)
            return FiniteDifference(step).gradient(jax.random.key(0), dist, lambda x: jnp.sum((x - k) ** 2))

    grads = estimates(noise)
    np.testing.assert_allclose(weights @ grads.loc, [2 * (loc - k)], rtol=1e-10)
    grown = np.exp(2 * log_scale) * np.sinh(2 * step) / step
    np.testing.assert_allclose(weights @ grads.log_scale, [grown], rtol=1e-10)


@pytest.mark.parametrize("step", [0.2, 0.8])
def test_closed_form_of_the_bias_on_a_cosine_by_quadrature(step):
    """`E[cos k x] = cos(k loc) exp(-(k scale)^2 / 2)`: along `loc` the gradient times `sin(k h) / (k h)`."""
    loc, scale, k = 1.0, 0.8, 2.0
    dist = Normal(loc=[loc], log_scale=[np.log(scale)])
    noise, weights = dist.nodes(257)

    @jax.jit
    @jax.vmap
    def estimates(noise):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Normal, "noise", lambda self, key: noise)
            return FiniteDifference(step).gradient(jax.random.key(0), dist, lambda x: jnp.sum(jnp.cos(k * x)))

    def expectation(grown):
        return np.cos(k * loc) * np.exp(-((k * scale * grown) ** 2) / 2)

    grads = estimates(noise)
    along_loc = -k * np.sin(k * loc) * np.exp(-((k * scale) ** 2) / 2)
    np.testing.assert_allclose(weights @ grads.loc, [along_loc * np.sin(k * step) / (k * step)], rtol=1e-10)
    along_log_scale = (expectation(np.exp(step)) - expectation(np.exp(-step))) / (2 * step)
    np.testing.assert_allclose(weights @ grads.log_scale, [along_log_scale], rtol=1e-10)


def test_the_bias_is_of_second_order():
    """A step of half the size has a quarter of the bias: `h^2 / 6` times the third derivative."""
    p = 1 / (1 + np.exp(-0.7))
    dist, f = Bernoulli(np.array([0.7])), lambda x: x[0]
    third = p * (1 - p) * (1 - 6 * p * (1 - p))
    for step in (1e-1, 5e-2):
        weights, noise = common_noise(dist, step)
        mean, _ = moments(weights, leaf(prescribed(FiniteDifference(step), dist, f, noise)))
        np.testing.assert_allclose(mean - p * (1 - p), [third * step**2 / 6], rtol=0.01)


def test_a_small_step_on_smooth_events_is_the_pathwise_estimator():
    dist = Normal(loc=np.array([0.7, -1.2]), log_scale=np.array([-0.3, 0.4]))

    @jax.jit
    def both():
        return [e.gradient(jax.random.key(3), dist, tangled) for e in (FiniteDifference(step=1e-4), Pathwise())]

    difference, pathwise = both()
    for one, other in zip(jax.tree.leaves(difference), jax.tree.leaves(pathwise), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("dist", [BINOMIAL, CATEGORICAL], ids=["Binomial", "Categorical"])
def test_declared_evaluations_are_the_calls_of_f(dist):
    evaluations = 2 * leaf(dist).size
    assert counted_evaluations(FiniteDifference(), dist) == FiniteDifference().evaluations(dist) == evaluations


@pytest.mark.parametrize("step", [0.0, -0.1])
def test_a_step_must_be_positive(step):
    with pytest.raises(ValueError, match="`FiniteDifference` needs `step > 0`, got"):
        FiniteDifference(step=step)


class Uniform(AbstractDistribution):
    """A distribution that declares nothing beyond samples and a density."""

    width: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    @property
    def event_shape(self):
        return ()

    def sample(self, key):
        return self.width * jax.random.uniform(key)

    def log_prob(self, x):
        return -jnp.log(self.width)


def test_a_distribution_that_hides_its_noise_is_refused():
    reason = incompatibility(FiniteDifference(), Uniform(1.0), jnp.sum)
    assert reason == "`FiniteDifference` needs a transformable distribution, and `Uniform` is not one."
