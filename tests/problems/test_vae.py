"""The autoencoders: exact gradients by two routes, noise of each datapoint's own, and checkpoints that are what they say."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from benchmarks.problems import PROBLEMS, make_checkpoints, vae
from benchmarks.problems.base import in_float64
from benchmarks.problems.evidence import LogWeight, Reconstruction, divergence, summation
from benchmarks.problems.networks import CHECKPOINTS, LATENTS, restore
from estimators import Bernoulli, Categorical, LeaveOneOut, Normal, Quadrature

MODELS = tuple(LATENTS)
DISCRETE = ("bernoulli-vae", "categorical-vae")


@functools.cache
def problem_of(model, checkpoint="early", kl="analytic", batch=4):
    return in_float64(PROBLEMS.create(model, checkpoint=checkpoint, kl=kl, batch=batch))


@eqx.filter_jit
def elbo_with(problem, encoder):
    return eqx.tree_at(lambda p: p.encoder, problem, encoder).elbo()


@eqx.filter_jit
def differentiated_sum(problem):
    """The gradient by automatic differentiation of the summed bound: no estimator, no score, no divergence."""
    return {
        "distribution": jax.grad(problem.elbo_at)(problem.posteriors()),
        "encoder": jax.grad(lambda encoder: elbo_with(problem, encoder))(problem.encoder),
    }


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def distance(tree, other):
    """The norm of the difference as a fraction of the norm of `other`."""
    return norm(jax.tree.map(np.subtract, tree, other)) / norm(other)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("model", MODELS)
def test_truth_by_two_routes(model, kl):
    for checkpoint in CHECKPOINTS:
        problem = problem_of(model, checkpoint, kl)
        truth, other = problem.truth(), differentiated_sum(problem_of(model, checkpoint))
        assert truth.kind == ("quadrature" if model == "gaussian-vae" else "enumeration")
        assert distance(truth.gradient["distribution"], other["distribution"]) < 1e-9
        assert distance(truth.gradient["encoder"], other["encoder"]) < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_truth_is_the_slope_of_the_bound(model):
    problem, step = problem_of(model), 1e-4
    truth = problem.truth().gradient["encoder"]
    for seed in range(3):
        key = jax.random.key(seed)
        leaves, structure = jax.tree.flatten(problem.encoder)
        keys = jax.random.split(key, len(leaves))
        direction = structure.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])
        up, down = (
            elbo_with(problem, jax.tree.map(lambda leaf, d, h=h: leaf + h * d, problem.encoder, direction))
            for h in (step, -step)
        )
        slope = sum(jnp.vdot(t, d) for t, d in zip(jax.tree.leaves(truth), jax.tree.leaves(direction), strict=True))
        np.testing.assert_allclose((up - down) / (2 * step), slope, rtol=1e-5)


@pytest.mark.parametrize("model", DISCRETE)
def test_the_bound_is_the_evidence_less_the_divergence_from_the_posterior(model):
    problem = problem_of(model, "late", batch=1)
    dist, _ = problem.example()
    events = np.asarray(dist.support())
    logits = np.asarray(jax.vmap(problem.decoder)(events))
    pixels = np.where(np.asarray(problem.images) > 0, 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits)))
    log_joint = np.log(pixels).sum(axis=1) - np.log(len(events))
    log_q = np.asarray(jax.vmap(dist.log_prob)(events))
    evidence = logsumexp(log_joint)
    gap = np.sum(np.exp(log_q) * (log_q - (log_joint - evidence)))
    assert gap > 1e-3
    np.testing.assert_allclose(problem.elbo(), evidence - gap, rtol=1e-12)


def pairs(key):
    """A distribution of each family and a prior that is not the models'."""
    a, b, c, d = jax.random.normal(key, (4, 3, 4))
    return [
        (Normal(0.5 * a[0, :2], 0.3 * b[0, :2]), Normal(0.5 * c[0, :2], 0.3 * d[0, :2])),
        (Bernoulli(2 * a), Bernoulli(b)),
        (Categorical(2 * a), Categorical(b)),
    ]


def test_divergence_is_the_sum_it_stands_for(key):
    for dist, prior in pairs(key):
        terms = summation(dist, 128)
        np.testing.assert_allclose(terms.log_densities, jax.vmap(dist.log_prob)(terms.events), atol=1e-12)
        np.testing.assert_allclose(jnp.sum(terms.weights), 1.0, rtol=1e-10)
        summed = jnp.vdot(terms.weights, terms.log_densities - jax.vmap(prior.log_prob)(terms.events))
        np.testing.assert_allclose(divergence(dist, prior), summed, rtol=1e-9)


def test_the_divergence_matters_and_both_forms_carry_it():
    problem = problem_of("bernoulli-vae")
    truth, sampled = problem.truth().gradient, problem_of("bernoulli-vae", kl="sampled").truth().gradient
    slope = jax.vmap(lambda dist: jax.grad(divergence)(dist, problem.prior))(problem.posteriors())
    assert norm(slope) / 4 > 0.1 * norm(truth["distribution"])
    assert distance(sampled, truth) < 1e-12


def test_pathwise_on_the_sampled_form_has_the_same_mean():
    """What `f` leaves out by not differentiating its own copy of `q` has mean zero: summed over the noise, exactly."""

    def averaged(key, dist, f):
        del key
        noise, weights = dist.nodes(97)
        grads = jax.vmap(lambda noise: jax.grad(lambda d: f(d.reparameterize(noise)))(dist))(noise)
        return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), grads), None

    problem = problem_of("gaussian-vae", kl="sampled", batch=1)
    grads, stats = jax.jit(lambda key: problem.gradient(averaged, key))(jax.random.key(0))
    assert stats is None
    assert distance(grads, problem.truth().gradient) < 1e-9


def test_log_masses_are_continued_linearly_on_relaxed_events():
    for model in DISCRETE:
        problem = problem_of(model, kl="sampled")
        dist, f = problem.example()
        assert isinstance(f, LogWeight)
        difference = f(dist.mean()) - f.reconstruction(dist.mean())
        np.testing.assert_allclose(difference, -divergence(dist, problem.prior), rtol=1e-12)


def test_every_datapoint_has_noise_of_its_own(key):
    def recorded(key, dist, f):
        del f
        words = jax.random.key_data(key).astype(float)
        return Bernoulli(jnp.zeros_like(dist.logits).at[: words.size].set(words)), None

    problem = problem_of("bernoulli-vae", kl="sampled", batch=32)
    grads, _ = problem.gradient(recorded, key)
    again, _ = problem.gradient(recorded, jax.random.fold_in(key, 1))
    keys = np.concatenate([grads["distribution"].logits, again["distribution"].logits])
    assert len(np.unique(keys, axis=0)) == 64


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_every_datapoint_has_its_own_image_and_posterior(key, kl):
    """`f` of one fixed event, against the formula; the mean of the statistics, and the exact divergence added or not."""
    problem = problem_of("bernoulli-vae", kl=kl)
    event = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    grads, stats = problem.gradient(lambda key, dist, f: (Bernoulli(jnp.full(8, f(event))), f(event)), key)
    pixels, posterior = np.asarray(problem.decoder(event))[None], np.asarray(problem.posteriors().logits)
    values = np.sum(np.asarray(problem.images) * pixels - np.log1p(np.exp(pixels)), axis=1)
    probabilities = 1 / (1 + np.exp(-posterior))
    added = -probabilities * (1 - probabilities) * posterior
    if kl == "sampled":
        masses = np.where(np.asarray(event)[None] > 0, probabilities, 1 - probabilities)
        values, added = values + 8 * np.log(0.5) - np.sum(np.log(masses), axis=1), 0 * added
    np.testing.assert_allclose(grads["distribution"].logits, (values[:, None] + added) / 4, rtol=1e-12)
    np.testing.assert_allclose(stats, np.mean(values), rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_checkpoints_share_one_program_in_float32(model):
    estimator, traces = LeaveOneOut(), []

    @eqx.filter_jit
    def run(problem, key):
        traces.append(1)
        return problem.gradient(lambda key, dist, f: estimator.estimate(key, None, dist, f), key)[0]

    problems = [PROBLEMS.create(model, checkpoint=checkpoint) for checkpoint in CHECKPOINTS]
    gradients = [run(problem, jax.random.key(0)) for problem in problems]
    assert len(traces) == 1
    assert {leaf.dtype.name for leaf in jax.tree.leaves((problems, gradients))} == {"float32"}
    assert len({norm(problem.decoder) for problem in problems}) == 3


@pytest.mark.parametrize("model", MODELS)
def test_gradients_come_in_named_parts(model, key):
    problem = problem_of(model)
    gradient, _ = problem.gradient(lambda key, dist, f: (dist, None), key)
    parts = problem.parts(gradient)
    assert list(parts) == ["distribution", "encoder"] + (["loc", "log_scale"] if model == "gaussian-vae" else [])
    assert jax.tree.structure(parts["encoder"]) == jax.tree.structure(problem.encoder)
    family, event_shape = LATENTS[model]
    assert isinstance(parts["distribution"], family)
    assert {leaf.shape for leaf in jax.tree.leaves(parts["distribution"])} == {(4, *event_shape)}


def test_quadrature_has_converged():
    @eqx.filter_jit
    def exact(problem, estimator):
        return problem.gradient(lambda key, dist, f: estimator.estimate(key, None, dist, f), jax.random.key(0))[0]

    for checkpoint, kl in itertools.product(CHECKPOINTS, ("analytic", "sampled")):
        problem = problem_of("gaussian-vae", checkpoint, kl, batch=2)
        finer = exact(problem, Quadrature(2 * vae.RESOLUTION - 1))
        assert distance(problem.truth().gradient, finer) < 1e-9


def test_digits_are_binarised_once_and_for_all():
    images = vae.binary_digits()
    assert images.shape == (1797, 64) and set(np.unique(images)) == {0.0, 1.0}
    np.testing.assert_allclose(images.mean(), 0.2929, atol=5e-5)
    assert images[0].reshape(8, 8)[0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_a_default_batch_has_one_digit_of_each_class():
    images, labels = vae.load("digits")
    firsts = [np.flatnonzero(labels == digit)[0] for digit in range(10)]
    expected = (images[firsts] > 8).astype(float)
    np.testing.assert_array_equal(PROBLEMS.create("bernoulli-vae").images, expected)


def independent_pixels():
    """The mean log-probability of a digit, in nats, if every pixel is a coin of its own with the right mean."""
    mean = vae.binary_digits().mean(axis=0, dtype=np.float64)
    inside = mean[(mean > 0) & (mean < 1)]
    return np.sum(inside * np.log(inside) + (1 - inside) * np.log(1 - inside))


@pytest.mark.parametrize("model", MODELS)
def test_training_has_taught_the_networks_something(model):
    initial, early, late = (restore(model, checkpoint) for checkpoint in CHECKPOINTS)
    assert (initial.steps, early.steps, late.steps) == tuple(make_checkpoints.STEPS.values())
    assert initial.elbo < independent_pixels() < early.elbo - 1 < late.elbo - 3
    recomputed = make_checkpoints.mean_elbo(model, (late.encoder, late.decoder), nodes=32)
    np.testing.assert_allclose(recomputed, late.elbo, atol=1e-3 if model == "gaussian-vae" else 1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_the_initial_checkpoint_follows_from_the_seed(model):
    shipped = restore(model, "initial")
    for ours, theirs in zip(make_checkpoints.initialise(model), (shipped.encoder, shipped.decoder), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_the_early_checkpoint_follows_from_the_training():
    early = restore("bernoulli-vae", "early")
    path = make_checkpoints.trajectory("bernoulli-vae")
    trained = next(itertools.islice(path, early.steps, None))
    shipped, start = (early.encoder, early.decoder), make_checkpoints.initialise("bernoulli-vae")
    moved = norm(jax.tree.map(np.subtract, shipped, start))
    assert norm(jax.tree.map(np.subtract, trained, shipped)) < 1e-3 * moved


def test_a_posterior_without_closed_forms_is_a_sentence():
    with pytest.raises(TypeError, match="divergence of a `Reconstruction` has no closed form"):
        divergence.dispatch(object)(Reconstruction(jnp.sum, jnp.zeros(2)), Normal([0.0], [0.0]))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"checkpoint": "best"}, "'bernoulli-vae' has the checkpoints initial, early, late; got 'best'"),
        ({"kl": "none"}, "needs `kl` to be 'analytic' or 'sampled', got 'none'"),
        ({"batch": 0}, "needs a `batch` of 1 to 1797 images, got 0"),
        ({"batch": 1798}, "needs a `batch` of 1 to 1797 images, got 1798"),
    ],
)
def test_bad_arguments_are_answered_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PROBLEMS.create("bernoulli-vae", **arguments)
