"""DisARM-SB and DisARM-Tree, summed over all pairs of bits.

An estimate depends on the noise of a bit through three intervals of its uniform variable: both one or both zero, or
either of two ways to differ. One point of each, for every bit of every variable, is all of the noise.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from categorical_tables import (
    EXTREME,
    FIVE,
    ONE,
    SKEWED,
    TWO,
    Table,
    assert_unbiased,
    at,
    probabilities,
    table,
)
from prescribed import moments, prescribed_estimates

from estimators import Bernoulli, Categorical, DisARM, incompatibility
from estimators.stick_breaking import (
    DisARMStickBreaking,
    DisARMTree,
    antithetic_difference,
    balanced,
    reordered,
    stick,
)

BOTH = [DisARMStickBreaking(), DisARMTree()]
each = pytest.mark.parametrize("estimator", BOTH, ids=["SB", "Tree"])


def form(estimator, logits):
    """The tree of an estimator, and its order of the categories."""
    categories = logits.shape[-1]
    if isinstance(estimator, DisARMTree):
        return balanced(categories), jnp.broadcast_to(jnp.arange(categories), logits.shape)
    return stick(categories), jnp.argsort(logits, axis=-1)


def pulled_back(estimator):
    """Estimates of one pair as a function of its noise."""

    def estimate(dist, f, noise):
        tree, order = form(estimator, dist.logits)
        _, pullback = jax.vjp(lambda d: tree.logits(reordered(d.logits, order)), dist)
        return pullback(antithetic_difference(tree, dist, f, noise, order))[0]

    return estimate


def all_bits(estimator):
    """Wrong only in its variance: DisARM on every bit, whether it shows in the events or not."""

    def estimate(dist, f, noise):
        tree, order = form(estimator, dist.logits)
        alpha, pullback = jax.vjp(lambda d: tree.logits(reordered(d.logits, order)), dist)
        bits = Bernoulli(alpha)
        b, mirrored = (bits.harden(bits.perturb(sign * noise)) for sign in (1, -1))
        values = [f(reordered(tree.event(side), jnp.argsort(order, axis=-1))) for side in (b, mirrored)]
        return pullback(0.5 * (values[0] - values[1]) * jax.nn.sigmoid(jnp.abs(alpha)) * (b - mirrored))[0]

    return estimate


def pair(estimator):
    """The two events, in place of an estimate."""

    def estimate(dist, f, noise):
        tree, order = form(estimator, dist.logits)
        bits = Bernoulli(tree.logits(reordered(dist.logits, order)))
        events = [tree.event(bits.harden(bits.perturb(sign * noise))) for sign in (1, -1)]
        return Categorical(jnp.stack([reordered(x, jnp.argsort(order, axis=-1)) for x in events]))

    return estimate


# One function each, for `at` compiles a program for each.
ESTIMATE, WASTEFUL, PAIR = ({type(e): make(e) for e in BOTH} for make in (pulled_back, all_bits, pair))


def noises(estimator, logits):
    """Noise and its probability, for every combination of intervals."""
    tree, order = form(estimator, jnp.asarray(logits))
    q = 1 / (1 + np.exp(-np.asarray(tree.logits(reordered(jnp.asarray(logits), order)))))
    edges = np.stack([0 * q, np.minimum(q, 1 - q), np.maximum(q, 1 - q), 0 * q + 1], axis=-1).reshape(-1, 4)
    u = np.array(list(itertools.product(*(edges[:, 1:] + edges[:, :-1]) / 2)))
    weights = np.prod(list(itertools.product(*np.diff(edges))), axis=1)
    return jnp.asarray((np.log(u) - np.log1p(-u)).reshape(-1, *q.shape)), weights


def summed(estimate, estimator, logits, f):
    noise, weights = noises(estimator, logits)
    return weights, np.asarray(at(Categorical(logits), f, estimate[type(estimator)], noise))


@each
@pytest.mark.parametrize("logits", [ONE, SKEWED, EXTREME, TWO, FIVE], ids=["one", "skewed", "extreme", "two", "five"])
def test_the_mean_over_all_pairs_is_the_gradient(estimator, logits):
    assert_unbiased(logits, table(logits), *summed(ESTIMATE, estimator, logits, table(logits)))


@each
@pytest.mark.parametrize("logits", [TWO, FIVE], ids=["two", "five"])
def test_it_is_the_mean_of_disarm_on_all_bits_given_the_pair(estimator, logits):
    """So their variances differ by the mean variance given the pair."""
    f = table(logits)
    weights, estimates = summed(ESTIMATE, estimator, logits, f)
    _, wasteful = summed(WASTEFUL, estimator, logits, f)
    _, pairs = summed(PAIR, estimator, logits, f)
    groups, group = np.unique(pairs.reshape(len(pairs), -1), axis=0, return_inverse=True)
    totals = np.zeros((len(groups), *logits.shape))
    np.add.at(totals, group, weights.reshape(-1, 1, 1) * wasteful)
    given_the_pair = totals / np.bincount(group, weights)[:, None, None]
    np.testing.assert_allclose(estimates, given_the_pair[group], rtol=1e-9, atol=1e-12)
    _, of_all_bits = moments(weights, wasteful)
    np.testing.assert_allclose(
        of_all_bits,
        moments(weights, estimates)[1] + np.tensordot(weights, (wasteful - estimates) ** 2, axes=1),
        rtol=1e-9,
    )
    assert of_all_bits.sum() > 1.02 * moments(weights, estimates)[1].sum()


@each
def test_both_events_of_a_pair_have_the_law_of_the_events(estimator):
    weights, pairs = summed(PAIR, estimator, TWO, table(TWO))
    p = probabilities(TWO)
    joint = np.multiply.outer(p[0], p[1])
    for member in (0, 1):
        np.testing.assert_allclose(
            np.einsum("p,pi,pj->ij", weights, *pairs[:, member].swapaxes(0, 1)), joint, rtol=1e-12
        )


def test_events_of_broken_sticks_coincide_in_the_most_probable_category_only():
    _, pairs = summed(PAIR, BOTH[0], FIVE, table(FIVE))
    same = pairs[np.all(pairs[:, 0] == pairs[:, 1], axis=(1, 2)), 0, 0]
    assert len(same) > 0 and np.all(np.argmax(same, axis=1) == np.argmax(FIVE))


@each
def test_two_categories_are_disarm_pair_by_pair(estimator):
    logits = np.array([[0.2, -0.9], [1.4, 1.6]])
    f = Table(jnp.array([[0.3, -1.0], [2.0, 0.7]]))
    noise = np.random.default_rng(0).logistic(size=(9, 2))
    estimates = at(Categorical(logits), f, ESTIMATE[type(estimator)], jnp.asarray(noise)[..., None])
    # Whether the bit stands for the first category, or for the rarer one.
    first = isinstance(estimator, DisARMTree) | (logits[:, 0] < logits[:, 1])
    noise = np.where(first, noise, -noise)[:, None]
    keys = jax.random.split(jax.random.key(0), 1)
    disarm, _ = prescribed_estimates(DisARM(), None, logits[:, 0] - logits[:, 1], jnp.asarray(noise), OfBits(f), keys)
    np.testing.assert_allclose(estimates, np.stack([disarm, -disarm], axis=-1), rtol=1e-12, atol=1e-15)


class OfBits(eqx.Module):
    """A function of two categories each, as one of bits."""

    f: Table

    def __call__(self, x):
        return self.f(jnp.stack([x, 1 - x], axis=-1))


def test_numbering_the_categories_otherwise_numbers_the_estimates_of_broken_sticks_otherwise():
    numbers, f = np.array([3, 0, 4, 2, 1]), table(FIVE)
    _, estimates = summed(ESTIMATE, BOTH[0], FIVE, f)
    _, others = summed(ESTIMATE, BOTH[0], FIVE[:, numbers], Table(f.values[numbers]))
    np.testing.assert_allclose(others, estimates[..., numbers], rtol=1e-11, atol=1e-14)


def test_the_trees_have_one_node_less_than_leaves_and_every_leaf_an_own_way():
    for categories in (1, 2, 3, 6, 16, 30):
        for tree in (stick(categories), balanced(categories)):
            assert tree.ones.shape == tree.zeros.shape == (categories - 1, categories)
            assert not np.any(tree.ones & tree.zeros)
            ways = np.concatenate([tree.ones, tree.zeros]).T
            assert len(np.unique(ways, axis=0)) == categories
        depths = np.sum(balanced(categories).ones | balanced(categories).zeros, axis=0)
        assert set(depths) <= {np.floor(np.log2(categories)), np.ceil(np.log2(categories))}


@each
def test_an_event_is_as_probable_as_its_bits(estimator):
    """The product along the way, to rounding, and the derivative of its logarithm; at logits up to 50 too."""
    eye = jnp.eye(5)
    tree, order = form(estimator, jnp.asarray(FIVE[0]))

    @jax.jit
    def log_probs(logits):
        alpha = tree.logits(reordered(logits, order))
        return tree.on_the_way(eye) @ -jax.nn.softplus(alpha) + (eye @ tree.ones.T) @ alpha

    jacobian = jax.jit(jax.jacobian(log_probs))
    for scale in (1.0, 40.0):
        p = probabilities(scale * FIVE[0])
        np.testing.assert_allclose(log_probs(scale * FIVE[0]), np.log(p)[order], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(jacobian(scale * FIVE[0]), np.eye(5)[order] - p, rtol=1e-9, atol=1e-13)


@each
def test_pairs_are_averaged(estimator):
    f, dist, several = table(TWO), Categorical(TWO), type(estimator)(num_pairs=3)
    noise = jax.random.logistic(jax.random.key(3), (3, 2, 2))
    # As many as there are draws in all, for the program that is compiled.
    estimates = at(dist, f, ESTIMATE[type(estimator)], jnp.tile(noise, (27, 1, 1)))
    grads = eqx.filter_jit(several.gradient)(jax.random.key(3), dist, f).logits
    np.testing.assert_allclose(grads, np.mean(estimates, axis=0), rtol=1e-12, atol=1e-15)
    assert several.evaluations(dist) == 6


@each
def test_what_does_not_fit_is_refused_with_a_reason(estimator):
    family = type(estimator)
    with pytest.raises(
        ValueError, match=rf"`{family.__name__}` needs `num_pairs >= 1`, got 0; one pair is two samples"
    ):
        family(num_pairs=0)
    reason = incompatibility(estimator, Bernoulli(logits=[0.0]), jnp.sum)
    assert reason == f"`{family.__name__}` needs a `Categorical` distribution, and `Bernoulli` is not one."
