"""Registries: names bound to factories, open to decorators, plug-in files and entry points.

A registry never holds an instance (arrays made at import time would fix a device and a precision for everybody);
it holds a callable that makes one, and knows how to say that a name is unknown.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points


class UnknownName(KeyError):
    """A name that a registry does not hold; its text is a sentence with the nearest names."""

    def __str__(self) -> str:
        return self.args[0]


class Registry(Mapping[str, Callable]):
    """An ordered mapping from kebab-case names to factories.

    >>> shapes = Registry("shape", "scorepath.shapes")
    >>> @shapes.register("small-square", side=1)
    ... class Square:
    ...     def __init__(self, side): self.side = side
    >>> shapes.create("small-square").side, shapes.create("small-square", side=3).side
    (1, 3)
    >>> shapes["smal-square"]
    Traceback (most recent call last):
        ...
    estimators.registry.UnknownName: There is no shape named 'smal-square'; did you mean 'small-square'?
    """

    def __init__(self, noun: str, group: str):
        self.noun = noun
        self.group = group
        self._factories: dict[str, tuple[Callable, dict]] = {}
        self._loaded_entry_points = False

    def register(self, name: str, **defaults):
        """Decorator: bind `name` to a factory called with `defaults`. Raises `ValueError` if the name is taken."""

        def bind(factory: Callable) -> Callable:
            if name in self._factories:
                raise ValueError(f"The {self.noun} name {name!r} is taken; a name is bound to one definition for ever.")
            self._factories[name] = factory, defaults
            return factory

        return bind

    def create(self, name: str, **arguments):
        """Make the object called `name`; `arguments` override the registered defaults."""
        factory, defaults = self._lookup(name)
        accepted = inspect.signature(factory).parameters
        unknown = [argument for argument in arguments if argument not in accepted]
        if unknown:
            known = ", ".join(accepted) or "none"
            raise ValueError(f"{self.noun.capitalize()} {name!r} has no argument {unknown[0]!r}; it has: {known}.")
        return factory(**{**defaults, **arguments})

    def factory(self, name: str) -> Callable:
        """The class or function behind `name`, for its documentation."""
        return self._lookup(name)[0]

    def __getitem__(self, name: str) -> Callable:
        self._lookup(name)
        return lambda **arguments: self.create(name, **arguments)

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(self._factories)

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._factories)

    def _lookup(self, name: str) -> tuple[Callable, dict]:
        if name not in self._factories:
            self._load_entry_points()
        if name not in self._factories:
            near = difflib.get_close_matches(name, self._factories, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(self)}."
            raise UnknownName(f"There is no {self.noun} named {name!r}; {hint}")
        return self._factories[name]

    def _load_entry_points(self) -> None:
        """Import what installed packages offer, once, and only when a name is asked for."""
        if not self._loaded_entry_points:
            self._loaded_entry_points = True
            for entry in entry_points(group=self.group):
                if entry.name not in self._factories:
                    self._factories[entry.name] = entry.load(), {}
