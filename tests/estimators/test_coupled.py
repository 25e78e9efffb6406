"""Coupled noises: means and variances over all that is drawn, in one dimension by quadrature, on bits by enumeration.

A uniform point is prescribed. For a normal variable it is the distribution function at a node, so that an integral over the point is one
over smooth noise; on bits an estimate is constant on cells of the cube, and one point of each cell with its volume is all there is.
"""

import contextlib
import itertools
import math
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from counts import drawing, prescribed
from hermite import rule
from jaxtyping import Array, Float
from prescribed import Tangled, counted_evaluations, exact_gradient, moments
from scipy import integrate, special, stats

from estimators import (
    Antithetic,
    Averaged,
    Bernoulli,
    BlackBox,
    Categorical,
    LatinHypercube,
    MomentMatched,
    MultivariateNormal,
    Normal,
    Pathwise,
    Poisson,
    QuasiMonteCarlo,
    ScoreFunction,
    StratifiedScoreFunction,
    coupled,
    incompatibility,
    quasi_monte_carlo,
)

LOC, SIGMA, K = 1.0, 0.8, -1.5
NORMAL = Normal(loc=[LOC], log_scale=[math.log(SIGMA)])
LOGITS = np.array([-1.0, 0.4, 1.3])
BITS = Bernoulli(LOGITS[:2])


def squared(x):
    return jnp.sum((x - K) ** 2)


def cosine(x):
    return jnp.sum(jnp.cos(2.0 * x))


def two_bits(x):
    return Tangled()(jnp.array([x[0], x[1], 1.0]))


LAWS = [
    (Normal(np.zeros(3), np.zeros(3)), stats.norm),
    (MultivariateNormal(np.zeros(3), np.arange(6.0)), stats.norm),
    (Bernoulli(LOGITS), stats.logistic),
    (Categorical(LOGITS), stats.gumbel_r),
    (Poisson(LOGITS), stats.uniform),
]


@pytest.mark.parametrize(
    "dist, law", LAWS, ids=lambda case: type(case).__name__ if isinstance(case, eqx.Module) else ""
)
def test_noise_stands_where_it_is_told_in_its_distribution_function(dist, law):
    u = np.linspace(0.001, 0.999, 30).reshape(10, 3)
    np.testing.assert_allclose(law.cdf(jax.vmap(dist.noise_at)(u)), u, rtol=1e-12)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), dist)
    ends = jnp.array([2.0**-24, 0.5, 1 - 2.0**-24], jnp.float32)
    noise = single.noise_at(ends)
    assert noise.dtype == jnp.float32 and np.all(np.isfinite(noise)) and np.all(np.diff(noise) > 0)


@pytest.fixture(scope="module")
def line():
    """Uniform points at evenly spaced normal noise, and the weights of the trapezoidal rule."""
    noise = np.linspace(-8.2, 8.2, 401)
    weights = stats.norm.pdf(noise) * (noise[1] - noise[0])
    return special.ndtr(noise), weights / weights.sum()


A, S = LOC - K, SIGMA
CLOSED = {
    "pathwise": (Antithetic(Pathwise()), 0.0, 8 * S**4),
    "score function": (Antithetic(ScoreFunction()), 8 * A**2, 2 * A**4 + 20 * A**2 * S**2 + 74 * S**4),
}


@pytest.mark.parametrize("estimator, along_loc, along_log_scale", CLOSED.values(), ids=CLOSED)
def test_a_mirrored_pair_keeps_the_even_part_of_a_quadratic(line, estimator, along_loc, along_log_scale):
    u, weights = line
    grads = prescribed(estimator, NORMAL, squared, u[:, None, None])
    for leaf, exact, variance in ((grads.loc, 2 * A, along_loc), (grads.log_scale, 2 * S**2, along_log_scale)):
        mean, found = moments(weights, leaf)
        np.testing.assert_allclose(mean, [exact], rtol=1e-10)
        np.testing.assert_allclose(found, [variance], rtol=1e-9, atol=1e-14)


def test_nothing_is_left_of_the_noise_for_a_linear_objective(line):
    grads = prescribed(Antithetic(Pathwise()), NORMAL, lambda x: 3.0 * jnp.sum(x), line[0][100:-100, None, None])
    np.testing.assert_allclose(grads.loc, np.full_like(grads.loc, 3.0), rtol=1e-14)
    np.testing.assert_allclose(grads.log_scale, np.zeros_like(grads.log_scale), atol=1e-9)


def test_correlated_variables_are_made_of_mirrored_noise_too():
    """Of a quadratic function a pair has the gradient along the mean, and in the mean over the noise that along the factor."""
    dist, hessian = MultivariateNormal([0.7, -0.4], [-0.3, 0.9, 0.2]), np.array([[1.4, -0.6], [-0.6, 0.5]])
    f = lambda x: jnp.vdot(x, jnp.asarray(hessian) @ x) / 2 + 0.9 * x[0]  # noqa: E731
    noise, weights = rule(dimension=2, nodes=3)
    grads = prescribed(Antithetic(Pathwise()), dist, f, special.ndtr(noise)[:, None])
    exact = jax.grad(lambda d: f(d.loc) + jnp.vdot(hessian, d.covariance()) / 2)(dist)
    np.testing.assert_allclose(grads.loc, np.tile(exact.loc, (len(noise), 1)), rtol=1e-12)
    np.testing.assert_allclose(moments(weights, grads.triangle)[0], exact.triangle, rtol=1e-10)


def test_an_even_integrand_is_seen_twice_at_one_place():
    """At `a = 0` the pathwise term along the scale is even: a pair is worth one noise, and `Averaged` is twice as good."""
    dist, u = Normal(loc=[K], log_scale=[0.0]), np.array([0.13, 0.6])[:, None, None]
    pair = prescribed(Antithetic(Pathwise()), dist, squared, u).log_scale
    one = jax.vmap(lambda u: Pathwise().from_noise(dist.noise_at(u[0]), dist, squared))(u).log_scale
    np.testing.assert_allclose(pair, one, rtol=1e-13)


def test_pairs_are_averaged():
    u = np.array([0.13, 0.6, 0.82])
    three = prescribed(Antithetic(Pathwise(), num_pairs=3), NORMAL, cosine, u[None, :, None])
    one = prescribed(Antithetic(Pathwise()), NORMAL, cosine, u[:, None, None])
    for leaf, leaves in zip(jax.tree.leaves(three), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(leaf[0], np.mean(leaves, axis=0), rtol=1e-13)


def test_a_mirrored_pair_on_bits_has_the_gradient_for_a_mean():
    p = special.expit(LOGITS)
    edges = np.sort(np.stack([np.zeros(3), p, 1 - p, np.ones(3)]), axis=0)
    middles = itertools.product(*((edges[1:] + edges[:-1]) / 2).T)
    volumes = np.prod(list(itertools.product(*np.diff(edges, axis=0).T)), axis=1)
    grads = prescribed(Antithetic(ScoreFunction()), Bernoulli(LOGITS), Tangled(), np.array(list(middles))[:, None])
    mean, _ = moments(volumes, grads.logits)
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11)


@contextlib.contextmanager
def strata(given):
    """Strata are these, for a permutation and for a scrambling alike."""
    with (
        mock.patch.object(jax.random, "permutation", lambda key, order, **options: given.reshape(order.shape)),
        mock.patch.object(quasi_monte_carlo, "scrambled", lambda key, table: given.reshape(table.shape)),
    ):
        yield


def estimates(estimator, dist, f, given, places):
    """The estimates that the strata and the places within them make."""

    @jax.jit
    @jax.vmap
    def run(given, places):
        with strata(given), drawing(places):
            return estimator.gradient(jax.random.key(0), dist, f)

    return run(jnp.asarray(given), jnp.asarray(places))


def every_permutation(number, dimension):
    orders = np.array(list(itertools.permutations(range(number))))
    chosen = np.array(list(itertools.product(range(len(orders)), repeat=dimension)))
    return np.moveaxis(orders[chosen], 1, 2)


def every_scrambling(number, dimension):
    """The strata that all flips of the tree make; the first row of flips belongs to no node."""
    table = quasi_monte_carlo.sobol_strata(number, dimension)
    free = (number - 1) * dimension
    flips = (np.arange(2**free)[:, None] >> np.arange(free)[None]) & 1
    flips = np.concatenate([np.zeros((2**free, dimension), int), flips], axis=1).reshape(-1, number, dimension)

    @jax.jit
    @jax.vmap
    def run(flips):
        with mock.patch.object(jax.random, "bernoulli", lambda key, p, shape: flips.reshape(shape) == 1):
            return quasi_monte_carlo.scrambled(jax.random.key(0), table)

    return np.asarray(run(jnp.asarray(flips)))


def integrated(estimator, dist, f, given):
    """Mean and variance on bits, over the strata that are equally likely and the two parts of those that a threshold cuts."""
    number = given.shape[1]
    cut = number * special.expit(-np.asarray(dist.logits))
    inside = np.clip(cut - given, 0, 1)
    sides = np.array(list(itertools.product((0, 1), repeat=cut.size)))[:, None, None]
    places = np.where(sides == 1, (inside + 1) / 2, inside / 2)
    volumes = np.where((inside == 0) | (inside == 1), 0.5, np.where(sides == 1, 1 - inside, inside))
    # A stratum that no threshold cuts was halved above, as often as there are samples but one in each dimension.
    weights = np.prod(volumes, axis=(2, 3)) * 2 ** ((number - 1) * cut.size) / len(given)
    places, given = (
        places.reshape(-1, *given.shape[1:]),
        np.broadcast_to(given, places.shape).reshape(-1, *given.shape[1:]),
    )
    return moments(weights.ravel(), estimates(estimator, dist, f, given, places).logits)


def independent(dist, f, number):
    """Variance of the average of independent score-function terms."""
    events = np.asarray(dist.support())
    p = np.exp(jax.vmap(dist.log_prob)(events))
    return moments(p, jax.vmap(f)(events)[:, None] * (events - np.asarray(dist.mean())))[1] / number


NETS = [(LatinHypercube, every_permutation, n) for n in (1, 2, 3)]
NETS += [(QuasiMonteCarlo, every_scrambling, n) for n in (1, 2, 4)]


@pytest.mark.parametrize("wrapper, every, number", NETS)
def test_spread_samples_of_two_bits_have_the_gradient_for_a_mean(wrapper, every, number):
    mean, variance = integrated(wrapper(ScoreFunction(), num_samples=number), BITS, two_bits, every(number, 2))
    truth = exact_gradient(np.asarray(BITS.logits), two_bits)
    np.testing.assert_allclose(mean, truth, rtol=1e-11)
    alone = independent(BITS, two_bits, number)
    if number == 1:
        np.testing.assert_allclose(variance, alone, rtol=1e-11)
    else:
        assert np.all(variance < 0.9 * alone)


@pytest.mark.parametrize("number", [2, 4])
def test_in_one_dimension_a_scrambled_net_and_a_hypercube_are_stratified_samples(number):
    dist, f = Bernoulli(LOGITS[:1]), lambda x: 1.0 + x[0]
    hypercube = integrated(LatinHypercube(ScoreFunction(), number), dist, f, every_permutation(number, 1))
    net = integrated(QuasiMonteCarlo(ScoreFunction(), number), dist, f, every_scrambling(number, 1))
    np.testing.assert_allclose(net, hypercube, rtol=1e-11)
    places = np.random.default_rng(0).uniform(size=(50, number))
    given = np.broadcast_to(np.arange(number), (50, number))[:, :, None]
    ours = estimates(LatinHypercube(ScoreFunction(), number), dist, f, given, places[:, :, None])
    theirs = prescribed(StratifiedScoreFunction(number), dist, f, places)
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-12)


def pathwise_terms(e):
    slope = -2 * np.sin(2 * (LOC + SIGMA * e))
    return np.array([slope, slope * SIGMA * e])


def score_function_terms(e):
    return np.cos(2 * (LOC + SIGMA * e)) * np.array([e / SIGMA, e**2 - 1])


@pytest.mark.parametrize("estimator, terms", [(Pathwise(), pathwise_terms), (ScoreFunction(), score_function_terms)])
def test_strata_of_a_normal_variable_take_their_means_from_the_variance(estimator, terms):
    """Two strata, nodes in each: the variance is that within the strata, found by adaptive integration."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    noise = 4.1 * (nodes + 1)
    weights = 2 * 4.1 * weights * stats.norm.pdf(noise)
    # The lower stratum is the upper one's mirror image, from its far end.
    upper = 2 * special.ndtr(noise) - 1
    first, second = np.meshgrid(np.arange(60), np.arange(60), indexing="ij")
    places = np.stack([1 - upper[first.ravel()], upper[second.ravel()]], axis=1)[:, :, None]
    given = np.broadcast_to([[0], [1]], places.shape)
    grads = estimates(LatinHypercube(estimator, 2), NORMAL, cosine, given, places)
    joint = np.outer(weights, weights).ravel()

    def integrand(e):
        return math.exp(-(e**2) / 2) / math.sqrt(2 * math.pi) * np.concatenate([terms(e), terms(e) ** 2])

    parts = [integrate.quad_vec(integrand, *ends, epsrel=1e-9)[0] for ends in ((-8.5, 0.0), (0.0, 8.5))]
    (low, low_square), (high, high_square) = (np.split(2 * part, 2) for part in parts)
    within = ((low_square - low**2) + (high_square - high**2)) / 4
    mean, variance = moments(joint / joint.sum(), np.concatenate([grads.loc, grads.log_scale], axis=1))
    damping = math.exp(-2 * SIGMA**2)
    exact = [-2 * math.sin(2 * LOC) * damping, -4 * SIGMA**2 * math.cos(2 * LOC) * damping]
    np.testing.assert_allclose(mean, exact, rtol=1e-8)
    np.testing.assert_allclose(variance, within, rtol=1e-7)


def test_every_point_of_a_scrambled_net_is_uniform_and_the_net_stays_one():
    made = every_scrambling(4, 2)
    for point in np.moveaxis(made, 1, 0):
        cells, counts = np.unique(point, axis=0, return_counts=True)
        assert len(cells) == 16 and np.all(counts == 4)
    # Halves, and halves of each half by themselves: eight orders, where a digital shift has four.
    assert np.all(np.unique(made[:, :, 0], axis=0, return_counts=True)[1] == np.full(8, 8))
    boxes = [made[:, :, 0], made[:, :, 1], 2 * (made[:, :, 0] // 2) + made[:, :, 1] // 2]
    for box in boxes:
        np.testing.assert_array_equal(np.sort(box, axis=1), np.broadcast_to(np.arange(4), box.shape))


@pytest.mark.parametrize(("number", "dimension"), [(1, 3), (64, 1), (64, 40)])
def test_the_table_has_one_point_in_every_interval(number, dimension):
    table = quasi_monte_carlo.sobol_strata(number, dimension)
    made = jax.jit(lambda key: quasi_monte_carlo.scrambled(key, table))(jax.random.key(3))
    for points in (table, made):
        np.testing.assert_array_equal(np.sort(points, axis=0), np.arange(number)[:, None].repeat(dimension, axis=1))


@pytest.mark.parametrize("wrapper", [LatinHypercube, QuasiMonteCarlo])
def test_drawn_points_are_uniform_and_one_to_a_stratum(wrapper, key):
    """As they are drawn: a stratum each, and of each point by itself any pair of strata as often as another."""
    wrapper = wrapper(Pathwise(), num_samples=4)
    made = jax.jit(jax.vmap(lambda key: wrapper.points(key, (2,), jnp.dtype("float64"))))(jax.random.split(key, 20_000))
    strata, places = np.divmod(np.asarray(made) * 4, 1)
    np.testing.assert_array_equal(np.sort(strata, axis=1), np.broadcast_to(np.arange(4)[:, None], strata.shape))
    cells = np.eye(16)[(4 * strata[..., 0] + strata[..., 1]).astype(int)]
    assert_mean_equals(cells, np.full((4, 16), 1 / 16), detects=0.02)
    assert_mean_equals(places, np.full((4, 2), 0.5), detects=0.03)
    assert_mean_equals(places**2, np.full((4, 2), 1 / 3), detects=0.03)


class PrescribedNormal(Normal):
    """A normal variable whose noise for the key of the words `words[i]` is `draws[i]`."""

    draws: Float[Array, "draws *variables"]
    words: Float[Array, "draws words"]

    def noise(self, key):
        words = jax.random.key_data(key).astype(float)
        return self.draws[jnp.argmax(jnp.all(self.words == words[None], axis=1))]


def matched(dist, f, draws):
    """The estimates of `MomentMatched` that stacks of noises make."""

    @jax.jit
    @jax.vmap
    def run(draws):
        words = jax.random.key_data(jax.random.split(jax.random.key(0), draws.shape[0])).astype(float)
        prescribed = PrescribedNormal(dist.loc, dist.log_scale, draws, words)
        return MomentMatched(Pathwise(), draws.shape[0]).gradient(jax.random.key(0), prescribed, f)

    return run(jnp.asarray(draws))


@pytest.mark.parametrize("number", [3, 5])
def test_matched_moments_are_the_gradient_for_squares_and_only_on_average_for_products(number):
    dist = Normal(np.array([0.3, -1.0, 2.0]), np.array([0.1, -0.4, 0.3]))
    draws = np.random.default_rng(1).normal(size=(40, number, 3))

    def squares(x):
        return jnp.sum(jnp.arange(1.0, 4.0) * (x - 0.7) ** 2)

    grads = matched(dist, squares, draws)
    weights = 2 * np.arange(1, 4)
    np.testing.assert_allclose(grads.loc, np.tile(weights * (np.asarray(dist.loc) - 0.7), (40, 1)), rtol=1e-11)
    np.testing.assert_allclose(grads.log_scale, np.tile(weights * np.asarray(dist.scale) ** 2, (40, 1)), rtol=1e-11)

    # The mirror image of one variable alone is as likely; `x_1 x_2` has products of two noises.
    mirrored = draws * np.array([-1.0, 1.0, 1.0])
    both = [matched(dist, lambda x: x[0] * x[1], d) for d in (draws, mirrored)]
    assert np.std(both[0].log_scale[:, 0]) > 0.01
    average = (both[0].log_scale + both[1].log_scale) / 2
    np.testing.assert_allclose(average, np.zeros_like(average), atol=1e-14)
    np.testing.assert_allclose(both[0].loc, np.tile([dist.loc[1], dist.loc[0], 0.0], (40, 1)), rtol=1e-11)


def test_matched_moments_in_closed_form():
    """Three standardised noises are evenly spread on a circle, at a random angle. The characteristic function of each is
    `J_0(sqrt(2) t)` where that of a normal one is `exp(-t^2 / 2)`, and its fourth moment 3/2."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = math.sqrt(2) * np.cos(angles[:, None] + 2 * np.pi / 3 * np.arange(3))
    # What a sample is shifted and scaled by must not matter.
    draws = (0.3 + 1.7 * circle)[:, :, None]
    argument = math.sqrt(2) * 2 * SIGMA
    grads = matched(NORMAL, cosine, draws)
    np.testing.assert_allclose(np.mean(grads.loc), -2 * math.sin(2 * LOC) * special.j0(argument), rtol=1e-11)
    np.testing.assert_allclose(
        np.mean(grads.log_scale), -math.cos(2 * LOC) * argument * special.j1(argument), rtol=1e-11
    )
    grads = matched(NORMAL, lambda x: jnp.sum(x**4), draws)
    np.testing.assert_allclose(np.mean(grads.loc), 4 * LOC**3 + 12 * LOC * SIGMA**2, rtol=1e-11)
    np.testing.assert_allclose(np.mean(grads.log_scale), 12 * LOC**2 * SIGMA**2 + 12 * SIGMA**4 * 2 / 4, rtol=1e-11)


@pytest.mark.parametrize("number", [3, 5])
def test_the_fourth_moment_of_a_matched_sample(number, key):
    """`3 (n - 1) / (n + 1)`, as it is drawn; the first three are normal."""
    dist, wrapper = Normal(0.0, 0.0), MomentMatched(Pathwise(), number)
    noises = np.asarray(jax.jit(jax.vmap(lambda key: wrapper.noises(key, dist)))(jax.random.split(key, 20_000)))
    np.testing.assert_allclose(noises.mean(axis=1), np.zeros(20_000), atol=1e-12)
    np.testing.assert_allclose((noises**2).mean(axis=1), np.ones(20_000), rtol=1e-12)
    moments = np.stack([noises[:, 0] ** 3, noises[:, 0] ** 4], axis=1)
    assert_mean_equals(moments, [0.0, 3 * (number - 1) / (number + 1)], detects=0.25)


WRAPPERS = [
    (Antithetic(Pathwise(), num_pairs=3), 6),
    (LatinHypercube(Pathwise(), num_samples=3), 3),
    (MomentMatched(Pathwise(), num_samples=3), 3),
    (QuasiMonteCarlo(Pathwise(), num_samples=4), 4),
    (Averaged(Antithetic(Pathwise()), 2), 4),
]


@pytest.mark.parametrize("wrapper, evaluations", WRAPPERS, ids=lambda case: type(case).__name__)
def test_declared_evaluations_are_the_calls_of_f(wrapper, evaluations):
    assert counted_evaluations(wrapper, NORMAL) == wrapper.evaluations(NORMAL) == evaluations


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Antithetic(Pathwise(), num_pairs=0), "`Antithetic` needs `num_pairs >= 1`, got 0"),
        (lambda: LatinHypercube(Pathwise(), num_samples=0), "`LatinHypercube` needs `num_samples >= 1`, got 0"),
        (lambda: MomentMatched(Pathwise(), num_samples=2), "`MomentMatched` needs `num_samples >= 3`, got 2"),
        (lambda: QuasiMonteCarlo(Pathwise(), num_samples=6), "needs `num_samples` to be a power of two, got 6"),
        (lambda: QuasiMonteCarlo(Pathwise(), num_samples=0), "needs `num_samples` to be a power of two, got 0"),
        (lambda: Antithetic(ScoreFunction(3)), "`Antithetic` draws all samples itself .* got one with 3"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_what_a_wrapper_needs_is_what_the_inside_needs_and_more():
    assert coupled.AbstractStratifiable in Antithetic(ScoreFunction()).requires
    assert incompatibility(Antithetic(ScoreFunction()), BITS, BlackBox(jnp.sum)) is None
    assert incompatibility(Antithetic(Pathwise()), BITS, jnp.sum) == (
        "`Antithetic` needs a reparameterizable distribution, and `Bernoulli` is not one."
    )
    assert incompatibility(MomentMatched(ScoreFunction()), BITS, jnp.sum) == (
        "`MomentMatched` needs a `Normal` distribution, and `Bernoulli` is not one."
    )
    assert "differentiable objective" in incompatibility(QuasiMonteCarlo(Pathwise()), NORMAL, BlackBox(jnp.sum))
    assert Antithetic(ScoreFunction()).unbiased is True and MomentMatched(Pathwise()).unbiased is False
