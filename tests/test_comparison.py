"""Paired ratios of variances: the interval covers, it is narrow where noise is shared, and it is used only where it may be."""

import json
import math

import jax
import numpy as np
import pytest
from scipy import stats

from benchmarks import measure
from benchmarks.comparison import FEWEST_BLOCKS, SHARED, ComparisonError, log_ratio
from benchmarks.harness import stream_key
from benchmarks.moments import BLOCKS, Moments, Spread
from benchmarks.problems import PROBLEMS
from benchmarks.records import from_lines, make_record, to_line
from benchmarks.summary import block_variances
from estimators import ARM, DisARM

COMMON = {"problem": "toy", "parameters": "distribution", "seed": 0, "stream": "toy/0", "replicates": 1600}


def record(blocks: np.ndarray, error: float = 0.01, **values) -> dict:
    """What a comparison reads of a record whose blocks have these means, with a relative error of its variance."""
    variance = float(np.mean(blocks))
    text = json.dumps([float(f"{block:.8g}") for block in blocks])
    fields = {"estimator": "x", "variance": variance, "variance_se": error * variance, "variance_blocks": text}
    return {**COMMON, **fields, **values}


def observed(samples: np.ndarray) -> dict:
    """The record of samples `[n, d]`, as the harness would make it: distances from the mean of a pilot, in blocks."""
    centre = samples[:64].mean(axis=0)
    moments, spread = Moments.zero(centre), Spread()
    for block, rows in enumerate(np.array_split(samples - centre, BLOCKS)):
        moments.add(block, [len(rows)], rows.sum(axis=0)[None], (rows**2).sum(axis=0)[None])
        spread.add(block, [len(rows)], (rows**2).sum(axis=1), np.zeros(len(rows)))
    blocks = block_variances(moments, spread, np.arange(samples.shape[1]))
    q = np.sum((samples - samples.mean(axis=0)) ** 2, axis=1)
    return record(blocks, q.std(ddof=1) / q.mean() / math.sqrt(len(q)))


def simulated_pairs(generator, shared: float, runs: int, count: int = 1600) -> list[tuple[dict, dict]]:
    """Records of two estimators in two dimensions whose squared distances have about the correlation `shared`; the second
    has 0.36 of the variance of the first."""
    own, other = generator.standard_t(12, (2, runs, count, 2))
    both = own, 0.6 * (math.sqrt(shared) * own + math.sqrt(1 - shared) * other)
    q = [np.sum((x - x.mean(axis=1, keepdims=True)) ** 2, axis=-1) for x in both]
    errors = [x.std(axis=1, ddof=1) / x.mean(axis=1) / math.sqrt(count) for x in q]
    blocks = [x.reshape(runs, BLOCKS, -1).mean(axis=-1) for x in q]
    return [tuple(record(blocks[k][i], errors[k][i]) for k in (0, 1)) for i in range(runs)]


@pytest.mark.parametrize("shared, ratio", [(0.95, 0.5), (0.0, 1.15)])
def test_the_paired_interval_covers_and_is_narrow_where_noise_is_shared(shared, ratio):
    """Over 1500 runs the coverage of a right 95 % interval lies between 93 % and 97 % but for 4 seeds in 10 000; errors 15 %
    too small cover 90.4 %, and are seen in 999 of 1000 seeds. Pairing does no harm where nothing is shared."""
    pairs = simulated_pairs(np.random.default_rng(21), shared, 1500)
    paired = [log_ratio(a, b) for a, b in pairs]
    apart = [log_ratio(a, b, pair=False) for a, b in pairs]
    assert sum(r.paired for r in paired) == 1500 and sum(r.paired for r in apart) == 0
    covered = np.mean([r.interval[0] <= 1 / 0.36 <= r.interval[1] for r in paired])
    assert 0.93 <= covered <= 0.97
    narrow = [r.half_width / s.half_width for r, s in zip(paired, apart, strict=True)]
    assert np.quantile(narrow, 0.99 if shared else 0.5) <= ratio
    # The p-value of the truth is uniform; that of a ratio of one is nothing.
    shifted = [r._replace(log=r.log + math.log(0.36)).p_value for r in paired]
    assert stats.kstest(shifted, "uniform").pvalue > 1e-4 and max(r.p_value for r in paired) < 1e-6


def test_blocks_are_mean_squared_distances_from_the_mean_of_all():
    """Their mean is the variance; distances from the mean of the own block would be low by one part in `m`."""
    samples = np.random.default_rng(22).standard_exponential((640, 3)) + 100.0
    blocks = np.array(json.loads(observed(samples)["variance_blocks"]))
    expected = np.sum((samples - samples.mean(axis=0)) ** 2, axis=1).reshape(BLOCKS, -1).mean(axis=1) * 640 / 639
    np.testing.assert_allclose(blocks, expected, rtol=1e-7)
    np.testing.assert_allclose(blocks.mean(), samples.var(axis=0, ddof=1).sum(), rtol=1e-7)
    own = np.mean([np.sum(part.var(axis=0)) for part in np.split(samples, BLOCKS)])
    np.testing.assert_allclose(own / blocks.mean(), 1 - 1 / 20, rtol=0.01)


def test_a_mean_of_the_own_block_would_spoil_the_error():
    """Of a fair coin, the squared distance from the expectation is constant, and the variance is known to about `sqrt(2) / n`.
    Blocks say so to within the factor `sqrt(2)` of that order; with means of their own they would say `sqrt(32)` times more."""
    generator, count = np.random.default_rng(23), 3200
    claimed, own, found = [], [], []
    for _ in range(400):
        samples = generator.choice([-1.0, 1.0], (count, 1))
        blocks = np.array(json.loads(observed(samples)["variance_blocks"]))
        claimed.append(blocks.std(ddof=1) / math.sqrt(BLOCKS))
        own.append(np.std([part.var() for part in np.split(samples, BLOCKS)], ddof=1) / math.sqrt(BLOCKS))
        found.append(blocks.mean())
    claim, wrong = (math.sqrt(np.mean(np.square(errors))) for errors in (claimed, own))
    assert 0.8 < claim / np.std(found) < 2.0 and wrong / np.std(found) > 4.0


def test_pairing_needs_the_same_stream_in_the_same_blocks():
    rng = np.random.default_rng(24)
    shared = rng.gamma(50, size=BLOCKS)
    a, b = record(shared, 0.03), record(2 * shared * (1 + 1e-3 * rng.standard_normal(BLOCKS)), 0.03)
    assert log_ratio(a, b).unpaired == "" and log_ratio(a, b).freedom == BLOCKS - 1
    others = {"problem": "other", "parameters": "encoder", "seed": 1, "stream": "toy/1", "replicates": 3200}
    assert set(others) == set(SHARED)
    for name, value in others.items():
        ratio = log_ratio(a, {**b, name: value})
        assert ratio.unpaired == f"other {name}"
        assert ratio.error == pytest.approx(math.hypot(0.03, 0.03)) and math.isinf(ratio.freedom)
        assert log_ratio({**a, name: None}, b).unpaired == f"no {name} in the records"
    few = record(shared[: FEWEST_BLOCKS - 1])
    assert log_ratio(few, few).unpaired == "15 and 15 blocks"
    assert log_ratio(a, record(shared[:20])).unpaired == "32 and 20 blocks"


def test_older_records_are_compared_without_pairing():
    fields = {**COMMON, "headline": True, "hyperparameters": {}, "status": "ok", "variance": 2.0, "variance_se": 0.1}
    newer = make_record(**fields, estimator="x", variance_blocks=json.dumps([2.0] * 32))
    older = {name: value for name, value in json.loads(to_line(newer)).items() if name != "variance_blocks"}
    (read,) = from_lines(json.dumps(older))
    assert read["variance_blocks"] is None
    ratio = log_ratio(newer, {**read, "variance": 1.0, "variance_se": 0.1})
    assert (ratio.unpaired, ratio.value) == ("no blocks in the records", pytest.approx(2.0))
    assert ratio.error == pytest.approx(math.hypot(0.05, 0.1))


def test_costs_and_what_has_no_variance():
    blocks = np.random.default_rng(25).gamma(50, size=BLOCKS)
    a, b = record(blocks, evaluations=4), record(3 * blocks, evaluations=2)
    assert log_ratio(a, b, "evaluations").value == pytest.approx(4 / 6)
    assert log_ratio(a, a).p_value == 1.0 and log_ratio(a, b).p_value < 1e-9
    with pytest.raises(ComparisonError, match="no variance to compare"):
        log_ratio(a, {**b, "variance": 0.0})


def test_a_measured_pair_on_one_stream_is_told_apart_by_half_the_interval():
    """DisARM is the expectation of ARM over what ARM draws beside the event, on the same uniform draws."""
    name, found = "bernoulli-nonseparable", {}
    with jax.enable_x64(False):
        for estimator in (ARM(), DisARM()):
            m = measure(estimator, PROBLEMS.create(name), stream_key(0, "problem", name), replicates=20_480)
            found[type(estimator)] = {**m.summary(), **COMMON, "replicates": m.replicates, "estimator": "x"}
    a, b = found[DisARM], found[ARM]
    blocks = json.loads(a["variance_blocks"])
    assert len(blocks) == BLOCKS and np.mean(blocks) == pytest.approx(a["variance"], rel=1e-5)
    paired, apart = log_ratio(a, b), log_ratio(a, b, pair=False)
    assert paired.half_width <= 0.5 * apart.half_width
    assert paired.interval[1] < 1 and apart.interval[0] < paired.value < apart.interval[1]
