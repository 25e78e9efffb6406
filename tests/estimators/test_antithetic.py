"""AR, ARM and DisARM, integrated over their noise without error.

For each variable the uniform `u = sigmoid(noise)` matters through which side of `p` and of `1 - p` it is on,
and in AR and ARM through a factor that is linear in it. So two Gauss nodes in each of the three intervals integrate an
estimate and its square exactly, and products of these rules do so for several variables.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import OneBit, Tangled, counted_evaluations, exact_gradient, moments, prescribed_estimates, tuples

from estimators import Bernoulli, Normal, incompatibility
from estimators.antithetic import AR, ARM, DisARM

LOGITS = np.array([-1.0, 0.4, 1.3])
BOTH = [ARM(), DisARM()]

each = pytest.mark.parametrize("estimator", BOTH, ids=["ARM", "DisARM"])


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def logit(u):
    return np.log(u) - np.log1p(-u)


def rule(p):
    """Nodes and weights for one uniform variable; the nodes `2 i` and `2 i + 1` are those of the interval `i`."""
    edges = np.array([0.0, min(p, 1 - p), max(p, 1 - p), 1.0])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * np.array([-1, 1]) / np.sqrt(3)).ravel(), np.repeat(half, 2)


def product_rule(logits):
    """Noises and weights of the product over the variables."""
    nodes, weights = zip(*(rule(p) for p in sigmoid(logits)), strict=True)
    u, weights = np.array(list(itertools.product(*nodes))), np.array(list(itertools.product(*weights)))
    return logit(u), np.prod(weights, axis=1)


def integrated(estimator, logits, f):
    """Weights and estimates over all the noise."""
    noises, weights = product_rule(logits)
    number = estimator.num_samples if isinstance(estimator, AR) else estimator.num_pairs
    indices, weights = tuples(weights, number)
    keys = jax.random.split(jax.random.key(0), number)
    return weights, np.asarray(prescribed_estimates(estimator, None, logits, noises[indices], f, keys)[0])


def assert_unbiased(estimator, logits, f):
    mean, _ = moments(*integrated(estimator, logits, f))
    np.testing.assert_allclose(mean, exact_gradient(logits, f), rtol=1e-10, atol=1e-13)


class Table(eqx.Module):
    """Any function of three bits: its eight values."""

    values: jax.Array

    def __call__(self, x):
        return jnp.vdot(self.values.reshape(2, 2, 2)[tuple(x.astype(int))], 1.0)


class OtherMember(ARM):
    """Wrong on purpose: the factor of the other member of the pair."""

    def gradient(self, key, dist, f):
        return jax.tree.map(jnp.negative, ARM.gradient(self, key, dist, f))


class InProbabilities(DisARM):
    """Wrong on purpose: multiplied by the derivative of the probabilities, as if it were not in the logits."""

    def gradient(self, key, dist, f):
        p = dist.mean()
        return Bernoulli(p * (1 - p) * DisARM.gradient(self, key, dist, f).logits)


class ThresholdOfOne(DisARM):
    """Wrong on purpose: the probability of one in place of the larger of the two."""

    def gradient(self, key, dist, f):
        larger = jax.nn.sigmoid(jnp.abs(dist.logits))
        return Bernoulli(dist.mean() / larger * DisARM.gradient(self, key, dist, f).logits)


@pytest.mark.parametrize("estimator", [AR(), AR(num_samples=2), *BOTH], ids=repr)
@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_the_mean_on_one_bit_is_the_gradient(estimator, p):
    assert_unbiased(estimator, np.log([p / (1 - p)]), OneBit(0.3, -1.1))


@pytest.mark.parametrize("estimator", [AR(), *BOTH], ids=repr)
def test_the_mean_over_all_noise_is_the_gradient(estimator):
    assert_unbiased(estimator, LOGITS, Tangled())


@pytest.mark.parametrize(
    "wrong", [OtherMember(), InProbabilities(), ThresholdOfOne()], ids=lambda wrong: type(wrong).__name__
)
def test_wrong_signs_and_factors_are_rejected(wrong):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_unbiased(wrong, LOGITS, Tangled())


def test_both_members_of_the_pair_have_the_law_of_the_events():
    noises, weights = product_rule(LOGITS)
    dist = Bernoulli(LOGITS)
    for sign in (1, -1):
        events = np.asarray(dist.harden(jax.vmap(dist.perturb)(sign * noises)))
        for event in itertools.product((0.0, 1.0), repeat=3):
            frequency = weights[np.all(events == event, axis=1)].sum()
            np.testing.assert_allclose(frequency, np.exp(dist.log_prob(jnp.array(event))), rtol=1e-12)


@pytest.mark.parametrize("p", [0.2, 0.3, 0.5, 0.7, 0.9])
def test_closed_form_variances_on_one_bit(p):
    difference, smaller, v = -1.4, min(p, 1 - p), p * (1 - p)
    logits, f = np.log([p / (1 - p)]), OneBit(0.3, 0.3 + difference)
    _, variance = moments(*integrated(ARM(), logits, f))
    np.testing.assert_allclose(variance, [difference**2 * ((1 - abs(1 - 2 * p) ** 3) / 12 - v**2)], rtol=1e-11)
    _, variance = moments(*integrated(DisARM(), logits, f))
    expected = difference**2 * (1 - smaller) ** 2 * smaller * (1 - 2 * smaller) / 2
    np.testing.assert_allclose(variance, [expected], rtol=1e-10, atol=1e-30)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
def test_closed_form_variance_of_ar_on_one_bit(p):
    f0, f1, tilt = 0.3, -1.1, (1 - 2 * p) ** 3
    second = (f0**2 * (1 + tilt) + f1**2 * (1 - tilt)) / 6
    for number in (1, 2):
        _, variance = moments(*integrated(AR(num_samples=number), np.log([p / (1 - p)]), OneBit(f0, f1)))
        np.testing.assert_allclose(variance, [(second - (p * (1 - p) * (f1 - f0)) ** 2) / number], rtol=1e-10)


@pytest.mark.parametrize(
    ("target", "gradient", "arm"), [(0.45, 0.025, 2.083e-4), (0.49, 0.005, 8.33e-6), (0.499, 5e-4, 8.33e-8)]
)
def test_published_values_of_the_classic_toy(target, gradient, arm):
    """`(b - target)^2` at logit 0, where DisARM has no variance at all."""
    f = OneBit(target**2, (1 - target) ** 2)
    for estimator, quoted in [(ARM(), arm), (DisARM(), 0.0)]:
        mean, variance = moments(*integrated(estimator, np.zeros(1), f))
        np.testing.assert_allclose(mean, [gradient], rtol=1e-12)
        np.testing.assert_allclose(variance, [quoted], rtol=1e-3, atol=1e-25)


def test_disarm_is_the_mean_of_arm_given_the_pair():
    """Given the pair, each `u` is uniform on one of its three intervals: the mean over its two nodes there."""
    weights, arm = integrated(ARM(), LOGITS, Tangled())
    _, disarm = integrated(DisARM(), LOGITS, Tangled())
    cells = (3, 2, 3, 2, 3, 2, 3)
    given_the_pair = arm.reshape(cells).mean(axis=(1, 3, 5), keepdims=True)
    np.testing.assert_allclose(disarm.reshape(cells), np.broadcast_to(given_the_pair, cells), rtol=1e-10, atol=1e-14)


def test_arm_is_the_average_of_ar_and_its_mirror_image():
    noises, _ = product_rule(LOGITS)
    ar, mirrored, arm = (
        prescribed_estimates(estimator, None, LOGITS, sign * noises[:, None], Tangled())[0]
        for estimator, sign in [(AR(), 1), (AR(), -1), (ARM(), 1)]
    )
    np.testing.assert_allclose((ar + mirrored) / 2, arm, rtol=1e-11, atol=1e-14)


def test_the_mean_of_ar_given_the_event_is_the_score_function():
    """So the variances differ by the mean variance of AR given the event."""
    dist, (weights, ar) = Bernoulli(LOGITS), integrated(AR(), LOGITS, Tangled())
    noises, _ = product_rule(LOGITS)
    events = np.asarray(dist.harden(jax.vmap(dist.perturb)(noises)))
    for event in itertools.product((0.0, 1.0), repeat=3):
        given = np.all(events == event, axis=1)
        score = np.array(event) - sigmoid(LOGITS)
        mean = weights[given] @ ar[given] / weights[given].sum()
        np.testing.assert_allclose(mean, Tangled()(jnp.array(event)) * score, rtol=1e-11)


def test_disarm_is_never_worse_than_arm_whatever_the_function():
    """Their variances differ by the mean variance of ARM given the pair, which is positive unless `f` is constant."""
    for values in np.random.default_rng(0).normal(size=(5, 8)):
        weights, arm = integrated(ARM(), LOGITS, Table(values))
        _, disarm = integrated(DisARM(), LOGITS, Table(values))
        (_, of_arm), (_, of_disarm) = moments(weights, arm), moments(weights, disarm)
        np.testing.assert_allclose(of_arm, of_disarm + weights @ (arm - disarm) ** 2, rtol=1e-11)
        assert np.all(of_disarm < of_arm)


@pytest.mark.parametrize("family", [ARM, DisARM])
def test_pairs_are_independent_and_averaged(family):
    logits, f = LOGITS[:1], OneBit(0.3, -1.1)
    one_mean, one_variance = moments(*integrated(family(num_pairs=1), logits, f))
    mean, variance = moments(*integrated(family(num_pairs=2), logits, f))
    np.testing.assert_allclose(mean, one_mean, rtol=1e-12)
    np.testing.assert_allclose(variance, one_variance / 2, rtol=1e-11)


@each
def test_the_estimate_scales_with_f_and_never_sees_a_constant(estimator):
    _, estimates = integrated(estimator, LOGITS, Tangled())
    for scale in (1e-6, 1e6):
        _, scaled = integrated(estimator, LOGITS, Tangled(scale=scale))
        np.testing.assert_allclose(scaled / scale, estimates, rtol=1e-11, atol=1e-15)
    _, shifted = integrated(estimator, LOGITS, Tangled(shift=7.0))
    np.testing.assert_allclose(shifted, estimates, atol=1e-14)
    _, constant = integrated(estimator, LOGITS, Tangled(scale=0.0, shift=-123.4))
    np.testing.assert_array_equal(constant, 0.0)


@pytest.mark.parametrize("estimator", [ARM(), DisARM(), ARM(num_pairs=3), DisARM(num_pairs=2)], ids=repr)
def test_declared_evaluations_are_the_calls_of_f(estimator):
    dist = Bernoulli(logits=LOGITS)
    assert counted_evaluations(estimator, dist) == estimator.evaluations(dist) == 2 * estimator.num_pairs


def test_ar_evaluates_once_a_sample_and_needs_one():
    dist = Bernoulli(logits=LOGITS)
    assert counted_evaluations(AR(num_samples=3), dist) == AR(num_samples=3).evaluations(dist) == 3
    with pytest.raises(ValueError, match="`AR` needs `num_samples >= 1`, got 0"):
        AR(num_samples=0)
    reason = incompatibility(AR(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == "`AR` needs a `Bernoulli` distribution, and `Normal` is not one."


@pytest.mark.parametrize("family", [ARM, DisARM])
def test_what_does_not_fit_is_refused_with_a_reason(family):
    name = family.__name__
    with pytest.raises(ValueError, match=rf"`{name}` needs `num_pairs >= 1`, got 0; one pair is two samples"):
        family(num_pairs=0)
    reason = incompatibility(family(), Normal(loc=[0.0], log_scale=[0.0]), jnp.sum)
    assert reason == f"`{name}` needs a `Bernoulli` distribution, and `Normal` is not one."
