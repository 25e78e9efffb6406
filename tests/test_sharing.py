"""Sharing: an estimator is the same by itself and among others, and who shares a program is told by structure."""

import json

import jax
import numpy as np
import pytest

from benchmarks import harness, measure, sharing
from benchmarks.cli import main
from benchmarks.problems import PROBLEMS
from benchmarks.runner import Plan, run_all
from benchmarks.sharing import MOST_TOGETHER, OneOf, one_of, together
from benchmarks.specs import Spec
from benchmarks.suites.base import SUITES, Suite, block
from estimators import ARM, ESTIMATORS, AbstractStatelessEstimator, Enumeration, LeaveOneOut, ScoreFunction

pytestmark = pytest.mark.usefixtures("single_precision")

NUMBERS = ("mean", "variance")


@pytest.fixture
def problem():
    return PROBLEMS.create("bernoulli-nonseparable")


def made(specifications: str):
    return [spec.create(ESTIMATORS) for spec in block(specifications, "", 1).estimators]


def by_itself_and_among(estimators, problem, key, **options):
    """Both measurements of each estimator."""
    for estimator in estimators:
        options = {"replicates": 300, "warm_up_steps": 20, **options}
        among = measure(estimator, problem, key, among=tuple(estimators), **options)
        yield measure(estimator, problem, key, **options), among


@pytest.mark.parametrize(
    "name, specifications",
    [
        ("bernoulli-nonseparable", "score-function,leave-one-out:num_samples=3,enumeration,parameter-shift"),
        ("bernoulli-nonseparable", "optimal-baseline,rebar,relax"),
        ("bernoulli-vae:checkpoint=early,batch=4", "straight-through,moving-average-baseline"),
    ],
    ids=["without a state", "with a state", "of an autoencoder"],
)
def test_an_estimator_is_the_same_among_others(name, specifications, key):
    """Also after a warm-up, with parts that no replicate changes, and where one of them draws nothing and is run once."""
    problem = Spec.parse(name).create(PROBLEMS)
    for alone, among in by_itself_and_among(made(specifications), problem, key):
        for number in NUMBERS:
            pairs = zip(*(jax.tree.leaves(getattr(m, number)) for m in (alone, among)), strict=True)
            for a, b in pairs:
                scale = np.abs(alone.moments.mean).max()
                np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6 * scale ** (1 + (number == "variance")))
        assert (among.moments.count, among.warm_up_steps) == (alone.moments.count, alone.warm_up_steps)
        assert among.estimator is alone.estimator and among.work.chunk == alone.work.chunk


@pytest.mark.parametrize(
    "specifications",
    [
        ",".join(f"leave-one-out:num_samples={k}" for k in (2, 3, 5, 8)),
        ",".join(f"disarm:num_pairs={k}" for k in (1, 2, 3)),
        ",".join(f"unordered-set:num_samples={k}" for k in (2, 3, 4)),
    ],
    ids=["samples", "pairs", "distinct samples"],
)
def test_a_sweep_of_what_sets_shapes_is_one_compile(specifications, problem, key):
    estimators = made(specifications)
    harness.forget_programs()
    for estimator, among in zip(estimators, together(estimators, problem), strict=True):
        measure(estimator, problem, key, replicates=100, among=among)
    assert len(harness._PROGRAMS) == 1


def test_every_sweep_of_the_discrete_suite_stays_together():
    """All numbers of samples and of pairs of an estimator on a problem have one program, which serves few more."""
    cells = SUITES.create("discrete").cells()
    for name in ("bernoulli-nonseparable", "categorical-nonseparable"):
        estimators = [cell.estimator.create(ESTIMATORS) for cell in cells if str(cell.problem) == name]
        groups = together(estimators, PROBLEMS.create(name))
        for kind in {type(estimator) for estimator in estimators}:
            assert len({id(among) for e, among in zip(estimators, groups, strict=True) if type(e) is kind}) == 1
        several = [among for among in groups if len({type(option) for option in among}) > 1]
        assert max(len(among) for among in several) <= MOST_TOGETHER


class Stranger(AbstractStatelessEstimator):
    """An estimator of somebody else's."""

    unbiased = True
    requires = ()

    def gradient(self, key, dist, f):
        return ScoreFunction().gradient(key, dist, f)

    def evaluations(self, dist):
        return 1


def test_who_shares_a_program(problem):
    """One of each structure; not with a state and without, not what lists events with what does not, and no stranger."""
    estimators = [*made("score-function,gumbel-softmax:temperature=1,rebar,optimal-baseline,enumeration"), Stranger()]
    estimators += made("gumbel-softmax:temperature=2,leave-one-out")
    names = [[type(option).__name__ for option in among] for among in together(estimators, problem)]
    plain, stateful = ["ScoreFunction", "GumbelSoftmax", "LeaveOneOut"], ["REBAR", "OptimalBaseline"]
    assert names == [plain, plain, stateful, stateful, ["Enumeration"], ["Stranger"], plain, plain]


def test_one_of_several_is_an_estimator(problem, key):
    """It needs what any of them needs, costs what the dearest costs, and is itself where it is alone."""
    estimators = (ScoreFunction(), LeaveOneOut(num_samples=4), ESTIMATORS.create("straight-through"))
    chosen = one_of(estimators[1], estimators)
    assert isinstance(chosen, OneOf) and sharing.number_of(chosen) == 1
    assert not chosen.unbiased and one_of(estimators[0], estimators[:2]).unbiased
    assert set(chosen.requires) == {need for estimator in estimators for need in estimator.requires}
    assert chosen.evaluations(problem.example()[0]) == 4
    assert one_of(Enumeration(), (Enumeration(),)) == Enumeration()
    with pytest.raises(ValueError, match="`Enumeration` is not among the 3 estimators of `among`"):
        one_of(Enumeration(), estimators)


def test_one_that_fails_does_not_take_the_others_with_it(monkeypatch):
    """A program that cannot be made of all is made of each."""

    def broken(self, key, dist, f):
        raise RuntimeError("no estimate")

    monkeypatch.setattr(ARM, "gradient", broken)
    harness.forget_programs()
    cells = Suite("", "", (block("arm,score-function,disarm", "bernoulli-rare", 200),)).cells()
    found = run_all(cells, Plan("", 0), lambda identity: None, lambda cell, done: None)
    with pytest.warns(UserWarning, match="on bernoulli-rare is tried by itself, for it failed with 2 others: Run"):
        outcomes = [(records[0]["estimator"], records[0]["status"], records[0]["reason"]) for _, _, records, _ in found]
    assert outcomes == [
        ("arm", "failed", "RuntimeError: no estimate"),
        ("score-function", "ok", None),
        ("disarm", "ok", None),
    ]


def test_a_run_has_the_numbers_of_measurements_alone(capsys, key):
    """What the command prints for cells that share programs is what `measure` gives for each."""
    names = ["score-function", "leave-one-out", "rebar", "optimal-baseline"]
    assert (
        main(["run", "--estimators", ",".join(names), "--problems", "bernoulli-rare", "--replicates", "200", "--json"])
        == 0
    )
    problem = PROBLEMS.create("bernoulli-rare")
    for name, line in zip(names, capsys.readouterr().out.splitlines(), strict=True):
        record = json.loads(line)
        own = measure(
            ESTIMATORS.create(name), problem, harness.stream_key(0, "problem", "bernoulli-rare"), replicates=200
        )
        assert record["estimator"] == name
        # Five hundred steps of Adam make of rounding a little more than that.
        np.testing.assert_allclose(record["variance"], own.summary()["variance"], rtol=1e-4)
