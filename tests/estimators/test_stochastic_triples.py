"""Stochastic triples, summed over the event and the alternative that is kept."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counts import (
    ALL,
    BERNOULLI,
    BINOMIAL,
    CATEGORICAL,
    GEOMETRIC,
    POISSON,
    drawing,
    leaf,
    outcomes,
    prescribed,
    tangled,
    truth,
)
from prescribed import counted_evaluations, moments

from estimators import GO, Bernoulli, Normal, StochasticTriples, incompatibility
from estimators.stochastic_triples import jumps

families = pytest.mark.parametrize("index", range(len(ALL)), ids=[type(dist).__name__ for dist in ALL])


def enumerated(estimator, dist, f):
    """Chances and estimates, axes (event, alternative): each alternative in turn is the one that is drawn."""
    events, probabilities, draws = outcomes(dist)
    number = 2 * int(np.prod(dist.variables))

    def one(draw, choice):
        seen = []

        def categorical(key, logits):
            seen.append(logits)
            return choice

        with drawing(draw), mock.patch.object(jax.random, "categorical", categorical):
            grads = estimator.gradient(jax.random.key(0), dist, f)
        (logits,) = seen
        # Without any alternative the choice means nothing: all are as likely.
        logits = jnp.where(jnp.any(jnp.isfinite(logits)), logits, 0.0)
        return jax.nn.softmax(logits)[choice], grads

    over = jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None)))
    chances, grads = over(jnp.asarray(draws), jnp.arange(number))
    return events, probabilities, np.asarray(chances), leaf(grads)


@functools.cache
def of_family(index):
    """What `enumerated` says of the estimator on one of the distributions; several tests look at it."""
    return enumerated(StochasticTriples(), ALL[index], tangled)


def assert_unbiased(dist, events, probabilities, chances, grads):
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    weights = probabilities[:, None] * chances
    exact = leaf(truth(dist, tangled, events))
    np.testing.assert_allclose(np.tensordot(weights, grads, axes=2), exact, rtol=1e-10, atol=1e-12)


@families
def test_the_mean_over_events_and_alternatives_is_the_gradient(index):
    assert_unbiased(ALL[index], *of_family(index))


class Unpruned(StochasticTriples):
    """Wrong on purpose: the weight of the alternative that was kept, in place of all."""

    def gradient(self, key, dist, f):
        key_x, key_alternative = jax.random.split(key)
        x = dist.sample(key_x)
        up, _ = jumps(dist, x)
        chosen = jax.random.categorical(key_alternative, jnp.log(jnp.concatenate([up.logits, 0 * up.logits])))
        change = jax.vmap(f)(dist.neighbours(x, 1)) - f(x)
        return Bernoulli(jnp.where(jnp.arange(x.size) == chosen, up.logits * change, 0.0))


def test_the_weight_of_one_alternative_alone_is_rejected():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(BERNOULLI, *enumerated(Unpruned(), BERNOULLI, tangled))


@families
def test_given_the_event_the_mean_is_the_sum_over_all_alternatives(index):
    """Each with its own weight; so pruning adds variance and changes no mean."""
    dist, (events, probabilities, chances, grads) = ALL[index], of_family(index)
    mean = np.einsum("na,na...->n...", chances, grads)

    @jax.jit
    @jax.vmap
    def every(x):
        total = 0.0
        for rates, direction in zip(jumps(dist, x), (1, -1), strict=True):
            change = jax.vmap(tangled)(dist.neighbours(x, direction).reshape(-1, *x.shape)) - tangled(x)
            (rates,) = jax.tree.leaves(rates)
            total = total + rates * change.reshape(*dist.variables, *(1 for _ in rates.shape[len(dist.variables) :]))
        return total

    np.testing.assert_allclose(mean, every(jnp.asarray(events)), rtol=1e-9, atol=1e-12)
    _, kept_all = moments(probabilities, mean)
    _, pruned = moments((probabilities[:, None] * chances).ravel(), grads.reshape(-1, *grads.shape[2:]))
    assert np.all(pruned >= kept_all * (1 - 1e-9))


@pytest.mark.parametrize("index", [0, 1, 4], ids=["Bernoulli", "Binomial", "Poisson"])
def test_where_probability_flows_upwards_the_mean_given_the_event_is_go(index):
    dist, (_, _, chances, grads) = ALL[index], of_family(index)
    others = leaf(prescribed(GO(), dist, tangled, outcomes(dist)[2]))
    np.testing.assert_allclose(np.einsum("na,na...->n...", chances, grads), others, rtol=1e-9, atol=1e-12)


def test_weights_of_the_paper():
    """As a logit grows: `x / (p (1 - p))` downwards for a geometric variable and `(N - x) / (1 - p)` upwards for a binomial
    one, in the probability; upwards with weight one in the rate of a Poisson variable."""
    x = jnp.array([2.0, 0.0])
    p = 1 / (1 + np.exp(-np.asarray(GEOMETRIC.logits)))
    up, down = jumps(GEOMETRIC, x)
    np.testing.assert_allclose(down.logits / (p * (1 - p)), x / (p * (1 - p)), rtol=1e-12)
    np.testing.assert_array_equal(up.logits, 0)
    p = 1 / (1 + np.exp(-np.asarray(BINOMIAL.logits)))
    up, down = jumps(BINOMIAL, x)
    np.testing.assert_allclose(up.logits / (p * (1 - p)), (3 - x) / (1 - p), rtol=1e-12)
    np.testing.assert_array_equal(down.logits, 0)
    up, down = jumps(POISSON, x)
    np.testing.assert_allclose(up.log_rate / np.exp(POISSON.log_rate), 1, rtol=1e-12)
    np.testing.assert_array_equal(down.log_rate, 0)


def test_a_category_is_left_towards_the_one_whose_logit_grows():
    """Never from the category itself, upwards for those above it, downwards for those below."""
    events = CATEGORICAL.support()
    up, down = (leaf(weights) for weights in jax.jit(jax.vmap(lambda x: jumps(CATEGORICAL, x)))(events))
    here = np.argmax(np.asarray(events), axis=-1)[..., None]
    np.testing.assert_array_equal(up > 0, np.arange(4) > here)
    np.testing.assert_array_equal(down > 0, np.arange(4) < here)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_closed_form_variance_on_one_bit(p):
    """In the logit; in the probability it is `D^2 p / (1 - p)`."""
    difference = -1.4
    dist = Bernoulli(np.log([p / (1 - p)]))
    _, probabilities, chances, grads = enumerated(StochasticTriples(), dist, lambda x: 0.3 + difference * x[0])
    mean, variance = moments((probabilities[:, None] * chances).ravel(), grads.reshape(-1, 1))
    np.testing.assert_allclose(mean, [p * (1 - p) * difference], rtol=1e-12)
    np.testing.assert_allclose(variance, [(p * (1 - p) * difference) ** 2 * p / (1 - p)], rtol=1e-11)


def test_declared_evaluations_are_the_calls_of_f():
    dist = CATEGORICAL
    assert counted_evaluations(StochasticTriples(), dist) == StochasticTriples().evaluations(dist) == 2


def test_continuous_variables_are_refused():
    reason = incompatibility(StochasticTriples(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`StochasticTriples` needs an ordered distribution, and `Normal` is not one."
