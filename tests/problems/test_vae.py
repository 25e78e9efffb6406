"""The autoencoders: exact gradients by two routes, noise of each datapoint's own, and checkpoints that are what they say."""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from benchmarks.problems import PROBLEMS, make_checkpoints, vae
from benchmarks.problems.evidence import LogWeight, Reconstruction, divergence, summation
from benchmarks.problems.networks import CHECKPOINTS, LATENTS, restore
from estimators import Bernoulli, Categorical, LeaveOneOut, Normal, Quadrature

MODELS = tuple(LATENTS)


def as_arrays(tree):
    """The same tree in float64."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), tree)


@functools.cache
def problem_of(model, checkpoint="early", kl="analytic", batch=4):
    return as_arrays(PROBLEMS.create(model, checkpoint=checkpoint, kl=kl, batch=batch))


@functools.cache
def truth_of(model, checkpoint="early", kl="analytic"):
    return problem_of(model, checkpoint, kl).truth()


@eqx.filter_jit
def elbo_with(problem, encoder):
    return eqx.tree_at(lambda p: p.encoder, problem, encoder).elbo()


@eqx.filter_jit
def differentiated_sum(problem):
    """The gradient by automatic differentiation of the summed bound: no estimator, no score, no divergence."""

    def bound(shift, encoder):
        dists = eqx.tree_at(lambda p: p.encoder, problem, encoder).posteriors()
        return problem.elbo_at(jax.tree.map(jnp.add, dists, shift))

    none = jax.tree.map(jnp.zeros_like, problem.posteriors())
    return dict(zip(("distribution", "encoder"), jax.grad(bound, (0, 1))(none, problem.encoder), strict=True))


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def distance(tree, other):
    """The norm of the difference as a fraction of the norm of `other`."""
    return norm(jax.tree.map(np.subtract, tree, other)) / norm(other)


@pytest.mark.parametrize("model", MODELS)
def test_truth_by_two_routes(model):
    """Both forms of the bound, at every checkpoint, in both parts of the gradient."""
    for checkpoint in CHECKPOINTS:
        other = differentiated_sum(problem_of(model, checkpoint))
        for kl in ("analytic", "sampled"):
            truth = truth_of(model, checkpoint, kl)
            assert truth.kind == ("quadrature" if model == "gaussian-vae" else "enumeration")
            assert distance(truth.gradient["distribution"], other["distribution"]) < 1e-9
            assert distance(truth.gradient["encoder"], other["encoder"]) < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_truth_is_the_slope_of_the_bound(model):
    """Central differences along random directions of length one."""
    problem, step, generator = problem_of(model), 1e-4, np.random.default_rng(0)
    truth = truth_of(model).gradient["encoder"]
    for _ in range(2):
        direction = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape), truth)
        length = norm(direction)
        up, down = (
            jax.tree.map(lambda w, d, h=h: w + h * d, jax.tree.map(np.asarray, problem.encoder), direction)
            for h in (step / length, -step / length)
        )
        slope = (elbo_with(problem, as_arrays(up)) - elbo_with(problem, as_arrays(down))) / (2 * step)
        expected = sum(np.sum(leaf) for leaf in jax.tree.leaves(jax.tree.map(np.multiply, truth, direction))) / length
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


def layers(first, second, inputs):
    """Two linear layers with tanh between, on the host."""
    hidden = np.tanh(inputs @ np.asarray(first.weight).T + np.asarray(first.bias)[None])
    return hidden @ np.asarray(second.weight).T + np.asarray(second.bias)[None]


def test_the_bound_is_the_evidence_less_the_divergence_from_the_posterior():
    """All of the model anew in numpy: the networks, the 256 events and the exact posterior, for each image."""
    problem = problem_of("bernoulli-vae", "late")
    events = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    images, center = np.asarray(problem.images), np.asarray(problem.center)
    logits = layers(problem.decoder.hidden, problem.decoder.pixels, events)
    q = 1 / (1 + np.exp(-layers(problem.encoder.hidden, problem.encoder.heads[0], images - center[None])))
    bounds = []
    for image, p in zip(images, q, strict=True):
        log_joint = np.sum(np.where(image[None] > 0, -np.log1p(np.exp(-logits)), -np.log1p(np.exp(logits))), axis=1)
        log_joint -= 8 * np.log(2)
        evidence = logsumexp(log_joint)
        mass = np.prod(np.where(events > 0, p[None], 1 - p[None]), axis=1)
        gap = np.sum(mass * (np.log(mass) - (log_joint - evidence)))
        assert gap > 1e-3
        bounds.append(evidence - gap)
    np.testing.assert_allclose(elbo_with(problem, problem.encoder), np.mean(bounds), rtol=1e-12)


@pytest.mark.parametrize("family", [Normal, Bernoulli, Categorical])
def test_divergence_is_the_sum_it_stands_for(family):
    """With a prior that is not the models'."""
    numbers = np.random.default_rng(1).standard_normal((2, 2, 3, 3))
    shape = (2,) if family is Normal else (3, 3)
    dist, prior = (
        family(
            *(
                0.5 * jnp.asarray(leaf.ravel()[: math.prod(shape)].reshape(shape))
                for leaf in leaves[: 2 if family is Normal else 1]
            )
        )
        for leaves in numbers
    )

    @jax.jit
    def quantities(dist, prior):
        terms = summation(dist, 128)
        log_ratio = terms.log_densities - jax.vmap(prior.log_prob)(terms.events)
        discrepancy = terms.log_densities - jax.vmap(dist.log_prob)(terms.events)
        return divergence(dist, prior), jnp.vdot(terms.weights, log_ratio), jnp.sum(terms.weights), discrepancy

    closed_form, summed, total, discrepancy = quantities(dist, prior)
    np.testing.assert_allclose(discrepancy, 0, atol=1e-12)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    np.testing.assert_allclose(closed_form, summed, rtol=1e-10)


def test_the_divergence_is_no_small_part_of_the_gradient():
    """So that the agreement of the two forms above says something about it."""
    problem = problem_of("bernoulli-vae")
    slopes = jax.jit(jax.vmap(lambda dist: jax.grad(divergence)(dist, problem.prior)))(problem.posteriors())
    assert norm(slopes) / 4 > 0.1 * norm(truth_of("bernoulli-vae").gradient["distribution"])


def test_pathwise_on_the_sampled_form_has_the_same_mean():
    """What `f` leaves out by not differentiating its own copy of `q` has mean zero: summed over the noise, exactly."""

    def averaged(key, dist, f):
        del key
        noise, weights = dist.nodes(65)
        grads = jax.vmap(lambda noise: jax.grad(lambda d: f(d.reparameterize(noise)))(dist))(noise)
        return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), grads), None

    problem = problem_of("gaussian-vae", kl="sampled")
    grads, stats = jax.jit(lambda key: problem.gradient(averaged, key))(jax.random.key(0))
    assert stats is None
    assert distance(grads, truth_of("gaussian-vae").gradient) < 1e-9


def test_log_masses_are_continued_linearly_on_relaxed_events():
    @jax.jit
    def both(problem):
        dist, f = problem.example()
        return f(dist.mean()) - f.reconstruction(dist.mean()), -divergence(dist, problem.prior)

    for model in ("bernoulli-vae", "categorical-vae"):
        np.testing.assert_allclose(*both(problem_of(model, kl="sampled")), rtol=1e-12)


def test_every_datapoint_has_noise_of_its_own(key):
    def recorded(key, dist, f):
        del f
        words = jax.random.key_data(key).astype(float)
        return Bernoulli(jnp.zeros_like(dist.logits).at[: words.size].set(words)), None

    problem = problem_of("bernoulli-vae", kl="sampled", batch=32)
    run = jax.jit(lambda key: problem.gradient(recorded, key))
    (grads, _), (again, _) = run(key), run(jax.random.fold_in(key, 1))
    keys = np.concatenate([grads["distribution"].logits, again["distribution"].logits])
    assert len(np.unique(keys, axis=0)) == 64


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_every_datapoint_has_its_own_image_and_posterior(key, kl):
    """`f` of one fixed event, against the formula; the mean of the statistics, and the exact divergence added or not."""
    problem = problem_of("bernoulli-vae", kl=kl)
    event = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    grads, stats = jax.jit(
        lambda key: problem.gradient(lambda key, dist, f: (Bernoulli(jnp.full(8, f(event))), f(event)), key)
    )(key)
    pixels = layers(problem.decoder.hidden, problem.decoder.pixels, np.asarray(event)[None])
    inputs = np.asarray(problem.images) - np.asarray(problem.center)[None]
    posterior = layers(problem.encoder.hidden, problem.encoder.heads[0], inputs)
    values = np.sum(np.asarray(problem.images) * pixels - np.log1p(np.exp(pixels)), axis=1)
    probabilities = 1 / (1 + np.exp(-posterior))
    added = -probabilities * (1 - probabilities) * posterior
    if kl == "sampled":
        masses = np.where(np.asarray(event)[None] > 0, probabilities, 1 - probabilities)
        values, added = values + 8 * np.log(0.5) - np.sum(np.log(masses), axis=1), 0 * added
    np.testing.assert_allclose(grads["distribution"].logits, (values[:, None] + added) / 4, rtol=1e-12)
    np.testing.assert_allclose(stats, np.mean(values), rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_checkpoints_have_one_structure_in_float32(model):
    problems = [PROBLEMS.create(model, checkpoint=checkpoint) for checkpoint in CHECKPOINTS]
    first, *others = [(jax.tree.structure(p), [(a.shape, a.dtype) for a in jax.tree.leaves(p)]) for p in problems]
    assert others == [first, first]
    assert len({float(norm(problem.decoder)) for problem in problems}) == 3
    run = functools.partial(problems[0].gradient, lambda key, dist, f: (LeaveOneOut().gradient(key, dist, f), None))
    gradient = jax.eval_shape(run, jax.random.key(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((problems, gradient))} == {"float32"}


def test_checkpoints_share_one_program():
    traces = []

    @eqx.filter_jit
    def run(problem, key):
        traces.append(1)
        return problem.gradient(lambda key, dist, f: (dist, f(dist.mean())), key)[1]

    values = {float(run(PROBLEMS.create("bernoulli-vae", checkpoint=name), jax.random.key(0))) for name in CHECKPOINTS}
    assert len(values) == 3 and len(traces) == 1


@pytest.mark.parametrize("model", MODELS)
def test_gradients_come_in_named_parts(model, key):
    problem = problem_of(model)
    gradient, _ = jax.eval_shape(functools.partial(problem.gradient, lambda key, dist, f: (dist, None)), key)
    parts = problem.parts(gradient)
    assert list(parts) == ["distribution", "encoder"] + (["loc", "log_scale"] if model == "gaussian-vae" else [])
    assert jax.tree.structure(parts["encoder"]) == jax.tree.structure(problem.encoder)
    family, event_shape = LATENTS[model]
    assert isinstance(parts["distribution"], family)
    assert {leaf.shape for leaf in jax.tree.leaves(parts["distribution"])} == {(4, *event_shape)}


def test_the_example_is_the_first_datapoint():
    for kl, kind in (("analytic", Reconstruction), ("sampled", LogWeight)):
        problem = problem_of("gaussian-vae", kl=kl)
        dist, f = problem.example()
        assert type(f) is kind
        np.testing.assert_allclose(dist.loc, problem.posteriors().loc[0], rtol=1e-12)


def test_quadrature_has_converged():
    @eqx.filter_jit
    def finer(problem):
        rule = Quadrature(2 * vae.RESOLUTION - 1)
        return problem.gradient(lambda key, dist, f: rule.estimate(key, None, dist, f), jax.random.key(0))[0]

    for checkpoint in CHECKPOINTS:
        truth = truth_of("gaussian-vae", checkpoint, "sampled")
        assert distance(truth.gradient, finer(problem_of("gaussian-vae", checkpoint, "sampled"))) < 1e-9


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
    recomputed = make_checkpoints.mean_elbo(model, (late.encoder, late.decoder), nodes=24)
    np.testing.assert_allclose(recomputed, late.elbo, atol=1e-4)


def assert_same(networks, others):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), networks, others)


@pytest.mark.parametrize("model", ["gaussian-vae", "categorical-vae"])
def test_the_initial_checkpoint_follows_from_the_seed(model):
    shipped = restore(model, "initial")
    assert_same(make_checkpoints.initialise(model), (shipped.encoder, shipped.decoder))


def test_the_early_checkpoint_follows_from_the_training():
    initial, early = (restore("bernoulli-vae", checkpoint) for checkpoint in ("initial", "early"))
    path = make_checkpoints.trajectory("bernoulli-vae")
    assert_same(next(path), (initial.encoder, initial.decoder))
    trained = next(itertools.islice(path, early.steps - 1, None))
    moved = jax.tree.map(np.subtract, (early.encoder, early.decoder), (initial.encoder, initial.decoder))
    error = jax.tree.map(np.subtract, trained, (early.encoder, early.decoder))
    assert norm(error) < 1e-3 * norm(moved)


def test_a_family_without_a_closed_form_is_a_sentence():
    dist = Normal([0.0], [0.0])
    for function, sentence in (
        (divergence, "divergence of a `Normal` has no closed form"),
        (summation, "under a `Normal`"),
    ):
        with pytest.raises(TypeError, match=sentence):
            function.dispatch(object)(dist, dist if function is divergence else 8)


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
