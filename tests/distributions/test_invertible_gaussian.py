"""One-hot variables with normal logits: probabilities by an adaptive quadrature that shares no code, the law of the draws, and
what estimators make of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks import measure
from benchmarks.problems import PROBLEMS, mismatch
from estimators import ESTIMATORS, REBAR, Enumeration, GumbelSoftmax, InvertibleGaussian, StraightThroughGumbelSoftmax

POINTS = {
    "alike": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], 1e-12),
    "of many scales": ([3.0, -3.0, 0.0], [0.3, 3.0, 1.0], 1e-12),
    "one likely": ([10.0, -10.0, 0.0], [1.0, 1.0, 1.0], 1e-12),
    "the last one": ([-12.0, -5.0, -8.0], [1.0, 1.0, 1.0], 1e-11),
    "two categories": ([0.5], [2.0], 1e-12),
    "a hundred times": ([1.0, 1.0, 1.0], [0.1, 1.0, 10.0], 2e-6),
}


def probabilities(loc, scale):
    """By scipy's adaptive quadrature, told where the factors rise."""
    laws = [stats.norm(a, b) for a, b in zip(loc, scale, strict=True)]

    def winner(k):
        others = [law for j, law in enumerate(laws) if j != k]
        rises = [a + b * s for a, b in zip(loc, scale, strict=True) for s in (-8, -4, -2, 0, 2, 4, 8)]
        end = max(1.0, *(a + 10 * b for a, b in zip(loc, scale, strict=True)))
        inside = sorted({z for z in rises if 0 < z < end})

        def integrand(z):
            return laws[k].pdf(z) * np.prod([law.cdf(z) for law in others])

        return integrate.quad(integrand, 0, end, points=inside, limit=500, epsabs=0, epsrel=1e-13)[0]

    return np.array([*(winner(k) for k in range(len(loc))), np.prod([law.cdf(0) for law in laws])])


@pytest.mark.parametrize("name", POINTS)
def test_probabilities(name):
    loc, scale, rtol = POINTS[name]
    dist = InvertibleGaussian(loc, np.log(scale))
    np.testing.assert_allclose(dist.mean(), probabilities(loc, scale), rtol=rtol)
    np.testing.assert_allclose(jnp.sum(dist.mean()), 1, rtol=1e-14)


def test_two_categories_are_a_probit():
    """`P(z > 0) = Phi(loc / scale)`, and its derivatives."""
    dist = InvertibleGaussian([[0.7], [-1.2]], [[0.3], [-0.4]])
    first, slope = jax.vmap(lambda a, b: jax.value_and_grad(lambda d: d.mean()[0])(InvertibleGaussian(a, b)))(
        dist.loc, dist.log_scale
    )
    ratio = np.asarray(dist.loc / dist.scale)
    np.testing.assert_allclose(first, stats.norm.cdf(ratio)[:, 0], rtol=1e-13)
    np.testing.assert_allclose(slope.loc, stats.norm.pdf(ratio) / dist.scale, rtol=1e-12)
    np.testing.assert_allclose(slope.log_scale, -stats.norm.pdf(ratio) * ratio, rtol=1e-12)


def test_the_law_of_the_draws(key):
    """All sixteen events of two variables; a law of logits a tenth higher is rejected."""
    dist = InvertibleGaussian([[0.3, -0.5, 0.8], [-1.0, 0.2, 0.0]], [[0.0, 0.5, -0.7], [0.3, -0.2, 0.1]])
    events = dist.support()
    xs = jax.jit(jax.vmap(dist.sample))(jax.random.split(key, 40_000))
    counts = np.sum(np.all(xs[:, None] == events[None], axis=(2, 3)), axis=0)
    expected = np.exp(jax.vmap(dist.log_prob)(events))
    moved = InvertibleGaussian(dist.loc + 0.1, dist.log_scale)
    assert counts.sum() == len(xs)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-12)
    assert stats.chisquare(counts, expected * len(xs)).pvalue > 1e-6
    assert stats.chisquare(counts, np.exp(jax.vmap(moved.log_prob)(events)) * len(xs)).pvalue < 1e-6
    p, q = dist.marginals(), dist.replacements(xs[0])
    np.testing.assert_allclose(p, np.einsum("e,evc->vc", expected, events), rtol=1e-10)
    assert q.shape == (2, 4, 2, 4) and jnp.all(q[1, 2] == xs[0].at[1].set(jnp.eye(4)[2]))


def test_the_relaxation_tends_to_the_event(key):
    dist = InvertibleGaussian([[0.3, -0.5], [-1.0, 0.2]], jnp.zeros((2, 2)))
    z = dist.perturb(dist.noise(key))
    np.testing.assert_allclose(dist.relax(z, jnp.asarray(1e-4)), dist.harden(z), atol=1e-12)
    soft = dist.relax(z, jnp.asarray(0.7))
    # Invertible: the logits come back from the point of the simplex.
    np.testing.assert_allclose(0.7 * (jnp.log(soft) - jnp.log(soft[..., -1:])), z, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_pathwise_gradients_of_the_relaxation_have_the_mean_of_a_quadrature(temperature):
    """Over the normal noise itself, on a grid: the mean of the estimator is the derivative of `E f(relax(z))`."""
    dist = InvertibleGaussian([0.4, -0.6], [0.2, -0.3])
    f = PROBLEMS.create("categorical-nonseparable", variables=1, categories=3).f
    line, step = np.linspace(-8.0, 8.0, 161, retstep=True)
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2))
    weights = jnp.asarray(stats.norm.pdf(grid).prod(axis=1) * step**2)
    t = jnp.asarray(temperature)

    def smoothed(d):
        return weights @ jax.vmap(lambda e: f(d.relax(d.perturb(e), t)[None]))(grid)

    exact = jax.jit(jax.grad(smoothed))(dist)
    estimate = GumbelSoftmax(temperature=temperature)
    keys = jax.random.split(jax.random.key(5), 50_000)
    gradients = jax.jit(jax.vmap(lambda k: estimate.gradient(k, dist, lambda x: f(x[None]))))(keys)
    for mine, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True):
        error = np.std(mine, axis=0) / np.sqrt(len(mine))
        assert np.all(np.abs(np.mean(mine, axis=0) - theirs) < 5 * error)


UNBIASED = ("score-function", "local-expectation", "muprop")


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_ones_are(name, key):
    problem = PROBLEMS.create("invertible-gaussian-nonseparable", variables=2, categories=3)
    s = measure(ESTIMATORS.create(name), problem, key, replicates=20_000).summary()
    assert s["verdict"] != "biased" and s["min_detectable_bias"] < 0.3 * s["truth_norm"]


def test_truth_and_bias_of_relaxations(key):
    """Enumeration is exact; the relaxed gradient is biased, less so when colder; straight through is biased."""
    problem = PROBLEMS.create("invertible-gaussian-nonseparable")
    exact = Enumeration().gradient(key, problem.dist, problem.f)
    for mine, theirs in zip(jax.tree.leaves(exact), jax.tree.leaves(problem.truth().gradient), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-13)
    found = [
        measure(estimator, problem, key, replicates=20_000).summary()
        for estimator in (
            GumbelSoftmax(temperature=1.0),
            GumbelSoftmax(temperature=0.2),
            StraightThroughGumbelSoftmax(),
        )
    ]
    assert [s["verdict"] for s in found] == ["biased by design"] * 3
    assert found[1]["bias_sq"] < found[0]["bias_sq"] / 4 and found[1]["variance"] > found[0]["variance"]


def test_what_it_lacks_is_said():
    """Its logits given the event have no sampler, and it is not a choice by logits."""
    problem = PROBLEMS.create("invertible-gaussian-nonseparable")
    assert "conditionally relaxable" in mismatch(REBAR(), problem)
    assert "logit parameterized" in mismatch(ESTIMATORS.create("reinmax"), problem)
    with pytest.raises(ValueError, match="scale > 0"):
        PROBLEMS.create("invertible-gaussian-nonseparable", scale=0)
