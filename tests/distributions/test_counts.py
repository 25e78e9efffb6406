"""Poisson, geometric and binomial variables against scipy, and the flows and weak derivatives of all discrete laws, summed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counts import ALL, BINOMIAL, GEOMETRIC, POISSON, drawing, laws, leaf, outcomes, prescribed, product, tangled, truth
from scipy import special

from estimators import Bernoulli, Binomial, Categorical, Geometric, MeasureValued, Poisson
from estimators.base import score
from estimators.distributions import AbstractSummable

COUNTS = [BINOMIAL, GEOMETRIC, POISSON]
named = pytest.mark.parametrize("dist", COUNTS, ids=lambda dist: type(dist).__name__)
precisions = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)


def cast(dist, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), dist)


def family(dist):
    """Distributions of the family of `dist` from an array of parameters."""
    return (lambda leaf: Binomial(leaf, dist.num_trials)) if isinstance(dist, Binomial) else type(dist)


@jax.jit
def densities(dist, events):
    return jax.vmap(dist.log_prob)(events), jax.vmap(lambda x: score(dist, x))(events)


@named
def test_log_prob_and_score(dist):
    events = outcomes(dist)[0]
    log_probs, scores = densities(dist, events)
    exact = sum(law.logpmf(events[:, i]) for i, law in enumerate(laws(dist)))
    np.testing.assert_allclose(log_probs, exact, rtol=1e-10, atol=1e-12)
    if isinstance(dist, Geometric):
        p = special.expit(dist.logits)
        by_hand = 1 - p - events * p
    else:
        by_hand = events - np.array([law.mean() for law in laws(dist)])
    np.testing.assert_allclose(leaf(scores), by_hand, rtol=1e-11, atol=1e-12)


@named
def test_moments_are_those_of_scipy(dist):
    np.testing.assert_allclose(dist.mean(), [law.mean() for law in laws(dist)], rtol=1e-12)
    np.testing.assert_allclose(dist.variance(), [law.var() for law in laws(dist)], rtol=1e-12)


EXTREMES = {
    "binomial": Binomial(np.array([-10.0, -0.4, 2.0, 10.0]), 17),
    "geometric": Geometric(np.array([-10.0, -0.4, 2.0, 10.0])),
    "poisson": Poisson(np.array([-10.0, 0.7, 4.3, 4.45, 6.0, 10.0])),
}


@precisions
@pytest.mark.parametrize("dist", EXTREMES.values(), ids=EXTREMES)
def test_quantiles_invert_the_distribution_function(dist, dtype):
    """To the precision of a sum of that many masses; the tail of a thousandth of a thousandth included."""
    dist, tolerance = cast(dist, dtype), {jnp.float32: 1e-5, jnp.float64: 1e-13}[dtype]
    u = np.concatenate([np.arange(500) / 500, [1e-6, 1 - 1e-6]]).astype(dtype)
    x = jax.jit(jax.vmap(lambda u: dist.quantile(jnp.full(dist.event_shape, u))))(u)
    assert x.dtype == dtype
    x, u = np.asarray(x, np.float64), u.astype(np.float64)
    for law, column in zip(laws(cast(dist, jnp.float64)), x.T, strict=True):
        assert np.all(column == np.floor(column)) and np.all(column >= 0)
        assert np.all(law.cdf(column - 1) <= u + tolerance) and np.all(u <= law.cdf(column) + tolerance)
        assert np.all(np.diff(column[:500]) >= 0)


@precisions
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
@named
def test_shapes_and_precision(dist, shape, dtype):
    """All that a distribution makes has the precision of its leaves and its shape."""
    dist = family(dist)(jnp.linspace(-0.5, 0.5, int(np.prod(shape)), dtype=dtype).reshape(shape))

    def everything(key_noise, key_sample, key_weak):
        x = dist.sample(key_sample)
        events = [dist.noise(key_noise), x, dist.transform(dist.noise(key_noise)), dist.mean(), dist.variance()]
        rates = [leaf for rate in (dist.rise(x), dist.fall(x)) for leaf in jax.tree.leaves(rate)]
        return events + rates, [dist.neighbours(x, 1), *jax.tree.leaves(dist.weak_derivative(key_weak)[1:])]

    # The noise is looked at twice in one abstract evaluation, and no key is consumed in it.
    with jax.debug_key_reuse(False):
        keys = [jax.random.key(number) for number in range(3)]
        events, pairs = jax.eval_shape(everything, *keys)
    assert {(leaf.shape, leaf.dtype) for leaf in events} == {(shape, jnp.dtype(dtype))}
    assert {(leaf.shape, leaf.dtype) for leaf in pairs} == {(shape + shape, jnp.dtype(dtype))}


def test_a_sample_is_the_quantile_of_uniform_noise():
    @jax.jit
    def pair(dist):
        return dist.sample(jax.random.key(0)), dist.quantile(jax.random.uniform(jax.random.key(0), (2,), jnp.float64))

    for dist in COUNTS:
        np.testing.assert_array_equal(*pair(dist))


@pytest.mark.parametrize(
    "dist",
    [POISSON, GEOMETRIC, Poisson(np.array(-10.0)), Poisson(np.array([7.0])), Geometric(np.array([-4.0]))],
    ids=lambda dist: f"{type(dist).__name__}{jax.tree.leaves(dist)[0]}",
)
def test_a_window_of_the_span_leaves_out_nothing(dist):
    assert isinstance(dist, AbstractSummable)
    number = int(dist.span())
    events = np.asarray(dist.window(number)).reshape(number ** max(len(laws(dist)), 1), -1)
    assert len(np.unique(events, axis=0)) == len(events)
    for law, column in zip(laws(dist), events.T, strict=True):
        assert column.max() - column.min() == number - 1
        assert law.sf(column.max()) + law.cdf(column.min() - 1) < 2e-18


def test_binomial_support():
    assert {tuple(event) for event in np.asarray(BINOMIAL.support())} == set(map(tuple, product([range(4)] * 2)))
    assert len(BINOMIAL.support()) == BINOMIAL.support_size == 16
    assert Binomial(np.zeros((2, 2)), 2).support().shape == (81, 2, 2)


@pytest.mark.parametrize("num_trials", [0, -1, 2.5])
def test_binomial_needs_trials(num_trials):
    with pytest.raises((ValueError, TypeError), match="num_trials"):
        Binomial(np.zeros(2), num_trials)


def one_variable():
    """Of each family, with the values in order."""
    for dist in (Poisson(np.array([0.9])), Geometric(np.array([-0.8]))):
        yield dist, dist.window(int(dist.span()))
    for logit in (-10.0, 0.4, 10.0):
        yield Bernoulli(np.array([logit])), np.array([[0.0], [1.0]])
        yield Binomial(np.array([logit]), 4), np.arange(5.0)[:, None]
    for logits in (np.log([0.98, 0.01, 0.01]), [-10.0, 0.0, 10.0], [10.0, 0.0, -10.0], [0.3, -1.0, 0.8]):
        yield Categorical(np.array([logits])), np.eye(len(logits))[:, None]


@jax.jit
def flows(dist, values):
    """Masses, the derivative of the distribution function, and the two rates, at the values of one variable in order."""

    def masses(dist):
        return jnp.exp(jax.vmap(dist.log_prob)(values))

    derivative = jax.jacrev(lambda dist: jnp.cumsum(masses(dist)))(dist)
    return masses(dist), derivative, [jax.vmap(rate)(values) for rate in (dist.rise, dist.fall)]


@pytest.mark.parametrize("dist, values", list(one_variable()), ids=lambda part: type(part).__name__)
def test_rates_are_the_derivatives_of_the_distribution_function(dist, values):
    """`q(x) rise(x)` is what flows over the upper boundary of `x`, and `q(x) fall(x)` over the lower one, the other way."""

    masses, derivative, (rise, fall) = flows(dist, values)
    masses, rise, fall, derivative = np.asarray(masses), *(leaf(part)[:, 0] for part in (rise, fall, derivative))
    rise, fall, derivative = (part.reshape(len(masses), -1) for part in (rise, fall, derivative))
    np.testing.assert_allclose(masses[:, None] * rise, -derivative, atol=1e-14)
    np.testing.assert_allclose(masses[1:, None] * fall[1:], derivative[:-1], atol=1e-14)
    np.testing.assert_array_equal(fall[0], 0)
    if not isinstance(dist, AbstractSummable):
        np.testing.assert_array_equal(rise[-1], 0)
    scores = leaf(densities(dist, values)[1]).reshape(rise.shape)
    np.testing.assert_allclose(rise + fall, -scores, rtol=1e-10, atol=1e-9)


def test_neighbours_move_one_variable_and_stay_in_the_support():
    x = jnp.array([[0.0, 1.0], [2.0, 3.0]])
    bits, onehot = jnp.array([0.0, 1.0]), jnp.array([[1.0, 0, 0], [0, 1.0, 0]])

    @jax.jit
    def moved():
        """Upwards and downwards."""
        cases = [(Poisson(x), x), (Geometric(x), x), (Binomial(x, 3), x)]
        cases += [(Bernoulli(bits), bits), (Categorical(onehot), onehot)]
        return [[dist.neighbours(event, direction) for direction in (1, -1)] for dist, event in cases]

    *counts, of_bits, (up, _) = moved()
    for found, most in zip(counts, (np.inf, np.inf, 3), strict=True):
        for direction, events in zip((1, -1), found, strict=True):
            for i, j in np.ndindex(2, 2):
                expected = np.array(x)
                expected[i, j] = np.clip(expected[i, j] + direction, 0, most)
                np.testing.assert_array_equal(events[i, j], expected)
    np.testing.assert_array_equal(of_bits, [[[1, 1], [0, 1]], [[0, 1], [0, 0]]])
    np.testing.assert_array_equal(up, [[[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]])


def measure_valued_outcomes(dist):
    """Probabilities and draws of all that a weak derivative draws: a second count, or which trial is left out."""
    _, probabilities, draws = outcomes(dist)
    if isinstance(dist, Poisson):
        return probabilities, (draws,)
    if isinstance(dist, Geometric):
        second = np.repeat(np.arange(len(draws)), len(draws)), np.tile(np.arange(len(draws)), len(draws))
        return np.outer(probabilities, probabilities).ravel(), tuple(draws[index] for index in second)
    columns = []
    for values, chance, u in zip(*outcomes(dist), strict=True):
        success = values / dist.num_trials
        for trial in product([[True, False]] * len(values)):
            middle = np.where(trial, success / 2, (1 + success) / 2)
            columns.append((chance * np.prod(np.where(trial, success, 1 - success)), u, middle))
    weights, *draws = map(np.array, zip(*columns, strict=True))
    return weights[weights > 0], tuple(part[weights > 0] for part in draws)


@named
def test_weak_derivatives_summed_over_all_draws(dist):
    if isinstance(dist, Geometric):
        dist = Geometric(np.array([2.5, 1.4]))
    events = outcomes(dist)[0]
    probabilities, draws = measure_valued_outcomes(dist)
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    values = leaf(prescribed(MeasureValued(), dist, tangled, *draws))
    exact = leaf(truth(dist, tangled, events))
    assert np.abs(exact).max() > 0.05
    np.testing.assert_allclose(probabilities @ values, exact, rtol=1e-10, atol=1e-12)


@named
def test_weak_derivatives_change_one_variable_and_share_the_rest(dist):
    x = np.array([2.0, 1.0])
    middles = [law.cdf(value) - law.pmf(value) / 2 for law, value in zip(laws(dist), x, strict=True)]
    extra = {Poisson: 0, Geometric: 1, Binomial: 1}[type(dist)]

    @jax.jit
    def pair():
        with drawing(*[jnp.array(middles)] * (1 + extra)):
            return dist.weak_derivative(jax.random.key(0))[1:]

    plus, minus = map(leaf, pair())
    for i in range(2):
        assert plus[i, 1 - i] == minus[i, 1 - i] == x[1 - i]
        assert plus[i, i] != minus[i, i]


def test_every_family_of_counts_is_summed():
    assert {type(dist) for dist in ALL} == {Bernoulli, Binomial, Categorical, Geometric, Poisson}
