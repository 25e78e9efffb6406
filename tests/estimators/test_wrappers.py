"""`Averaged`: what a mean of independent estimates is and is not, for stateless and for adaptive estimators."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import Tangled, counted_evaluations, exact_gradient, moments, outcomes, prescribed_estimates, tuples

from estimators import Bernoulli, BlackBox, Normal, Pathwise, incompatibility
from estimators.antithetic import DisARM
from estimators.baselines import LearnedBaseline
from estimators.score_function import LeaveOneOut, ScoreFunction
from estimators.wrappers import Averaged

LOGITS = np.array([-1.0, 0.4, 1.3])


class SharedKey(Averaged):
    """Wrong on purpose: every estimate is made from the same key, so that they are one estimate."""

    def estimate(self, key, state, dist, f):
        return self.estimator.estimate(jax.random.split(key, self.num_estimates)[0], state, dist, f)


def two_estimates(wrapper):
    """Probabilities of all pairs of samples, and the averages of the two estimates that they make."""
    events, probabilities = outcomes(LOGITS)
    indices, weights = tuples(probabilities, 2)
    keys = jax.vmap(lambda key: jax.random.split(key, 1)[0])(jax.random.split(jax.random.key(0), 2))
    return weights, prescribed_estimates(wrapper, None, LOGITS, events[indices], Tangled(), keys)[0]


def assert_half_the_variance(wrapper):
    events, probabilities = outcomes(LOGITS)
    _, one = moments(probabilities, prescribed_estimates(ScoreFunction(), None, LOGITS, events[:, None], Tangled())[0])
    mean, variance = moments(*two_estimates(wrapper))
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11)
    np.testing.assert_allclose(variance, one / 2, rtol=1e-11)


def test_two_estimates_have_the_mean_of_one_and_half_its_variance():
    assert_half_the_variance(Averaged(ScoreFunction(), num_estimates=2))


def test_estimates_of_one_key_are_rejected():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_half_the_variance(SharedKey(ScoreFunction(), num_estimates=2))


def test_gradient_and_statistics_are_the_means_over_independent_keys_in_one_state():
    inner, dist = LearnedBaseline(width=3), Bernoulli(LOGITS)
    wrapper = Averaged(inner, num_estimates=3)
    state = eqx.filter_jit(inner.init)(jax.random.key(1), dist)

    @eqx.filter_jit
    def averaged(state, f):
        grads, stats = wrapper.estimate(jax.random.key(0), state, dist, f)
        return grads, stats, wrapper.adapt(state, stats)

    @eqx.filter_jit
    def one_by_one(state, f):
        keys = jax.random.split(jax.random.key(0), 3)
        estimates = jax.lax.map(lambda key: inner.estimate(key, state, dist, f), keys)
        grads, stats = jax.tree.map(lambda leaf: leaf.sum(axis=0) / 3, estimates)
        return grads, stats, inner.adapt(state, stats)

    for step in range(2):
        got, wanted = averaged(state, Tangled()), one_by_one(state, Tangled())
        for a, b in zip(*(jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (got, wanted)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13, err_msg=f"step {step}")
        state = got[2]


def test_declarations_are_those_of_the_estimator_inside():
    wrapper = Averaged(Pathwise(), num_estimates=4)
    assert wrapper.requires == Pathwise().requires
    assert wrapper.unbiased is True
    assert incompatibility(wrapper, Bernoulli(LOGITS), jnp.sum) == (
        "`Averaged` needs a reparameterizable distribution, and `Bernoulli` is not one."
    )
    normal = Normal(loc=[0.0], log_scale=[0.0])
    assert incompatibility(wrapper, normal, jnp.sum) is None
    assert "`Averaged` needs a differentiable objective" in incompatibility(wrapper, normal, BlackBox(jnp.sum))


class Biased(ScoreFunction):
    """An estimator that declares a bias."""

    unbiased = False


def test_a_biased_estimator_stays_biased():
    assert Averaged(Biased(), num_estimates=2).unbiased is False


@pytest.mark.parametrize(
    ("wrapper", "evaluations"),
    [
        (Averaged(DisARM(), 3), 6),
        (Averaged(Averaged(LeaveOneOut(2), 2), 2), 8),
        (Averaged(LearnedBaseline(width=3), 1), 1),
    ],
    ids=["DisARM", "nested", "LearnedBaseline"],
)
def test_declared_evaluations_are_the_calls_of_f(wrapper, evaluations):
    dist = Bernoulli(LOGITS)
    assert counted_evaluations(wrapper, dist) == wrapper.evaluations(dist) == evaluations


def test_no_estimates_are_refused():
    with pytest.raises(ValueError, match=r"`Averaged` needs `num_estimates >= 1`, got 0"):
        Averaged(ScoreFunction(), num_estimates=0)
