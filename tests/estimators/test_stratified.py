"""Stratified and systematic score functions, integrated over the places of the samples in their strata.

An event stays the same while its uniform variable stays between two cumulative probabilities. So the strata are cut
there, an estimate is made of the middle of each piece (of each combination of pieces), and the lengths are the weights.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import counted_evaluations, moments

from estimators import (
    Averaged,
    Bernoulli,
    Categorical,
    Normal,
    StratifiedScoreFunction,
    SystematicScoreFunction,
    incompatibility,
)
from estimators.stratified import AbstractStratified, inverse_distribution

DISTS = {
    "categorical": lambda: Categorical(np.array([0.3, -1.0, 0.8, 0.1])),
    "skewed": lambda: Categorical(np.log([0.97, 0.01, 0.01, 0.01])),
    "bits": lambda: Bernoulli(np.array([-1.0, 0.4])),
    "extreme bits": lambda: Bernoulli(np.array([-10.0, 10.0])),
}
FAMILIES = [StratifiedScoreFunction, SystematicScoreFunction]

on_each = pytest.mark.parametrize("dist", DISTS.values(), ids=DISTS)
of_each = pytest.mark.parametrize("n", [1, 2, 3, 5])


class Placed(AbstractStratified):
    """One of the two, with its offsets written by the test."""

    places: Float[Array, "samples"]
    num_samples: int = eqx.field(static=True)

    unbiased = True
    requires = ()

    def offsets(self, key, dtype):
        return self.places


def tangled(x):
    """A function of any one-hot vector or of bits."""
    return jnp.sin(1 + 2 * x[0] + 3 * x[1] * x[-1]) + x[0] * x[1] - 0.7 * x[-1] + 0.4


def first(x):
    """A function of the first bit only."""
    return 1 + x[0]


@eqx.filter_jit
def compiled(dist, places, f):
    def one(places):
        return Placed(places, len(places)).gradient(jax.random.key(0), dist, f).logits

    return jax.vmap(one)(places)


def estimates(dist, places, f=tangled):
    """One for each of up to eight arrangements of the samples in their strata."""
    padded = np.full((8, places.shape[1]), 0.5)
    padded[: len(places)] = places
    return np.asarray(compiled(dist, jnp.asarray(padded), f))[: len(places)]


@eqx.filter_jit
def table(dist):
    """Probabilities of the events, and `f(x) d/d theta log p(x)` for each."""
    events = dist.support()
    scores = jax.vmap(lambda x: jax.grad(lambda d: d.log_prob(x))(dist).logits)(events)
    return jnp.exp(jax.vmap(dist.log_prob)(events)), jax.vmap(tangled)(events)[:, None] * scores


@eqx.filter_jit
def inverted(dist, u):
    return inverse_distribution(dist, u)


def events_at(dist, u):
    """The events that up to forty uniforms become."""
    padded = np.zeros(40)
    padded[: len(u)] = u
    return np.asarray(inverted(dist, jnp.asarray(padded)))[: len(u)]


def pieces(cuts):
    """Middles and lengths of the pieces of the unit interval between `cuts`."""
    edges = np.unique(np.clip([0, *cuts, 1], 0, 1))
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges)


def stratified(p, n):
    """Places and weights, for independent places."""
    by_stratum = [pieces(np.cumsum(p[:-1]) * n - k) for k in range(n)]
    places = np.array(list(itertools.product(*(middles for middles, _ in by_stratum))))
    return places, np.prod(list(itertools.product(*(lengths for _, lengths in by_stratum))), axis=1)


def systematic(p, n):
    """Places and weights, for one place in all strata."""
    middles, lengths = pieces((np.cumsum(p[:-1]) * n) % 1)
    return np.repeat(middles[:, None], n, axis=1), lengths


def integrated(dist, n, rule):
    p, terms = map(np.asarray, table(dist))
    places, weights = rule(p, n)
    return p, terms, weights, estimates(dist, places)


@pytest.mark.parametrize("rule", [stratified, systematic])
@on_each
@of_each
def test_the_mean_over_all_places_is_the_gradient(rule, dist, n):
    p, terms, weights, found = integrated(dist(), n, rule)
    np.testing.assert_allclose(moments(weights, found)[0], p @ terms, rtol=1e-9, atol=1e-13)


@on_each
@of_each
def test_strata_take_from_the_variance_what_their_means_differ_by(dist, n):
    p, terms, weights, found = integrated(dist(), n, stratified)
    of_score_function = (p @ terms**2 - (p @ terms) ** 2) / n
    edges = np.concatenate([[0], np.cumsum(p)]) * n
    shares = np.array([np.diff(np.clip(edges - k, 0, 1)) for k in range(n)])
    between = np.var(shares @ terms, axis=0) / n
    _, variance = moments(weights, found)
    np.testing.assert_allclose(variance, of_score_function - between, rtol=1e-8, atol=1e-13)
    assert np.all(variance <= of_score_function + 1e-15)


@pytest.mark.parametrize("n", [2, 4])
def test_a_grid_in_step_with_the_integrand_is_no_better_than_one_sample(n):
    """The first bit of two alternates along the support, and `f` sees no other; at `n = 2` the strata are alike."""
    dist = Bernoulli(np.zeros(2))
    np.testing.assert_array_equal(dist.support(), [[0, 0], [1, 0], [0, 1], [1, 1]])

    def variance(rule):
        places, weights = rule(np.full(4, 0.25), n)
        return moments(weights, estimates(dist, places, first))[1][0]

    alone = np.var([1 * -0.5, 2 * 0.5])
    if n == 2:
        np.testing.assert_allclose([variance(systematic), variance(stratified)], [alone, alone / 2], rtol=1e-12)
    else:
        np.testing.assert_allclose([variance(systematic), variance(stratified)], 0, atol=1e-15)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_grid_meets_an_event_as_often_as_it_should_but_for_rounding(n):
    dist = DISTS["categorical"]()
    p, _ = map(np.asarray, table(dist))
    places, _ = systematic(p, n)
    u = (np.arange(n) + places) / n
    counts = events_at(dist, u.ravel()).reshape(*u.shape, 4).sum(axis=1)
    assert np.all((counts == np.floor(n * p)) | (counts == np.ceil(n * p)))


@on_each
def test_the_inverse_distribution_has_the_law(dist):
    dist = dist()
    p, _ = map(np.asarray, table(dist))
    middles, lengths = pieces(np.cumsum(p[:-1]))
    events = events_at(dist, middles)
    found = [lengths[np.all(events == event, axis=-1)].sum() for event in np.asarray(dist.support())]
    np.testing.assert_allclose(found, p, rtol=1e-6, atol=1e-13)


def test_an_event_without_probability_is_never_met():
    """Whatever rounding makes of the largest uniform variable."""
    dist = Categorical(jnp.array([-200.0, 0.0, 0.0, -200.0], jnp.float32))
    ends = jnp.array([0.0, 0.5, 1 - 2**-24, 1.0], jnp.float32)
    events = inverted(dist, ends)
    np.testing.assert_array_equal(np.argmax(events, axis=1), [1, 2, 2, 2])


@pytest.mark.parametrize("family", FAMILIES)
def test_places_are_uniform_and_as_dependent_as_the_name_says(family, key):
    places = jax.jit(jax.vmap(lambda key: family(num_samples=3).offsets(key, jnp.dtype("float64"))))(
        jax.random.split(key, 20_000)
    )
    places = np.asarray(places)
    assert places.min() >= 0 and places.max() < 1
    np.testing.assert_allclose(places.mean(axis=0), 0.5, atol=0.0123)  # six standard errors
    correlation = np.corrcoef(places.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlation, 1 if family is SystematicScoreFunction else 0, atol=0.043)


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluations_and_refusals(family):
    name, dist = family.__name__, DISTS["categorical"]()
    assert counted_evaluations(family(num_samples=3), dist) == family(num_samples=3).evaluations(dist) == 3
    with pytest.raises(ValueError, match=f"`{name}` needs `num_samples >= 1`, got 0"):
        family(num_samples=0)
    reason = incompatibility(family(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == f"`{name}` needs an enumerable distribution, and `Normal` is not one."
    assert incompatibility(family(), Bernoulli(np.zeros(20)), jnp.sum) is None
    reason = incompatibility(family(), Bernoulli(np.zeros(3000)), jnp.sum)
    assert reason == f"`{name}` lists all events, and `Bernoulli` has more than 1048576, which is the limit."
    assert incompatibility(Averaged(family(), 2), Bernoulli(np.zeros(21)), jnp.sum).startswith("`Averaged` lists")
