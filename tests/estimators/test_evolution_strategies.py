"""Evolution strategies and PGPE, integrated over their Gaussian noise; ranks, over the angles between two draws."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hermite import rule
from prescribed import moments
from scipy import stats

from estimators import PGPE, Delta, EvolutionStrategies, GuidedES, Normal, RankShapedES, incompatibility
from estimators.base import weighted_score
from estimators.baselines import RunningMean
from estimators.evolution_strategies import centred_ranks

LOC, SLOPE = np.array([0.7, -0.4]), np.array([1.5, -2.0])


def wave(x):
    return jnp.cos(x @ jnp.asarray(SLOPE))


def cubic(x):
    return (x[0] - 2 * x[1] + 0.3) ** 2 + x[0] * x[1] ** 2 + 0.5 * x[0] ** 3


def slope_of(x):
    return x @ jnp.asarray(SLOPE)


@eqx.filter_jit
def estimates(estimator, directions, f):
    return jax.vmap(lambda v: estimator.along(v, Delta(jnp.asarray(LOC)), f).loc)(directions)


def test_the_mean_is_the_gradient_of_the_smoothed_function():
    """`E cos(w . (x + sigma e)) = exp(-sigma^2 |w|^2 / 2) cos(w . x)`."""
    noise, weights = rule(2, 24)
    mean, _ = moments(weights, estimates(EvolutionStrategies(sigma=0.4), noise[:, None], wave))
    damping = math.exp(-(0.4**2) * SLOPE @ SLOPE / 2)
    np.testing.assert_allclose(mean, -damping * math.sin(LOC @ SLOPE) * SLOPE, rtol=1e-10)


def test_ranks_are_spread_evenly_and_ties_share_the_mean():
    values = np.array([3.0, -1.0, 0.5, 0.5, 10.0])
    np.testing.assert_allclose(centred_ranks(jnp.asarray(values)), (stats.rankdata(values) - 1) / 4 - 0.5, rtol=1e-12)
    np.testing.assert_array_equal(centred_ranks(jnp.ones(4)), 0.0)


def test_rank_shaping_sees_the_order_of_values_alone():
    directions = np.random.default_rng(0).normal(size=(5, 3, 2))
    shaped = estimates(RankShapedES(num_directions=3, sigma=0.2), directions, cubic)
    deformed = estimates(RankShapedES(num_directions=3, sigma=0.2), directions, lambda x: jnp.exp(0.1 * cubic(x)) - 7)
    np.testing.assert_allclose(deformed, shaped, rtol=1e-12)
    for noise, estimate in zip(directions, shaped, strict=True):
        values = [float(cubic(x)) for x in (*(LOC + 0.2 * noise), *(LOC - 0.2 * noise))]
        ranks = ((stats.rankdata(values) - 1) / 5 - 0.5).reshape(2, 3)
        np.testing.assert_allclose(estimate, (ranks[0] - ranks[1]) @ noise / (2 * 3 * 0.2), rtol=1e-12)


def test_the_mean_of_rank_shaping_on_a_linear_function():
    """Along the slope, two draws are `r (cos a, sin a)` with `E r = sqrt(pi / 2)` and `a` uniform; ranks change at multiples
    of an eighth of the circle. One draw has `E |e| / (2 sigma)`. The length does not depend on the slope."""
    along = SLOPE / np.linalg.norm(SLOPE)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    angles = (np.arange(8)[:, None] + (nodes + 1) / 2).ravel() * math.pi / 4
    noise = np.stack([np.cos(angles), np.sin(angles)], axis=1)[..., None] * along
    pairs = estimates(RankShapedES(num_directions=2, sigma=0.2), noise, slope_of)
    mean = math.sqrt(math.pi / 2) * np.tile(weights / 16, 8) @ pairs
    length = (math.sqrt(2 / math.pi) + 2 / math.sqrt(math.pi)) / (2 * 0.2 * 3)
    np.testing.assert_allclose(mean, length * along, rtol=1e-12)
    one = estimates(RankShapedES(num_directions=1, sigma=0.2), np.array([[1.7 * along], [-0.3 * along]]), slope_of)
    np.testing.assert_allclose(one, np.outer([1.7, 0.3], along) / 0.4, rtol=1e-12)


GUIDED_LOC = np.array([0.2, -0.1, 0.4])
GUESSES = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])


def bowl(x):
    return jnp.sum(x**2 * jnp.array([1.0, -2.0, 0.5])) + x[0] * x[2] + x[1]


@eqx.filter_jit
def guided(estimator, everywhere, along, guesses, f):
    def one(everywhere, along):
        return estimator.along(everywhere, along, guesses, Delta(jnp.asarray(GUIDED_LOC)), f).loc

    return jax.vmap(one)(everywhere[:, None], along[:, None])


@pytest.mark.parametrize("count", [1, 2])
def test_guided_es_is_the_gradient_times_its_covariance(count):
    """Of a quadratic function, by `beta (alpha / D + (1 - alpha) / k P)` with `P` the projection on the guesses."""
    noise, weights = rule(3 + count, 2)
    estimator, g = GuidedES(alpha=0.3, beta=1.7, sigma=0.5), GUESSES[:count]
    mean, _ = moments(weights, guided(estimator, noise[:, :3], noise[:, 3:], g, bowl))
    projection = g.T @ np.linalg.inv(g @ g.T) @ g
    covariance = 0.3 / 3 * np.eye(3) + 0.7 / count * projection
    np.testing.assert_allclose(mean, 1.7 * covariance @ np.asarray(jax.grad(bowl)(jnp.asarray(GUIDED_LOC))), rtol=1e-12)


def test_guided_es_without_guidance_is_evolution_strategies():
    """At `alpha` 1 and `beta` D, with `sigma` divided by the root of D."""
    noise = np.random.default_rng(1).normal(size=(6, 4))
    blind = guided(GuidedES(alpha=1.0, beta=3.0, sigma=0.6), noise[:, :3], noise[:, 3:], GUESSES[:1], bowl)
    plain = EvolutionStrategies(sigma=0.6 / math.sqrt(3))
    at = Delta(jnp.asarray(GUIDED_LOC))
    expected = jax.jit(jax.vmap(lambda direction: plain.along(direction[None], at, bowl).loc))(noise[:, :3])
    np.testing.assert_allclose(blind, expected, rtol=1e-11)


def normal() -> Normal:
    return Normal(LOC, [-0.5, -0.5])


@eqx.filter_jit
def explored(baseline, noises):
    """PGPE with `baseline`, and the score function averaged over the same pairs, baseline included."""
    state, dist = RunningMean(baseline, jnp.ones(())), normal()

    def one(noise):
        grads, mean = PGPE(num_pairs=len(noise)).along(noise, state, dist, cubic)
        xs = jnp.concatenate([jax.vmap(dist.reparameterize)(noise), jax.vmap(dist.reparameterize)(-noise)])
        scored = weighted_score(dist, xs, (jax.vmap(cubic)(xs) - baseline) / len(xs))
        flat = [jnp.concatenate([g.loc, g.log_scale]) for g in (grads, scored)]
        return *flat, mean, jnp.mean(jax.vmap(cubic)(xs))

    return jax.vmap(one)(noises)


@eqx.filter_jit
def smoothed_gradient(noise, weights):
    grads = jax.grad(lambda d: jnp.vdot(weights, jax.vmap(lambda e: cubic(d.reparameterize(e)))(noise)))(normal())
    return jnp.concatenate([grads.loc, grads.log_scale])


@pytest.mark.parametrize("baseline", [0.0, 1.3])
def test_pgpe_is_the_gradient_of_the_expectation_whatever_the_baseline(baseline):
    noise, weights = rule(2, 6)
    estimate, scored, value, mean_of_values = explored(jnp.asarray(baseline), noise[:, None])
    np.testing.assert_allclose(moments(weights, estimate)[0], smoothed_gradient(noise, weights), rtol=1e-11)
    np.testing.assert_allclose(estimate, scored, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value, mean_of_values, rtol=1e-12)


def test_pgpe_averages_pairs_and_is_evolution_strategies_in_loc():
    noises = np.random.default_rng(2).normal(size=(4, 3, 2))
    together = explored(jnp.asarray(0.4), noises)[0]
    apart = explored(jnp.asarray(0.4), noises.reshape(12, 1, 2))[0].reshape(4, 3, 4)
    np.testing.assert_allclose(together, apart.mean(axis=1), rtol=1e-11)
    es = estimates(EvolutionStrategies(sigma=math.exp(-0.5), num_directions=3), noises, cubic)
    np.testing.assert_allclose(together[:, :2], es, rtol=1e-11)


def test_pgpe_reads_its_baseline_and_learns_it_afterwards(key):
    estimator, keys = PGPE(decay=0.5), jax.random.split(key)
    state = estimator.init(keys[0], normal())
    assert state.mean == 0.0
    grads, value = estimator.estimate(keys[1], state, normal(), lambda x: 7.0 + 0 * x.sum())
    # Seven times the score: the estimate has used the old baseline of zero.
    assert np.all(grads.loc == 0) and np.all(grads.log_scale != 0)
    state = estimator.adapt(estimator.adapt(state, value), value + 3)
    np.testing.assert_allclose(state.mean, (0.5 * 7 + 10) / 1.5, rtol=1e-12)


def test_what_does_not_fit_is_refused_with_a_reason():
    for family in (EvolutionStrategies, RankShapedES, GuidedES):
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `sigma > 0`, got 0"):
            family(sigma=0.0)
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `num_directions >= 1`, got 0"):
            family(num_directions=0)
    with pytest.raises(ValueError, match="`GuidedES` needs `0 <= alpha <= 1`, got 1.5"):
        GuidedES(alpha=1.5)
    with pytest.raises(ValueError, match="`GuidedES` needs `beta > 0`, got -1"):
        GuidedES(beta=-1.0)
    with pytest.raises(ValueError, match="`PGPE` needs `num_pairs >= 1`, got 0"):
        PGPE(num_pairs=0)
    with pytest.raises(ValueError, match="`PGPE` needs `0 <= decay < 1`, got 1"):
        PGPE(decay=1.0)
    point = Delta(loc=[0.0])
    reason = incompatibility(GuidedES(), point, bowl)
    assert reason == "`GuidedES` needs a surrogate objective, and `function` does not declare to be one."
    assert incompatibility(PGPE(), point, jnp.sum) == "`PGPE` needs a `Normal` distribution, and `Delta` is not one."
