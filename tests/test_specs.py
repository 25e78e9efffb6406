"""Specifications of estimators and problems: two spellings of one thing are one thing."""

import pytest

from benchmarks.specs import Spec, UserError, parse_list
from benchmarks.suites import SUITES, Cell, block
from estimators import ESTIMATORS


def test_canonical_text():
    assert str(Spec.parse(" rebar:temperature=.10 , coefficient=1 ")) == "rebar:coefficient=1,temperature=0.1"
    assert Spec.parse("rebar:temperature=1e-1") == Spec.parse("rebar:temperature=0.1")
    assert str(Spec.parse("bernoulli-vae:checkpoint=late")) == "bernoulli-vae:checkpoint=late"


def test_a_list_keeps_arguments_with_their_names():
    specs = parse_list("a:x=1,y=2,b,c:z=3;d")
    assert [str(spec) for spec in specs] == ["a:x=1,y=2", "b", "c:z=3", "d"]


@pytest.mark.parametrize("text", ["rebar:temperature", "rebar:=1"])
def test_what_cannot_be_read(text):
    with pytest.raises(UserError, match="write `name:argument=value"):
        Spec.parse(text)


def test_creation_passes_arguments():
    assert Spec.parse("leave-one-out:num_samples=5").create(ESTIMATORS).num_samples == 5
    with pytest.raises(UserError, match="num_samples >= 2"):
        Spec.parse("leave-one-out:num_samples=1").create(ESTIMATORS)


def test_cells_of_a_block_are_problem_by_problem_and_once():
    suite = SUITES.create("quick")._replace(blocks=(block("a,b", "p,q", 10), block("a", "p", 10)))
    a, b, p, q = (Spec(name) for name in "abpq")
    assert suite.cells() == [Cell(a, p, 10), Cell(b, p, 10), Cell(a, q, 10), Cell(b, q, 10)]


@pytest.mark.parametrize("name", list(SUITES))
def test_every_suite_can_be_made(name):
    """Every name and argument of a suite is accepted by the registries; no pair of the small suites is out of place."""
    from benchmarks.runner import check

    reasons = check(SUITES.create(name).cells())
    assert len(reasons) < len(SUITES.create(name).cells()) / 10
