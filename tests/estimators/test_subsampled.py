"""Terms of a sum, drawn: every set of terms enumerated and the noise integrated, so that both parts of a variance are exact.

An estimate is a function of the terms and of the noise. Over all sets of two of five terms and the nodes of `gaussian_rule`
it is a table, whose mean is the gradient and whose variance splits into that within a set, by the noise, and that between
sets. The terms are quadratic functions, on which the control variates leave nothing of what they are of, or bent ones.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calibrated import assert_mean_equals
from gaussian_rule import NOISE, WEIGHTS, flat, two_normals
from jax.flatten_util import ravel_pytree
from prescribed import moments

from benchmarks.problems import PROBLEMS, mismatch
from benchmarks.problems.base import in_float64
from benchmarks.specs import Spec
from estimators import (
    RVRGE,
    AbstractDifferentiable,
    AbstractSum,
    Averaged,
    Bernoulli,
    DoublyStochastic,
    IncrementalControlVariate,
    JointControlVariate,
    MonteCarloControlVariate,
    Normal,
    Pathwise,
    incompatibility,
)
from estimators.base import evaluations
from estimators.joint_control import integrated_slope, sampled_slope
from estimators.subsampled import AbstractSubsampled, distinct, weighted_terms
from estimators.taylor import expansion

TERMS, BATCH = 5, 2
SETS = np.array(list(itertools.combinations(range(TERMS), BATCH)))
STATELESS = [DoublyStochastic(BATCH), MonteCarloControlVariate(BATCH)]
INCREMENTAL = [IncrementalControlVariate(BATCH), JointControlVariate(BATCH)]


class Bowls(AbstractSum, AbstractDifferentiable):
    """Five quadratic functions of two variables, each bent by `bend` times a sine."""

    matrices: jax.Array
    slopes: jax.Array
    waves: jax.Array
    bend: jax.Array

    @property
    def terms(self):
        return len(self.slopes)

    def term(self, n, x):
        wave = jnp.sin(jnp.vdot(self.waves[n], x) + n)
        return jnp.vdot(x, self.matrices[n] @ x) / 2 + jnp.vdot(self.slopes[n], x) + self.bend * wave

    def __call__(self, x):
        waves = jnp.sin(self.waves @ x + jnp.arange(TERMS))
        return jnp.vdot(x, self.matrices.sum(0) @ x) / 2 + jnp.vdot(self.slopes.sum(0), x) + self.bend * waves.sum()

    def mean_of(self, n, d):
        """`E[term(n, x)]` in closed form."""
        variance = jnp.exp(2 * d.log_scale)
        curvature = jnp.vdot(jnp.diagonal(self.matrices[n]), variance) / 2
        wave = jnp.sin(jnp.vdot(self.waves[n], d.loc) + n) * jnp.exp(-jnp.vdot(self.waves[n] ** 2, variance) / 2)
        straight = eqx.tree_at(lambda f: f.bend, self, jnp.zeros(()))
        return straight.term(n, d.loc) + curvature + self.bend * wave


def bowls(bend=0.0):
    draw = np.random.default_rng(5).normal
    matrices, slopes, waves = draw(size=(TERMS, 2, 2)), draw(size=(TERMS, 2)), draw(size=(TERMS, 2))
    return Bowls(*map(jnp.asarray, (matrices + matrices.transpose(0, 2, 1), slopes, waves, bend)))


BOTH = pytest.mark.parametrize("bend", [0.0, 1.5])


def term_gradients(f):
    """The exact gradient of `E[term]`, one row for each term."""

    def slope(n):
        return ravel_pytree(jax.grad(lambda d: f.mean_of(n, d))(two_normals()))[0]

    return np.asarray(jax.jit(jax.vmap(slope))(jnp.arange(TERMS)))


@eqx.filter_jit
def _table(estimator, state, dist, f, sets, noises):
    def one(terms, noise):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Normal, "noise", lambda self, key: noise)
            patch.setattr(AbstractSubsampled, "drawn", lambda self, key, f: terms)
            return ravel_pytree(estimator.estimate(jax.random.key(0), state, dist, f)[0])[0]

    return jax.vmap(lambda terms: jax.vmap(lambda noise: one(terms, noise))(noises))(sets)


def table(estimator, f, state=None, sets=SETS):
    """The estimate of each set with each noise, `[sets, nodes, 4]`."""
    return np.asarray(_table(estimator, state, two_normals(), f, jnp.asarray(sets), jnp.asarray(NOISE)))


def mean_and_parts(rows):
    """Mean, Monte Carlo part and subsampling part of the variance."""
    within = [moments(WEIGHTS, row) for row in rows]
    means, variances = (np.stack(values) for values in zip(*within, strict=True))
    return means.mean(axis=0), variances.mean(axis=0), means.var(axis=0)


@eqx.filter_jit
def adapted(estimator, state, f):
    return estimator.adapt(state, estimator.estimate(jax.random.key(3), state, two_normals(), f)[1])


def after(estimator, f, steps, at=None):
    """The state after so many steps of a pass with the snapshot `at`."""
    state = estimator.init(jax.random.key(0), at or two_normals())
    for _ in range(steps):
        state = adapted(estimator, state, f)
    return state


def whole(estimator, f):
    return after(estimator, f, math.ceil(TERMS / BATCH))


def elsewhere():
    return Normal(np.array([-0.3, 0.9]), np.array([0.1, -0.6]))


@BOTH
def test_terms_add_up_to_the_whole_and_so_do_their_closed_forms(bend):
    f, x = bowls(bend), jnp.array([0.3, -1.1])
    whole = weighted_terms(f, jnp.arange(TERMS), 1.0)
    np.testing.assert_allclose(jax.jit(whole)(x), f(x), rtol=1e-12)
    mean, *_ = mean_and_parts(table(Pathwise(), f, sets=SETS[:1]))
    np.testing.assert_allclose(term_gradients(f).sum(axis=0), mean, rtol=1e-10)


@BOTH
@pytest.mark.parametrize("estimator", STATELESS, ids=repr)
def test_the_mean_is_the_gradient(estimator, bend):
    mean, *_ = mean_and_parts(table(estimator, bowls(bend)))
    np.testing.assert_allclose(mean, term_gradients(bowls(bend)).sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 2, 3])
@pytest.mark.parametrize("estimator", INCREMENTAL, ids=repr)
def test_the_mean_is_the_gradient_whatever_the_table_holds(estimator, steps):
    """Nothing, four terms, or all, expanded about another law than the one that is sampled."""
    f = bowls(1.5)
    state = after(estimator, f, steps, elsewhere())
    assert int(state.seen) == min(steps * BATCH, TERMS)
    mean, *_ = mean_and_parts(table(estimator, f, state))
    np.testing.assert_allclose(mean, term_gradients(f).sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("estimator", INCREMENTAL, ids=repr)
def test_a_sum_that_is_not_that_of_the_table_is_seen(estimator):
    """That the tests above can fail."""
    f = bowls(1.5)
    state = eqx.tree_at(lambda s: s.seen, after(estimator, f, 2), jnp.asarray(3, jnp.int32))
    mean, *_ = mean_and_parts(table(estimator, f, state))
    assert np.max(np.abs(mean - term_gradients(f).sum(axis=0))) > 0.1


def test_before_a_term_was_seen_both_are_doubly_stochastic():
    f = bowls(1.5)
    plain = table(DoublyStochastic(BATCH), f)
    for estimator in INCREMENTAL:
        np.testing.assert_allclose(table(estimator, f, after(estimator, f, 0)), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", INCREMENTAL, ids=repr)
def test_a_pass_adds_up_the_slopes_of_all_terms_once(estimator):
    """Two at each of three steps, the last of which finds one; after that nothing changes."""
    f, dist = bowls(1.5), elsewhere()
    state = after(estimator, f, 3, dist)
    everything = flat(jax.grad(expansion(f, dist.mean()).expectation)(dist))
    np.testing.assert_allclose(flat(state.total), everything, rtol=1e-12)
    later = after(estimator, f, 6, dist)
    assert int(state.seen) == int(later.seen) == TERMS and later.seen.dtype == jnp.int32
    np.testing.assert_array_equal(flat(later.total), flat(state.total))
    averaged = after(Averaged(estimator, 3), f, 3, dist)
    assert int(averaged.seen) == TERMS
    np.testing.assert_allclose(flat(averaged.total), everything, rtol=1e-12)


@BOTH
def test_the_subsampling_part_is_that_of_a_simple_random_sample(bend):
    """Of the exact gradients of the terms, and the same with a control variate of the noise as without one."""
    f = bowls(bend)
    expected = TERMS * (TERMS - BATCH) / BATCH * np.var(term_gradients(f), axis=0, ddof=1)
    for estimator in STATELESS:
        _, _, subsampling = mean_and_parts(table(estimator, f))
        np.testing.assert_allclose(subsampling, expected, rtol=1e-9)


@BOTH
def test_each_control_variate_changes_its_part_of_the_variance_and_the_joint_one_both(bend):
    f = bowls(bend)
    plain, noise = (mean_and_parts(table(estimator, f))[1:] for estimator in STATELESS)
    terms, joint = (mean_and_parts(table(estimator, f, whole(estimator, f)))[1:] for estimator in INCREMENTAL)
    np.testing.assert_allclose(terms[0], plain[0], rtol=1e-9)
    np.testing.assert_allclose(noise[1], plain[1], rtol=1e-9)
    np.testing.assert_allclose(joint, [noise[0], terms[1]], rtol=1e-9, atol=1e-15)
    assert min(plain[0].min(), plain[1].min()) > 0.01
    if bend == 0:
        np.testing.assert_allclose([noise[0], terms[1]], 0, atol=1e-20)
    else:
        assert sum(map(np.sum, joint)) < sum(map(np.sum, noise)) < sum(map(np.sum, plain))


def test_on_a_sum_of_quadratic_functions_every_joint_estimate_is_the_gradient():
    """Once all terms were seen, and then even where the noise is far out; one term short it is not."""
    estimator, f = JointControlVariate(BATCH), bowls()
    exact = np.broadcast_to(term_gradients(f).sum(axis=0), (len(SETS), len(NOISE), 4))
    np.testing.assert_allclose(table(estimator, f, whole(estimator, f)), exact, rtol=1e-9, atol=1e-10)
    assert np.ptp(table(estimator, f, after(estimator, f, 2)), axis=(0, 1)).min() > 1


def test_the_joint_control_variate_is_the_sum_of_the_others():
    f = bowls(1.5)
    plain, noise = (table(estimator, f) for estimator in STATELESS)
    terms, joint = (table(estimator, f, whole(estimator, f)) for estimator in INCREMENTAL)
    np.testing.assert_allclose(joint - plain, (noise - plain) + (terms - plain), rtol=1e-9, atol=1e-9)


def test_with_all_terms_the_first_is_pathwise_and_the_joint_one_rv_rge_on_the_same_noise():
    f, everything = bowls(1.5), np.arange(TERMS)[None]
    joint = JointControlVariate(TERMS)
    for estimator, state, same in (
        (DoublyStochastic(TERMS), None, Pathwise()),
        (joint, after(joint, f, 1), RVRGE()),
    ):
        found, expected = table(estimator, f, state, everything), table(same, f, sets=everything)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_slopes_are_their_formulas():
    """`(f' + H s e, (f' + H s e) s e)` along `loc` and `log_scale`, of mean `(f', diag(H) s^2)`."""
    f, dist, noise = bowls(1.5), elsewhere(), jnp.array([0.7, -1.3])
    part = weighted_terms(f, jnp.array([1, 4]), jnp.array([2.0, 0.5]))
    slope, hessian = (np.asarray(jax.jit(d(part))(dist.loc)) for d in (jax.grad, jax.hessian))
    step = dist.scale * noise
    moved = slope + hessian @ step
    np.testing.assert_allclose(
        flat(jax.jit(lambda d: sampled_slope(d, part, noise))(dist)), np.concatenate([moved, moved * step]), rtol=1e-12
    )
    expected = np.concatenate([slope, np.diagonal(hessian) * dist.scale**2])
    np.testing.assert_allclose(flat(jax.jit(lambda d: integrated_slope(d, part))(dist)), expected, rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_every_set_is_as_likely_as_any_other(batch):
    """Over all numbers that may be drawn on the way to it."""
    last = np.arange(TERMS - batch, TERMS)
    numbers = np.array(list(itertools.product(*(range(most + 1) for most in last))))
    made = jax.jit(jax.vmap(lambda row: distinct(row, jnp.asarray(last))))(jnp.asarray(numbers))
    sets, counts = np.unique(np.sort(made, axis=1), axis=0, return_counts=True)
    np.testing.assert_array_equal(sets, list(itertools.combinations(range(TERMS), batch)))
    assert np.all(counts == math.factorial(batch))


def test_the_numbers_are_drawn_as_they_are_listed(key):
    """By the sets that come of them."""
    run = jax.jit(jax.vmap(lambda key: DoublyStochastic(BATCH).drawn(key, bowls())))
    drawn = np.sort(np.asarray(run(jax.random.split(key, 20_000))), axis=1)
    hits = np.all(drawn[:, None] == SETS[None], axis=2).astype(float)
    assert np.all(hits.sum(axis=1) == 1)
    assert_mean_equals(hits, np.full(len(SETS), 1 / len(SETS)), detects=0.02)


SUMS = {
    "logistic-regression:data=sonar,batch=20": 20,
    "logistic-regression": 569,
    "conjugate-gaussian:kl=analytic,dimension=9": 9,
}


@pytest.mark.parametrize("spec", SUMS)
def test_likelihoods_are_the_sums_of_their_terms(spec):
    """In value and slope; and what a whole one costs is counted in terms."""
    dist, f = in_float64(Spec.parse(spec).create(PROBLEMS)).example()
    w = jnp.asarray(np.random.RandomState(0).standard_normal(dist.loc.shape) / 3)
    everything = weighted_terms(f, jnp.arange(f.terms), 1.0)
    for found, expected in zip(*(jax.jit(jax.value_and_grad(g))(w) for g in (everything, f)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert f.terms == SUMS[spec] == evaluations(Pathwise(), dist, f)
    assert [evaluations(e, dist, f) for e in (*STATELESS, *INCREMENTAL)] == [2, 4, 6, 6]
    assert evaluations(Averaged(DoublyStochastic(BATCH), 3), dist, f) == 6


def test_what_does_not_fit_is_refused_with_a_reason():
    for estimator in (*STATELESS, *INCREMENTAL):
        name = type(estimator).__name__
        reason = mismatch(estimator, PROBLEMS.create("logistic-regression", kl="sampled"))
        assert f"`{name}` needs a sum objective, and `LogWeight` does not declare to be one." in reason
        reason = incompatibility(estimator, Bernoulli(logits=[0.0, 1.0]), bowls())
        assert reason.startswith(f"`{name}` needs a reparameterizable distribution")
        assert mismatch(estimator, PROBLEMS.create("logistic-regression")) is None


def test_more_terms_than_there_are_and_none_are_refused():
    with pytest.raises(ValueError, match="draws 6 different terms, and this `Bowls` has 5; give a smaller `batch`"):
        DoublyStochastic(6).gradient(jax.random.key(0), two_normals(), bowls())
    with pytest.raises(ValueError, match="`JointControlVariate` needs `batch >= 1`, got 0"):
        JointControlVariate(batch=0)
