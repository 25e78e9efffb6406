"""Specifications: how an estimator or a problem is named on the command line and in records,
`name:argument=value,argument=value`.

The canonical text (arguments sorted, values as JSON) names streams, files and rows, so two spellings of one thing are
one thing.
"""

import json
from typing import NamedTuple

from estimators.registry import Registry, UnknownName


class UserError(ValueError):
    """A mistake of the user's; the text is the sentence to print, the exit code is 2."""


class Spec(NamedTuple):
    """A registered name and the arguments that override its defaults."""

    name: str
    arguments: tuple[tuple[str, object], ...] = ()

    @staticmethod
    def parse(text: str) -> "Spec":
        """Read `name` or `name:argument=value,...`; a value that is not JSON is a string.

        >>> str(Spec.parse("gumbel-softmax:temperature=.5")), str(Spec.parse("bernoulli-vae:checkpoint=late,batch=8"))
        ('gumbel-softmax:temperature=0.5', 'bernoulli-vae:batch=8,checkpoint=late')
        """
        name, _, rest = text.strip().partition(":")
        arguments = {}
        for item in filter(None, rest.split(",")):
            argument, equals, value = item.partition("=")
            if not equals or not argument.strip():
                raise UserError(f"Cannot read {item!r} in {text!r}; write `name:argument=value,argument=value`.")
            arguments[argument.strip()] = _value(value.strip())
        return Spec(name, tuple(sorted(arguments.items())))

    def __str__(self) -> str:
        def plain(value):
            return value if isinstance(value, str) else json.dumps(value)

        arguments = ",".join(f"{argument}={plain(value)}" for argument, value in self.arguments)
        return f"{self.name}:{arguments}" if arguments else self.name

    def create(self, registry: Registry):
        """The object that this names. Raises `UserError` with a sentence if it cannot be made."""
        try:
            return registry.create(self.name, **dict(self.arguments))
        except UnknownName as error:
            raise UserError(str(error)) from None
        except (ValueError, TypeError) as error:
            raise UserError(f"Cannot make the {registry.noun} {str(self)!r}: {error}") from error


def _value(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def parse_list(text: str) -> list[Spec]:
    """Specifications separated by commas or semicolons: an item without a colon that holds `=` continues the one
    before.

    >>> [str(s) for s in parse_list("rebar:temperature=0.1,learning_rate=0.01,score-function")]
    ['rebar:learning_rate=0.01,temperature=0.1', 'score-function']
    """
    items: list[str] = []
    for item in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        if "=" in item and ":" not in item and items and ":" in items[-1]:
            items[-1] += "," + item
        else:
            items.append(item)
    return [Spec.parse(item) for item in items]
