"""Bounds of importance weights: every estimator summed or integrated over all that it draws.

The exact gradient is that of the expected bound as a sum over tuples of events (bits) or as a product integral (normal variables), by
automatic differentiation of an expression with no score and no path in it, written without the package's bounds.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prescribed import outcomes, prescribe, tuples
from scripted_normal import product_rule, scripted

from estimators import (
    ESTIMATORS,
    TVO,
    VIMCO,
    AbstractFunctional,
    Bernoulli,
    BlackBox,
    BoundDReG,
    BoundPathwise,
    BoundScoreFunction,
    BoundStickingTheLanding,
    DisARM,
    GDReG,
    ImportanceWeightedBound,
    ImportanceWeightedEvidence,
    InclusiveDivergence,
    JackknifeBound,
    JackknifeEvidence,
    LocalARMS,
    LogEvidence,
    Normal,
    OVISAsymptotic,
    OVISGammaZero,
    OVISMonteCarlo,
    RenyiBound,
    RWSDReG,
    ScoreFunction,
    ThermodynamicObjective,
    WakePhi,
    incompatibility,
)
from estimators.arms import AbstractCopula

LOGITS = np.array([-0.8, 0.5])
Q = Normal(np.array([0.4]), np.array([-0.2]))
GAMMA = 0.6


def log_joint_of_bits(z):
    return jnp.sin(1.0 + 2.0 * z[0] + 3.0 * z[0] * z[1]) - 0.7 * z[1]


def log_joint(z):
    return -0.5 * jnp.sum((z - 1.0) ** 2) + 0.3 * jnp.sum(jnp.cos(z))


def power_mean(log_weights, power=1.0):
    """Written without `logsumexp`, over the last axis."""
    return jnp.log(jnp.mean(jnp.exp(power * log_weights), axis=-1)) / power


def jackknife(log_weights):
    number = log_weights.shape[-1]
    fewer = [power_mean(log_weights[..., jnp.array([j for j in range(number) if j != left])]) for left in range(number)]
    return number * power_mean(log_weights) - (number - 1) * sum(fewer) / number


BOUNDS = {
    "iwae": (ImportanceWeightedBound, power_mean),
    "chi": (lambda f, number: RenyiBound(f, number, -1.0), lambda log_weights: power_mean(log_weights, 2.0)),
    "renyi": (lambda f, number: RenyiBound(f, number, 0.4), lambda log_weights: power_mean(log_weights, 0.6)),
    "jackknife": (JackknifeBound, jackknife),
}
SCORES = [BoundScoreFunction(), VIMCO(), VIMCO(arithmetic=True), OVISMonteCarlo(num_sets=1)]
PATHS = [BoundPathwise(), BoundDReG(), BoundStickingTheLanding()]


def log_mass(logits, events):
    """`[cases, samples]`, of events `[cases, samples, bits]`."""
    return jnp.sum(jnp.where(events > 0, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)), axis=-1)


def drawn(number):
    """Every tuple of events, and its probability."""
    events, probabilities = outcomes(LOGITS)
    indices, weights = tuples(probabilities, number)
    return events[indices], weights


def exact_of_bits(bound, number):
    """The gradient in the logits of the sum over all tuples."""
    events, _ = drawn(number)

    def total(logits):
        with jax.numpy_rank_promotion("allow"):
            log_q = log_mass(logits, events)
            values = bound(jax.vmap(jax.vmap(log_joint_of_bits))(events) - log_q)
            return jnp.vdot(jnp.exp(jnp.sum(log_q, axis=1)), values)

    return np.asarray(jax.jit(jax.grad(total))(jnp.asarray(LOGITS)))


@eqx.filter_jit
def of_bits(estimators, events, f):
    """The estimates of all estimators for all tuples of events, `[estimators, cases, bits]`."""
    keys = jax.random.split(jax.random.key(0), events.shape[1])

    def one(events):
        dist = prescribe(jnp.asarray(LOGITS), events, keys)
        return jnp.stack([e.gradient(jax.random.key(0), dist, f).logits for e in estimators])

    return jnp.swapaxes(jax.vmap(one)(events), 0, 1)


def mean_of_bits(estimators, number, f):
    events, weights = drawn(number)
    return np.tensordot(np.asarray(of_bits(estimators, events, f)), weights, axes=(1, 0))


def close(found, expected):
    np.testing.assert_allclose(found, np.broadcast_to(expected, np.shape(found)), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("number", [2, 3])
def test_scores_have_the_gradient_of_the_bound_as_their_mean(number):
    f, exact = ImportanceWeightedBound(BlackBox(log_joint_of_bits), number), exact_of_bits(power_mean, number)
    every = [*SCORES[:3], OVISGammaZero(), OVISAsymptotic(GAMMA)]
    means = mean_of_bits(every, number, f)
    close(means[:4], exact)
    # The form of the biased one: the score weighted by the posterior, `gamma` times.
    events, weights = drawn(number)
    dist = Bernoulli(LOGITS)
    shares = jax.jit(jax.vmap(lambda zs: jax.nn.softmax(f.log_weights(dist, zs))))(jnp.asarray(events))
    scores = events - np.asarray(dist.mean())
    close(means[4], exact + GAMMA * np.einsum("c,ck,ckd->d", weights, np.asarray(shares), scores))


@pytest.mark.parametrize("number, sets", [(1, 2), (2, 1), (3, 1)])
def test_auxiliary_samples_leave_the_mean_alone(number, sets):
    f, exact = ImportanceWeightedBound(BlackBox(log_joint_of_bits), number), exact_of_bits(power_mean, number)
    close(mean_of_bits([OVISMonteCarlo(sets)], (sets + 1) * number, f)[0], exact)


def test_scores_of_another_bound():
    make, bound = BOUNDS["chi"]
    close(mean_of_bits(SCORES[:3], 3, make(log_joint_of_bits, 3)), exact_of_bits(bound, 3))


def test_baselines_are_related_as_the_papers_say():
    """On every tuple: `ovis-gamma-zero` is arithmetic VIMCO without a constant, and `ovis-asymptotic` adds wake-phi."""
    events, _ = drawn(3)
    f, g = ImportanceWeightedBound(log_joint_of_bits, 3), InclusiveDivergence(log_joint_of_bits)
    every = [VIMCO(arithmetic=True), OVISGammaZero(), OVISAsymptotic(1.0)]
    arithmetic, zero, one = np.asarray(of_bits(every, events, f))
    (wake,) = np.asarray(of_bits([WakePhi(3)], events, g))
    scores = np.sum(events - np.asarray(Bernoulli(LOGITS).mean()), axis=1)
    close(zero - arithmetic, -np.log(2 / 3) * scores)
    close(one - arithmetic, wake)


def test_baselines_are_the_stated_ones():
    """Any baseline without the own sample leaves the mean alone; those of geometric VIMCO and of OVIS-MC, written out in NumPy."""
    events, _ = drawn(4)
    f = ImportanceWeightedBound(log_joint_of_bits, 2)
    log_weights = np.asarray(jax.jit(jax.vmap(lambda zs: f.log_weights(Bernoulli(LOGITS), zs)))(events))
    scores = events[:, :2] - np.asarray(Bernoulli(LOGITS).mean())

    def factor(own, other):
        """`B - b` for the first of two log-weights."""
        return np.log((np.exp(own) + np.exp(other)) / 2) - np.exp(own) / (np.exp(own) + np.exp(other))

    first, second, third, fourth = log_weights.T
    (found,) = np.asarray(of_bits([OVISMonteCarlo(1)], events, f))
    own = factor(first, second) - (factor(third, second) + factor(fourth, second)) / 2
    other = factor(second, first) - (factor(third, first) + factor(fourth, first)) / 2
    close(found, own[:, None] * scores[:, 0] + other[:, None] * scores[:, 1])

    triples = events[:, :3]
    (found,) = np.asarray(of_bits([VIMCO()], triples, ImportanceWeightedBound(log_joint_of_bits, 3)))
    weights, expected = np.exp(log_weights[:, :3]), np.zeros_like(found)
    for k, (i, j) in enumerate([(1, 2), (0, 2), (0, 1)]):
        replaced = weights[:, i] + weights[:, j] + np.sqrt(weights[:, i] * weights[:, j])
        gain = np.log(weights.sum(axis=1) / replaced) - weights[:, k] / weights.sum(axis=1)
        expected += gain[:, None] * (triples[:, k] - np.asarray(Bernoulli(LOGITS).mean()))
    close(found, expected)


class Scripted(AbstractCopula):
    """The bits of each slot as the test writes them: two members that are never both rare, or independent ones."""

    patterns: jax.Array
    words: jax.Array
    independent: bool = eqx.field(static=True)

    def noise(self, key, shape, dtype):
        return self.patterns[jnp.argmax(jnp.all(self.words == jax.random.key_data(key)[None], axis=1))]

    def below(self, noise, s):
        return noise > 0

    def both_below(self, members, s):
        return s**2 if self.independent else jnp.zeros_like(s)


def patterns_of_a_slot(members, independent):
    """Every table `[members, bits]` of which bits are rare, and its probability."""
    tables, probabilities = [], []
    rare = 1 / (1 + np.exp(np.abs(LOGITS)))
    columns = list(itertools.product((0, 1), repeat=members))

    def probability(column, s):
        if independent:
            return np.prod([s if bit else 1 - s for bit in column])
        return {0: 1 - 2 * s, 1: s, 2: 0.0}[sum(column)]

    for chosen in itertools.product(columns, repeat=len(LOGITS)):
        weight = np.prod([probability(column, s) for column, s in zip(chosen, rare, strict=True)])
        if weight > 0:
            tables.append(np.array(chosen).T)
            probabilities.append(weight)
    return np.array(tables), np.array(probabilities)


@pytest.mark.parametrize(
    "name, slots, members, independent", [("iwae", 1, 2, False), ("jackknife", 3, 2, False), ("iwae", 2, 3, True)]
)
def test_local_arms_over_all_patterns_of_all_slots(name, slots, members, independent):
    make, bound = BOUNDS[name]
    tables, probabilities = patterns_of_a_slot(members, independent)
    indices, weights = tuples(probabilities, slots)
    words, f = jax.random.key_data(jax.random.split(jax.random.key(0), slots)), make(log_joint_of_bits, slots)

    @jax.jit
    @jax.vmap
    def estimates(patterns):
        estimator = LocalARMS(members, Scripted(patterns, words, independent))
        return estimator.gradient(jax.random.key(0), Bernoulli(LOGITS), f).logits

    close(weights @ np.asarray(estimates(jnp.asarray(tables[indices]))), exact_of_bits(bound, slots))


def test_local_disarm_in_one_slot_is_disarm_and_the_score_inside():
    """`h` is the score: `DisARM` of the log-weight, less the mean of `h` over the pair."""
    dist, f = Bernoulli(LOGITS), ImportanceWeightedBound(log_joint_of_bits, 1)
    pair = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    rare = (pair > 0) == (jnp.asarray(LOGITS) < 0)[None]
    words = jax.random.key_data(jax.random.split(jax.random.key(0), 1))
    estimator = LocalARMS(2, Scripted(rare[None], words, False))
    found = jax.jit(lambda key: estimator.gradient(key, dist, f).logits)(jax.random.key(0))
    first, second = f.log_weights(dist, pair)
    disarm = 0.5 * jax.nn.sigmoid(jnp.abs(dist.logits)) * (first - second) * (pair[0] - pair[1])
    close(found, disarm - jnp.mean(pair - dist.mean()[None], axis=0))


@eqx.filter_jit
def of_normals(estimators, noise, dist, f):
    """The estimates of all estimators for all noises, `[estimators, cases, leaves]`."""

    def one(draws):
        grads = [e.gradient(jax.random.key(0), scripted(dist, draws), f) for e in estimators]
        return jnp.stack([jnp.concatenate([g.loc, g.log_scale]) for g in grads])

    return jnp.swapaxes(jax.vmap(one)(noise), 0, 1)


def mean_of_normals(estimators, number, f):
    noise, weights = product_rule(number)
    return np.tensordot(np.asarray(of_normals(estimators, noise, Q, f)), weights, axes=(1, 0))


def exact_of_normals(bound, number):
    """The gradient of the product integral of the bound."""
    noise, weights = product_rule(number)

    @jax.jit
    def total(leaves):
        z = leaves[0] + jnp.exp(leaves[1]) * noise[..., 0]
        log_q = -0.5 * noise[..., 0] ** 2 - leaves[1] - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.vdot(weights, bound(jax.vmap(jax.vmap(log_joint))(z[..., None]) - log_q))

    return np.asarray(jax.grad(total)(jnp.array([Q.loc[0], Q.log_scale[0]])))


@pytest.mark.parametrize("name", BOUNDS)
def test_paths_have_the_gradient_of_the_bound_as_their_mean(name):
    """And sticking the landing lacks the derivative inside the weights: it is off by `E[sum_k b_k h_k]`."""
    make, bound = BOUNDS[name]
    f, exact = make(log_joint, 2), exact_of_normals(bound, 2)
    pathwise, dreg, landing = mean_of_normals(PATHS, 2, f)
    np.testing.assert_allclose([pathwise, dreg], [exact, exact], rtol=1e-9, atol=1e-11)
    noise, weights = product_rule(2)
    slopes = jax.jit(jax.vmap(lambda e: f.slopes(f.log_weights(Q, jax.vmap(Q.reparameterize)(e)))))
    scores = np.concatenate([noise / np.asarray(Q.scale), noise**2 - 1], axis=-1)
    missing = np.einsum("c,ck,ckl->l", weights, np.asarray(slopes(noise)), scores)
    np.testing.assert_allclose(landing, exact + missing, rtol=1e-9, atol=1e-11)
    assert np.all(np.abs(missing) > 0.05)


def test_slopes_and_curvatures_are_derivatives_and_slopes_sum_to_one():
    log_weights = jnp.array([0.3, -1.2, 2.0])
    for make, bound in BOUNDS.values():
        f = make(log_joint, 3)
        slopes, curvature = jax.jit(lambda x, f=f: (f.slopes(x), f.curvature(x)))(log_weights)
        slope, hessian = jax.jit(lambda x, bound=bound: (jax.grad(bound)(x), jax.hessian(bound)(x)))(log_weights)
        close(slopes, slope)
        close(curvature, np.diagonal(hessian))
        close(np.sum(slopes), 1.0)


def test_one_sample_is_the_evidence_bound():
    """Estimate by estimate, against the derivatives written out; DReG is sticking the landing, and VIMCO has no baseline."""
    noise, _ = product_rule(1, step=1.0)
    f = ImportanceWeightedBound(log_joint, 1)
    pathwise, dreg, landing = np.asarray(of_normals(PATHS, noise, Q, f))
    close(dreg, landing)
    z = np.asarray(Q.loc) + np.asarray(Q.scale) * noise[:, 0]
    slope = np.asarray(jax.vmap(jax.grad(log_joint))(z))[:, 0]
    close(pathwise, np.stack([slope, slope * np.asarray(Q.scale) * noise[:, 0, 0] + 1], axis=1))
    e = noise[:, 0, 0]
    inside = np.stack([e / np.asarray(Q.scale), e**2 - 1], axis=1)
    close(landing, pathwise + inside)
    score, vimco = np.asarray(of_normals([BoundScoreFunction(), VIMCO()], noise, Q, f))
    value = np.asarray(jax.vmap(log_joint)(z) - jax.vmap(Q.log_prob)(z))
    close(score, (value[:, None] - 1) * inside)
    close(vimco, score)


def test_the_renyi_bound_of_order_zero_is_the_importance_weighted_one():
    noise, _ = product_rule(2, step=2.0)
    bounds = [ImportanceWeightedBound(log_joint, 2), RenyiBound(log_joint, 2, 0.0)]
    close(*(np.asarray(of_normals([*PATHS, VIMCO()], noise, Q, f)) for f in bounds))


def test_wake_phi_and_its_reparameterisation_have_one_mean():
    found = mean_of_normals([WakePhi(2), RWSDReG(2)], 2, InclusiveDivergence(log_joint))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


UNIFORM = Bernoulli(np.zeros(2))


def whole_support(estimator, f):
    """The estimate of samples that are the whole support once each, under the uniform law: no sampling error is left."""
    events = UNIFORM.support()
    keys = jax.random.split(jax.random.key(0), len(events))
    return jax.jit(lambda key: estimator.gradient(key, prescribe(UNIFORM.logits, events, keys), f).logits)(
        jax.random.key(0)
    )


def posterior_means(logits, beta, values):
    """`E_{pi_beta}[values(q)]` as a sum over the support, differentiable in the logits."""
    q, events = Bernoulli(logits), UNIFORM.support()
    log_q, log_p = jax.vmap(q.log_prob)(events), jax.vmap(log_joint_of_bits)(events)
    return jnp.vdot(jax.nn.softmax((1 - beta) * log_q + beta * log_p), values(log_p, log_q))


def test_without_sampling_error_self_normalised_gradients_are_exact():
    found = whole_support(WakePhi(4), InclusiveDivergence(log_joint_of_bits))
    close(found, jax.jit(jax.grad(lambda logits: posterior_means(logits, 1.0, lambda p, q: q)))(UNIFORM.logits))
    betas = np.array([0.0, 0.3, 0.6])

    def thermodynamic(logits):
        nodes = [posterior_means(logits, beta, lambda p, q: p - q) for beta in betas]
        return jnp.vdot(jnp.array([0.3, 0.3, 0.4]), jnp.stack(nodes))

    found = whole_support(TVO(4), ThermodynamicObjective(log_joint_of_bits, betas))
    close(found, jax.jit(jax.grad(thermodynamic))(UNIFORM.logits))


@pytest.mark.parametrize("number", [2, 3])
def test_the_covariance_gradient_of_the_evidence_bound_is_shrunk(number):
    """At the node 0 alone the mean is `(K - 1) / K` of the gradient: the sample's mean is inside the covariance."""
    found = mean_of_bits([TVO(number)], number, ThermodynamicObjective(log_joint_of_bits, [0.0]))[0]
    close(found, (number - 1) / number * exact_of_bits(power_mean, 1))


def log_likelihood(z):
    return -0.8 * jnp.sum((z - 1.5) ** 2)


@eqx.filter_jit
def evidence_estimates(estimators, noise, prior):
    def one(draws):
        f = LogEvidence(log_likelihood, scripted(Q, draws))
        grads = [e.gradient(jax.random.key(0), prior, f) for e in estimators]
        return jnp.stack([jnp.concatenate([g.loc, g.log_scale]) for g in grads])

    return jnp.swapaxes(jax.vmap(one)(noise), 0, 1)


def test_gradients_in_the_prior_are_those_of_the_bounds():
    """By the product rule against the integral of the bound differentiated in the prior, GDReG included."""
    noise, weights = product_rule(2)
    prior = Normal(np.array([-0.3]), np.array([0.2]))
    every = [ImportanceWeightedEvidence(2), GDReG(2), JackknifeEvidence(2)]
    plain, gdreg, debiased = np.tensordot(np.asarray(evidence_estimates(every, noise, prior)), weights, axes=(1, 0))

    @jax.jit
    def total(prior, jackknifed):
        z = Q.loc[0] + Q.scale[0] * noise[..., 0]
        standardised = (z - prior.loc[0]) / prior.scale[0]
        log_prior = -0.5 * standardised**2 - prior.log_scale[0]
        log_weights = log_prior - 0.8 * (z - 1.5) ** 2 + 0.5 * noise[..., 0] ** 2
        return jnp.vdot(weights, jnp.where(jackknifed, jackknife(log_weights), power_mean(log_weights)))

    for found, jackknifed in [(plain, False), (gdreg, False), (debiased, True)]:
        exact = jax.grad(total)(prior, jackknifed)
        np.testing.assert_allclose(found, np.concatenate([exact.loc, exact.log_scale]), rtol=1e-8)


def test_only_estimators_that_require_a_functional_are_given_one():
    bounds = {
        "bits": (UNIFORM, ImportanceWeightedBound(log_joint_of_bits, 2)),
        "normal": (Q, InclusiveDivergence(log_joint)),
    }
    for dist, f in bounds.values():
        for name in ESTIMATORS:
            estimator = ESTIMATORS.create(name)
            if incompatibility(estimator, dist, f) is None:
                assert any(issubclass(need, AbstractFunctional) for need in estimator.requires)
        sentence = incompatibility(ScoreFunction(), dist, f)
        assert sentence == (
            f"`ScoreFunction` asks for values at one event, and `{type(f).__name__}`, a functional of the law, has none."
        )
        with pytest.raises(TypeError, match="has no value at one event; use an estimator that requires it"):
            f(dist.support()[0] if dist is UNIFORM else jnp.zeros(1))
        with pytest.raises(TypeError, match="has no value at one event"):
            DisARM().gradient(jax.random.key(0), UNIFORM, f)


def test_what_a_bound_is_made_of_decides_whether_it_has_a_derivative():
    assert incompatibility(BoundDReG(), Q, ImportanceWeightedBound(log_joint, 2)) is None
    sentence = incompatibility(BoundDReG(), Q, ImportanceWeightedBound(BlackBox(log_joint), 2))
    assert sentence.startswith("`BoundDReG` needs a differentiable objective")
    assert incompatibility(BoundScoreFunction(), Q, ImportanceWeightedBound(BlackBox(log_joint), 2)) is None
    assert "multi sample bound" in incompatibility(BoundDReG(), Q, log_joint)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ImportanceWeightedBound(log_joint, 0), "`ImportanceWeightedBound` needs `num_samples >= 1`, got 0"),
        (lambda: JackknifeBound(log_joint, 1), "`JackknifeBound` needs `num_samples >= 2`, got 1"),
        (lambda: RenyiBound(log_joint, 2, 1.0), "`RenyiBound` needs `alpha != 1`"),
        (lambda: OVISMonteCarlo(0), "`OVISMonteCarlo` needs `num_sets >= 1`, got 0"),
        (lambda: WakePhi(1), "`WakePhi` needs `num_samples >= 2`, got 1"),
        (lambda: RWSDReG(1), "`RWSDReG` needs `num_samples >= 2`, got 1"),
        (lambda: TVO(1), "`TVO` needs `num_samples >= 2`, got 1"),
        (lambda: LocalARMS(1), "`LocalARMS` needs `num_members >= 2`, got 1"),
        (lambda: JackknifeEvidence(1), "`JackknifeEvidence` needs `num_samples >= 2`, got 1"),
        (lambda: GDReG(0), "`GDReG` needs `num_samples >= 1`, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
