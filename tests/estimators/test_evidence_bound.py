"""The three derivatives of an evidence bound: integrated over their noise, and compared with one another draw by draw."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import in_float64
from benchmarks.problems.evidence import LogWeight, divergence
from estimators import (
    AbstractDifferentiable,
    AbstractLogWeight,
    AbstractReparameterizable,
    AnalyticKL,
    Bernoulli,
    Normal,
    Pathwise,
    StickingTheLanding,
    TotalDerivative,
    incompatibility,
)
from estimators.base import score

THREE = (StickingTheLanding(), TotalDerivative(), AnalyticKL())
NAMES = [type(estimator).__name__ for estimator in THREE]


class Wavy(AbstractDifferentiable):
    """A log-likelihood that is neither quadratic nor separable."""

    def __call__(self, z):
        return jnp.sin(z[0] + 0.5 * z[1]) - jnp.log1p(jnp.exp(z[0] * z[1]))


class PrescribedNormal(Normal):
    """A normal distribution that is told its noise."""

    prescribed: Float[Array, "*variables"]

    def noise(self, key):
        return self.prescribed


def plane():
    """A `q` and the log-weight of a model with another prior."""
    dist = Normal(np.array([0.3, -0.6]), np.array([-0.4, 0.1]))
    return dist, LogWeight(Wavy(), Normal(np.array([0.5, 0.2]), np.array([0.3, -0.1])), dist)


@eqx.filter_jit
def estimates(estimator, dist, f, noises):
    """The two leaves of the estimate for each noise, side by side."""

    def one(noise):
        grads = estimator.gradient(jax.random.key(0), PrescribedNormal(dist.loc, dist.log_scale, noise), f)
        return jnp.concatenate([grads.loc, grads.log_scale])

    return jax.vmap(one)(noises)


@eqx.filter_jit
def bound_of(dist, f):
    """`E[log p(x, z)]` by the trapezoidal rule, and the entropy in closed form: no `log q`, no estimator."""
    noise, weights = dist.nodes(65)
    entropy = jnp.sum(dist.log_scale) + dist.loc.size * 0.5 * math.log(2 * math.pi * math.e)
    return jnp.vdot(weights, jax.vmap(f.log_joint)(dist.loc[None] + dist.scale[None] * noise)) + entropy


@eqx.filter_jit
def slope_of(dist, f):
    grads = jax.grad(bound_of)(dist, f)
    return jnp.concatenate([grads.loc, grads.log_scale])


def integrated(estimator, dist, f, resolution=65):
    """Mean and variance over the noise."""
    noise, weights = dist.nodes(resolution)
    grads, weights = np.asarray(estimates(estimator, dist, f, noise)), np.asarray(weights)
    mean = weights @ grads
    return mean, weights @ grads**2 - mean**2


def a_few():
    """Some noises, near and far."""
    return np.random.RandomState(0).standard_normal((7, 2)) * np.array(
        [[1.0], [3.0], [0.2], [1.0], [2.0], [1.0], [1.0]]
    )


@pytest.mark.parametrize("estimator", THREE, ids=NAMES)
def test_mean_is_the_slope_of_the_bound(estimator):
    dist, f = plane()
    np.testing.assert_allclose(integrated(estimator, dist, f)[0], slope_of(dist, f), rtol=1e-9)


def test_the_three_variances_differ():
    """The three are three: by a tenth at least, in each coordinate on its own."""
    dist, f = plane()
    variances = np.array([integrated(estimator, dist, f)[1] for estimator in THREE])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.all(np.abs(np.log(variances[first] / variances[second])) > 0.1)


def test_path_less_score_is_the_total_derivative():
    """With the score at the event, which does not move."""
    dist, f = plane()

    @jax.vmap
    def scores(noise):
        grads = score(dist, dist.reparameterize(noise))
        return jnp.concatenate([grads.loc, grads.log_scale])

    noises = a_few()
    path, total = (estimates(estimator, dist, f, noises) for estimator in THREE[:2])
    np.testing.assert_allclose(path - scores(noises), total, rtol=1e-12, atol=1e-13)


def test_pathwise_sticks_the_landing_where_the_copy_is_equal_and_only_there():
    dist, f = plane()
    noises = a_few()
    sticking = estimates(StickingTheLanding(), dist, f, noises)
    np.testing.assert_allclose(estimates(Pathwise(), dist, f, noises), sticking, rtol=1e-13)

    stale = LogWeight(f.reconstruction, f.prior, Normal(dist.loc + 0.5, dist.log_scale))
    np.testing.assert_allclose(estimates(StickingTheLanding(), dist, stale, noises), sticking, rtol=1e-13)
    assert np.abs(integrated(Pathwise(), dist, stale)[0] - slope_of(dist, stale)).max() > 0.1


def test_analytic_kl_is_pathwise_on_the_analytic_form_of_the_problem():
    """On the autoencoder, where each datapoint has noise of its own, and both parts of the gradient."""

    @eqx.filter_jit
    def gradient(estimator, problem):
        return problem.gradient(lambda k, d, f: estimator.estimate(k, None, d, f), jax.random.key(3))[0]

    problems = [in_float64(PROBLEMS.create("linear-gaussian-vae", kl=kl, batch=2)) for kl in ("sampled", "analytic")]
    here, there = gradient(AnalyticKL(), problems[0]), gradient(Pathwise(), problems[1])
    for leaf, other in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-11, atol=1e-13)


def conjugate(loc, scale):
    """One normal mean, seen through a noise of 0.7 with a standard normal prior: `q`, log-weight, posterior mean and deviation."""
    problem = PROBLEMS.create("conjugate-gaussian", noise=0.7)
    likelihood = in_float64(problem.likelihood)
    noise = np.exp(np.asarray(likelihood.log_noise)[0])
    s = (1 + noise**-2) ** -0.5
    m = s**2 * 1.0 / noise**2
    dist = Normal(np.array([m + loc * s]), np.array([np.log(s * scale)]))
    return dist, LogWeight(likelihood, Normal(np.zeros(1), np.zeros(1)), dist), m, s, noise


def test_no_variance_at_the_posterior_but_that_of_the_score():
    """The path vanishes for every draw; what is left of the total derivative is minus the score, with the Fisher information."""
    dist, f, _, s, noise = conjugate(0.0, 1.0)
    noises = a_few()[:, :1]
    np.testing.assert_allclose(estimates(StickingTheLanding(), dist, f, noises), 0.0, atol=1e-13)
    minus_score = np.concatenate([-noises / s, 1 - noises**2], axis=1)
    np.testing.assert_allclose(estimates(TotalDerivative(), dist, f, noises), minus_score, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(integrated(TotalDerivative(), dist, f)[1], [s**-2, 2.0], rtol=1e-11)
    assert integrated(AnalyticKL(), dist, f)[1].min() > 0.1


@pytest.mark.parametrize("loc, scale", [(0.5, 0.9), (-1.0, 0.6), (0.3, 1.4)])
def test_variances_of_the_conjugate_model(loc, scale):
    """With the distance `a = loc - m` of the means, `v` and `w` the variances of `q` and of the posterior and `n` that of the noise:

    path       (1 - v / w)^2 / v             along `loc`,   a^2 v / w^2 + 2 (1 - v / w)^2        along `log_scale`
    total      v / w^2                                      a^2 v / w^2 + 2 (v / w)^2
    analytic   v / n^2                                      (x - loc)^2 v / n^2 + 2 (v / n)^2

    so that along `loc` the score is worth leaving out while `v > w / 2`, and the third is better than the second (`n > w`)."""
    dist, f, m, s, noise = conjugate(loc, scale)
    v, w, n = (scale * s) ** 2, s**2, noise**2
    a = loc * s
    expected = {
        "StickingTheLanding": [(1 - v / w) ** 2 / v, a**2 * v / w**2 + 2 * (1 - v / w) ** 2],
        "TotalDerivative": [v / w**2, a**2 * v / w**2 + 2 * (v / w) ** 2],
        "AnalyticKL": [v / n**2, (1.0 - m - a) ** 2 * v / n**2 + 2 * (v / n) ** 2],
    }
    found = {name: integrated(estimator, dist, f) for name, estimator in zip(NAMES, THREE, strict=True)}
    for name, (mean, variance) in found.items():
        np.testing.assert_allclose(mean, [-a / w, 1 - v / w], rtol=1e-9)
        np.testing.assert_allclose(variance, expected[name], rtol=1e-9, err_msg=name)
    assert (found["StickingTheLanding"][1][0] < found["TotalDerivative"][1][0]) == (v > w / 2)
    assert found["AnalyticKL"][1][0] < found["TotalDerivative"][1][0]


def test_total_derivative_of_a_location_and_scale_has_the_entropy_in_closed_form():
    """Draw by draw: pathwise on the log-joint, plus the derivative one of the entropy along `log_scale`."""
    dist, f = plane()
    noises = a_few()
    alone = estimates(Pathwise(), dist, f.log_joint, noises)
    np.testing.assert_allclose(
        estimates(TotalDerivative(), dist, f, noises), alone + np.array([[0, 0, 1, 1]]), rtol=1e-12, atol=1e-13
    )


class LogNormal(AbstractReparameterizable):
    """`exp(loc + exp(log_scale) noise)`: no family of location and scale in these parameters. It is told its noise."""

    loc: Float[Array, ""]
    log_scale: Float[Array, ""]
    prescribed: Float[Array, ""]

    @property
    def event_shape(self):
        return ()

    def sample(self, key):
        return self.reparameterize(self.noise(key))

    def log_prob(self, x):
        standardised = (jnp.log(x) - self.loc) * jnp.exp(-self.log_scale)
        return -0.5 * standardised**2 - self.log_scale - 0.5 * math.log(2 * math.pi) - jnp.log(x)

    def noise(self, key):
        return self.prescribed

    def reparameterize(self, noise):
        return jnp.exp(self.loc + jnp.exp(self.log_scale) * noise)


class Rate(AbstractLogWeight):
    """A positive unknown with the log-joint density `3 log z - 2 z`, up to a constant."""

    posterior: LogNormal

    def log_joint(self, z):
        return 3 * jnp.log(z) - 2 * z


def test_of_a_log_normal_the_entropy_in_closed_form_is_another_estimate():
    """`E[f] = 3 loc - 2 exp(loc + scale^2 / 2) + loc + log_scale` and a constant; the total derivative of `-log q` along `log_scale` is
    `1 + scale noise`, that of the entropy 1."""
    loc, log_scale = 0.2, -0.5
    line, weights = (np.asarray(part) for part in Normal(np.zeros(1), np.zeros(1)).nodes(129))

    @jax.jit
    def both(noises):
        def one(noise):
            dist = LogNormal(jnp.asarray(loc), jnp.asarray(log_scale), noise)
            made = [e.gradient(jax.random.key(0), dist, Rate(dist)) for e in THREE[:2]]
            alone = Pathwise().gradient(jax.random.key(0), dist, Rate(dist).log_joint)
            return [jnp.stack([grads.loc, grads.log_scale]) for grads in (*made, alone)]

        return jax.vmap(one)(noises)

    path, total, alone = map(np.asarray, both(line[:, 0]))
    v = math.exp(2 * log_scale)
    mean = 2 * math.exp(loc + v / 2)
    for grads in (path, total):
        np.testing.assert_allclose(weights @ grads, [4 - mean, 1 - v * mean], rtol=1e-10)
    expected = np.stack([np.ones(129), 1 + math.exp(log_scale) * line[:, 0]], axis=1)
    np.testing.assert_allclose(total - alone, expected, rtol=1e-9, atol=1e-9)


class ForgetsTheScale(TotalDerivative):
    """Wrong on purpose: the density of `q` along the path alone, with the score added instead of taken away."""

    def gradient(self, key, dist, f):
        path = StickingTheLanding().gradient(key, dist, f)
        return jax.tree.map(jnp.add, path, score(dist, dist.reparameterize(dist.noise(key))))


class ForgetsTheDivergence(AnalyticKL):
    """Wrong on purpose: the likelihood alone."""

    def gradient(self, key, dist, f):
        return Pathwise().gradient(key, dist, f.log_likelihood)


def test_wrong_ones_are_seen():
    """A score with the wrong sign keeps the mean, and is seen by the identity of the parts."""
    dist, f = plane()
    np.testing.assert_allclose(integrated(ForgetsTheScale(), dist, f)[0], slope_of(dist, f), rtol=1e-9)
    noises = a_few()
    wrong, total = (estimates(estimator, dist, f, noises) for estimator in (ForgetsTheScale(), TotalDerivative()))
    assert np.abs(wrong - total).max() > 0.1
    assert np.abs(integrated(ForgetsTheDivergence(), dist, f)[0] - slope_of(dist, f)).max() > 0.01


@pytest.mark.parametrize("estimator", THREE, ids=NAMES)
def test_refusals(estimator):
    dist, f = plane()
    name, bits = type(estimator).__name__, Bernoulli(logits=[0.0, 1.0])
    assert incompatibility(estimator, dist, f) is None
    sentence = f"`{name}` needs a reparameterizable distribution, and `Bernoulli` is not one."
    assert incompatibility(estimator, bits, f) == sentence
    assert f"`{name}` needs a " in incompatibility(estimator, dist, jnp.sum)
    assert "log weight objective, and `Wavy` does not declare" in incompatibility(estimator, dist, Wavy())


def test_a_log_weight_without_a_prior_has_no_divergence():
    rate = Rate(LogNormal(*map(jnp.asarray, (0.2, -0.5, 0.0))))
    assert incompatibility(TotalDerivative(), rate.posterior, rate) is None
    sentence = "`AnalyticKL` needs a regularized log weight objective, and `Rate` does not declare to be one."
    assert incompatibility(AnalyticKL(), rate.posterior, rate) == sentence


def test_the_parts_of_a_regularized_log_weight_add_up():
    """And its divergence is the mean of `log q - log p`."""
    dist, f = plane()
    z = jnp.array([0.4, -1.1])
    expected = f.log_likelihood(z) + f.prior.log_prob(z) - dist.log_prob(z)
    np.testing.assert_allclose(f(z), expected, rtol=1e-14)
    noise, weights = dist.nodes(65)
    zs = dist.loc[None] + dist.scale[None] * noise
    log_ratio = jax.vmap(dist.log_prob)(zs) - jax.vmap(f.prior.log_prob)(zs)
    np.testing.assert_allclose(f.divergence(dist), jnp.vdot(weights, log_ratio), rtol=1e-12)
    np.testing.assert_allclose(f.divergence(dist), divergence(dist, f.prior), rtol=1e-14)
