"""The harness: the numbers depend on the replicates and on nothing else, and one program serves a family."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from benchmarks import Expectation, Incompatible, harness, measure, work
from benchmarks.moments import BLOCKS
from benchmarks.problems import PROBLEMS
from benchmarks.random import fenced
from benchmarks.schedule import calls
from benchmarks.streaming import traceable
from benchmarks.work import is_deterministic
from estimators import (
    REBAR,
    Bernoulli,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    MovingAverageBaseline,
    Normal,
    OptimalBaseline,
    ParameterShift,
    Pathwise,
    ScoreFunction,
)

pytestmark = pytest.mark.usefixtures("single_precision")

LOGITS = [-1.0, 0.5, 2.0]


def nonseparable(x):
    return (x[0] + 2 * x[1] - x[2] - 0.3) ** 2


@pytest.fixture
def problem():
    return Expectation(Bernoulli(logits=LOGITS), nonseparable)


def test_replicates_are_those_of_a_plain_loop(problem, key):
    """Mean and variance are those of `estimate` called with `fold_in(key, i)`, one after the other, in NumPy float64."""
    estimator = LeaveOneOut(num_samples=2)
    one = jax.jit(lambda i: estimator.gradient(jax.random.fold_in(key, i), problem.dist, problem.f).logits)
    expected = np.stack([one(i) for i in range(300)]).astype(np.float64)
    m = measure(estimator, problem, key, replicates=300)
    np.testing.assert_allclose(m.mean.logits, expected.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(m.variance.logits, expected.var(axis=0, ddof=1), rtol=1e-6)
    assert m.mean.logits.dtype == m.variance.logits.dtype == np.float64
    assert (m.replicates, m.evaluations, m.moments.count) == (300, 2, 300)


def test_any_chunk_gives_the_same_numbers(problem, key):
    """Everything that a record says of one run agrees to 1e-6 whatever the chunk."""
    runs = [measure(ScoreFunction(), problem, key, replicates=1000, chunk=chunk).summary() for chunk in (7, 64, 1024)]
    # A p-value is a tail probability, whose relative error is that of z times its square.
    names = [n for n, v in runs[0].items() if isinstance(v, float) and "seconds" not in n and n != "bias_p_value"]
    assert {"variance", "variance_se", "bias_sq", "bias_sq_se", "cosine"} <= set(names)
    # The ends of an interval agree on the scale of its width: a small one is a difference of large numbers.
    width = runs[0]["bias_sq_ci_high"] - runs[0]["bias_sq_ci_low"]
    for run in runs[1:]:
        for name in names:
            atol = 1e-6 * width if name.startswith("bias_sq_ci") else 1e-12
            np.testing.assert_allclose(run[name], runs[0][name], rtol=1e-6, atol=atol, err_msg=name)


ON_SEVERAL_DEVICES = """
import jax, json, sys
from benchmarks import measure
from benchmarks.moments import BLOCKS
from benchmarks.problems import PROBLEMS
from estimators import LeaveOneOut
m = measure(LeaveOneOut(num_samples=2), PROBLEMS.create("bernoulli-nonseparable"), jax.random.key(3), replicates=1001)
print(json.dumps({"devices": len(jax.local_devices()), **m.summary()}))
"""


def test_any_number_of_devices_gives_the_same_numbers():
    """Four forced CPU devices agree with one to 1e-6."""

    def run(devices: int) -> dict:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        result = subprocess.run(
            [sys.executable, "-c", ON_SEVERAL_DEVICES],
            env=environment,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(result.stdout)

    one, four = run(1), run(4)
    assert (one["devices"], four["devices"]) == (1, 4)
    for name in ("variance", "variance_se", "bias_sq", "bias_sq_se", "mse", "snr", "cosine", "bias_max_z"):
        np.testing.assert_allclose(four[name], one[name], rtol=1e-6, atol=1e-12)


def test_calls_may_end_in_any_order(problem, key, monkeypatch):
    """Several are under way at once; with every other one late the numbers are the same to the last bit."""
    expected = measure(LeaveOneOut(num_samples=2), problem, key, replicates=2000).summary()
    run, begun = harness.run, itertools.count()
    monkeypatch.setattr(work, "cores", lambda: 4)

    def late(*arguments):
        if next(begun) % 2 == 0:
            time.sleep(0.02)
        return run(*arguments)

    monkeypatch.setattr(harness, "run", late)
    m = measure(LeaveOneOut(num_samples=2), problem, key, replicates=2000)
    assert m.work.callers == 4 and m.work.together == 4 * m.work.chunk
    found = m.summary()
    for name in ("variance", "variance_se", "bias_sq", "bias_sq_se", "mse", "snr", "cosine", "bias_max_z"):
        assert found[name] == expected[name]


@pytest.mark.parametrize("chunk", [None, 8])
def test_blocks_of_one_call_are_those_of_calls_of_their_own(problem, key, monkeypatch, chunk):
    """Sums of each block and of all, and the largest distances; in less than a third of the calls."""
    estimator, run, begun = LeaveOneOut(num_samples=2), harness.run, []
    monkeypatch.setattr(harness, "run", lambda *arguments: (begun.append(1), run(*arguments))[1])
    together = measure(estimator, problem, key, replicates=10_000, chunk=chunk)
    few = len(begun), together.work.apart
    monkeypatch.setattr(work, "MOST_APART", 0)
    harness.forget_programs()
    apart = measure(estimator, problem, key, replicates=10_000, chunk=chunk)
    assert few == (1 + len(calls(0, 10_000, together.work.capacity, 1, apart=BLOCKS)), BLOCKS) and few[0] < BLOCKS / 3
    assert (len(begun) - few[0], apart.work.apart) == (BLOCKS + 1, 1)
    harness.forget_programs()
    for name in ("counts", "first", "higher"):
        found, expected = (getattr(m.moments, name) for m in (together, apart))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    found, expected = (m.spreads["distribution"] for m in (together, apart))
    np.testing.assert_array_equal(np.sort(found.largest), np.sort(expected.largest))
    for name in ("counts", "squares", "fourths", "cosine", "aligned"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)


class FirstAlone(ScoreFunction):
    """The derivative by the first parameter, and no other."""

    def gradient(self, key, dist, f):
        return jax.tree.map(lambda leaf: leaf[:1], super().gradient(key, dist, f))


def test_a_gradient_of_other_shapes_is_refused_in_words(problem, key):
    with pytest.raises(ValueError, match=r"`FirstAlone` gives a gradient of the shapes \[\(1,\)\] for .* \[\(3,\)\]"):
        measure(FirstAlone(), problem, key, replicates=100)


def test_a_grid_costs_one_compile(key):
    """Points of a family, temperatures, seeds and numbers of replicates share one program."""
    harness._PROGRAMS.clear()
    for target, temperature, seed, replicates in [(0.45, 0.1, 0, 500), (0.49, 1.0, 1, 700), (0.499, 2.0, 2, 90)]:
        problem = PROBLEMS.create("bernoulli-quadratic", target=target, logit=-target)
        measure(GumbelSoftmax(temperature=temperature), problem, jax.random.key(seed), replicates=replicates)
    assert len(harness._PROGRAMS) == 1


@pytest.mark.parametrize("room", [100, 0])
def test_chunks_are_halved_while_memory_runs_out(problem, key, monkeypatch, room):
    """A device whose memory holds so many replicates: the numbers are those of chunks that fit, and with room for none a sentence
    says so."""
    run, tried = harness.run, []

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")

    def small(program, *arguments):
        tried.append(program.work.chunk)
        return run(program._replace(executable=full) if program.work.chunk > room else program, *arguments)

    expected = measure(LeaveOneOut(num_samples=2), problem, key, replicates=500)
    monkeypatch.setattr(harness, "run", small)
    if room == 0:
        with pytest.raises(MemoryError, match="1 replicates together do not fit"):
            measure(LeaveOneOut(num_samples=2), problem, key, replicates=500, chunk=4)
        assert tried == [4, 2, 1]
        return
    measured = measure(LeaveOneOut(num_samples=2), problem, key, replicates=500)
    assert tried[0] > room >= measured.work.chunk > room / 2 and measured.work.chunk == tried[-1]
    np.testing.assert_allclose(measured.moments.mean, expected.moments.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(measured.moments.variance, expected.moments.variance, rtol=1e-6)


def test_an_exact_gradient_is_run_once(problem, key):
    """Replicates that do not read their key are equal; the others are told apart."""
    m = measure(Enumeration(), problem, key, replicates=10**9)
    assert m.moments.count == 1
    np.testing.assert_array_equal(m.variance.logits, np.zeros(3))
    np.testing.assert_allclose(m.mean.logits, m.truth.logits, rtol=1e-5)
    assert m.summary()["verdict"] == "unbiased within eps"
    assert not is_deterministic(ScoreFunction(), None, problem)


def test_state_adapts_in_the_warm_up_and_is_frozen_after(problem, key):
    """The state after no steps is the initial one; after some it has moved; measuring returns the same numbers for the same
    state, and the warm-up draws from no replicate's stream."""
    estimator = OptimalBaseline()
    start = harness.warm_up(estimator, problem, key, steps=0)
    adapted = harness.warm_up(estimator, problem, key, steps=50)
    assert eqx.tree_equal(start, estimator.init(key, problem.dist))
    assert not eqx.tree_equal(start, adapted)
    m = measure(estimator, problem, key, replicates=200, warm_up_steps=50)
    arrays = harness.compiled(estimator, adapted, problem, fenced(key)).work.shapes
    assert jax.tree.structure(arrays) == jax.tree.structure(m.mean)
    again = measure(estimator, problem, key, replicates=200, warm_up_steps=50)
    np.testing.assert_array_equal(m.mean.logits, again.mean.logits)
    assert m.warm_up_steps == 50


def test_a_learned_baseline_lowers_the_variance(problem, key):
    """With f far from zero, the moving average after a warm-up beats no warm-up (baseline zero) by far."""
    shifted = Expectation(problem.dist, lambda x: nonseparable(x) + 30.0)
    cold, warm = (measure(MovingAverageBaseline(), shifted, key, replicates=2000, warm_up_steps=n) for n in (0, 300))
    assert warm.summary()["variance_ci_high"] < 0.1 * cold.summary()["variance_ci_low"]


def test_stream_keys_come_from_names():
    """The same names give the same stream, other names or seeds another, and the order of work does not enter."""
    data = [
        jax.random.key_data(harness.stream_key(*a)).tolist()
        for a in [(0, "a", "b"), (0, "a", "b"), (0, "ab"), (1, "a", "b")]
    ]
    assert data[0] == data[1]
    assert len({tuple(d) for d in data}) == 3


def test_batch_dependent_keys_are_refused(problem):
    with pytest.raises(ValueError, match="threefry2x32"):
        measure(ScoreFunction(), problem, jax.random.key(0, impl="rbg"), replicates=10)


def test_bad_requests_are_sentences(problem, key):
    with pytest.raises(ValueError, match="replicates >= 2"):
        measure(ScoreFunction(), problem, key, replicates=1)
    with pytest.raises(Incompatible, match="reparameterizable"):
        measure(Pathwise(), problem, key, replicates=10)


def test_a_reference_run_is_the_truth_where_nothing_is_exact(key):
    """In five dimensions no exact route is taken; the reference is another estimator, with its standard error."""
    problem = Expectation(Normal(loc=jnp.zeros(5), log_scale=jnp.zeros(5)), lambda x: jnp.sum(x) ** 2)
    m = measure(Pathwise(), problem, key, replicates=4000)
    assert m.truth_record.kind == "reference run"
    error = m.truth_record.standard_error
    np.testing.assert_array_less(np.abs(m.truth.loc), 6 * error.loc)
    np.testing.assert_array_less(np.abs(m.truth.log_scale - 2.0), 6 * error.log_scale)
    assert m.summary()["truth_se"] > 0


def test_moments_are_float64_whatever_the_estimates(key):
    """Estimates with mean 1e4 and unit variance keep six digits of variance, though each is a float32."""
    problem = Expectation(
        Normal(loc=jnp.zeros(1), log_scale=jnp.zeros(1)), lambda x: 1e4 * jnp.sum(x) + 0.5 * jnp.sum(x) ** 2
    )
    m = measure(Pathwise(), problem, key, replicates=3000)
    one = jax.jit(jax.vmap(lambda i: Pathwise().gradient(jax.random.fold_in(key, i), problem.dist, problem.f).loc))
    expected = np.asarray(one(jnp.arange(3000)), np.float64)
    np.testing.assert_allclose(m.variance.loc, expected.var(axis=0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("factory", [LeaveOneOut, REBAR])
def test_the_program_lowers_for_accelerators(factory, problem, key):
    """The whole program lowers for CUDA and TPU from here, so that a slip that only another platform shows is seen without it."""
    estimator = factory()
    state = estimator.init(key, problem.dist)
    arrays, static = eqx.partition((estimator, state, problem), eqx.is_array)
    own = fenced(key)
    work = harness.compiled(estimator, state, problem, own).work
    with jax.enable_x64(True):
        function, arguments, _ = traceable(arrays, static, own, work)
        lowered = export.export(jax.jit(function), platforms=["cuda", "tpu"])(*arguments)
    assert lowered.platforms == ("cuda", "tpu")


def test_programs_do_not_grow_with_replicates(problem, key):
    """Memory: the arrays that one call returns are as large for a million replicates as for a thousand."""
    program = harness.compiled(ScoreFunction(), None, problem, fenced(key))
    work = program.work
    shares = [
        share
        for count in (10**3, 10**6)
        for call in calls(0, count, work.capacity, 1, apart=work.apart)
        for share in call
    ]
    assert max(share.length for share in shares) <= work.capacity


def test_only_so_many_programs_are_held(problem, key, monkeypatch):
    """Those that were used last stay, and what was dropped is compiled again to the same numbers."""
    monkeypatch.setattr(harness, "_PROGRAMS", {})
    monkeypatch.setattr(harness, "MOST_PROGRAMS", 4)

    def means():
        return [measure(LeaveOneOut(num_samples=k), problem, key, replicates=64).moments.mean for k in range(2, 7)]

    first = means()
    measure(LeaveOneOut(num_samples=3), problem, key, replicates=64)
    harness.make_room()
    assert len(harness._PROGRAMS) == 2
    np.testing.assert_array_equal(first, means())
    harness.make_room()
    assert len(harness._PROGRAMS) == 2


def test_a_wide_gradient_of_many_events_is_that_of_a_plain_loop(key):
    """Two hundred events of a hundred bits each, side by side: under a compiler option that widened vectors this came out as zero."""
    problem, estimator = PROBLEMS.create("bernoulli-targets"), ParameterShift()
    measured = measure(estimator, problem, key, replicates=64)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(64))
    plain = jax.vmap(lambda k: estimator.gradient(k, problem.dist, problem.f).logits)(keys)
    np.testing.assert_allclose(measured.moments.mean, np.mean(np.asarray(plain, np.float64), axis=0), atol=1e-5)
