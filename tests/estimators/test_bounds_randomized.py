"""Bounds truncated at random, summed over the level; their second moments, and what the diagnostics say of the tails; ranks.

The level has few values, so that the mean and the second moment over it are sums. The samples are prescribed: any noise will do.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import FALSE_ALARM
from scipy import stats
from scripted_normal import product_rule, scripted

from benchmarks import PROBLEMS, measure
from benchmarks.harness import stream_key
from estimators import (
    ESTIMATORS,
    MLMC,
    SUMO,
    BlackBox,
    BoundPathwise,
    BoundStickingTheLanding,
    ImportanceWeightedBound,
    JackknifeBound,
    Normal,
    TailAdaptive,
    incompatibility,
)
from estimators.bounds_randomized import survivals

SLOW = pytest.mark.slow
Q = Normal(np.array([0.4]), np.array([-0.2]))
RANDOMIZED = [SUMO(), MLMC(), MLMC(stop=0.35)]


def log_joint(z):
    return -0.5 * jnp.sum((z - 1.0) ** 2) + 0.3 * jnp.sum(jnp.cos(z))


def posterior(z):
    """What `Q` is the posterior of: all log-weights are 0.7."""
    return 0.7 + Q.log_prob(z)


def noise_of(number):
    return np.random.default_rng(number).standard_normal((number, 1))


def orders(number):
    """Every order of the samples that exchanging the halves of halves makes, as far as they can be halved."""
    if number % 2:
        return [list(range(number))]
    first = orders(number // 2)
    second = [[number // 2 + i for i in order] for order in first]
    return [one + other for a in first for b in second for one, other in ((a, b), (b, a))]


@eqx.filter_jit
def at_every_level(estimator, noise, dist, f):
    """`[levels, leaves]`."""
    levels = jnp.arange(len(estimator.probabilities(f.num_samples)))
    grads = jax.vmap(lambda level: estimator.at_level(level, noise, dist, f))(levels)
    return jnp.concatenate([grads.loc, grads.log_scale], axis=1)


def expected(estimator, noise, dist, f):
    """The mean over the level."""
    return np.asarray(estimator.probabilities(f.num_samples)) @ np.asarray(at_every_level(estimator, noise, dist, f))


@eqx.filter_jit
def of_noise(estimator, noise, dist, f):
    grads = estimator.gradient(jax.random.key(0), scripted(dist, noise), f)
    return jnp.concatenate([grads.loc, grads.log_scale])


def close(found, expected, rtol=1e-10):
    np.testing.assert_allclose(found, np.broadcast_to(expected, np.shape(found)), rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("number", [2, 5, pytest.param(84, marks=SLOW)])
def test_the_mean_of_sumo_over_its_level_is_the_pathwise_gradient_of_the_same_samples(number):
    f, noise = ImportanceWeightedBound(log_joint, number), noise_of(number)
    close(expected(SUMO(), noise, Q, f), of_noise(BoundPathwise(), noise, Q, f))


@pytest.mark.parametrize("estimator, number", [(MLMC(), 2), (MLMC(), 3), (MLMC(), 6), (MLMC(stop=0.35), 8)])
def test_the_mean_of_mlmc_over_its_level_and_the_order_is_the_pathwise_gradient(estimator, number):
    """A level compares with halves of its own samples, so the telescope closes on the average over who is in which half."""
    f, noise = ImportanceWeightedBound(log_joint, number), noise_of(number)
    close(
        np.mean([expected(estimator, noise[order], Q, f) for order in orders(number)], axis=0),
        of_noise(BoundPathwise(), noise, Q, f),
    )


@pytest.mark.parametrize("estimator", RANDOMIZED)
def test_one_sample_is_the_evidence_bound(estimator):
    f, noise = ImportanceWeightedBound(log_joint, 1), noise_of(1)
    (found,) = np.asarray(at_every_level(estimator, noise, Q, f))
    z = float(Q.loc[0] + Q.scale[0] * noise[0, 0])
    slope = -(z - 1) - 0.3 * math.sin(z)
    close(found, [slope, slope * float(Q.scale[0]) * noise[0, 0] + 1])


def test_an_estimate_is_that_of_its_level_and_noise():
    """The first half of the key makes the noise, the second the level."""
    f = ImportanceWeightedBound(log_joint, 4)

    @jax.jit
    def both(key):
        made = [e.gradient(key, Q, f) for e in RANDOMIZED[1:2]]
        key_noise, key_level = jax.random.split(key)
        noise = jax.vmap(Q.noise)(jax.random.split(key_noise, 4))
        levels = [survivals(key_level, e.chances(4)) for e in RANDOMIZED[1:2]]
        return made, [e.at_level(level, noise, Q, f) for e, level in zip(RANDOMIZED[1:2], levels, strict=True)]

    with jax.debug_key_reuse(False):
        made, expected = both(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, made, expected)


@pytest.mark.parametrize("estimator", RANDOMIZED[:2])
def test_levels_are_drawn_as_often_as_they_are_said_to_be(estimator):
    number, draws = 128, 20_000
    keys = jax.random.split(jax.random.key(1), draws)
    levels = np.asarray(jax.jit(jax.vmap(lambda key: survivals(key, estimator.chances(number))))(keys))
    law = np.asarray(estimator.probabilities(number))
    close(law.sum(), 1.0)
    counts, means = np.bincount(levels, minlength=len(law)), law * draws
    rare = means < 20
    if rare.any():
        counts, means = (np.append(a[~rare], a[rare].sum()) for a in (counts, means))
    assert stats.chi2.sf(np.sum((counts - means) ** 2 / means), len(means) - 1) > FALSE_ALARM
    drawn = np.asarray(estimator.samples(jnp.arange(len(law)), number))
    close(estimator.expected_samples(number), drawn @ law)


def test_the_law_of_sumo_is_that_of_the_paper():
    law = np.asarray(SUMO().probabilities(120))
    reached = np.cumsum(law[::-1])[::-1]
    k = np.arange(1, 120)
    close(reached[1:], np.where(k <= 80, 1 / k, 0.9 ** (k - 80.0) / 80), rtol=1e-8)


def test_where_all_weights_are_equal_no_correction_has_a_value():
    """And that of two antithetic halves has no gradient either: what is left of `MLMC` is the mean over the samples that it drew."""
    log_weights = jnp.full(16, 0.7)
    for estimator in RANDOMIZED[:2]:
        levels = jnp.arange(len(estimator.probabilities(16)))
        close(jax.jit(jax.vmap(lambda level, e=estimator: e.combined(log_weights, level)))(levels), 0.7)
    noise = noise_of(16)
    found = at_every_level(MLMC(), noise, Q, ImportanceWeightedBound(posterior, 16))
    scores = np.concatenate([noise / np.asarray(Q.scale), noise**2 - 1], axis=1)
    close(found, -np.stack([scores[: 2**level].mean(axis=0) for level in (1, 2, 3, 4)]))


def second_moment_at_the_posterior(estimator, number):
    """Over the level and the noise, in units of that of one score: the gradient in `loc` is linear in the noise there, with
    coefficients that unit noises find."""
    f = ImportanceWeightedBound(posterior, number)
    units = jnp.eye(number)[:, :, None]
    found = eqx.filter_jit(jax.vmap(lambda noise: at_every_level(estimator, noise, Q, f)[:, 0]))(units) * Q.scale[0]
    return np.asarray(estimator.probabilities(number)) @ np.sum(np.asarray(found) ** 2, axis=0)


@pytest.mark.parametrize("number", [2, 8, *(pytest.param(more, marks=SLOW) for more in (81, 100))])
def test_the_variance_of_sumo_grows_with_the_harmonic_number_and_then_exponentially(number):
    """By the sum over all levels; two samples have half of what one has, and a hundred more."""
    k = np.arange(1, number)
    further = np.where(k <= 80, k, 80 * 0.9 ** (80.0 - k))
    found = second_moment_at_the_posterior(SUMO(), number)
    close(found, 1 + np.sum((further - 2) / (k * (k + 1))), rtol=1e-8)
    if number <= 81:
        close(found, np.sum(1 / np.arange(1, number + 1)) - 2 + 2 / number, rtol=1e-8)


def test_that_of_mlmc_is_the_mean_of_one_over_what_is_drawn():
    estimator = MLMC()
    law = np.asarray(estimator.probabilities(16))
    close(second_moment_at_the_posterior(estimator, 16), law @ 0.5 ** np.arange(1, 5))


def second_moment(estimator, number):
    """Of all leaves, over the level exactly, for three hundred common noises of the problem `conjugate-iwae`."""
    problem = PROBLEMS.create("conjugate-iwae", num_samples=number)
    noise = jnp.asarray(np.random.default_rng(0).standard_normal((300, 64, 1))[:, :number])
    found = eqx.filter_jit(jax.vmap(lambda e: at_every_level(estimator, e, problem.dist, problem.f)))(noise)
    squares = np.mean(np.sum(np.asarray(found) ** 2, axis=2), axis=0)
    return squares @ np.asarray(estimator.probabilities(number))


@SLOW
def test_elsewhere_too_the_second_moment_of_sumo_grows():
    """With the logarithm of the number of samples as long as the level is harmonic; that of `MLMC` does not."""
    sumo, mlmc = (np.array([second_moment(e, number) for number in (4, 16, 64)]) for e in (SUMO(), MLMC()))
    assert np.all(np.diff(sumo) > 4)
    assert mlmc.max() < 1.5 * mlmc.min()


@SLOW
@pytest.mark.parametrize(
    "name, arguments, flagged",
    [
        ("sumo", {"num_samples": 128}, True),
        ("sumo", {"num_samples": 1024}, True),
        ("mlmc", {"num_samples": 128, "stretch": 0.5}, True),
        ("mlmc", {"num_samples": 128}, False),
        ("bound-pathwise", {"num_samples": 128}, False),
    ],
)
def test_heavy_tails_are_flagged(name, arguments, flagged):
    """`SUMO` however light the weights are; `MLMC` where they have a tail like `w ** (-4 / 3)`, and then only."""
    with jax.enable_x64(False):
        problem = PROBLEMS.create("conjugate-iwae", **arguments)
        made = measure(ESTIMATORS.create(name), problem, stream_key(0, "tails"), replicates=4_000)
    assert made.summary()["heavy_tailed"] == flagged


def path_slopes(noise):
    """The derivatives of the log-weights of `log_joint` along the path, in `loc` and `log_scale`, and the log-weights; in NumPy."""
    loc, scale, e = float(Q.loc[0]), float(Q.scale[0]), noise[:, 0]
    z = loc + scale * e
    slope = -(z - 1) - 0.3 * np.sin(z) + e / scale
    return np.stack([slope, slope * scale * e], axis=1), -0.5 * (z - 1) ** 2 + 0.3 * np.cos(z) + 0.5 * e**2


@pytest.mark.parametrize("beta", [-1.0, -0.5, 0.0])
def test_tail_adaptive_shares_are_those_of_the_ranks(beta):
    noise = noise_of(7)
    slopes, log_weights = path_slopes(noise)
    factors = np.array([np.mean(log_weights >= own) for own in log_weights]) ** beta
    f = ImportanceWeightedBound(log_joint, 7)
    close(of_noise(TailAdaptive(beta), noise, Q, f), factors @ slopes / factors.sum())


def test_tail_adaptive_limits():
    """Equal weights count alike, ties as the highest of them; one sample is sticking the landing; and there is nothing at the posterior."""
    close(TailAdaptive().shares(jnp.full(5, 0.3)), 0.2)
    close(TailAdaptive().shares(jnp.array([1.0, 0.0, 1.0])), np.array([3, 2, 3]) / 8)
    f, noise = ImportanceWeightedBound(log_joint, 1), noise_of(1)
    close(of_noise(TailAdaptive(), noise, Q, f), of_noise(BoundStickingTheLanding(), noise, Q, f))
    close(of_noise(TailAdaptive(), noise_of(6), Q, ImportanceWeightedBound(posterior, 6)), 0.0)


def test_tail_adaptive_is_off_the_bound_by_so_much():
    """Its mean for two samples by the product rule, against that of the pathwise gradient; neither is small."""
    noise, weights = product_rule(2)
    f = ImportanceWeightedBound(log_joint, 2)
    ranked, exact = (
        weights @ np.asarray(jax.vmap(lambda e, one=one: of_noise(one, e, Q, f))(noise))
        for one in (TailAdaptive(), BoundPathwise())
    )
    assert np.linalg.norm(ranked - exact) > 0.1 * np.linalg.norm(exact)


def test_what_they_accept():
    for estimator in (*RANDOMIZED, TailAdaptive()):
        assert incompatibility(estimator, Q, ImportanceWeightedBound(log_joint, 4)) is None
        assert "differentiable" in incompatibility(estimator, Q, ImportanceWeightedBound(BlackBox(log_joint), 4))
        assert "`ImportanceWeightedBound`" in incompatibility(estimator, Q, JackknifeBound(log_joint, 4))
    for stop, words in ((0.0, "`stop > 0`"), (1.0, "`stop < 1`")):
        with pytest.raises(ValueError, match=f"`MLMC` needs {words}"):
            MLMC(stop=stop)
