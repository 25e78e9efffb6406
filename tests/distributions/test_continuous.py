"""Gamma, Beta, Dirichlet, Student-t, von Mises, truncated normal and normal mixtures against scipy and numpyro: densities, scores, laws of
samples, and the speeds at which variables move, down to tiny and up to large concentrations, in both precisions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as oracle
import pytest
from calibrated import assert_law, assert_mean_equals
from scipy import integrate, special, stats

from estimators import Beta, Dirichlet, Gamma, NormalMixture, StudentT, TruncatedNormal, VonMises
from estimators.base import score
from estimators.distributions import beta_transport, log_gamma, von_mises

A, B = np.array([0.6, 3.0]), np.array([1.7, 0.8])
DISTS = {
    "gamma": Gamma(np.log(A), np.log(B)),
    "beta": Beta(np.log(A), np.log(B)),
    "dirichlet": Dirichlet(np.log([A, B])),
    "student-t": StudentT(np.log(2 * A), np.array([0.3, -1.0]), np.log(B)),
    "von-mises": VonMises(np.array([0.4, 2.9]), np.log(A)),
    "truncated-normal": TruncatedNormal(np.array([0.5, -2.0]), np.log(B), -1.0, 2.0),
    "mixture": NormalMixture(np.array([0.4, -0.3]), np.array([[-0.8, 0.3], [0.7, -0.4]]), np.log([A, B])),
}
each = pytest.mark.parametrize("name", DISTS)


def by_numpyro(name, dist, x):
    """The log-density of the whole event."""
    laws = {
        "gamma": lambda d: oracle.Gamma(jnp.exp(d.log_concentration), jnp.exp(d.log_rate)),
        "beta": lambda d: oracle.Beta(jnp.exp(d.log_alpha), jnp.exp(d.log_beta)),
        "dirichlet": lambda d: oracle.Dirichlet(jnp.exp(d.log_concentration)),
        "student-t": lambda d: oracle.StudentT(jnp.exp(d.log_df), d.loc, jnp.exp(d.log_scale)),
        "von-mises": lambda d: oracle.VonMises(d.loc, jnp.exp(d.log_concentration)),
        "truncated-normal": lambda d: oracle.TruncatedNormal(d.loc, jnp.exp(d.log_scale), low=d.low, high=d.high),
        "mixture": lambda d: oracle.MixtureSameFamily(
            oracle.Categorical(logits=d.logits), oracle.Normal(d.loc, jnp.exp(d.log_scale)).to_event(1)
        ),
    }
    return jnp.sum(laws[name](dist).log_prob(jnp.arctan2(x[..., 1], x[..., 0]) if name == "von-mises" else x))


def scipy_laws(name):
    """The law of each real number below, and how to make these of an event."""
    mixed = [
        lambda x, d=d: (
            special.expit(0.7) * stats.norm.cdf(x, [-0.8, 0.3][d], A[d])
            + special.expit(-0.7) * stats.norm.cdf(x, [0.7, -0.4][d], B[d])
        )
        for d in (0, 1)
    ]
    angles = [lambda y, k=k: stats.vonmises(k).cdf(y) for k in A]
    bounds = [((-1.0 - m) / s, (2.0 - m) / s, m, s) for m, s in zip((0.5, -2.0), B, strict=True)]
    return {
        "gamma": [stats.gamma(a, scale=1 / b).cdf for a, b in zip(A, B, strict=True)],
        "beta": [stats.beta(a, b).cdf for a, b in zip(A, B, strict=True)],
        "dirichlet": [stats.beta(*A).cdf, stats.beta(*B).cdf],
        "student-t": [stats.t(2 * a, m, b).cdf for a, m, b in zip(A, (0.3, -1.0), B, strict=True)],
        "von-mises": angles,
        "truncated-normal": [stats.truncnorm(*bound).cdf for bound in bounds],
        "mixture": mixed,
    }[name]


def numbers(name, xs):
    """Two columns, the laws of which are known."""
    xs = np.asarray(xs, np.float64)
    if name == "von-mises":
        angle = np.arctan2(xs[..., 1], xs[..., 0]) - np.array([0.4, 2.9])
        return (angle + np.pi) % (2 * np.pi) - np.pi
    return xs[..., 0] if name == "dirichlet" else xs


@each
def test_densities_scores_and_samples(name):
    """Samples in single precision; a law that is off by the number that is claimed to be seen is rejected too."""

    @jax.jit
    def program(dist, keys):
        xs = jax.vmap(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), dist).sample)(keys)
        x = xs[0].astype(jnp.float64)
        return xs, (dist.log_prob(x), score(dist, x)), jax.value_and_grad(lambda d: by_numpyro(name, d, x))(dist)

    # numpyro promotes ranks.
    with jax.numpy_rank_promotion("allow"):
        xs, ours, theirs = program(DISTS[name], jax.random.split(jax.random.key(20260101), 60_000))
    assert xs.dtype == jnp.float32 and xs.shape[1:] == DISTS[name].event_shape and ours[0].shape == ()
    # A point in single precision is a rounding away from the circle, and numpyro's truncated mass is good to seven digits.
    tolerance = 1e-6 if name in ("von-mises", "truncated-normal") else 1e-9
    for leaf, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=tolerance, atol=tolerance)
    laws, columns = scipy_laws(name), numbers(name, xs)

    def cdf(x):
        return np.stack([law(column) for law, column in zip(laws, x.T, strict=True)], axis=1)

    assert_law(columns, cdf, detects=0.02)
    with pytest.raises(AssertionError, match="Distances"):
        assert_law(columns, lambda x: cdf(x) + 0.02, detects=0.02)
    if name == "mixture":
        loc, p = np.asarray(DISTS[name].loc), special.expit(0.7)
        assert_mean_equals(columns.prod(axis=1), p * loc[0].prod() + (1 - p) * loc[1].prod(), detects=0.15)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_finite_and_in_the_precision_of_the_leaves_at_extreme_parameters(dtype):
    """Every combination of -10 and 10; values in single precision, where they are the first to overflow."""
    first, second = (jnp.asarray(leaf, dtype) for leaf in ([-10.0, -10.0, 10.0, 10.0], [-10.0, 10.0, -10.0, 10.0]))
    dists = [
        Gamma(first, second),
        Beta(first, second),
        Dirichlet(jnp.stack([first, second], axis=1)),
        StudentT(first, second, second),
        VonMises(second, first),
        TruncatedNormal(second, jnp.zeros(4, dtype), -1.0, 2.0),
        NormalMixture(first, jnp.stack([second, -second], axis=1), jnp.stack([first, second], axis=1) / 10),
    ]

    def everything(dists, keys):
        made = [jax.vmap(dist.sample)(own) for dist, own in zip(dists, keys, strict=True)]
        xs = [x[0] for x in made]
        return made, [(d.log_prob(x), score(d, x)) for d, x in zip(dists, xs, strict=True)]

    run = jax.jit(everything) if dtype == jnp.float32 else lambda *arguments: jax.eval_shape(everything, *arguments)
    for leaf in jax.tree.leaves(run(dists, jax.random.split(jax.random.key(3), (len(dists), 8)))):
        assert leaf.dtype == dtype
        assert not eqx.is_array(leaf) or np.all(np.isfinite(leaf))


SPREAD = np.array([1e-6, 0.05, 0.5, 0.95, 1 - 1e-6])


def slope(function, at):
    """A derivative in the logarithm of `at`, by five points."""
    step = 1e-3 / max(1, at**0.5)
    values = [function(at * np.exp(k * step)) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


@jax.jit
def gamma_speeds(logs, a):
    """Derivatives in the logarithm of the concentration."""
    return jax.vmap(jax.grad(lambda log_a, log_g: log_gamma.moving(log_g, jnp.exp(log_a))))(jnp.log(a), logs)


@pytest.mark.parametrize("a", [0.05, 0.3, 1.0, 5.0, 100.0, 3000.0])
def test_gamma_moves_as_its_distribution_function_says(a):
    """Whichever tail is the smaller one, differentiated by differences, over the density."""
    x = stats.gamma.ppf(SPREAD, a)
    below = np.where(
        SPREAD < 0.6, slope(lambda a: special.gammainc(a, x), a), -slope(lambda a: special.gammaincc(a, x), a)
    )
    exact = -below / (x * stats.gamma.pdf(x, a))
    np.testing.assert_allclose(gamma_speeds(jnp.log(x), jnp.full(5, a)), exact, rtol=1e-6)
    single = gamma_speeds(jnp.asarray(np.log(x), jnp.float32), jnp.full(5, a, jnp.float32))
    # An error in the logarithm of `x`, which the density magnifies by the root of the concentration.
    np.testing.assert_allclose(single, exact, rtol=1e-5 * max(1, a**0.5))


@pytest.mark.parametrize("a", [0.01, 0.3, 1.0, 5.0, 1000.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_gamma_moments_move_as_closed_forms_say(a, dtype):
    """`E x = a`, `E x^2 = a (a + 1)`, `E log x = digamma(a)`: means of the velocity over the law of the logarithm, of which most lies
    below the least number of single precision at concentration 0.01. Speeds that took that number in its place would be wrong."""
    logs = np.linspace(-40 / a + np.log(a), np.log(a + 12 * np.sqrt(a) + 30), 16001)
    if a > 20:
        logs = np.linspace(np.log(a) - 10 / a**0.5, np.log(a) + 10 / a**0.5, 16001)
    weights = np.exp(a * logs - np.exp(logs) - special.gammaln(a)) * (logs[1] - logs[0])
    speeds = np.asarray(gamma_speeds(jnp.asarray(logs, dtype), jnp.full(logs.shape, a, dtype)), np.float64)
    found = [weights @ (np.exp(power * logs) * speeds * (power or 1)) for power in (1, 2, 0)]
    exact = a * np.array([1, 2 * a + 1, special.polygamma(1, a)])
    np.testing.assert_allclose(found, exact, rtol=2e-5 if dtype == jnp.float32 else 1e-8)


@jax.jit
def beta_speeds(logits, a, b):
    grad = jax.grad(lambda log_a, logit, b: beta_transport.transported(logit, jnp.exp(log_a), b))
    return jax.vmap(grad)(jnp.log(a), logits, b)


@pytest.mark.parametrize("a, b", [(0.05, 0.3), (1.0, 1.0), (0.3, 50.0), (50.0, 0.3), (5.0, 2.0), (400.0, 300.0)])
def test_beta_moves_as_its_distribution_function_says(a, b):
    x, rest = stats.beta.ppf(SPREAD, a, b), stats.beta.isf(SPREAD, b, a)
    below = np.where(
        SPREAD < 0.6, slope(lambda a: special.betainc(a, b, x), a), -slope(lambda a: special.betainc(b, a, rest), a)
    )
    exact = -below / np.exp(a * np.log(x) + b * np.log(rest) - special.betaln(a, b))
    logits = np.log(x) - np.log(rest)
    kept = np.isfinite(exact) & (x > 1e-250)
    assert kept.sum() > 3
    np.testing.assert_allclose(beta_speeds(logits, jnp.full(5, a), jnp.full(5, b))[kept], exact[kept], rtol=1e-6)
    single = (jnp.asarray(leaf, jnp.float32) for leaf in (logits, np.full(5, a), np.full(5, b)))
    np.testing.assert_allclose(beta_speeds(*single)[kept], exact[kept], rtol=1e-4)


von_mises_speeds = jax.jit(von_mises._speed)


@pytest.mark.parametrize("k", [1e-4, 1.0, 30.0, 22026.0])
def test_von_mises_moves_as_its_distribution_function_says(k):
    """By adaptive integration of `q(t) (cos t - A)` outwards from the angle."""
    short = 1 - special.i1e(k) / special.i0e(k) if k < 1e3 else 1 / (2 * k) + 1 / (8 * k**2) + 1 / (8 * k**3)
    y = np.array([0.1, 0.5, 1.1, 2.0, 5.0]) * min(k**-0.5, 0.6)

    def integrand(t, y):
        return np.exp(2 * k * np.sin((y - t) / 2) * np.sin((y + t) / 2)) * (short - 2 * np.sin(t / 2) ** 2)

    ends = [min(y_ + 9 * k**-0.5, np.pi) for y_ in y]
    exact = [
        integrate.quad(integrand, y_, end, args=(y_,), epsabs=0, epsrel=1e-11)[0]
        for y_, end in zip(y, ends, strict=True)
    ]
    for dtype, rtol in ((jnp.float64, 1e-8), (jnp.float32, 2e-5)):
        speeds = von_mises_speeds(jnp.asarray(y, dtype), jnp.full(5, k, dtype))
        np.testing.assert_allclose(speeds, exact, rtol=rtol)
        mirrored = von_mises_speeds(-jnp.asarray(y, dtype), jnp.full(5, k, dtype))
        np.testing.assert_array_equal(mirrored, -speeds)


U = np.array([1e-4, 0.2, 0.5, 0.9, 0.999])


@jax.jit
def truncated_events(loc, log_scale):
    """With their derivatives in both leaves."""

    def events(loc, log_scale):
        return TruncatedNormal(loc, log_scale, -1.0, 2.0).reparameterize(jnp.asarray(U, loc.dtype))

    one, zero = jnp.ones_like(loc), jnp.zeros_like(loc)
    x, along_loc = jax.jvp(events, (loc, log_scale), (one, zero))
    return x, along_loc, jax.jvp(events, (loc, log_scale), (zero, one))[1]


@pytest.mark.parametrize("loc, scale", [(0.5, 0.8), (-4.0, 1.0), (30.0, 2.0), (0.2, 50.0)])
def test_truncated_normal_follows_its_distribution_function(loc, scale):
    """Quantiles by scipy, and their derivatives by differences of these."""

    def quantiles(loc, scale):
        return stats.truncnorm.ppf(U, (-1 - loc) / scale, (2 - loc) / scale, loc, scale)

    h = 1e-4
    along_loc = (quantiles(loc + h, scale) - quantiles(loc - h, scale)) / (2 * h)
    along_scale = (quantiles(loc, scale * np.exp(h)) - quantiles(loc, scale * np.exp(-h))) / (2 * h)
    for dtype, rtol in ((jnp.float64, 1e-5), (jnp.float32, 1e-3)):
        # An event is what is left of `loc + scale z`, and its derivatives are so too.
        atol = 100 * float(jnp.finfo(dtype).eps) * (abs(loc) + scale) + 1e-7
        x, first, second = truncated_events(jnp.full(5, loc, dtype), jnp.full(5, np.log(scale), dtype))
        np.testing.assert_allclose(x, quantiles(loc, scale), rtol=1e-2 * rtol, atol=1e-3 * rtol)
        np.testing.assert_allclose(first, along_loc, rtol=rtol, atol=atol)
        np.testing.assert_allclose(second, along_scale, rtol=rtol, atol=atol)


def test_moments():
    """Means and variances in closed form, where a distribution offers them, and by scipy."""
    t, loc = DISTS["student-t"], np.array([0.5, -2.0])
    laws = [
        (DISTS["gamma"], stats.gamma(A, scale=1 / B)),
        (DISTS["beta"], stats.beta(A, B)),
        (DISTS["truncated-normal"], stats.truncnorm((-1 - loc) / B, (2 - loc) / B, loc, B)),
        (StudentT(t.log_df + 2, t.loc, t.log_scale), stats.t(2 * A * np.exp(2), [0.3, -1.0], B)),
    ]
    far = TruncatedNormal(np.array(30.0), np.log(2.0), -1.0, 2.0)

    @jax.jit
    def program(dists):
        return [(dist.mean(), dist.variance()) for dist in dists], far.log_prob(jnp.array(1.7))

    found, log_prob = program([dist for dist, _ in laws])
    for (mean, variance), (_, law) in zip(found, laws, strict=True):
        np.testing.assert_allclose(mean, law.mean(), rtol=1e-10)
        np.testing.assert_allclose(variance, law.var(), rtol=1e-8)
    np.testing.assert_allclose(log_prob, stats.truncnorm.logpdf(1.7, -15.5, -14.0, 30.0, 2.0), rtol=1e-10)


def test_refusals():
    with pytest.raises(ValueError, match="`TruncatedNormal` needs finite bounds `low < high`, got 1.0 and 1.0"):
        TruncatedNormal([0.0], [0.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="`Dirichlet` needs concentrations for two values or more"):
        Dirichlet([0.0])


@pytest.fixture(scope="module")
def weak():
    keys = jax.random.split(jax.random.key(5), 60_000)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(DISTS["gamma"].weak_derivative))(keys))


def test_laws_of_the_weak_derivative_of_gamma(weak):
    """The variable of the parameter has the laws that the module says, and so it has in the draws of the other parameters, which share
    it."""
    weights, plus, minus = weak
    jump = A / weights.log_concentration
    own = np.diagonal(plus.log_concentration - minus.log_concentration, axis1=1, axis2=2)
    np.testing.assert_allclose(own * B, jump, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(weights.log_rate[0], A, rtol=1e-12)
    assert_law(jump, stats.expon.cdf, detects=0.02)
    for draws in (minus.log_concentration, plus.log_rate):
        for row in (0, 1):
            assert_law(draws[:, row], lambda x: stats.gamma.cdf(x, A, scale=1 / B), detects=0.02)
    more = np.diagonal(minus.log_rate, axis1=1, axis2=2)
    assert_law(more, lambda x: stats.gamma.cdf(x, A + 1, scale=1 / B), detects=0.02)
    np.testing.assert_array_equal(minus.log_rate[:, [0, 1], [1, 0]], plus.log_rate[:, [0, 1], [1, 0]])
    below = np.diagonal(minus.log_concentration, axis1=1, axis2=2)
    assert_mean_equals(below * (jump - 1), np.zeros(2), detects=0.16)


@pytest.mark.parametrize(
    "f, exact",
    [
        (lambda x: x, lambda a: 1.0),
        (lambda x: x**2, lambda a: 2 * a + 1),
        (lambda x: np.exp(-x), lambda a: -np.log(2) * 2**-a),
    ],
    ids=["mean", "square", "exponential"],
)
def test_identity_between_the_laws_along_the_concentration(f, exact):
    """`E[(f(x + y) - f(x)) / y]` at rate one, by quadrature in the logarithms of both."""
    a, y, x = 1.7, np.exp(np.arange(-24, 4, 0.1)), np.exp(np.arange(-22, 5, 0.1))[:, None]
    inner = np.sum(0.1 * x * stats.gamma.pdf(x, a) * (f(x + y) - f(x)), axis=0)
    np.testing.assert_allclose(np.sum(0.1 * np.exp(-y) * inner), exact(a), rtol=1e-6)


def test_that_identity_holds_for_a_step_too():
    """Of which the mean is a probability, before and after the jump."""
    a, edge = 1.7, 1.5

    def integrand(y):
        return np.exp(-y) / y * (special.gammaincc(a, max(edge - y, 0)) - special.gammaincc(a, edge))

    found = sum(integrate.quad(integrand, *ends, epsrel=1e-11)[0] for ends in ((0, edge), (edge, np.inf)))
    np.testing.assert_allclose(found, slope(lambda a: special.gammaincc(a, edge), a) / a, rtol=1e-8)
