"""ARS and ARSM, integrated over the simplex without error.

The noise of a variable is a uniform point of a simplex. Which events it makes, exchanged or not, changes along lines
through the corners of the triangle, where two shares are in the proportion of two categories; between them an estimate
is linear in the point. So the value at the centre of each cell is its mean, and three points of each triangle give its
second moment too.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from categorical_tables import (
    FIVE,
    ONE,
    SKEWED,
    TWO,
    Table,
    assert_unbiased,
    at,
    exact_gradient,
    table,
)
from jaxtyping import Array, Float
from prescribed import counted_evaluations, moments, prescribed_estimates

from estimators import ARM, Bernoulli, Categorical, incompatibility
from estimators.arsm import ARS, ARSM


class WrittenNoise(Categorical):
    """A categorical whose noise is `written`."""

    written: Float[Array, "*variables categories"]

    def noise(self, key):
        return self.written


def written(estimator):
    """Estimates as a function of the noise and of the seed of a key, which is left to choose the reference."""

    def estimate(dist, f, noise, seed):
        return estimator.gradient(jax.random.key(seed), WrittenNoise(dist.logits, noise), f)

    return estimate


# One function each, for `at` compiles a program for each.
ONE_REFERENCE, MERGED = written(ARS()), written(ARSM())


def split(polygon, line):
    """The parts of a convex polygon on either side of a line through the origin of its coordinates."""
    sides = polygon @ line
    if np.all(sides > -1e-13) or np.all(sides < 1e-13):
        return [polygon]
    parts = ([], [])
    for start, end, a, b in zip(polygon, np.roll(polygon, -1, 0), sides, np.roll(sides, -1), strict=True):
        for sign, part in zip((1, -1), parts, strict=True):
            if sign * a >= 0:
                part.append(start)
            if sign * a < 0 < sign * b or sign * b < 0 < sign * a:
                part.append((b * start - a * end) / (b - a))
    return [np.array(part) for part in parts]


def cells(logits):
    """The triangle of the shares of three categories, cut wherever an event may change."""
    polygons = [np.eye(3)]
    for (a, b), (i, j) in itertools.product(itertools.combinations(range(3), 2), itertools.permutations(range(3), 2)):
        line = np.eye(3)[a] - np.exp(logits[i] - logits[j]) * np.eye(3)[b]
        polygons = [part for polygon in polygons for part in split(polygon, line)]
    return polygons


def triangles(logits):
    """The cells as triangles, and the share of the area of each."""
    fans = [(p[0], p[k], p[k + 1]) for p in cells(logits) for k in range(1, len(p) - 1)]
    areas = np.array([abs(np.linalg.det(np.array(fan))) for fan in fans])
    return np.array(fans)[areas > 1e-15], areas[areas > 1e-15]


def points(logits, degree):
    """Noises and weights for one variable, exact for polynomials of that degree (1 or 2) in each cell."""
    corners, areas = triangles(logits)
    barycentric = np.full((1, 3), 1 / 3) if degree == 1 else np.full((3, 3), 1 / 6) + np.eye(3) / 2
    shares = np.einsum("pk,tkc->tpc", barycentric, corners).reshape(-1, 3)
    return -np.log(shares), np.repeat(areas / len(barycentric), len(barycentric))


def product(logits, degree=1):
    """Noises and weights for independent variables."""
    noises, weights = zip(*(points(row, degree) for row in logits), strict=True)
    return np.array(list(itertools.product(*noises))), np.prod(list(itertools.product(*weights)), axis=1)


def estimates_of(estimate, logits, f, noises, seed=0):
    return np.asarray(at(Categorical(logits), f, estimate, jnp.asarray(noises), jnp.full(len(noises), seed)))


def integrated(estimate, logits, f, degree=1, seed=0):
    noises, weights = product(logits, degree)
    return weights, estimates_of(estimate, logits, f, noises, seed)


class OwnShare(ARSM):
    """Wrong on purpose: the factor of the category and not of the one that it is exchanged with."""

    def gradient(self, key, dist, f):
        factors = 1 - dist.logits.shape[-1] * jax.nn.softmax(-dist.noise(key))
        return Categorical(factors * ARSM.gradient(self, key, dist, f).logits)


def test_the_cells_fill_the_simplex_and_the_events_have_their_law():
    for logits in (ONE[0], SKEWED[0]):
        noises, weights = points(logits, 1)
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
        chosen = np.argmax(logits + noises, axis=1)
        frequencies = np.bincount(chosen, weights, minlength=3)
        np.testing.assert_allclose(frequencies, np.exp(logits) / np.exp(logits).sum(), rtol=1e-11)


@pytest.mark.parametrize("logits", [ONE, SKEWED, TWO], ids=["one", "skewed", "two"])
def test_the_mean_over_all_noise_is_the_gradient(logits):
    f = table(logits)
    for estimate in (MERGED, ONE_REFERENCE):
        assert_unbiased(logits, f, *integrated(estimate, logits, f))


def test_the_factor_of_the_wrong_category_is_rejected():
    weights, estimates = integrated(written(OwnShare()), ONE, table(ONE))
    assert np.abs(np.tensordot(weights, estimates, axes=1) - exact_gradient(ONE, table(ONE))).max() > 0.01


def test_merged_is_the_mean_over_references_each_of_them_unbiased():
    f, merged = table(ONE), integrated(MERGED, ONE, table(ONE), degree=2)[1]
    referred = []
    for seed in range(5):
        weights, estimates = integrated(ONE_REFERENCE, ONE, f, degree=2, seed=seed)
        if not any(np.allclose(estimates, other, atol=1e-9) for other in referred):
            assert_unbiased(ONE, f, weights, estimates)
            referred.append(estimates)
    assert len(referred) == 3
    np.testing.assert_allclose(np.mean(referred, axis=0), merged, rtol=1e-10, atol=1e-13)
    # One draw of all the noise and of the reference, against one of the noise.
    of_ars = moments(np.tile(weights, 3) / 3, np.concatenate(referred))[1]
    assert np.all(moments(weights, merged)[1] < of_ars)


def test_two_categories_are_arm_noise_by_noise():
    logits = np.array([[0.2, -0.9], [1.4, 0.1]])
    noise = np.random.default_rng(0).gumbel(size=(7, 2, 2))
    f = Table(jnp.array([[0.3, -1.0], [2.0, 0.7]]))
    arsm, ars = (estimates_of(estimate, logits, f, noise) for estimate in (MERGED, ONE_REFERENCE))
    # The first category for the value one.
    alone, difference = logits[:, 0] - logits[:, 1], (noise[..., 0] - noise[..., 1])[:, None]
    arm, _ = prescribed_estimates(ARM(), None, alone, difference, OfBits(f), jax.random.split(jax.random.key(0), 1))
    for estimates in (arsm, ars):
        np.testing.assert_allclose(estimates, np.stack([arm, -arm], axis=-1), rtol=1e-12, atol=1e-15)


class OfBits(eqx.Module):
    """A function of two categories each, as one of bits."""

    f: Table

    def __call__(self, x):
        return self.f(jnp.stack([x, 1 - x], axis=-1))


def test_declared_evaluations_are_the_calls_of_f():
    dist = Categorical(FIVE)
    assert counted_evaluations(ARS(), dist) == ARS().evaluations(dist) == 5
    assert counted_evaluations(ARSM(), dist) == ARSM().evaluations(dist) == 11


@pytest.mark.parametrize("family", [ARS, ARSM])
def test_what_does_not_fit_is_refused_with_a_reason(family):
    reason = incompatibility(family(), Bernoulli(logits=[0.0]), jnp.sum)
    assert reason == f"`{family.__name__}` needs a `Categorical` distribution, and `Bernoulli` is not one."
