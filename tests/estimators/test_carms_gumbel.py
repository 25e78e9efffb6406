"""CARMS with Gumbel-max: the probabilities of pairs in closed form, and the mean over all pairs.

The integral for `P(i, j)` is a sum of powers of `a` and `b` over the triangle `a, b < 1 < a + b`, each of which is a
beta function: too many terms for the estimator, and few enough for three categories here.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from categorical_tables import (
    FIVE,
    ONE,
    SKEWED,
    TWO,
    Table,
    assert_unbiased,
    exact_gradient,
    probabilities,
    table,
)
from scipy import special

from estimators import Bernoulli, Categorical, incompatibility
from estimators.carms import pairwise_gradient, uniforms
from estimators.carms_gumbel import CARMSGumbel, pair_ratios, winners

RARE = np.log([[0.3, 0.699, 0.001]])


@eqx.filter_jit
def ratios(pi, num_samples):
    return pair_ratios(pi, num_samples)


def times(first, second):
    """The product of two sums of powers, as coefficients by exponents."""
    product = {}
    for (a, b), (c, d) in itertools.product(first, second):
        exponents = (a + c, b + d)
        product[exponents] = product.get(exponents, 0.0) + first[a, b] * second[c, d]
    return product


def over_the_triangle(powers):
    """The integral of `a^e b^h` is `(1 / (e + 1) - B(e + 1, h + 2)) / (h + 1)`."""
    terms = [c * (1 / (e + 1) - special.beta(e + 1, h + 2)) / (h + 1) for (e, h), c in powers.items()]
    return np.sum(sorted(terms, key=abs))


def joint(pi, num_samples):
    """The probabilities of two samples' categories; the diagonal is what is missing to the marginals."""
    m, r = num_samples - 1, pi / pi.max()
    found = np.zeros((len(pi), len(pi)))
    for i, j in itertools.permutations(range(len(pi)), 2):
        powers = {(r[i] - 1, r[j] - 1): m**2 * r[i] * r[j]}
        for c, each in enumerate(r):
            for _ in range(m - (c in (i, j))):
                powers = times(powers, {(each, 0.0): 1.0, (0.0, each): 1.0, (0.0, 0.0): -1.0})
        found[i, j] = over_the_triangle(powers)
    # What is left may be none, up to rounding.
    return found + np.diag(np.where(np.isclose(pi, found.sum(axis=1), rtol=0, atol=1e-11), 0, pi - found.sum(axis=1)))


@pytest.mark.parametrize(
    "logits, num_samples",
    [
        *[(ONE, 2), (SKEWED, 2), (RARE, 2), (FIVE, 2), (ONE, 3), (SKEWED, 3)],
        *[pytest.param(*more, marks=pytest.mark.slow) for more in [(ONE, 5), (FIVE[:, :4], 4)]],
    ],
    ids=lambda value: str(np.size(value)),
)
def test_ratios_are_those_of_the_closed_form(logits, num_samples):
    pi = probabilities(logits)[0]
    p, found = joint(pi, num_samples), np.asarray(ratios(jnp.asarray(pi), num_samples))
    different = ~np.eye(len(pi), dtype=bool)
    np.testing.assert_allclose(found[different], np.outer(pi, pi)[different] / p[different], rtol=1e-8)
    # Both categories of a pair have their law, so that what is left for equal ones is a probability.
    np.testing.assert_allclose(p, p.T, rtol=1e-8)
    assert np.all(np.diag(p) > -1e-9)


@pytest.mark.parametrize("categories", [3, 50])
def test_two_samples_of_equally_probable_categories_never_agree(categories):
    found = np.asarray(ratios(jnp.full(categories, 1 / categories), 2))
    np.testing.assert_allclose(found[~np.eye(categories, dtype=bool)], 1 - 1 / categories, rtol=1e-8)


@pytest.mark.parametrize("p", [0.5, 0.8, 0.999, 1 - 1e-8])
def test_two_samples_of_two_categories_have_the_factor_of_disarm(p):
    """`sigmoid(|alpha|)`, the larger probability: the rarer category is in one sample or in none."""
    np.testing.assert_allclose(ratios(jnp.array([p, 1 - p]), 2)[0, 1], p, rtol=1e-8)


@eqx.filter_jit
def estimates(xs, made, f):
    """The estimate that each group of samples makes, with the ratio of each of its pairs."""
    return jax.vmap(lambda x, ratio: pairwise_gradient(f, x, ratio).logits)(xs, made)


@pytest.mark.parametrize("logits", [ONE, SKEWED, RARE, TWO], ids=["one", "skewed", "rare", "two"])
def test_the_mean_over_all_pairs_is_the_gradient(logits):
    """A function of both variables, if there are two, each of them with the ratio of its own categories."""
    variables, categories = logits.shape
    laws = [joint(pi, 2) for pi in probabilities(logits)]
    made = [np.asarray(ratios(jnp.asarray(pi), 2)) for pi in probabilities(logits)]
    pairs = list(itertools.product(itertools.product(range(categories), repeat=2), repeat=variables))
    weights = np.array([np.prod([law[pair] for law, pair in zip(laws, each, strict=True)]) for each in pairs])
    index = np.array(pairs)
    ratio = np.stack([made[v][index[:, v, :, None], index[:, v, None, :]] for v in range(variables)], axis=1)
    found = estimates(jnp.eye(categories)[index], jnp.asarray(ratio), table(logits))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    assert_unbiased(logits, table(logits), weights, np.asarray(found))


@pytest.mark.parametrize("num_samples", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_the_mean_of_a_pair_of_more_samples_is_the_gradient(num_samples):
    """A group is the mean over its pairs, so the law of one pair is all there is to know."""
    pi, f = probabilities(ONE)[0], table(ONE)
    weight = joint(pi, num_samples) * np.asarray(ratios(jnp.asarray(pi), num_samples))
    difference = np.asarray(f.values)[:, None] - np.asarray(f.values)
    gaps = np.eye(3)[:, None] - np.eye(3)
    found = np.einsum("ij,ij,ijc->c", weight, difference, gaps) / 2
    np.testing.assert_allclose(found, exact_gradient(ONE, f)[0], rtol=1e-8)


def test_winners_are_the_maxima_of_coupled_gumbel_noise():
    u = np.asarray(uniforms(jax.random.key(4), (500, 2, 3, 4), np.dtype(float)))
    parts = jax.random.exponential(jax.random.key(4), (500, 2, 3, 4))
    expected = np.argmax(TWO[None, :, :, None] - np.log(-np.log(u)), axis=2)
    found = jax.jit(jax.vmap(winners, in_axes=(0, None)))(parts, jnp.asarray(TWO))
    np.testing.assert_array_equal(np.argmax(found, axis=-1), expected)
    assert set(expected.ravel()) == {0, 1, 2}


@pytest.mark.parametrize("num_samples", [2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_pairs_are_drawn_as_often_as_the_ratio_says(num_samples, key):
    parts = jax.random.exponential(key, (40_000, 3, num_samples))
    drawn = np.argmax(jax.jit(jax.vmap(winners, in_axes=(0, None)))(parts, jnp.asarray(ONE[0])), axis=-1)
    pairs = np.eye(3)[drawn[:, 0], :, None] * np.eye(3)[drawn[:, -1], None, :]
    assert_mean_equals(pairs, joint(probabilities(ONE)[0], num_samples), detects=0.025)


def test_single_precision_and_the_rarest_categories():
    logits = np.array([-100.0, 8.0, 7.5, -30.0, -101.0])
    double, single = (ratios(jax.nn.softmax(jnp.asarray(logits, dtype)), 2) for dtype in (float, np.float32))
    assert single.dtype == np.float32 and np.all(np.isfinite(single))
    np.testing.assert_allclose(single, double, rtol=1e-5)


def test_an_estimate_is_made_of_draws_of_the_copula():
    f: Table = table(TWO)
    grads = eqx.filter_jit(CARMSGumbel(num_samples=3).gradient)(jax.random.key(5), Categorical(TWO), f).logits
    x = winners(jax.random.exponential(jax.random.key(5), (2, 3, 3)), jnp.asarray(TWO))
    made = jnp.stack([ratios(jnp.asarray(pi), 3) for pi in probabilities(TWO)])
    ratio = jnp.einsum("vkc,vcd,vld->vkl", x, made, x)
    np.testing.assert_allclose(grads, pairwise_gradient(f, x, ratio).logits, rtol=1e-11)
    assert CARMSGumbel(num_samples=3).evaluations(Categorical(TWO)) == 3


def test_what_does_not_fit_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="`CARMSGumbel` needs `num_samples >= 2`, got 1; a sample is compared"):
        CARMSGumbel(num_samples=1)
    reason = incompatibility(CARMSGumbel(), Bernoulli(logits=[0.0]), jnp.sum)
    assert reason == "`CARMSGumbel` needs a `Categorical` distribution, and `Bernoulli` is not one."
