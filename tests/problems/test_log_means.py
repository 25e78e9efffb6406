"""Log-means of weights and the truths of the problems of bounds, each by a second route; and signal and noise along the samples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from benchmarks import measure
from benchmarks.harness import stream_key
from benchmarks.problems import PROBLEMS
from benchmarks.problems.bounds import bound_truth
from benchmarks.problems.log_means import mean_of_log_mean
from estimators import BoundDReG, BoundPathwise, ImportanceWeightedBound

LINE = np.linspace(-14.0, 14.0, 4001)
STEP = LINE[1] - LINE[0]


@pytest.mark.parametrize("number", [1, 2, 7, 64, 1024])
def test_exponential_weights_have_a_mean_of_the_log_mean_in_closed_form(number):
    """The mean of `K` standard exponential variables is Gamma, and `E[log] = digamma(K) - log K`."""
    log_weights = np.linspace(-38.0, 4.2, 4001)
    masses = np.exp(log_weights - np.exp(log_weights)) * (log_weights[1] - log_weights[0])
    found = mean_of_log_mean(jnp.asarray(log_weights), jnp.asarray(masses), jnp.asarray(float(number)))
    np.testing.assert_allclose(found, special.digamma(number) - np.log(number), atol=1e-10)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_bits_by_the_sum_over_all_tuples(number):
    """Against central differences of the bound, summed in NumPy."""
    problem = PROBLEMS.create("bernoulli-iwae", num_samples=number, dimension=3)
    events = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    predicted = events @ np.linspace(-1.0, 1.5, 3) + events[:, 0] * events[:, 1]
    log_joint = stats.norm.logpdf(1.0, predicted, 0.7) - 3 * np.log(2)

    def value(logits):
        p = special.expit(logits)
        q = np.prod(np.where(events > 0, p, 1 - p), axis=1)
        weights, total = np.exp(log_joint) / q, 0.0
        for chosen in itertools.product(range(8), repeat=number):
            total += np.prod(q[list(chosen)]) * np.log(np.mean(weights[list(chosen)]))
        return total

    logits, step = np.linspace(-1.5, 1.0, 3), 1e-5
    differences = [(value(logits + step * e) - value(logits - step * e)) / (2 * step) for e in np.eye(3)]
    truth = problem.truth()
    assert truth.kind == "quadrature"
    np.testing.assert_allclose(truth.gradient.logits, differences, rtol=1e-7, atol=1e-9)


def leaves(truth):
    return np.concatenate([truth.gradient.loc, truth.gradient.log_scale])


def differences(value, point):
    """Central differences of `value(loc, log_scale)`."""
    point, step = np.array(point), 1e-5
    return [(value(*(point + step * e)) - value(*(point - step * e))) / (2 * step) for e in np.eye(2)]


X, NOISE = 1.5, 0.7
LOG_JOINT = stats.norm.logpdf(LINE) + stats.norm.logpdf(X, LINE, NOISE)
EVIDENCE = stats.norm.logpdf(X, 0, np.sqrt(1 + NOISE**2))
POSTERIOR = stats.norm(X / (1 + NOISE**2), np.sqrt(NOISE**2 / (1 + NOISE**2)))


def q_of(problem):
    return problem.dist.loc[0], problem.dist.log_scale[0]


def log_q(loc, log_scale):
    return stats.norm.logpdf(LINE, loc, np.exp(log_scale))


def power_mean_of_two(loc, log_scale, power):
    """The bound of two weights, over the square."""
    line = LINE[::8]
    q = stats.norm.pdf(line, loc, np.exp(log_scale)) * 8 * STEP
    log_weights = power * (LOG_JOINT[::8] - log_q(loc, log_scale)[::8])
    return q @ (np.logaddexp(log_weights[:, None], log_weights[None]) - np.log(2)) @ q / power


def evidence_bound(loc, log_scale):
    return STEP * np.exp(log_q(loc, log_scale)) @ (LOG_JOINT - log_q(loc, log_scale))


@pytest.mark.parametrize(
    "spec, value",
    [
        ({"name": "conjugate-iwae", "num_samples": 2}, lambda *q: power_mean_of_two(*q, 1.0)),
        ({"name": "conjugate-iwae", "num_samples": 1}, evidence_bound),
        ({"name": "conjugate-renyi", "num_samples": 2, "alpha": -1.0}, lambda *q: power_mean_of_two(*q, 2.0)),
        ({"name": "conjugate-renyi", "num_samples": 2, "alpha": 0.5}, lambda *q: power_mean_of_two(*q, 0.5)),
        (
            {"name": "conjugate-jackknife", "num_samples": 2},
            lambda *q: 2 * power_mean_of_two(*q, 1.0) - evidence_bound(*q),
        ),
    ],
)
def test_bounds_of_two_weights_by_integration_over_the_square(spec, value):
    problem = PROBLEMS.create(**spec)
    np.testing.assert_allclose(leaves(problem.truth()), differences(value, q_of(problem)), rtol=2e-7, atol=1e-9)


def inclusive(loc, log_scale):
    return STEP * POSTERIOR.pdf(LINE) @ log_q(loc, log_scale)


def thermodynamic(loc, log_scale):
    total = 0.0
    for beta in (0, 0.25, 0.5, 0.75):
        log_pi = (1 - beta) * log_q(loc, log_scale) + beta * LOG_JOINT
        total += 0.25 * special.softmax(log_pi) @ (LOG_JOINT - log_q(loc, log_scale))
    return total


def evidence(loc, log_scale):
    return np.log(STEP * stats.norm.pdf(LINE, loc, np.exp(log_scale)) @ stats.norm.pdf(X, LINE, NOISE))


@pytest.mark.parametrize(
    "name, value",
    [
        ("conjugate-inclusive", inclusive),
        ("conjugate-thermodynamic", thermodynamic),
        ("conjugate-evidence", evidence),
    ],
)
def test_closed_forms_by_integration_over_the_line(name, value):
    problem = PROBLEMS.create(name)
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(leaves(truth), differences(value, q_of(problem)), rtol=1e-7, atol=1e-9)


def test_a_bound_at_the_posterior_has_no_gradient():
    for name in ("conjugate-iwae", "conjugate-renyi", "conjugate-jackknife", "conjugate-inclusive"):
        truth = PROBLEMS.create(name, shift=0.0, stretch=1.0).truth()
        np.testing.assert_allclose(leaves(truth), 0, atol=1e-10)


def test_more_samples_leave_less_gradient():
    """`K` times the gradient tends to that of `-Var(w) / (2 p(x)^2)`, in closed form for a normal `q` that is wide enough."""
    problem = PROBLEMS.create("conjugate-iwae", num_samples=1)

    def limit(loc, log_scale):
        second = STEP * np.sum(np.exp(2 * (LOG_JOINT - EVIDENCE) - log_q(loc, log_scale)))
        return -(second - 1) / 2

    expected = np.array(differences(limit, q_of(problem)))
    with jax.enable_x64(True):
        errors = []
        for number in (256, 1024):
            grads = bound_truth(problem.dist, ImportanceWeightedBound(problem.f.log_joint, number))
            errors.append(number * np.concatenate([grads.loc, grads.log_scale]) - expected)
    np.testing.assert_allclose(errors[1], 0, atol=2e-3)
    np.testing.assert_allclose(np.divide(*errors), 4, rtol=0.05)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("conjugate-iwae", {"num_samples": 0}),
        ("conjugate-jackknife", {"num_samples": 1}),
        ("conjugate-thermodynamic", {"nodes": 0}),
        ("conjugate-evidence", {"stretch": 0.0}),
        ("conjugate-inclusive", {"noise": -1.0}),
        ("bernoulli-iwae", {"dimension": 1}),
    ],
)
def test_what_makes_no_sense_is_refused(name, arguments):
    ((argument, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}` needs `{argument} >=? \\d+`, got {value}"):
        PROBLEMS.create(name, **arguments)


def test_the_signal_to_noise_ratio_falls_with_the_samples_unless_reparameterised_twice():
    """Rainforth et al. 2018: like `K^(-1/2)` for the total derivative; Tucker et al. 2019: not so for DReG, where it grows like `K^(1/2)`.

    From 4 to 64 samples that is a factor of four. A variance of 20 000 replicates is good to 3 %."""
    ratios = {}
    for estimator in (BoundPathwise(), BoundDReG()):
        found = []
        for number in (4, 64):
            problem = PROBLEMS.create("conjugate-iwae", num_samples=number)
            m = measure(estimator, problem, stream_key(0, "signal", str(number)), replicates=20_000)
            s = m.summary("loc")
            found.append(s["truth_norm"] / np.sqrt(s["variance"]))
        ratios[type(estimator)] = np.log(found[1] / found[0]) / np.log(16)
    assert -0.6 < ratios[BoundPathwise] < -0.4
    assert 0.4 < ratios[BoundDReG] < 0.6
