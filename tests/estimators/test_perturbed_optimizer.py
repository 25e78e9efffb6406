"""The perturbed argmax, integrated over its noise without error.

Within the cell of the noise that leads to one event an estimate is linear in the score of each noise. So a rule that is
exact for polynomials of the score in each cell gives the mean (and, with two nodes, the variance) to rounding: Gauss in
the uniform variable for a bit, Gauss-Laguerre in the exponential variables `exp(-Z)` for Gumbel noise, and for Gaussian
noise the conditional mean.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates, tuples
from scipy import special, stats

from estimators import Bernoulli, BlackBox, Categorical, Enumeration, Normal, PerturbedArgmax, incompatibility
from estimators.base import score

BITS = np.array([-1.0, 0.4, 1.3])
LOGITS = np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])
VALUES = np.random.RandomState(0).standard_normal((3, 3))
EXACT = PerturbedArgmax(noise="gumbel", num_samples=1, baseline="none")


def table(x):
    """Any function of two categories."""
    return x[0] @ VALUES @ x[1]


class Prescribed(PerturbedArgmax):
    """The estimator with its noises given."""

    draws: Float[Array, "samples ..."] | None = None

    def _noises(self, key, dist):
        del key, dist
        return self.draws


@jax.jit
def prescribed_scores(dist, xs):
    return jax.vmap(lambda x: score(dist, x).logits)(xs)


def given(estimator, dist, f, draws):
    """The estimates for the given noises, `draws` of the axes (cases, samples, *event)."""

    @jax.jit
    def run(draws):
        def one(draws):
            fields = (estimator.sigma, estimator.noise, estimator.num_samples, estimator.baseline, draws)
            return Prescribed(*fields).gradient(jax.random.key(0), dist, f).logits

        return jax.vmap(one)(draws)

    return np.asarray(run(jnp.asarray(draws)))


def product(rules):
    """Noises and weights of the product of rules `(nodes, weights)`, one for each variable."""
    nodes, weights = zip(*rules, strict=True)
    noises = np.array([np.stack(combination) for combination in itertools.product(*nodes)])
    return noises, np.prod(np.array(list(itertools.product(*weights))), axis=1)


def logistic_rule(logit, sigma=1.0):
    """Two nodes of the uniform variable on either side of the threshold; the event is 0 at the first two."""
    edges = np.array([0.0, special.expit(-logit / sigma), 1.0])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    u = (middle[:, None] + half[:, None] * np.array([-1, 1]) / np.sqrt(3)).ravel()
    return special.logit(u), np.repeat(half, 2)


def gumbel_rule(logits, sigma=1.0):
    """Given that the event is `k`, the least `E_i / pi_i` is a standard exponential variable `T`, and the others exceed
    `pi_i T` by standard exponential variables; here `E = exp(-Z)` and `pi` the law of the event."""
    pi, (nodes, weights) = special.softmax(logits / sigma), np.polynomial.laguerre.laggauss(2)
    noises, masses = [], []
    for k in range(pi.size):
        for picks in itertools.product(range(2), repeat=pi.size):
            excess = nodes[list(picks)].copy()
            least, excess[k] = excess[k], 0.0
            noises.append(-np.log(pi * least + excess))
            masses.append(pi[k] * np.prod(weights[list(picks)]))
    return np.array(noises), np.array(masses)


def gaussian_bit_rule(logit, sigma):
    """One node on either side of the threshold, at the conditional mean."""
    c = -logit / sigma
    return np.array([-stats.norm.pdf(c) / stats.norm.cdf(c), stats.norm.pdf(c) / stats.norm.sf(c)]), np.array(
        [stats.norm.cdf(c), stats.norm.sf(c)]
    )


def gaussian_rule(logits, sigma):
    """The noise of the largest by Gauss-Legendre, and of the others their means below it."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    nodes, weights = 9.0 * nodes, 9.0 * weights
    noises, masses = [], []
    for k, (s, weight) in itertools.product(range(logits.size), zip(nodes, weights, strict=True)):
        below = np.delete(s + (logits[k] - logits) / sigma, k)
        means = -np.exp(stats.norm.logpdf(below) - stats.norm.logcdf(below))
        noises.append(np.insert(means, k, s))
        masses.append(weight * stats.norm.pdf(s) * np.prod(stats.norm.cdf(below)))
    return np.array(noises), np.array(masses)


def gaussian_probabilities(logits, sigma):
    """`P(argmax(logits + sigma Z) = k)`, differentiable."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    s = jnp.asarray(9.0 * nodes)[:, None, None]
    below = s + (logits[None, :, None] - logits[None, None, :]) / sigma
    cdf = jnp.where(jnp.eye(logits.size, dtype=bool)[None], 1.0, jax.scipy.stats.norm.cdf(below))
    return jnp.asarray(9.0 * weights * stats.norm.pdf(9.0 * nodes)) @ jnp.prod(cdf, axis=-1)


@pytest.mark.parametrize("sigma", [1.0, 0.6])
def test_bits_with_their_own_noise_have_the_gradient_at_scaled_logits(sigma):
    noises, weights = product([logistic_rule(logit, sigma) for logit in BITS])
    estimator = PerturbedArgmax(sigma=sigma, noise="gumbel", num_samples=1, baseline="none")
    made = np.asarray(prescribed_estimates(estimator, None, BITS, noises[:, None], Tangled())[0])
    mean, _ = moments(weights, made)
    np.testing.assert_allclose(mean, exact_gradient(BITS / sigma, Tangled()) / sigma, rtol=1e-10)
    events = BITS + sigma * noises > 0
    augmented = np.asarray(jax.vmap(Tangled())(events * 1.0))[:, None] * (2 * special.expit(noises) - 1) / sigma
    np.testing.assert_allclose(made, augmented, rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def integrated_categories():
    """Weights, estimates and events over the Gumbel noise of two variables."""
    noises, weights = product([gumbel_rule(row) for row in LOGITS])
    events = np.eye(3)[np.argmax(LOGITS + noises, axis=-1)]
    return weights, given(EXACT, Categorical(LOGITS), table, noises[:, None]), events


def test_categories_with_gumbel_noise_have_the_gradient(integrated_categories):
    weights, made, _ = integrated_categories
    truth = Enumeration().gradient(jax.random.key(0), Categorical(LOGITS), table).logits
    np.testing.assert_allclose(moments(weights, made)[0], truth, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(made.sum(axis=-1), 0, atol=1e-13)


def test_given_the_event_the_mean_is_the_score_function_estimate(integrated_categories):
    weights, made, events = integrated_categories
    for x in np.unique(events, axis=0):
        same = np.all(events == x, axis=(1, 2))
        mean = np.tensordot(weights[same] / weights[same].sum(), made[same], axes=1)
        expected = float(table(x)) * np.asarray(prescribed_scores(Categorical(LOGITS), jnp.array(x[None])))[0]
        np.testing.assert_allclose(mean, expected, rtol=1e-10, atol=1e-13)


def test_closed_form_variance_on_one_categorical_variable():
    """Given the event `k` the noise adds `(C - 1) pi_k^2` to coordinate `k` and `(1 - pi_j)^2 + (C - 2) pi_j^2` to every
    other one, times `f(k)^2`: what the score function is spared."""
    values, pi = np.array([0.5, -1.2, 2.0]), special.softmax(LOGITS[:1], axis=-1)[0]
    noises, weights = product([gumbel_rule(LOGITS[0])])
    made = given(EXACT, Categorical(LOGITS[:1]), lambda x: jnp.vdot(values, x), noises[:, None])[:, 0]
    scores = np.eye(3) - pi
    added = np.where(np.eye(3) > 0, 2 * pi**2, (1 - pi) ** 2 + pi**2)
    gradient = pi * (values - pi @ values)
    expected = (pi * values**2) @ (scores**2 + added) - gradient**2
    np.testing.assert_allclose(moments(weights, made)[1], expected, rtol=1e-10)


@pytest.mark.parametrize("num_samples, baseline", [(2, "leave-one-out"), (3, "leave-one-out"), (5, "leave-one-out"),
                                                   (1, "unperturbed"), (2, "unperturbed"), (2, "none")])  # fmt: skip
def test_baselines_leave_the_mean_alone(num_samples, baseline):
    logits = BITS[:2] if num_samples < 4 else BITS[:1]
    noises, weights = product([logistic_rule(logit) for logit in logits])
    indices, weights = tuples(weights, num_samples)
    estimator = PerturbedArgmax(noise="gumbel", num_samples=num_samples, baseline=baseline)
    keys = jax.random.split(jax.random.key(0), num_samples)
    made = prescribed_estimates(estimator, None, logits, noises[indices], shifted, keys)[0]
    np.testing.assert_allclose(moments(weights, made)[0], exact_gradient(logits, shifted), rtol=1e-9)


def shifted(x):
    """Of any number of bits, far from zero."""
    return 5.0 + jnp.sin(1.0 + 2.0 * x[0] + 3.0 * x[-1])


def test_a_constant_is_never_seen_but_without_a_baseline():
    draws = np.random.default_rng(0).normal(size=(20, 3, 3))
    for baseline, sees in [("leave-one-out", False), ("unperturbed", False), ("none", True)]:
        made = given(
            PerturbedArgmax(num_samples=3, baseline=baseline), Bernoulli(BITS), lambda x: 3.0 + 0 * x[0], draws
        )
        assert (np.abs(made).max() > 1) if sees else (np.abs(made).max() < 1e-14)


@pytest.mark.parametrize("sigma", [1.0, 0.5, 2.0])
def test_bits_with_gaussian_noise_have_the_gradient_of_a_probit_law(sigma):
    noises, weights = product([gaussian_bit_rule(logit, sigma) for logit in BITS])
    estimator = PerturbedArgmax(sigma=sigma, num_samples=1, baseline="none")
    mean, _ = moments(weights, given(estimator, Bernoulli(BITS), Tangled(), noises[:, None]))
    events = jnp.asarray(outcomes(BITS)[0])

    def expectation(logits):
        p = jax.scipy.stats.norm.cdf(logits / sigma)[None]
        return jnp.vdot(jnp.prod(jnp.where(events > 0, p, 1 - p), axis=1), jax.vmap(Tangled())(events))

    np.testing.assert_allclose(mean, jax.grad(expectation)(jnp.asarray(BITS)), rtol=1e-11)
    assert np.abs(mean - exact_gradient(BITS, Tangled())).max() > 0.02


@pytest.mark.parametrize("sigma", [1.0, 0.5])
def test_categories_with_gaussian_noise_have_the_gradient_of_their_own_law(sigma):
    values = np.array([0.5, -1.2, 2.0])
    logits = LOGITS[0]
    noises, weights = product([gaussian_rule(logits, sigma)])
    estimator = PerturbedArgmax(sigma=sigma, num_samples=1, baseline="none")
    made = given(estimator, Categorical(LOGITS[:1]), lambda x: jnp.vdot(values, x), noises[:, None])
    slope = jax.grad(lambda logits: values @ gaussian_probabilities(logits, sigma))(jnp.asarray(logits))
    np.testing.assert_allclose(moments(weights, made)[0][0], slope, rtol=1e-9)


def test_noise_score_is_minus_the_slope_of_the_log_density():
    z = jnp.linspace(-3.0, 5.0, 9)
    logistic = jax.vmap(jax.grad(lambda z: -jax.scipy.stats.logistic.logpdf(z)))(z)
    gumbel = jax.vmap(jax.grad(lambda z: z + jnp.exp(-z)))(z)
    np.testing.assert_allclose(Bernoulli(BITS).noise_score(z), logistic, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(Categorical(LOGITS).noise_score(z), gumbel, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("baseline", ["leave-one-out", "unperturbed", "none"])
def test_declared_evaluations_are_the_calls_of_f(baseline):
    estimator, dist = PerturbedArgmax(num_samples=3, baseline=baseline), Bernoulli(BITS)
    expected = 4 if baseline == "unperturbed" else 3
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == expected


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"sigma": 0.0}, "`PerturbedArgmax` needs `sigma > 0`, got 0.0"),
        ({"noise": "cauchy"}, 'needs `noise` to be one of "gumbel", "gaussian", got \'cauchy\''),
        ({"baseline": "mean"}, 'needs `baseline` to be one of "leave-one-out", "unperturbed", "none", got \'mean\''),
        ({"num_samples": 1}, 'needs `num_samples >= 2` with `baseline="leave-one-out"`, got 1'),
        ({"num_samples": 0, "baseline": "none"}, 'needs `num_samples >= 1` with `baseline="none"`, got 0'),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PerturbedArgmax(**arguments)


def test_what_does_not_fit_is_refused_with_a_reason():
    reason = incompatibility(PerturbedArgmax(), Normal([0.0], [0.0]), jnp.sum)
    assert reason == "`PerturbedArgmax` needs an additively perturbed distribution, and `Normal` is not one."
    assert incompatibility(PerturbedArgmax(), Bernoulli(BITS), BlackBox(jnp.sum)) is None
