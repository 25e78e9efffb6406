"""Hard samples, relaxed samples and conditional latents belong together: what REBAR and its relatives rest on.

A wrong coupling leaves every estimator unbiased and gives it another variance, so no test of a mean sees it. Each check below is a
function of draws; those of the distributions must pass, and those of doubles that are coupled wrongly must not.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_law, assert_same_law
from scipy import special, stats

from estimators import Bernoulli, Categorical

DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)

# Every draw of these has seven variables, so that 150 000 of them are more than a million.
BERNOULLI = Bernoulli(np.array([-10.0, -3.0, -1.0, 0.0, 0.5, 3.0, 10.0]))
CATEGORICAL = Categorical(
    np.log([[0.98, 0.01, 0.01], [0.01, 0.01, 0.98], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2], *special.softmax(
        [[10.0, 0.0, -10.0], [-10.0, 10.0, 9.0], [0.0, -10.0, 1.0]], axis=1)])
    + np.arange(7)[:, None]
)  # fmt: skip
NUMBER = 150_000


class Draws(NamedTuple):
    """`x` and `latent` are of the same keys, `given` is `conditional(x, noise)`, `each` runs through the events of a variable; then what
    the latents round to."""

    x: np.ndarray
    latent: np.ndarray
    given: np.ndarray
    each: np.ndarray
    latent_rounded: np.ndarray
    given_rounded: np.ndarray
    given_each_rounded: np.ndarray


@jax.jit
def draws_of(dist, key):
    keys, fresh_keys = jax.random.split(key, (2, NUMBER))
    x = jax.vmap(dist.sample)(keys)
    latent = jax.vmap(lambda key: dist.perturb(dist.noise(jax.random.clone(key))))(keys)
    noise = jax.vmap(dist.noise)(fresh_keys)
    values = jnp.arange(2, dtype=x.dtype) if isinstance(dist, Bernoulli) else jnp.eye(3, dtype=x.dtype)
    each = values[(jnp.arange(NUMBER)[:, None] + jnp.arange(7)[None]) % len(values)]
    given, given_each = jax.vmap(dist.conditional)(x, noise), jax.vmap(dist.conditional)(each, noise)
    return x, latent, given, each, *(jax.vmap(dist.harden)(z) for z in (latent, given, given_each))


@functools.cache
def true_draws(family, dtype):
    dist = jax.tree.map(lambda leaf: leaf.astype(dtype), {Bernoulli: BERNOULLI, Categorical: CATEGORICAL}[family])
    return Draws(*map(np.asarray, draws_of(dist, jax.random.key(20260101))))


def assert_sample_is_the_rounded_latent(draws):
    """Exactly, except where the two ways of comparing a uniform number with a probability round differently: at most one of the 2^23
    (float32) or 2^52 numbers for each variable, next to the threshold. So a million draws differ a few times (float32) or never."""
    differ = draws.x != draws.latent_rounded
    single = draws.x.dtype == np.float32
    assert differ.sum() <= (8 if single else 0), f"{differ.sum()} samples are not the rounded latent."
    assert np.all(np.abs(draws.latent[differ]) < 1e-5), "A sample is not the rounded latent, far from the threshold."


def assert_conditional_rounds_to_its_event(draws):
    """For sampled events, and for each event of a variable as often as any other, however improbable."""
    assert draws.given.dtype == draws.x.dtype
    np.testing.assert_array_equal(draws.given_rounded, draws.x)
    np.testing.assert_array_equal(draws.given_each_rounded, draws.each)


def assert_conditional_completes_the_joint_law(draws, cdf):
    """`conditional(x, noise)` with `x` a sample has the law of the latent: each coordinate, and a projection that sees dependence."""
    assert_law(draws.given, cdf, detects=0.013)
    direction = np.cos(np.arange(draws.x[0].size)).reshape(draws.x[0].shape)

    def project(latent):
        return (np.tanh(latent) * direction).sum(axis=tuple(range(1, latent.ndim)))

    assert_same_law(project(draws.given[::2]), project(draws.latent[1::2]), detects=0.03)


# The laws of the latents: logistic at the logits, Gumbel at the log-probabilities.
LAWS = {
    Bernoulli: lambda z: stats.logistic.cdf(z, loc=np.asarray(BERNOULLI.logits)),
    Categorical: lambda z: stats.gumbel_r.cdf(z, loc=special.log_softmax(np.asarray(CATEGORICAL.logits), axis=-1)),
}


def logistic_noise(draws):
    """The noise of the latents of other rows, so that it is independent of `x`."""
    return np.roll(draws.latent, 1, axis=0) - np.asarray(BERNOULLI.logits)


def gumbel_noise(draws):
    return np.roll(draws.latent, 1, axis=0) - special.log_softmax(np.asarray(CATEGORICAL.logits), axis=-1)


def opposite_sample(draws):
    """The hard sample is `u < p`, its latent is made of the same `u` increasing: each is right, together they are not."""
    logits = np.asarray(BERNOULLI.logits)
    return draws._replace(x=(special.expit(draws.latent - logits) < special.expit(logits)).astype(float))


def independent_sample(draws):
    """The hard sample is right, and made of other noise than the latent."""
    return draws._replace(x=np.roll(draws.latent_rounded, 1, axis=0))


def opposite_conditional(draws):
    """The latent given the other event."""
    size = np.logaddexp(0, logistic_noise(draws) + np.logaddexp(0, (1 - 2 * draws.x) * np.asarray(BERNOULLI.logits)))
    given = (1 - 2 * draws.x) * size
    return draws._replace(given=given, given_rounded=(given > 0).astype(float))


def size_without_logits(draws):
    """The latent has the right sign, and a size that forgets the logits."""
    return draws._replace(given=(2 * draws.x - 1) * np.logaddexp(0, logistic_noise(draws)))


def untruncated(draws):
    """The category of the event is lifted above the others, which are not truncated below it."""
    z = np.roll(draws.latent, 1, axis=0)
    return draws._replace(given=np.where(draws.x > 0, z.max(axis=-1, keepdims=True) + 1e-3, z))


def unnormalised(draws):
    """The other categories are Gumbel at the logits instead of at the log-probabilities, and truncated."""
    noise = gumbel_noise(draws)
    top = (draws.x * noise).sum(axis=-1, keepdims=True)
    return draws._replace(
        given=np.where(draws.x > 0, top, -np.logaddexp(-np.asarray(CATEGORICAL.logits) - noise, -top))
    )


@DTYPES
@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_sample_is_the_rounded_latent(family, dtype):
    assert_sample_is_the_rounded_latent(true_draws(family, dtype))


@DTYPES
@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_conditional_rounds_to_its_event(family, dtype):
    assert_conditional_rounds_to_its_event(true_draws(family, dtype))


@DTYPES
@pytest.mark.parametrize("family", [Bernoulli, Categorical])
def test_conditional_completes_the_joint_law(family, dtype):
    assert_conditional_completes_the_joint_law(true_draws(family, dtype), LAWS[family])


@pytest.mark.parametrize("double, family", [(opposite_sample, Bernoulli), (independent_sample, Categorical)])
def test_a_sample_that_is_not_its_latent_rounded_is_rejected(double, family):
    with pytest.raises(AssertionError, match="not the rounded latent"):
        assert_sample_is_the_rounded_latent(double(true_draws(family, jnp.float64)))


def test_a_latent_of_another_event_is_rejected():
    with pytest.raises(AssertionError, match="not equal"):
        assert_conditional_rounds_to_its_event(opposite_conditional(true_draws(Bernoulli, jnp.float64)))


@pytest.mark.parametrize(
    "double, family", [(size_without_logits, Bernoulli), (untruncated, Categorical), (unnormalised, Categorical)]
)
def test_a_latent_of_the_wrong_law_is_rejected(double, family):
    with pytest.raises(AssertionError, match="Distances"):
        assert_conditional_completes_the_joint_law(double(true_draws(family, jnp.float64)), LAWS[family])


@DTYPES
def test_conditional_rounds_to_its_event_at_the_ends_of_the_noise(dtype):
    """The hundred least and the hundred greatest numbers that `noise` can return, each with each: where a latent is zero or tied
    to rounding, once in 2^23 and in about 2^26 draws in float32."""
    precision = jnp.finfo(dtype)
    steps = jnp.arange(1, 100, dtype=dtype) * precision.eps
    u = jnp.concatenate([jnp.asarray([precision.tiny], dtype), steps, 1 - steps[::-1]])
    logistic, gumbel = jnp.log(u) - jnp.log1p(-u), jnp.stack(jnp.meshgrid(*[-jnp.log(-jnp.log(u))] * 2), axis=-1)
    logits = jnp.asarray([-100.0, -10.0, 10.0, 100.0], dtype)
    bits = jnp.broadcast_to(jnp.arange(2, dtype=dtype)[:, None, None], (2, 4, u.size))
    one_hot = jnp.broadcast_to(jnp.eye(2, dtype=dtype)[:, None, None], (2, *gumbel.shape))

    @jax.jit
    def rounded():
        one = Bernoulli(jnp.broadcast_to(logits[:, None], (4, u.size)))
        two = [Categorical(jnp.broadcast_to(jnp.stack([logit, 0]), gumbel.shape)) for logit in logits]
        noise = jnp.broadcast_to(logistic, one.logits.shape)
        again = jax.vmap(lambda x: one.harden(one.conditional(x, noise)))(bits)
        return again, [jax.vmap(lambda x, d=d: d.harden(d.conditional(x, gumbel)))(one_hot) for d in two]

    again, others = rounded()
    np.testing.assert_array_equal(again, bits)
    for other in others:
        np.testing.assert_array_equal(other, one_hot)


@jax.jit
def conditioned(dist, x, key):
    """Latents given the event `x`, one for each row of it."""
    return jax.vmap(lambda x, key: dist.conditional(x, dist.noise(key)))(x, jax.random.split(key, len(x)))


@pytest.mark.parametrize("logit", [-2.0, 0.5])
def test_law_of_the_bernoulli_latent_given_its_event(logit, key):
    """`(F(z) - F(0)) / (1 - F(0))` above zero and `F(z) / F(0)` below it, `F` logistic at the logit."""
    events = jnp.broadcast_to(jnp.arange(2.0), (NUMBER, 2))
    z = np.asarray(conditioned(Bernoulli(jnp.full(2, logit)), events, key))
    below, cdf = stats.logistic.cdf(0, loc=logit), lambda z: stats.logistic.cdf(z, loc=logit)
    assert np.all(z[:, 0] <= 0) and np.all(z[:, 1] > 0)
    assert_law(z[:, 0], lambda z: cdf(z) / below, detects=0.013)
    assert_law(z[:, 1], lambda z: (cdf(z) - below) / (1 - below), detects=0.013)


def test_law_of_the_categorical_latents_given_their_event(key):
    """The top is a standard Gumbel variable whatever the event. Given the top `s`, category `j` has the distribution function
    `exp(-pi_j (exp(-z) - exp(-s)))` below it, so that this number is uniform: independently, as their sum shows."""
    pi = np.array([0.5, 0.3, 0.2])
    events = jnp.broadcast_to(jnp.eye(3), (NUMBER, 3, 3))
    z = np.asarray(conditioned(Categorical(jnp.broadcast_to(jnp.log(pi), (3, 3))), events, key))
    for k in range(3):
        top, others = z[:, k, k], [j for j in range(3) if j != k]
        uniform = np.exp(-pi[others] * (np.exp(-z[:, k, others]) - np.exp(-top[:, None])))
        assert_law(top, stats.gumbel_r.cdf, detects=0.013)
        assert_law(uniform, stats.uniform.cdf, detects=0.013)
        for sums in (uniform.sum(axis=1), uniform[:, 0] + stats.gumbel_r.cdf(top)):
            assert_law(sums, lambda s: stats.triang.cdf(s, 0.5, scale=2), detects=0.013)


@jax.jit
def relaxed(dist, key, temperature):
    z = jax.vmap(lambda key: dist.perturb(dist.noise(key)))(jax.random.split(key, 10_000))
    return z, jax.vmap(lambda z: dist.relax(z, temperature))(z), jax.vmap(dist.harden)(z)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("dist", [BERNOULLI, CATEGORICAL], ids=lambda dist: type(dist).__name__)
def test_relaxation_lies_in_the_hull_and_tends_to_the_rounded_latent(dist, temperature, key):
    """Its own rounding is that of the latent, and it is off by at most `categories * exp(-gap / temperature)`."""
    z, soft, hard = (np.asarray(array) for array in relaxed(dist, key, jnp.asarray(temperature)))
    assert np.all(soft >= 0) and np.all(soft <= 1)
    if isinstance(dist, Bernoulli):
        np.testing.assert_array_equal(soft > 0.5, hard == 1)
        gap = np.abs(z)
    else:
        np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-12)
        np.testing.assert_array_equal(soft.argmax(axis=-1), hard.argmax(axis=-1))
        gap = np.diff(np.sort(z, axis=-1)[..., -2:], axis=-1)
    assert np.all(np.abs(soft - hard) <= 3 * np.exp(-gap / temperature) + 1e-12)
    assert np.all(np.abs(soft - hard) >= np.exp(-(z.max() - z.min()) / temperature) / 3 - 1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_bernoulli_relaxation_is_that_of_two_categories(temperature, key):
    """Both have the law `P(y <= a) = F(temperature logit(a) - logit)`, `F` logistic; the noises are `g_0 - g_1` and Gumbel `g`."""
    logit = 0.8
    one, two = Bernoulli(jnp.asarray(logit)), Categorical(jnp.asarray([logit, 0.0]))

    @jax.jit
    def both(key, t):
        key_one, key_two = jax.random.split(key)
        gumbel = jax.vmap(two.noise)(jax.random.split(key_two, NUMBER))
        logistic = jax.vmap(one.noise)(jax.random.split(key_one, NUMBER))
        pairs = jax.vmap(lambda g: two.relax(two.perturb(g), t)[0])(gumbel)
        same = one.relax(one.perturb(gumbel[:, 0] - gumbel[:, 1]), t)
        return pairs, same, one.relax(one.perturb(logistic), t)

    pairs, same, single = both(key, jnp.asarray(temperature))
    np.testing.assert_allclose(pairs, same, rtol=1e-10, atol=1e-14)
    for soft in (single, pairs):
        assert_law(soft, lambda y: stats.logistic.cdf(temperature * special.logit(y) - logit), detects=0.013)


@pytest.mark.parametrize(
    "dist",
    [Bernoulli(BERNOULLI.logits[1:5]), Categorical(CATEGORICAL.logits[:3])],
    ids=lambda dist: type(dist).__name__,
)
def test_mean_is_the_sum_over_the_support(dist):
    events = dist.support()
    probabilities = np.exp(jax.vmap(dist.log_prob)(events))
    np.testing.assert_allclose(dist.mean(), np.tensordot(probabilities, events, axes=1), rtol=1e-12)


@pytest.mark.parametrize("dist", [Bernoulli(BERNOULLI.logits), CATEGORICAL], ids=lambda dist: type(dist).__name__)
def test_latents_are_differentiable_in_the_logits(dist, key):
    """`perturb`, `conditional` and `relax` of it, along two directions, against central differences on prescribed noise."""
    key_x, key_noise = jax.random.split(key)
    x, noise = dist.sample(key_x), dist.noise(key_noise)

    def latents(logits):
        moved = type(dist)(logits)
        conditional = moved.conditional(x, noise)
        return moved.perturb(noise), conditional, moved.relax(conditional, jnp.asarray(0.7)), moved.mean()

    @jax.jit
    def slopes(tangent):
        exact = jax.jvp(latents, (dist.logits,), (tangent,))[1]
        after, before = latents(dist.logits + 1e-5 * tangent), latents(dist.logits - 1e-5 * tangent)
        return exact, jax.tree.map(lambda a, b: (a - b) / 2e-5, after, before)

    for tangent in (jnp.ones_like(dist.logits), jnp.cos(jnp.arange(dist.logits.size)).reshape(dist.logits.shape)):
        for exact, difference in zip(*slopes(tangent), strict=True):
            np.testing.assert_allclose(exact, difference, rtol=1e-6, atol=1e-8)
