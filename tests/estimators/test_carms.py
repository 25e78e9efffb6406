"""CARMS, summed over all that the copula and the orders can do.

A sample depends on its uniform variable through the interval that it falls into, and the copula's distribution function
at the corners of the boxes of `n` intervals gives their probabilities by differences. One point of each box is all of
the noise.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_law, assert_mean_equals
from categorical_tables import (
    EXTREME,
    FIVE,
    ONE,
    SKEWED,
    TWO,
    Table,
    assert_unbiased,
    events,
    exact_gradient,
    probabilities,
    table,
)
from prescribed import moments, prescribed_estimates

from estimators import Bernoulli, Categorical, DisARM, incompatibility
from estimators.carms import (
    CARMSInverseCDF,
    CARMSStickBreaking,
    both_below,
    broken_sticks,
    inverse_cdf,
    orders,
    pairwise_gradient,
    uniforms,
)

both = pytest.mark.parametrize("family", [CARMSInverseCDF, CARMSStickBreaking])
every = jnp.vectorize(inverse_cdf, signature="(c),(n),()->(n,c),(n,n)")


@eqx.filter_jit
def run(family, logits, f, *drawn):
    """For each draw, the categories of the samples, the ratios of each two, and the estimate."""

    def one(*draw):
        x, ratios = every(jax.nn.softmax(logits), *draw) if family is CARMSInverseCDF else broken_sticks(logits, *draw)
        return jnp.argmax(x, axis=-1), ratios, pairwise_gradient(f, x, ratios).logits

    return jax.vmap(one)(*drawn)


def boxes(edges, num_samples):
    """A point of every box of `num_samples` intervals, and the box's probability under the copula."""
    corners = np.array(list(itertools.product(edges, repeat=num_samples)))
    power = num_samples - 1
    below = np.maximum(1 - np.sum(1 - corners ** (1 / power), axis=1), 0) ** power
    below = below.reshape([len(edges)] * num_samples)
    for axis in range(num_samples):
        below = np.diff(below, axis=axis)
    return np.array(list(itertools.product((edges[1:] + edges[:-1]) / 2, repeat=num_samples))), below.ravel()


def product(rules):
    """Draws and probabilities of independent variables."""
    draws, weights = zip(*rules, strict=True)
    indices = np.array(list(itertools.product(*map(range, map(len, weights)))))
    weights = np.prod([w[i] for w, i in zip(weights, indices.T, strict=True)], axis=0)
    return np.stack([d[i] for d, i in zip(draws, indices.T, strict=True)], axis=1), weights


def orders_and_boxes(p, num_samples):
    """The uniform variables of the samples of one variable and the number of the order, as one draw."""
    table, draws, weights = np.sort(p)[orders(len(p))], [], []
    for number, row in enumerate(table):
        u, probability = boxes(np.array([0.0, *np.cumsum(row)[:-1], 1.0]), num_samples)
        draws.append(np.append(u, np.full((len(u), 1), number), axis=1))
        weights.append(probability / len(table))
    return np.concatenate(draws), np.concatenate(weights)


def bits(p, num_samples):
    """The uniform variables of the bits of one variable."""
    p = np.sort(p)
    q = (p / np.cumsum(p[::-1])[::-1])[:-1]
    return product([boxes(np.array([0.0, each, 1.0]), num_samples) for each in q])


def draws(family, logits, num_samples):
    """Everything that the estimator draws, and the probabilities."""
    rule = orders_and_boxes if family is CARMSInverseCDF else bits
    drawn, weights = product([rule(p, num_samples) for p in probabilities(logits)])
    if family is CARMSInverseCDF:
        return (jnp.asarray(drawn[..., :-1]), jnp.asarray(drawn[..., -1].astype(int))), weights
    return (jnp.asarray(drawn),), weights


def summed(family, logits, num_samples, f, dtype=float):
    """The probabilities of all draws, and what `run` makes of them."""
    drawn, weights = draws(family, logits, num_samples)
    drawn = [draw.astype(dtype) if draw.dtype == float else draw for draw in drawn]
    made = run(family, jnp.asarray(logits, dtype), f, *drawn)
    return weights, *(np.asarray(each) for each in made)


@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_the_copula_has_uniform_margins_and_the_joint_law_that_it_says(key, num_samples):
    u = np.asarray(uniforms(key, (20_000, num_samples), np.dtype(float)))
    np.testing.assert_allclose(np.sum(1 - u ** (1 / (num_samples - 1)), axis=1), 1, rtol=1e-12)
    assert_law(u, lambda u: u, detects=0.04)
    a, b = np.array([0.2, 0.5, 0.7, 0.9]), np.array([0.6, 0.7, 0.9, 0.4])
    below = (u[:, :1] < a) & (u[:, -1:] < b)
    assert_mean_equals(below, both_below(jnp.asarray(a), jnp.asarray(b), num_samples), detects=0.03)


@both
@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_the_mean_over_all_draws_is_the_gradient(family, num_samples):
    """Of rare categories too, which a ratio that is clipped or smoothed gets wrong."""
    for logits in (ONE, SKEWED, EXTREME):
        weights, _, _, estimates = summed(family, logits, num_samples, table(logits))
        assert_unbiased(logits, table(logits), weights, estimates)


@both
@pytest.mark.parametrize("num_samples", [2, 3])
def test_the_mean_over_two_variables_is_the_gradient(family, num_samples):
    """A function of both, each of them with the ratio of its own categories."""
    weights, _, _, estimates = summed(family, TWO, num_samples, table(TWO))
    assert_unbiased(TWO, table(TWO), weights, estimates)


@both
@pytest.mark.parametrize(
    "logits, num_samples",
    [(ONE, 2), (SKEWED, 2), (FIVE, 2), (ONE, 3), (SKEWED, 3)],
    ids=lambda value: str(np.size(value)),
)
def test_the_ratio_is_that_of_independent_pairs_to_the_pairs_drawn(family, logits, num_samples):
    """Any two categories meet, each sample has its law, and the joint law is the one that the ratio is made of."""
    weights, categories, ratios, estimates = summed(family, logits, num_samples, table(logits))
    assert_unbiased(logits, table(logits), weights, estimates)
    p, number = probabilities(logits)[0], logits.shape[-1]
    for sample in range(num_samples):
        np.testing.assert_allclose(np.bincount(categories[:, 0, sample], weights, number), p, rtol=1e-11)
    for i, j in itertools.permutations(range(number), 2):
        these = (categories[:, 0, 0] == i) & (categories[:, 0, 1] == j)
        assert weights[these].sum() > 0
        np.testing.assert_allclose(ratios[these, 0, 0, 1], p[i] * p[j] / weights[these].sum(), rtol=1e-9)


@both
@pytest.mark.parametrize("num_samples", [2, 3])
def test_no_ratio_exceeds_its_bound(family, num_samples):
    """In single precision, and where two categories are too rare to be told from none."""
    bound = 3 if family is CARMSInverseCDF else {2: 1, 3: 4 / 3}[num_samples]
    for logits in (ONE, EXTREME, np.array([[-30.0, 8.0, -31.0]])):
        _, categories, ratios, _ = summed(family, logits, num_samples, table(logits), np.float32)
        different = categories[..., :, None] != categories[..., None, :]
        assert ratios.dtype == np.float32 and np.all(np.isfinite(ratios))
        assert ratios[different].max() <= bound * (1 + 1e-6)


def test_some_pairs_never_meet_in_one_order():
    """So that it takes all orders to find the gradient."""
    f, exact = table(ONE), exact_gradient(ONE, table(ONE))
    weights, categories, _, estimates = summed(CARMSInverseCDF, ONE, 2, f)
    biases, missing = [], []
    for order in np.split(np.arange(len(weights)), 3):
        biases.append(3 * np.tensordot(weights[order], estimates[order], axes=1) - exact)
        met = np.zeros((3, 3))
        np.add.at(met, tuple(categories[order, 0].T), weights[order])
        missing.append(np.sum(met[~np.eye(3, dtype=bool)] < 1e-15))
    assert all(number > 0 for number in missing)
    assert all(np.abs(bias).max() > 0.01 for bias in biases)
    np.testing.assert_allclose(np.mean(biases, axis=0), 0, atol=1e-14)


def leave_one_out(logits, f):
    """Mean and variance of two independent samples."""
    (x, p), values = events(logits), np.asarray(f.values).ravel()
    estimates = 0.5 * (values[:, None] - values)[..., None, None] * (x[:, None] - x[None])
    return moments(np.multiply.outer(p, p).ravel(), estimates.reshape(-1, *logits.shape))


@pytest.mark.parametrize("logits", [ONE, SKEWED, FIVE], ids=["one", "skewed", "five"])
def test_a_pair_of_broken_sticks_is_never_worse_than_an_independent_one(logits):
    """For one variable, whatever the function: the second moment of a term has the ratio, at most one, for a factor."""
    for seed in range(3):
        weights, _, _, estimates = summed(CARMSStickBreaking, logits, 2, table(logits, seed))
        _, variance = leave_one_out(logits, table(logits, seed))
        assert np.all(moments(weights, estimates)[1] < variance)


def test_pairs_of_equally_probable_categories():
    """Broken sticks draw two of them without replacement, which takes a third of the second moment away; the inverse
    distribution function draws two of three independently, and is leave-one-out."""
    logits, f = np.zeros((1, 3)), table(ONE)
    mean, variance = leave_one_out(logits, f)
    weights, _, ratios, same = summed(CARMSInverseCDF, logits, 2, f)
    np.testing.assert_allclose(moments(weights, same)[1], variance, rtol=1e-11)
    weights, categories, ratios, less = summed(CARMSStickBreaking, logits, 2, f)
    assert weights[categories[:, 0, 0] == categories[:, 0, 1]].sum() < 1e-15
    np.testing.assert_allclose(moments(weights, less)[1], 2 / 3 * (variance + mean**2) - mean**2, rtol=1e-11)


class OfBits(eqx.Module):
    """A function of two categories each, as one of bits."""

    f: Table

    def __call__(self, x):
        return self.f(jnp.stack([x, 1 - x], axis=-1))


@both
def test_two_categories_are_disarm_or_arms_draw_by_draw(family):
    logits, f = np.array([[0.2, -0.9], [1.4, 1.6]]), Table(jnp.array([[0.3, -1.0], [2.0, 0.7]]))
    difference = logits[:, 0] - logits[:, 1]
    rarer = np.where(difference < 0, 1.0, -1.0)
    for num_samples in (2, 5):
        u = np.asarray(uniforms(jax.random.key(1), (9, 2, num_samples), np.dtype(float)))
        drawn = (u, np.zeros((9, 2), int)) if family is CARMSInverseCDF else (u[:, :, None],)
        estimates = run(family, jnp.asarray(logits), f, *map(jnp.asarray, drawn))[-1]
        # The bit of the first category: one for a small `u` if that is the rarer, and zero if not.
        p = 1 / (1 + np.exp(np.abs(difference)))
        first = np.where(rarer[:, None] > 0, u < p[:, None], u >= p[:, None]).astype(float)
        values = np.asarray(jax.vmap(jax.vmap(OfBits(f)))(jnp.asarray(first.swapaxes(1, 2))))
        deviations = (values - values.mean(axis=1, keepdims=True))[:, None] / (num_samples - 1)
        both_one = np.maximum(2 * p ** (1 / (num_samples - 1)) - 1, 0) ** (num_samples - 1)
        arms = np.sum(deviations * first, axis=-1) * p * (1 - p) / (p - both_one)
        np.testing.assert_allclose(estimates, np.stack([arms, -arms], axis=-1), rtol=1e-9, atol=1e-13)
        if num_samples == 2:
            noise = rarer * (np.log1p(-u[..., 0]) - np.log(u[..., 0]))
            keys = jax.random.split(jax.random.key(0), 1)
            disarm, _ = prescribed_estimates(DisARM(), None, difference, jnp.asarray(noise)[:, None], OfBits(f), keys)
            np.testing.assert_allclose(estimates[..., 0], disarm, rtol=1e-9, atol=1e-13)


@both
def test_an_estimate_is_made_of_draws_of_the_copula(family):
    """Fresh ones for each variable, and one order for all samples of it."""
    estimator, f = family(num_samples=3), table(TWO)
    grads = eqx.filter_jit(estimator.gradient)(jax.random.key(5), Categorical(TWO), f).logits
    if family is CARMSInverseCDF:
        key_uniforms, key_order = jax.random.split(jax.random.key(5))
        drawn = [uniforms(key_uniforms, (2, 3), np.dtype(float)), jax.random.randint(key_order, (2,), 0, 3)]
    else:
        drawn = [uniforms(jax.random.key(5), (2, 2, 3), np.dtype(float))]
    # As many copies as there are draws in all, for the program that is compiled.
    number = len(draws(family, TWO, 3)[1])
    copies = (jnp.broadcast_to(draw, (number, *draw.shape)) for draw in drawn)
    np.testing.assert_allclose(run(family, jnp.asarray(TWO), f, *copies)[-1][0], grads, rtol=1e-11)
    assert estimator.evaluations(Categorical(TWO)) == 3


@both
def test_what_does_not_fit_is_refused_with_a_reason(family):
    with pytest.raises(ValueError, match=rf"`{family.__name__}` needs `num_samples >= 2`, got 1; a sample is compared"):
        family(num_samples=1)
    reason = incompatibility(family(), Bernoulli(logits=[0.0]), jnp.sum)
    assert reason == f"`{family.__name__}` needs a `Categorical` distribution, and `Bernoulli` is not one."
