"""Where the variance comes from: parts against sums over all outcomes, and intervals against simulated coverage."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks import Incompatible, measure
from benchmarks.decomposition import BLOCKS, Sums, decompose, decomposed, jackknife
from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import in_float64
from benchmarks.problems.minibatch import Minibatch
from estimators import Enumeration, LeaveOneOut, MovingAverageBaseline, Pathwise, ScoreFunction

IMAGES, BATCH = 6, 2


@pytest.fixture
def problem():
    return in_float64(Minibatch(PROBLEMS.create("bernoulli-vae", checkpoint="initial", batch=IMAGES), BATCH))


def by_summation(problem: Minibatch) -> tuple[float, float]:
    """Sampling and minibatch noise of the score function: all 256 events of each image, and all minibatches one after the other."""
    whole = problem.whole
    events = jnp.array(list(itertools.product([0.0, 1.0], repeat=8)))

    def single(image):
        def pulled(event):
            dist, pull_back = eqx.filter_vjp(lambda e: e(image - whole.center), whole.encoder)
            score = jax.grad(lambda d: d.log_prob(event))(dist)
            grads = jax.tree.map(lambda leaf: whole.objective(dist, image)(event) * leaf, score)
            return jnp.concatenate([w.ravel() for w in jax.tree.leaves(pull_back(grads)[0])]), dist.log_prob(event)

        gradients, logs = jax.vmap(pulled)(events)
        mass = jnp.exp(logs)
        mean = mass @ gradients
        return mean, mass @ jnp.sum((gradients - mean[None]) ** 2, axis=1)

    means, noises = map(np.asarray, jax.jit(jax.vmap(single))(whole.images))
    # The divergence has no noise, but a gradient of its own.
    exact = [
        np.concatenate([w.ravel() for w in jax.tree.leaves(one.truth().gradient["encoder"])])
        for one in (eqx.tree_at(lambda p: p.images, whole, whole.images[k : k + 1]) for k in range(IMAGES))
    ]
    assert not np.allclose(exact, means)
    subsets = np.array([np.mean([exact[k] for k in s], axis=0) for s in itertools.combinations(range(IMAGES), BATCH)])
    return float(np.mean(noises)) / BATCH, float(np.sum(np.var(subsets, axis=0)))


def test_parts_are_those_of_a_sum_over_all_outcomes(problem, key):
    """With 4000 replicates: off by no more than one key in a million, and by less than a quarter of the value."""
    sampling, minibatch = by_summation(problem)
    np.testing.assert_allclose(problem.exact_variance(), minibatch, rtol=1e-5)
    found = decompose(ScoreFunction(), problem, key, replicates=4000)
    assert_near(found, "sampling", sampling)
    leave_one_out = decompose(LeaveOneOut(num_samples=8), problem, key, replicates=4000)
    assert_near(leave_one_out, "minibatch", minibatch)
    exact = decompose(Enumeration(), problem, key, replicates=1000)
    assert_near(exact, "minibatch", minibatch)
    assert exact.interval("sampling") == (0.0, 0.0, 0.0) and exact.share().value == 0


def assert_near(found, name, expected, detects=0.25):
    """By Student's t with 31 degrees of freedom; the widest passing distance is less than `detects` of the truth."""
    value, low, high = found.interval(name)
    widened = stats.t.isf(5e-7, BLOCKS - 1) / stats.t.isf(0.025, BLOCKS - 1)
    margin = widened * max(value - low, high - value)
    assert margin < detects * expected, f"Underpowered: {margin} of {expected}."
    assert abs(value - expected) < margin, f"{name} is {value}, not {expected}."


def test_the_total_is_what_the_harness_measures(problem, key):
    """By another route: replicates with a minibatch each, through `measure`, whose mean is the gradient of the whole."""
    found = decompose(LeaveOneOut(), problem, key, replicates=2000).interval("total")
    record = measure(LeaveOneOut(), problem, jax.random.key(1), replicates=4000).summary()
    assert record["parameters"] == "encoder" and record["truth_kind"] == "enumeration" and record["bias_p_value"] > 1e-6
    distance = np.log(found.value / record["variance"])
    error = np.hypot(np.log(found.high / found.value) / 2, record["variance_se"] / record["variance"])
    assert abs(distance) < 5.5 * error and 5.5 * error < 0.5


def test_a_minibatch_of_everything_has_no_minibatch_noise(problem, key):
    whole = Minibatch(problem.whole, IMAGES)
    assert whole.exact_variance() == 0
    value, low, high = decompose(LeaveOneOut(num_samples=8), whole, key, replicates=2000).interval("minibatch")
    margin = stats.t.isf(5e-7, BLOCKS - 1) / stats.t.isf(0.025, BLOCKS - 1) * (high - low) / 2
    assert abs(value) < margin < 0.5 * problem.exact_variance()


def test_chunks_change_nothing(problem, key, monkeypatch):
    """Blocks and draws are those of the replicates, not of the chunks."""
    wide = decompose(LeaveOneOut(), problem, key, replicates=200)
    monkeypatch.setattr("benchmarks.decomposition.CHUNK_IMAGES", 2 * 5)
    narrow = decompose(LeaveOneOut(), problem, key, replicates=200)
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)


def simulated(generator, replicates: int, sampling: float, minibatch: float, dimension: int = 5) -> Sums:
    """Sums of estimates with Laplace noise of both kinds, which has tails heavier than the normal law's."""
    laplace = lambda *shape: generator.laplace(size=shape) / np.sqrt(2 * dimension)  # noqa: E731
    data = np.sqrt(minibatch) * laplace(replicates, dimension) + 3.0
    first, second = (data + np.sqrt(sampling) * laplace(replicates, dimension) for _ in range(2))
    half, difference = (first + second) / 2 - 2.9, (first - second) / 2
    blocks = [np.array_split(x, BLOCKS) for x in (half, (half**2).sum(axis=1), (difference**2).sum(axis=1))]
    counts = np.array([float(len(b)) for b in blocks[0]])
    return Sums(counts, *(np.array([b.sum(axis=0) for b in part]) for part in blocks))


@pytest.mark.parametrize("sampling, minibatch", [(1.0, 1.0), (10.0, 1.0), (0.1, 1.0), (1.0, 0.0)])
def test_intervals_cover(sampling, minibatch):
    """At nominal 95 %, 800 simulations: a coverage of 95 % falls below 0.926 once in a thousand, one of 90 % passes once in a hundred."""
    generator, runs = np.random.default_rng(0), 800
    truth = {
        "sampling": sampling,
        "minibatch": minibatch,
        "total": sampling + minibatch,
        "share": sampling / (sampling + minibatch),
    }
    hits, values = dict.fromkeys(truth, 0), {name: [] for name in truth}
    for _ in range(runs):
        found = decomposed(simulated(generator, 640, sampling, minibatch))
        for name, expected in truth.items():
            value, low, high = found.share() if name == "share" else found.interval(name)
            hits[name] += low <= expected <= high
            values[name].append(value)
    assert all(count >= 0.926 * runs for count in hits.values()), hits
    for name in ("sampling", "minibatch", "total"):  # unbiased, negative values included
        error = np.std(values[name]) / np.sqrt(runs)
        assert abs(np.mean(values[name]) - truth[name]) < 4.9 * error < 0.05 * (sampling + minibatch)


def test_a_ratio_is_paired():
    """Two estimators that share their minibatches: the interval of the ratio is half of what independent ones would have."""
    generator, runs, narrower, hits = np.random.default_rng(1), 300, [], 0
    for _ in range(runs):
        data = generator.standard_normal((1280, 4))
        pair = []
        for sampling in (0.1, 0.2):
            first, second = (data + np.sqrt(sampling) * generator.standard_normal(data.shape) for _ in range(2))
            half, difference = (first + second) / 2, (first - second) / 2
            rows = [
                x.reshape(BLOCKS, -1, *x.shape[1:]).sum(axis=1)
                for x in (half, (half**2).sum(1), (difference**2).sum(1))
            ]
            pair.append(decomposed(Sums(np.full(BLOCKS, 1280.0 / BLOCKS), *rows)))
        ratio = pair[1].ratio(pair[0])
        hits += ratio.low <= 1.2 / 1.1 <= ratio.high
        apart = np.hypot(*(np.log(one.interval("total").high / one.interval("total").value) for one in pair))
        narrower.append(np.log(ratio.high / ratio.value) / apart)
    assert np.median(narrower) < 0.5 and hits >= 0.91 * runs  # a coverage of 95 % falls below once in a thousand


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """For the mean of blocks of one size it is the textbook interval."""
    x = np.random.default_rng(2).standard_normal(BLOCKS)
    found = jackknife(np.mean(x), (x.sum() - x) / (BLOCKS - 1), positive=False)
    expected = stats.t.interval(0.95, BLOCKS - 1, np.mean(x), stats.sem(x))
    np.testing.assert_allclose(found[1:], expected)


def test_mistakes_get_a_sentence(problem, key):
    with pytest.raises(ValueError, match=r"`batch` of 1 to 6.* got 7"):
        Minibatch(problem.whole, 7)
    with pytest.raises(ValueError, match="replicates >= 64.* got 63"):
        decompose(LeaveOneOut(), problem, key, replicates=63)
    with pytest.raises(Incompatible, match="reparameterizable"):
        decompose(Pathwise(), problem, key)
    with pytest.raises(ValueError, match="rbg"):
        decompose(LeaveOneOut(), problem, jax.random.key(0, impl="rbg"))


def test_a_baseline_adapts_to_minibatches(problem, key):
    """And takes off most of the score function's noise."""
    plain, adapted = (
        decompose(e, problem, key, replicates=400, warm_up_steps=100)
        for e in (ScoreFunction(), MovingAverageBaseline())
    )
    assert adapted.ratio(plain).high < 0.5
