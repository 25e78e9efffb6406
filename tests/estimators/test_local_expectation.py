"""Local expectations, summed over the draw that all variables share."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import smooth
from jaxtyping import Array, Float
from orders import DISTRIBUTIONS, terms
from prescribed import moments

from estimators import Bernoulli, BlackBox, Categorical, LocalExpectation, MeasureValued, Normal, incompatibility

each = pytest.mark.parametrize("name", DISTRIBUTIONS)


class PrescribedBernoulli(Bernoulli):
    event: Float[Array, "..."]

    def sample(self, key):
        return self.event


class PrescribedCategorical(Categorical):
    event: Float[Array, "..."]

    def sample(self, key):
        return self.event


@eqx.filter_jit
def estimates(estimator, dist, f):
    """The estimate made of each event of the support."""
    prescribed = PrescribedBernoulli if isinstance(dist, Bernoulli) else PrescribedCategorical
    return jax.vmap(lambda x: estimator.gradient(jax.random.key(0), prescribed(dist.logits, x), f).logits)(
        dist.support()
    )


def separable(x):
    return jnp.sum(jnp.sin(3.0 * x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)))


class Unshared(LocalExpectation):
    """Wrong on purpose: the value that was drawn is summed with the others, and weighted by its score."""

    def gradient(self, key, dist, f):
        x = dist.sample(key)
        return jax.grad(lambda d: f(x) * jnp.sum(jnp.log(d.marginals())))(dist)


@each
def test_the_mean_over_the_shared_draw_is_the_gradient(name):
    dist = DISTRIBUTIONS[name]()
    p, _, _, exact = terms(dist, smooth)
    mean, _ = moments(p, estimates(LocalExpectation(), dist, smooth))
    np.testing.assert_allclose(mean, exact, rtol=1e-11, atol=1e-14)


def test_a_wrong_sum_is_rejected():
    dist = DISTRIBUTIONS["two of three"]()
    p, _, _, exact = terms(dist, smooth)
    mean, _ = moments(p, estimates(Unshared(), dist, smooth))
    assert np.abs(mean - exact).max() > 0.01


@pytest.mark.parametrize("name", ["three bits", "two of three"])
def test_it_is_the_score_function_given_the_other_variables(name):
    """Of each variable the score function is averaged over its own values, as the others are held: the definition of both
    the conditional expectation and of what is not noise any more."""
    dist = DISTRIBUTIONS[name]()
    p, f, scores, _ = terms(dist, smooth)
    score_function, local = (
        f.reshape(-1, *[1] * (scores.ndim - 1)) * scores,
        estimates(LocalExpectation(), dist, smooth),
    )
    events = np.asarray(dist.support()).reshape(len(p), -1, 1 if name == "three bits" else 3)
    score_function, local = (np.reshape(g, events.shape) for g in (score_function, local))
    for variable in range(events.shape[1]):
        others = np.delete(events, variable, axis=1)
        for event in range(len(p)):
            same = np.all(others == others[event], axis=(1, 2))
            expected = p[same] @ score_function[same, variable] / p[same].sum()
            np.testing.assert_allclose(local[event, variable], expected, rtol=1e-10, atol=1e-13)
    assert np.all(moments(p, local)[1] < moments(p, score_function)[1])


def test_on_bits_it_is_the_measure_valued_estimator():
    dist = DISTRIBUTIONS["three bits"]()
    local, measure_valued = (estimates(e, dist, smooth) for e in (LocalExpectation(), MeasureValued()))
    np.testing.assert_allclose(local, measure_valued, rtol=1e-12, atol=1e-15)


@each
def test_a_sum_of_functions_of_one_variable_each_leaves_no_noise(name):
    dist = DISTRIBUTIONS[name]()
    exact = terms(dist, separable).exact
    grads = estimates(LocalExpectation(), dist, separable)
    np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), rtol=1e-11, atol=1e-14)


@jax.jit
def local_law(dist, x):
    """Marginals, replacements, and the probabilities of these."""
    events = dist.replacements(x)
    return dist.marginals(), events, jnp.exp(jax.vmap(jax.vmap(dist.log_prob))(events))


@pytest.mark.parametrize(
    "dist, values",
    [
        (Bernoulli(0.3), [[0], [1]]),
        (Bernoulli([-1.0, 0.4, 1.3]), [[0], [1]]),
        (Categorical([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]]), np.eye(3)),
    ],
    ids=["one bit", "three bits", "two of three"],
)
def test_marginals_and_replacements_belong_together(dist, values):
    """A replacement differs in one variable only and takes each of its values once; the marginals are its probabilities."""
    x = np.ones_like(dist.logits) if len(values) == 2 else np.eye(3)[[2, 0]]
    marginals, events, p = local_law(dist, x)
    assert events.shape == (*marginals.shape, *dist.event_shape)
    variables, (count, width) = len(marginals), np.shape(values)
    events, own = np.reshape(events, (variables, count, variables, width)), np.reshape(x, (variables, width))
    for i in range(variables):
        others = np.broadcast_to(np.delete(own, i, axis=0), (count, variables - 1, width))
        np.testing.assert_array_equal(np.delete(events[i], i, axis=1), others)
        np.testing.assert_array_equal(events[i, :, i], values)
    np.testing.assert_allclose(marginals, p / np.sum(p, axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("logits", [[-10.0, 10.0], [[-10.0, 0.0, 10.0]], np.log([[0.98, 0.01, 0.01]])], ids=str)
def test_skewed_probabilities_in_single_precision(logits):
    family = Bernoulli if np.ndim(logits) == 1 else Categorical
    dist, precise = family(np.float32(logits)), family(np.float64(np.float32(logits)))
    grads = np.asarray(estimates(LocalExpectation(), dist, separable))
    assert grads.dtype == np.float32
    _, f, _, exact = terms(precise, separable)
    exact, smallest = np.broadcast_to(exact, grads.shape), np.finfo(np.float32).eps * np.abs(f).max()
    np.testing.assert_allclose(grads, exact, rtol=1e-6, atol=2 * smallest)


def test_what_it_needs():
    normal = Normal(loc=[0.0], log_scale=[0.0])
    sentence = "`LocalExpectation` needs a factorized distribution, and `Normal` is not one."
    assert incompatibility(LocalExpectation(), normal, jnp.sum) == sentence
    assert incompatibility(LocalExpectation(), Bernoulli([0.0]), BlackBox(jnp.sum)) is None
