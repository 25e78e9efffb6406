"""Bernoulli, Categorical and Normal against scipy and numpyro: densities, derivatives, laws, supports, quadrature rules.

The oracles share no code with the distributions. Statistical assertions are those of `calibrated`, and each is also shown to reject a
law that is wrong by what it claims to detect.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as oracle
import pytest
from calibrated import assert_law, assert_mean_equals
from hypothesis import given, settings, strategies
from scipy import special, stats

from estimators import AbstractEnumerable, Bernoulli, Categorical, Normal
from estimators.base import draw, score

SHAPES = [(), (3,), (2, 3)]
LOGITS = np.linspace(-2.0, 1.5, 6)


def bernoulli(shape, dtype=jnp.float64):
    return Bernoulli(jnp.asarray(LOGITS[: math.prod(shape)].reshape(shape), dtype))


def categorical(shape, dtype=jnp.float64):
    """`shape` is that of the independent variables; three categories."""
    size = 3 * math.prod(shape)
    return Categorical(jnp.asarray(np.sin(np.arange(size) * 1.7).reshape(*shape, 3), dtype))


def normal(shape, dtype=jnp.float64):
    leaves = LOGITS[: math.prod(shape)].reshape(shape)
    return Normal(jnp.asarray(leaves, dtype), jnp.asarray(0.3 * leaves[..., ::-1] if shape else 0.2, dtype))


FAMILIES = [bernoulli, categorical, normal]


def numpyro_log_prob(dist, x):
    """The log-density of the whole event by numpyro."""
    if isinstance(dist, Bernoulli):
        return jnp.sum(oracle.Bernoulli(logits=dist.logits).log_prob(x))
    if isinstance(dist, Categorical):
        return jnp.sum(oracle.Categorical(logits=dist.logits).log_prob(jnp.argmax(x, axis=-1)))
    return jnp.sum(oracle.Normal(dist.loc, jnp.exp(dist.log_scale)).log_prob(x))


def scipy_log_prob(dist, x):
    """The log-density of the whole event by scipy."""
    if isinstance(dist, Bernoulli):
        return stats.bernoulli.logpmf(x, special.expit(dist.logits)).sum()
    if isinstance(dist, Categorical):
        return stats.multinomial.logpmf(x, 1, special.softmax(dist.logits, axis=-1)).sum()
    return stats.norm.logpdf(x, dist.loc, np.exp(dist.log_scale)).sum()


@jax.jit
def by_both(dist, key):
    """A sample, and its log-density with the gradient, by `dist` and by numpyro."""
    x = dist.sample(key)
    return x, (dist.log_prob(x), score(dist, x)), jax.value_and_grad(numpyro_log_prob)(dist, x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_log_prob_and_its_gradient(family, shape, key):
    dist = family(shape)
    x, ours, theirs = by_both(dist, key)
    assert x.shape == dist.event_shape == shape + ((3,) if family is categorical else ())
    assert ours[0].shape == ()
    np.testing.assert_allclose(ours[0], scipy_log_prob(dist, np.asarray(x)), rtol=1e-12)
    for leaf, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-10, atol=1e-12)


def over_the_support(dist):
    """Every event with its log-probability and score, in float64."""
    return [np.asarray(array, np.float64) for array in _over_the_support(dist)]


@jax.jit
def _over_the_support(dist):
    events = dist.support()
    return events, jax.vmap(dist.log_prob)(events), jax.vmap(lambda x: score(dist, x).logits)(events)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_extreme_logits_are_finite_and_right(dtype):
    """To rounding in the units of the logits: at logit 10, ten times that of the result."""
    tolerance = 8 * float(jnp.finfo(dtype).eps)
    logits = np.array([-10.0, 10.0])
    events, log_probs, scores = over_the_support(Bernoulli(jnp.asarray(logits, dtype)))
    exact = special.log_expit((2 * events - 1) * logits).sum(axis=1)
    np.testing.assert_allclose(log_probs, exact, rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_allclose(scores, events - special.expit(logits), rtol=0, atol=tolerance)
    for probabilities in ([0.98, 0.01, 0.01], special.softmax([-10.0, 0.0, 10.0])):
        events, log_probs, scores = over_the_support(Categorical(jnp.log(jnp.asarray(probabilities, dtype))))
        np.testing.assert_allclose(log_probs, events @ np.log(probabilities), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(scores, events - np.asarray(probabilities), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_everything_keeps_the_precision_of_the_leaves(family, dtype):
    def everything(dist, keys):
        x = dist.sample(keys[0])
        made = [x, dist.log_prob(x), score(dist, x), dist.noise(keys[1]), dist.weak_derivative(keys[2])]
        if isinstance(dist, Normal):
            return made + [dist.reparameterize(x), dist.nodes(5)]
        z = dist.perturb(x)
        smooth = [z, dist.conditional(x, z), dist.relax(z, jnp.asarray(0.5, dtype)), dist.harden(z), dist.mean()]
        return made + smooth + [dist.support()]

    made = jax.eval_shape(everything, family((2,), dtype), jax.random.split(jax.random.key(0), 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(dtype)}


@jax.jit
def draw_many(key, dist):
    return draw(key, dist, 160_000)


def assert_joint_frequencies(dist, xs, detects):
    """Every event of the support occurs as often as scipy says, and nothing else occurs."""
    events = np.asarray(dist.support())
    hits = _code(xs)[:, None] == _code(events)
    assert np.all(hits.sum(axis=1) == 1), "A sample lies outside the support."
    assert_mean_equals(hits, [math.exp(scipy_log_prob(dist, event)) for event in events], detects)


def _code(events):
    """Events in {0, 1} as integers."""
    flat = np.asarray(events).reshape(len(events), -1)
    return flat @ 2 ** np.arange(flat.shape[1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    "dist, wrong",
    [
        (Bernoulli(jnp.array([-1.0, 0.5])), Bernoulli(jnp.array([-1.0, 0.58]))),
        (
            Categorical(jnp.array([[0.0, 1.0, -1.0], [0.3, 0.0, 0.8]])),
            Categorical(jnp.array([[0.0, 1.0, -1.0], [0.4, 0.0, 0.8]])),
        ),
    ],
    ids=["bernoulli", "categorical"],
)
def test_samples_of_a_finite_support(dist, wrong, dtype, key):
    xs = draw_many(key, jax.tree.map(lambda leaf: leaf.astype(dtype), dist))
    assert_joint_frequencies(dist, xs, detects=0.012)
    with pytest.raises(AssertionError, match="Off by"):
        assert_joint_frequencies(wrong, xs, detects=0.012)


def assert_normal_moments(dist, xs):
    """Means, variances and the covariance of two coordinates, and the whole law of each, after standardising by hand."""
    standard = (np.asarray(xs, np.float64) - np.asarray(dist.loc)) / np.exp(np.asarray(dist.log_scale))
    products = np.stack([standard[:, 0], standard[:, 1], *(standard.T**2), standard[:, 0] * standard[:, 1]], axis=1)
    assert_mean_equals(products, [0, 0, 1, 1, 0], detects=0.03)
    assert_law(standard, stats.norm.cdf, detects=0.012)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_samples_of_the_normal(dtype, key):
    dist = Normal(jnp.asarray([1.0, -2.0], dtype), jnp.asarray([0.5, -1.0], dtype))
    xs = draw_many(key, dist)
    assert_normal_moments(dist, xs)
    for wrong in (Normal(dist.loc + 0.05, dist.log_scale), Normal(dist.loc, dist.log_scale + 0.03)):
        with pytest.raises(AssertionError, match="Off by"):
            assert_normal_moments(wrong, xs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", [bernoulli, categorical], ids=lambda family: family.__name__)
def test_support_lists_every_event_once(family, shape):
    dist = family(shape)
    assert isinstance(dist, AbstractEnumerable)
    events = {tuple(event.ravel()) for event in np.asarray(dist.support())}
    one = [(0.0,), (1.0,)] if family is bernoulli else [tuple(row) for row in np.eye(3)]
    assert events == {sum(parts, ()) for parts in itertools.product(one, repeat=math.prod(shape))}
    assert len(events) == dist.support_size == len(dist.support())
    assert dist.support().shape[1:] == dist.event_shape


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(strategies.lists(strategies.floats(-10, 10), min_size=1, max_size=4), strategies.booleans())
def test_probabilities_sum_to_one_and_scores_average_to_zero(logits, one_hot):
    dist = Categorical(jnp.asarray(logits)) if one_hot else Bernoulli(jnp.asarray(logits))
    _, log_probs, scores = over_the_support(dist)
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-13)
    np.testing.assert_allclose(np.exp(log_probs) @ scores, 0, atol=1e-13)


@pytest.mark.parametrize("shape, resolution", [((), 65), ((1,), 257), ((2,), 65)], ids=str)
def test_nodes_integrate_smooth_functions(shape, resolution):
    """Even moments are double factorials, `E exp(i a e) = exp(-a^2 / 2)` and its second derivative is `-E[e^2 exp(i a e)]`."""
    noise, weights = Normal(jnp.zeros(shape), jnp.zeros(shape)).nodes(resolution)
    assert noise.shape == (resolution ** math.prod(shape), *shape) and weights.shape == noise.shape[:1]
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-12)
    coordinates = np.asarray(noise).reshape(len(noise), -1).T
    for e in coordinates:
        for degree, exact in enumerate([1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945]):
            np.testing.assert_allclose(weights @ e**degree, exact, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(weights @ np.cos(1.7 * e), math.exp(-(1.7**2) / 2), atol=1e-12)
    mixed = np.prod(coordinates**2, axis=0) * np.cos(0.5 * coordinates.sum(axis=0))
    np.testing.assert_allclose(weights @ mixed, (0.75 * math.exp(-0.125)) ** len(coordinates), atol=1e-12)
