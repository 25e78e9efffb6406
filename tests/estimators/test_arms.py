"""ARMS, summed over every way in which the members of a group may have the rarer bits.

The estimator sees of its copula which members have the rarer value of each bit. So the test deals out all patterns,
weights each by its probability, and mean and variance come out to rounding. The probabilities are the test's own: of
the Dirichlet copula by inclusion and exclusion, of the Gaussian one (of three members, whose scores sum to zero) from
Owen's function. What the copulas deal in fact is held to the same law apart from the estimator.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from jaxtyping import Array, Float
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, prescribed_estimates
from scipy import integrate, special

from estimators import (
    ARMS,
    Averaged,
    Bernoulli,
    DirichletCopula,
    DisARM,
    GaussianCopula,
    LeaveOneOut,
    Normal,
    incompatibility,
)
from estimators.arms import AbstractCopula

LOGITS = np.array([-1.0, 0.4, 1.3])
DIRICHLET, GAUSSIAN = DirichletCopula(), GaussianCopula()
EXACT = [(DIRICHLET, 2), (DIRICHLET, 3), (DIRICHLET, 5), (GAUSSIAN, 2), (GAUSSIAN, 3)]

both = pytest.mark.parametrize("copula", [DIRICHLET, GAUSSIAN], ids=["dirichlet", "gaussian"])
exactly = pytest.mark.parametrize(
    "copula, n", EXACT, ids=lambda value: value if isinstance(value, int) else type(value).__name__
)


class Table(eqx.Module):
    """Any function of three bits: its eight values."""

    values: Float[Array, "8"]

    def __call__(self, x):
        return jnp.vdot(self.values.reshape(2, 2, 2)[tuple(x.astype(int))], 1.0)


def tabulated(f):
    return Table(jax.vmap(f)(jnp.array(list(itertools.product((0.0, 1.0), repeat=3)))))


def tangled(shift=0.0):
    return tabulated(Tangled(shift=shift))


def bit(index, at_zero=0.0, at_one=1.0):
    """A function of one of the bits."""
    return tabulated(lambda x: at_zero + (at_one - at_zero) * x[index])


class Prescribed(AbstractCopula):
    """`copula`, with its noise written by the test."""

    copula: AbstractCopula
    draws: Float[Array, "members *variables"]

    def noise(self, key, shape, dtype):
        assert self.draws.shape == shape
        return self.draws

    def below(self, noise, s):
        return self.copula.below(noise, s)

    def both_below(self, members, s):
        return self.copula.both_below(members, s)


class Dealt(Prescribed):
    """`copula`, with what is below the threshold written by the test, as zeros and ones."""

    def below(self, noise, s):
        return noise > 0


class Uncoupled(Dealt):
    """Independent members, of which the estimator is told the truth."""

    def both_below(self, members, s):
        return s**2


@eqx.filter_jit
def estimates(prescription, copula, logits, draws, f):
    """The estimate that each of `draws` makes, one group of members with its noise or its pattern each."""

    def one(draws):
        estimator = ARMS(num_samples=len(draws), copula=prescription(copula, draws))
        return estimator.gradient(jax.random.key(0), Bernoulli(logits), f).logits

    return jax.vmap(one)(draws)


def all_below(copula, n, number, s):
    """The probability that `number` given members of `n` are below `s`."""
    if isinstance(copula, DirichletCopula):
        return max(1 - number * (1 - s ** (1 / (n - 1))), 0) ** (n - 1)
    assert n <= 3
    pair = s - 2 * special.owens_t(special.ndtri(s), math.sqrt(n / (n - 2)) if n > 2 else math.inf)
    return [1, s, pair, 0][number]


def independently(copula, n, number, s):
    return s**number


def law(copula, n, s, tail=all_below):
    """Every pattern of one variable, and its probability."""
    patterns = np.array(list(itertools.product((0.0, 1.0), repeat=n)))
    tails = [tail(copula, n, number, s) for number in range(n + 1)]

    def probability(rare):
        return sum((-1) ** more * math.comb(n - rare, more) * tails[rare + more] for more in range(n - rare + 1))

    return patterns, np.array([probability(int(pattern.sum())) for pattern in patterns])


def summed(copula, n, logits, f, prescription=Dealt, tail=all_below):
    """Weights and estimates of all patterns of all three variables."""
    laws = [law(copula, n, 1 / (1 + np.exp(abs(logit))), tail) for logit in logits]
    indices = np.array(list(itertools.product(range(2**n), repeat=len(logits))))
    weights = np.prod([laws[i][1][indices[:, i]] for i in range(len(logits))], axis=0)
    patterns = np.stack([laws[i][0][indices[:, i]] for i in range(len(logits))], axis=2)
    return weights, np.asarray(estimates(prescription, copula, logits, patterns, f))


@exactly
@pytest.mark.parametrize("logits", [LOGITS, np.array([-10.0, 10.0, 0.0])], ids=["moderate", "extreme"])
def test_the_mean_over_all_patterns_is_the_gradient(copula, n, logits):
    mean, _ = moments(*summed(copula, n, logits, tangled()))
    np.testing.assert_allclose(mean, exact_gradient(logits, tangled()), rtol=1e-9, atol=1e-14)


@exactly
def test_without_the_factor_of_the_coupling_the_mean_is_another(copula, n):
    mean, _ = moments(*summed(copula, n, LOGITS, tangled(), prescription=Uncoupled))
    assert np.all(np.abs(mean / exact_gradient(LOGITS, tangled()) - 1) > 0.02)


@exactly
def test_a_shift_is_not_seen(copula, n):
    _, plain = summed(copula, n, LOGITS, tangled())
    _, shifted = summed(copula, n, LOGITS, tangled(shift=7.0))
    np.testing.assert_allclose(shifted, plain, atol=1e-13)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@exactly
def test_of_one_bit_it_is_never_worse_than_leave_one_out(copula, n, p):
    """Which is what it becomes, variance included, when the members are independent and it is told so."""
    logits, f, v = np.array([np.log(p / (1 - p)), 0.0, 0.0]), bit(0, 0.3, -1.1), p * (1 - p)
    _, variance = moments(*summed(copula, n, logits, f))
    _, uncoupled = moments(*summed(DIRICHLET, n, logits, f, Uncoupled, independently))
    closed_form = 1.4**2 / n * (v * (1 - 3 * v) - (n - 3) / (n - 1) * v**2)
    np.testing.assert_allclose(uncoupled[0], closed_form, rtol=1e-9)
    assert variance[0] < uncoupled[0]


def test_three_gaussian_members_at_one_half_have_the_gradient_of_one_bit():
    """Their scores sum to zero, so that one or two are positive, always."""
    patterns, weights = law(GAUSSIAN, 3, 0.5)
    np.testing.assert_allclose(weights, np.where(np.ptp(patterns, axis=1) > 0, 1 / 6, 0), atol=1e-15)
    weights, found = summed(GAUSSIAN, 3, np.zeros(3), bit(0, 0.3, -1.1))
    np.testing.assert_allclose(found[weights > 1e-9][:, 0], -1.4 / 4, rtol=1e-12)


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_opposite_values_of_another_bit_may_cost_variance(p):
    """Where `f` sees the second bit only, the first one's coordinate has `2 (1 - p)` times the variance."""
    logits = np.array([np.log(p / (1 - p)), 0.0, 0.0])
    _, variance = moments(*summed(DIRICHLET, 2, logits, bit(1)))
    _, uncoupled = moments(*summed(DIRICHLET, 2, logits, bit(1), Uncoupled, independently))
    np.testing.assert_allclose(variance[0] / uncoupled[0], 2 * (1 - p), rtol=1e-10)


@both
def test_two_members_are_disarm_pair_by_pair(copula):
    """One uniform variable in each of the cells where both estimates are constant; so the laws are the same."""
    p = 1 / (1 + np.exp(-LOGITS))
    edges = [np.array([0, min(q, 1 - q), max(q, 1 - q), 1]) for q in p]
    u = np.array(list(itertools.product(*[(e[1:] + e[:-1]) / 2 for e in edges])))
    noise = [1 - u, u] if copula is DIRICHLET else [special.ndtri(u), -special.ndtri(u)]
    arms = estimates(Prescribed, copula, LOGITS, np.stack(noise, axis=1), tangled())
    # The first member is made of `u` by `b = 1[u < p]` for `p < 1/2`, and by `b = 1[u > 1 - p]` otherwise.
    matched = special.logit(np.where(p < 0.5, 1 - u, u))
    disarm, _ = prescribed_estimates(DisARM(), None, LOGITS, matched[:, None], tangled())
    np.testing.assert_allclose(arms, disarm, rtol=1e-12, atol=1e-15)
    assert np.all(np.ptp(arms, axis=0) > 0)


def broken(n, s):
    """The second share of the stick, given the first one, over all lengths of that above the threshold."""
    c = 1 - s ** (1 / (n - 1))
    density = lambda d: (n - 1) * (1 - d) ** (n - 2) * max(1 - c / (1 - d), 0) ** (n - 2)  # noqa: E731
    return integrate.quad(density, c, max(c, 1 - c), epsabs=1e-14)[0]


def conditioned(n, s):
    """The second score, given the first one, over all values of that below the threshold."""
    h, r = special.ndtri(s), -1 / (n - 1)
    tail = lambda z: special.ndtr((h - r * z) / math.sqrt(1 - r**2))  # noqa: E731
    density = lambda z: np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * tail(z)  # noqa: E731
    return integrate.quad(density, -12, h, epsabs=1e-14)[0]


@pytest.mark.parametrize("copula, expected", [(DIRICHLET, broken), (GAUSSIAN, conditioned)], ids=["stick", "scores"])
def test_the_probability_of_two_below(copula, expected):
    s = np.array([0.5, 0.4999, 0.3, 0.01, 4.5e-5])
    np.testing.assert_array_equal(copula.both_below(2, jnp.array(s)), 0)
    for n in (3, 5, 10):
        found = copula.both_below(n, jnp.array(s))
        np.testing.assert_allclose(found, [expected(n, each) for each in s], rtol=1e-9, atol=1e-17)


@pytest.mark.parametrize("s", [0.5, 0.3, 0.1])
def test_three_shares_of_a_stick_integrated(s):
    """The patterns that the Dirichlet copula makes of the noise, over all of it.

    Given the first share `d` the patterns change where the second, `(1 - d) v`, or the third is the threshold `c`. The
    lengths of the pieces of `v` between times the density `2 (1 - d)` are linear in `d` between its own thresholds.
    """
    c, points, weights = 1 - math.sqrt(s), [], []
    edges = np.unique(np.clip([0, c, 1 - 2 * c, 1 - c, 1], 0, 1))
    for start, end in itertools.pairwise(edges):
        for d in (start + end) / 2 + (end - start) / 2 * np.array([-1, 1]) / math.sqrt(3):
            cuts = np.unique(np.clip([0, c / (1 - d), 1 - c / (1 - d), 1], 0, 1))
            for low, high in itertools.pairwise(cuts):
                v = (low + high) / 2
                points.append([d, (1 - d) * v, (1 - d) * (1 - v)])
                weights.append((end - start) / 2 * 2 * (1 - d) * (high - low))
    below = np.asarray(DIRICHLET.below(7.0 * jnp.array(points).T, jnp.full(len(points), s)))
    patterns, expected = law(DIRICHLET, 3, s)
    found = [np.dot(weights, np.all(below.T == pattern, axis=1)) for pattern in patterns]
    np.testing.assert_allclose(found, expected, atol=1e-14)


@eqx.filter_jit
def dealt(key, copula, n, s):
    noise = copula.noise(key, (n, 2, 100_000), s.dtype)
    return copula.below(noise, jnp.broadcast_to(s[:, None], noise.shape[1:])), copula.both_below(n, s)


@pytest.mark.parametrize("copula, n", [(DIRICHLET, 5), (GAUSSIAN, 3), (GAUSSIAN, 5)], ids=["d-5", "n-3", "n-5"])
def test_members_and_pairs_are_below_as_often_as_they_should_be(copula, n, key):
    """And a member is below in one variable whatever another is in the other."""
    s = jnp.array([0.5, 0.2])
    below, pairs = map(np.asarray, dealt(key, copula, n, s))
    one, other = below[0], below[n - 1]
    seen = [*one, *other, *(one & other), one[0] & one[1], one[0] & other[1]]
    assert_mean_equals(np.stack(seen, axis=1), [*s, *s, *pairs, s[0] * s[1], s[0] * s[1]], detects=0.015)


@both
def test_the_mean_of_five_members_as_drawn(copula, key):
    dist, estimator, f = Bernoulli(LOGITS), ARMS(num_samples=5, copula=copula), tangled()
    estimate = jax.jit(jax.vmap(lambda key: estimator.gradient(key, dist, f).logits))
    found = estimate(jax.random.split(key, 60_000))
    assert_mean_equals(found, exact_gradient(LOGITS, f), detects=0.01)


def test_bits_of_any_shape_are_those_of_a_row():
    @jax.jit
    def estimate(logits):
        estimator, f = ARMS(num_samples=3), Tangled()
        return estimator.gradient(jax.random.key(3), Bernoulli(logits), lambda x: f(jnp.ravel(x))).logits

    np.testing.assert_allclose(estimate(LOGITS.reshape(3, 1))[:, 0], estimate(LOGITS), rtol=1e-12)


@both
def test_the_factor_stays_between_one_half_and_one(copula):
    """In single precision too, where the rarer value underflows."""
    size = jnp.array([0.0, 0.1, 5.0, 10.0, 30.0, 88.0, 200.0], jnp.float32)
    s = jnp.maximum(jax.nn.sigmoid(-size), jnp.finfo(size.dtype).tiny)
    for n in (2, 20):
        factor = s * (1 - s) / (s - copula.both_below(n, s))
        assert factor.dtype == jnp.float32 and np.all((factor >= 0.5) & (factor <= 1))
        np.testing.assert_allclose(factor[4:], 1, rtol=1e-6)


def test_evaluations_and_refusals():
    dist = Bernoulli(logits=LOGITS)
    for estimator in (ARMS(num_samples=3), Averaged(ARMS(num_samples=2, copula=GAUSSIAN), 2)):
        assert counted_evaluations(estimator, dist) == estimator.evaluations(dist)
    assert ARMS(num_samples=3).evaluations(dist) == LeaveOneOut(num_samples=3).evaluations(dist) == 3
    with pytest.raises(ValueError, match="`ARMS` needs `num_samples >= 2`, got 1; use `ScoreFunction` for a single"):
        ARMS(num_samples=1)
    reason = incompatibility(ARMS(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`ARMS` needs a `Bernoulli` distribution, and `Normal` is not one."
