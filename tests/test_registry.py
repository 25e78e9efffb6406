"""Registries: names, defaults, overrides, plug-ins, and what is said to someone who mistypes."""

import pytest

from benchmarks.problems import PROBLEMS
from estimators import ESTIMATORS
from estimators.registry import Registry, UnknownName


class Square:
    def __init__(self, side: float, colour: str = "red"):
        self.side, self.colour = side, colour


class Entry:
    """An entry point of another distribution."""

    def __init__(self, name, factory):
        self.name, self.factory = name, factory

    def load(self):
        return self.factory


@pytest.fixture
def shapes():
    registry = Registry("shape", "scorepath.no-such-group")
    registry.register("small-square", side=1.0)(Square)
    registry.register("red-square", colour="crimson")(Square)
    return registry


def test_it_is_a_mapping_in_the_order_of_registration(shapes):
    assert list(shapes) == ["small-square", "red-square"] and len(shapes) == 2
    assert "small-square" in shapes and "circle" not in shapes
    assert shapes["small-square"]().side == 1.0 and shapes["small-square"](side=2.0).side == 2.0
    assert shapes.factory("red-square") is Square


def test_defaults_are_those_of_the_name_and_arguments_override_them(shapes):
    assert vars(shapes.create("small-square")) == {"side": 1.0, "colour": "red"}
    assert vars(shapes.create("small-square", side=3.0, colour="blue")) == {"side": 3.0, "colour": "blue"}
    assert vars(shapes.create("small-square")) == {"side": 1.0, "colour": "red"}
    assert vars(shapes.create("red-square", side=2.0)) == {"side": 2.0, "colour": "crimson"}


def test_a_decorator_returns_what_it_decorates(shapes):
    def triangle():
        return 3

    assert shapes.register("triangle")(triangle) is triangle
    assert shapes.create("triangle") == 3


def test_an_unknown_name_is_answered_with_its_neighbours(shapes):
    with pytest.raises(UnknownName) as caught:
        shapes.create("smal-square")
    sentence = "There is no shape named 'smal-square'; did you mean 'small-square' or 'red-square'?"
    assert str(caught.value) == sentence
    for ask in (shapes.__getitem__, shapes.factory):
        with pytest.raises(UnknownName, match="There is no shape named 'smal-square'; did you mean 'small-square'"):
            ask("smal-square")


def test_an_unknown_name_without_neighbours_is_answered_with_all(shapes):
    with pytest.raises(KeyError) as caught:
        shapes["xyz"]
    assert str(caught.value) == "There is no shape named 'xyz'; there are: small-square, red-square."


def test_a_name_is_bound_once(shapes):
    with pytest.raises(
        ValueError, match="^The shape name 'small-square' is taken; a name is bound to one definition for ever.$"
    ):
        shapes.register("small-square")(Square)
    assert shapes.create("small-square").side == 1.0


def test_a_wrong_argument_is_answered_with_the_right_ones(shapes):
    with pytest.raises(ValueError, match="^Shape 'small-square' has no argument 'size'; it has: side, colour.$"):
        shapes.create("small-square", size=3.0)
    shapes.register("point")(lambda: 0)
    with pytest.raises(ValueError, match="^Shape 'point' has no argument 'side'; it has: none.$"):
        shapes.create("point", side=1.0)


def test_entry_points_are_loaded_when_a_name_is_asked_for(shapes, monkeypatch):
    loaded = []

    def offered(group):
        loaded.append(group)
        return [Entry("circle", lambda radius=1.0: radius), Entry("small-square", lambda: "not this one")]

    monkeypatch.setattr("estimators.registry.entry_points", offered)
    assert shapes.create("small-square").side == 1.0 and loaded == []
    assert shapes.create("circle", radius=2.0) == 2.0
    assert list(shapes) == ["small-square", "red-square", "circle"]
    assert shapes.create("small-square").side == 1.0
    assert loaded == ["scorepath.no-such-group"]


@pytest.mark.parametrize("registry, group", [(ESTIMATORS, "scorepath.estimators"), (PROBLEMS, "scorepath.problems")])
def test_the_registries_of_the_suite_are_open(registry, group):
    assert registry.group == group and len(registry) > 0
    with pytest.raises(UnknownName, match=f"There is no {registry.noun} named 'nonesuch-xyz'"):
        registry.create("nonesuch-xyz")
