"""The linear autoencoder: its bound as the evidence less the divergence from the posterior, and its gradient by two routes."""

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy import stats

from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import exact_truth, in_float64
from benchmarks.problems.linear_gaussian import orthogonal_columns
from estimators import Quadrature, StickingTheLanding


def made(**arguments):
    return in_float64(PROBLEMS.create("linear-gaussian-vae", **arguments))


def exact_posterior(problem):
    """Means of each datum and the precision, by completing the square with matrices."""
    w, noise = np.asarray(problem.weight), np.exp(np.asarray(problem.log_noise))
    precision = np.eye(w.shape[1]) + w.T @ (w / noise[:, None] ** 2)
    return np.linalg.solve(precision, w.T @ (np.asarray(problem.x) / noise[None] ** 2).T).T, precision


def distance(tree, other):
    gap, size = (
        np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(t)))
        for t in (jax.tree.map(np.subtract, tree, other), other)
    )
    return gap / size


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_truth_equals_quadrature_through_the_problem(kl):
    problem = made(distance=0.3, batch=3, kl=kl)
    truth = problem.truth()
    assert truth.kind == "closed form"
    assert distance(exact_truth(problem, Quadrature(49), "").gradient, truth.gradient) < 1e-10


def test_the_bound_is_the_evidence_less_the_divergence_from_the_posterior():
    """In numpy and SciPy, with three latents; and so is its slope along every leaf of every `q`."""
    problem = made(distance=0.3, latents=3, dimension=5, noise=0.7, batch=4)
    means, precision = exact_posterior(problem)
    dists = jax.vmap(problem.encoder)(problem.x)
    loc, v = np.asarray(dists.loc), np.exp(2 * np.asarray(dists.log_scale))
    w, noise = np.asarray(problem.weight), np.exp(np.asarray(problem.log_noise))
    evidence = stats.multivariate_normal.logpdf(problem.x, np.zeros(5), w @ w.T + np.diag(noise**2))
    gap = loc - means
    quadratic = np.einsum("bi,ij,bj->b", gap, precision, gap) + v @ np.diag(precision)
    divergence = 0.5 * (quadratic - 3 - np.log(v).sum(axis=1) - np.linalg.slogdet(precision)[1])
    np.testing.assert_allclose(problem.elbo(problem.encoder), np.mean(evidence - divergence), rtol=1e-12)
    truth = problem.truth().gradient["distribution"]
    np.testing.assert_allclose(truth.loc, -gap @ precision / 4, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(truth.log_scale, (1 - v * np.diag(precision)[None]) / 4, rtol=1e-9, atol=1e-12)


def test_the_encoder_follows_by_the_chain_rule():
    """Outer products of the rows and the data."""
    truth = (problem := made()).truth().gradient
    rows, x = truth["distribution"], np.asarray(problem.x)
    for leaf in ("loc", "log_scale"):
        np.testing.assert_allclose(getattr(truth["encoder"], f"{leaf}_weight"), getattr(rows, leaf).T @ x, rtol=1e-10)
        np.testing.assert_allclose(
            getattr(truth["encoder"], f"{leaf}_bias"), getattr(rows, leaf).sum(axis=0), rtol=1e-10
        )


def test_at_no_distance_the_encoder_is_exact():
    """No gradient, and no path derivative for any draw, up to the float32 of the arrays."""
    problem = made(distance=0.0, batch=5)
    means, precision = exact_posterior(problem)
    dists = jax.vmap(problem.encoder)(problem.x)
    np.testing.assert_allclose(dists.loc, means, atol=1e-6)
    np.testing.assert_allclose(precision - np.diag(np.diag(precision)), 0, atol=1e-6)

    @eqx.filter_jit
    def estimates(keys):
        estimate = StickingTheLanding().estimate
        return jax.vmap(lambda key: problem.gradient(lambda k, d, f: estimate(k, None, d, f), key)[0])(keys)

    for leaf in jax.tree.leaves((problem.truth().gradient, estimates(jax.random.split(jax.random.key(0), 50)))):
        np.testing.assert_allclose(leaf, 0, atol=1e-5)


def test_columns_are_orthogonal_and_the_data_those_of_the_model():
    np.testing.assert_allclose(orthogonal_columns(7, 4).T @ orthogonal_columns(7, 4), np.eye(4), atol=1e-14)
    problem = made(batch=1024)
    w = np.asarray(problem.weight)
    covariance = w @ w.T + np.eye(6)
    # The statistic has a chi-squared law with 1024 * 6 degrees of freedom under the model.
    statistic = np.einsum("bi,ij,bj->", problem.x, np.linalg.inv(covariance), problem.x)
    assert 1e-3 < stats.chi2.sf(statistic, 1024 * 6) < 1 - 1e-3


def test_a_smaller_batch_is_the_start_of_a_larger():
    np.testing.assert_array_equal(made(batch=3).x, made(batch=8).x[:3])


def test_parts_are_named():
    problem = made(batch=2)
    assert list(problem.parts(problem.truth().gradient)) == ["distribution", "encoder", "loc", "log_scale"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"latents": 6}, "needs `latents < dimension` and `batch <= 1024`, got 6 latents, 6"),
        ({"batch": 1025}, "and a batch of 1025"),
        ({"batch": 0}, "needs `batch >= 1`"),
        ({"noise": 0.0}, "needs `noise > 0`, got 0.0"),
        ({"kl": "none"}, "`LinearGaussianAutoencoder` needs `kl` to be"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PROBLEMS.create("linear-gaussian-vae", **arguments)
