"""Programs kept as they were traced: found again by all that they were made from, and by nothing less."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import Expectation, harness, measure, traced
from benchmarks.problems import PROBLEMS
from estimators import REBAR, AbstractObjective, AbstractStatelessEstimator, Bernoulli, LeaveOneOut, ScoreFunction

KEYED = LeaveOneOut(num_samples=2), PROBLEMS.create("bernoulli-nonseparable")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Programs are kept here, and none is in memory."""
    monkeypatch.setattr(harness, "_PROGRAMS", {})
    traced.keep(tmp_path)
    yield tmp_path
    traced.keep(None)


def again(folder, estimator, problem, monkeypatch, **settings):
    """What is measured with an empty memory, and how many files there are then."""
    monkeypatch.setattr(harness, "_PROGRAMS", {})
    with jax.debug_key_reuse(False):  # A kept program has no keys to be checked, only numbers.
        m = measure(estimator, problem, jax.random.key(3), replicates=200, warm_up_steps=5, **settings)
    return m, len(list(folder.glob("*.traced")))


@pytest.mark.parametrize("estimator", [LeaveOneOut(num_samples=2), REBAR()])
def test_the_second_run_traces_nothing_and_has_the_same_numbers(estimator, folder, monkeypatch):
    """Bit for bit those of the first, and of a run that keeps nothing; the method of the estimator is not called again."""
    problem = PROBLEMS.create("bernoulli-nonseparable")
    first, files = again(folder, estimator, problem, monkeypatch)
    assert files == (1 if isinstance(estimator, LeaveOneOut) else 2)
    monkeypatch.setattr(harness, "is_deterministic", lambda *arguments: pytest.fail("traced"))
    monkeypatch.setattr(harness, "traceable", _only_arguments(harness.traceable))
    second, same = again(folder, estimator, problem, monkeypatch)
    assert same == files
    monkeypatch.undo()
    traced.keep(None)
    monkeypatch.setattr(harness, "_PROGRAMS", {})
    plain = measure(estimator, problem, jax.random.key(3), replicates=200, warm_up_steps=5)
    for other in (second, plain):
        np.testing.assert_array_equal(first.mean.logits, other.mean.logits)
        np.testing.assert_array_equal(first.variance.logits, other.variance.logits)


def _only_arguments(traceable):
    """The same, with a program that must not be traced."""

    def replaced(*arguments):
        _, leaves, placed = traceable(*arguments)
        return lambda *leaves: pytest.fail("traced"), leaves, placed

    return replaced


def test_what_a_program_depends_on_is_in_its_name(folder, monkeypatch):
    """Settings, shapes, precision, chunk, devices, versions and sources change it; values of arrays do not."""
    estimator, problem = KEYED
    base = traced.name("x", estimator, problem)
    assert base == traced.name("x", *KEYED)
    moved = eqx.tree_at(lambda p: p.dist.logits, problem, problem.dist.logits + 1)
    assert traced.name("x", estimator, moved) == base
    wider = PROBLEMS.create("bernoulli-nonseparable", dimension=9)
    others = [
        traced.name("y", estimator, problem),
        traced.name("x", LeaveOneOut(num_samples=3), problem),
        traced.name("x", ScoreFunction(num_samples=2), problem),
        traced.name("x", estimator, wider),
        traced.name("x", estimator, jax.tree.map(lambda a: a.astype(jnp.float16), problem)),
        traced.name("x", estimator, problem, jax.local_devices()),
    ]
    monkeypatch.setattr(traced, "versions", lambda: "other")
    others.append(traced.name("x", estimator, problem))
    monkeypatch.undo()
    traced.keep(folder)
    monkeypatch.setattr(traced, "_sources", lambda: "other")
    others.append(traced.name("x", estimator, problem))
    monkeypatch.undo()
    traced.keep(folder)
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "float32")
    others.append(traced.name("x", estimator, problem))
    jax.config.update("jax_default_matmul_precision", before)
    assert None not in others and len({base, *others}) == len(others) + 1


class Homemade(AbstractStatelessEstimator):
    """An estimator of a plug-in, whose source is not ours."""

    unbiased = True
    requires = ()

    def gradient(self, key, dist, f):
        return jax.tree.map(jnp.zeros_like, dist)

    def evaluations(self, dist):
        return 0


class HomemadeObjective(AbstractObjective):
    def __call__(self, x):
        return jnp.sum(x)


@pytest.mark.parametrize("constant", [np.ones(2), jnp.ones(2), np.float32(1)])
def test_a_constant_of_the_program_has_no_name(constant, folder):
    """The shape of an array in a static field would not say which program it is."""
    estimator = LeaveOneOut(num_samples=2)
    object.__setattr__(estimator, "num_samples", constant)
    assert traced.name(estimator, KEYED[1]) is None


def test_what_has_no_name_is_not_kept(folder, monkeypatch):
    """A plug-in's class, a function made on the spot, and everything once there is no folder."""
    dist = Bernoulli(logits=[0.5, -1.0])
    for estimator, f in [
        (Homemade(), KEYED[1].f),
        (LeaveOneOut(), HomemadeObjective()),
        (LeaveOneOut(), lambda x: jnp.sum(x)),
    ]:
        assert traced.name(estimator, Expectation(dist, f)) is None
    _, files = again(folder, LeaveOneOut(), Expectation(dist, lambda x: jnp.sum(x)), monkeypatch)
    assert files == 0
    traced.keep(None)
    assert traced.name(*KEYED) is None


def test_a_damaged_file_is_made_anew(folder, monkeypatch):
    """Empty, of another kind, cut short, or with one byte of the program changed: it is not read, and replaced."""
    first, _ = again(folder, *KEYED, monkeypatch)
    (file,) = folder.glob("*.traced")
    whole = file.read_bytes()
    changed = whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]
    for content in (b"", b"{}\n", b"[]\n[]", b"\x80\x04.", whole[:-1], changed):
        file.write_bytes(content)
        assert traced.Kept(file.stem).exported is None
    second, _ = again(folder, *KEYED, monkeypatch)
    np.testing.assert_array_equal(first.mean.logits, second.mean.logits)
    assert traced.Kept(file.stem).exported is not None


def test_a_folder_that_cannot_be_written_helps_nobody_and_harms_nobody(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    traced.keep(tmp_path / "file")
    try:
        m, _ = again(tmp_path, *KEYED, monkeypatch)
    finally:
        traced.keep(None)
    assert m.replicates == 200
