"""Truncated ES, PES and NRES: every window, and Gaussian noise integrated without error.

Growth multiplies through the windows, so that the smoothing by one noise and that by a noise for each window differ; of
a linear system with quadratic losses there is no smoothing bias, and variances are closed forms.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from hermite import rule
from jaxtyping import Array, Float
from prescribed import moments

from benchmarks.problems import PROBLEMS
from estimators import NRES, PES, AbstractUnrolled, Delta, EvolutionStrategies, TruncatedES, incompatibility

SLOPE, PRICES, LOC = np.array([0.8, -0.5]), np.array([0.5, -1.0, 2.0]), np.array([0.3, 0.9])
ALL = [TruncatedES, PES, NRES]


class Growth(AbstractUnrolled):
    """`losses_w = prices_w prod_(v <= w) (1 + slope . x_v)`."""

    prices: Float[Array, "windows"]

    @property
    def windows(self):
        return len(self.prices)

    def losses(self, xs):
        return self.prices * jnp.cumprod(1 + xs @ jnp.asarray(SLOPE))


@eqx.filter_jit
def workers(estimator, noises, dist, f):
    """The estimate of a worker in each window, for each of `noises`: `[noises, windows, entries]`."""

    def one(noise):
        return jax.vmap(lambda window: estimator.worker(noise, window, dist, f))(jnp.arange(f.windows))

    return jax.vmap(one)(noises)


def integrated(estimator, dist, f, nodes):
    """Mean and variance over noise and windows."""
    noise, weights = rule(f.windows * dist.loc.size, nodes)
    estimates = np.asarray(workers(estimator, noise.reshape(-1, f.windows, dist.loc.size), dist, f))
    return moments(np.repeat(weights / f.windows, f.windows), estimates.reshape(-1, dist.loc.size))


def test_each_follows_the_gradient_of_its_own_objective():
    """With `m = 1 + slope . loc` and `s = sigma |slope|`: PES has `E prod_v (m + s z_v) = m^w`, so that it is right without any
    bias; NRES has `E (m + s z)^w`, `m, m^2 + s^2, m^3 + 3 m s^2`; truncated ES knows the last factor alone."""
    sigma, dist, f = 0.5, Delta(LOC), Growth(jnp.asarray(PRICES))
    m, s = 1 + SLOPE @ LOC, sigma * np.linalg.norm(SLOPE)
    along = {
        TruncatedES: [1, m, m**2],
        PES: [1, 2 * m, 3 * m**2],
        NRES: [1, 2 * m, 3 * m**2 + 3 * s**2],
    }
    for family in ALL:
        mean, _ = integrated(family(sigma=sigma), dist, f, 3)
        np.testing.assert_allclose(mean, np.dot(PRICES, along[family]) * SLOPE, rtol=1e-11)
    np.testing.assert_allclose(jax.grad(f)(dist.loc), np.dot(PRICES, along[PES]) * SLOPE, rtol=1e-11)


@eqx.filter_jit
def smoothed(dist, f, noises):
    return jax.vmap(lambda noise: EvolutionStrategies(sigma=0.4).along(noise, dist, f).loc)(noises)


def test_noise_reuse_over_all_windows_is_evolution_strategies():
    """Draw for draw; and with a single window all are."""
    dist, f = Delta(LOC), Growth(jnp.asarray(PRICES))
    noise = np.random.default_rng(0).normal(size=(5, 3, 2))
    for objective, families in ((f, [NRES]), (Growth(jnp.asarray(PRICES[:1])), ALL)):
        for family in families:
            windows = workers(family(sigma=0.4), noise[:, : objective.windows], dist, objective).mean(axis=1)
            np.testing.assert_allclose(windows, smoothed(dist, objective, noise[:, :1]), rtol=1e-10)


def linear():
    return PROBLEMS.create("unrolled-linear", steps=6, window=2)


def response(problem):
    """`[windows, windows, entries]`: the derivative of each window's loss in the parameter of each."""
    f, loc = problem.f, jnp.asarray(problem.dist.loc)
    return np.asarray(jax.jacfwd(f.losses)(jnp.broadcast_to(loc, (f.windows, *loc.shape))))


def second_moments(jacobian):
    """`E |g|^2` of one worker on quadratic losses, from `E[(a . z)^2 z . M z] = |a|^2 tr M + 2 a . M a`; the part of a loss that is
    even in the noise is lost in the difference. With `J_wv` the derivatives, `D` entries and `n` windows so far:
    `(D + 2) |J_ww|^2`, `n D sum_v |J_wv|^2 + 2 |sum_v J_wv|^2` and `(D + 2) |sum_v J_wv|^2`, times `W^2`, in the mean over windows."""
    number, _, entries = jacobian.shape
    own = np.einsum("wwi->wi", jacobian)
    total, parts = np.sum(jacobian.sum(axis=1) ** 2, axis=1), np.sum(jacobian**2, axis=(1, 2))
    return {
        TruncatedES: number * np.sum((entries + 2) * np.sum(own**2, axis=1)),
        PES: number * np.sum(np.arange(1, number + 1) * entries * parts + 2 * total),
        NRES: number * np.sum((entries + 2) * total),
    }


@pytest.mark.parametrize("family", ALL)
def test_on_a_linear_system_means_and_variances_are_closed_forms(family):
    """The truth for PES and NRES, and for truncated ES what truncated backpropagation gives."""
    problem = linear()
    truth, guess = problem.truth().gradient.loc, np.asarray(problem.f.surrogates(problem.dist.loc))[0]
    expected = guess if family is TruncatedES else truth
    mean, variance = integrated(family(sigma=0.7), problem.dist, problem.f, 3)
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    np.testing.assert_allclose(variance.sum(), second_moments(response(problem))[family] - mean @ mean, rtol=1e-10)
    assert np.linalg.norm(guess - truth) > 0.3 * np.linalg.norm(truth)


def test_reusing_noise_is_never_worse_on_quadratic_losses():
    """`n sum_v |J_wv|^2 >= |sum_v J_wv|^2` by Cauchy and Schwarz, for any response."""
    for seed in range(5):
        moment = second_moments(np.tril(np.random.default_rng(seed).normal(size=(2, 4, 4))).transpose(1, 2, 0))
        assert moment[NRES] < moment[PES]


def test_noise_and_windows_are_drawn_as_they_are_integrated(key):
    """The second moment would show noise that is shared where it must not be. What draws is common to all three."""
    problem, estimator = linear(), PES(sigma=0.7, num_workers=2)
    run = jax.jit(jax.vmap(lambda key: estimator.gradient(key, problem.dist, problem.f).loc))
    found = np.asarray(run(jax.random.split(key, 20_000)))
    moment, truth = second_moments(response(problem))[PES], problem.truth().gradient.loc
    assert_mean_equals(np.sum(found**2, axis=1), (moment + truth @ truth) / 2, detects=0.15 * moment)


class PaidAtTheEnd(AbstractUnrolled):
    """`x` in the last of three windows, and nothing before."""

    @property
    def windows(self):
        return 3

    def losses(self, xs):
        return xs[:, 0] * jnp.array([0.0, 0.0, 1.0])


def test_every_worker_is_in_a_window_of_its_own(key):
    """All miss the window that pays with the probability `(2/3)^workers`."""
    estimator, dist = NRES(num_workers=2), Delta(jnp.zeros(1))
    run = jax.jit(jax.vmap(lambda key: estimator.gradient(key, dist, PaidAtTheEnd()).loc))
    missed = np.asarray(run(jax.random.split(key, 20_000))) == 0
    assert_mean_equals(missed, np.full(1, 4 / 9), detects=0.05)


def test_what_does_not_fit_is_refused_with_a_reason():
    for family in ALL:
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `sigma > 0`, got 0"):
            family(sigma=0.0)
        with pytest.raises(ValueError, match=f"`{family.__name__}` needs `num_workers >= 1`, got 0"):
            family(num_workers=0)
        reason = incompatibility(family(), Delta(loc=[0.0]), lambda x: x.sum())
        expected = f"`{family.__name__}` needs an unrolled objective, and `function` does not declare to be one."
        assert reason == expected
