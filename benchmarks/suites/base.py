"""What a suite is: a named list of cells.

A suite is data: blocks of estimators, problems and a number of replicates. A pair that does not fit is still a cell,
and becomes a row that says why.
"""

from typing import NamedTuple

from estimators.registry import Registry

from ..specs import Spec, parse_list

SUITES = Registry("suite", "scorepath.suites")


class Block(NamedTuple):
    """Every one of `estimators` on every one of `problems`."""

    estimators: tuple[Spec, ...]
    problems: tuple[Spec, ...]
    replicates: int


class Cell(NamedTuple):
    """One estimator on one problem."""

    estimator: Spec
    problem: Spec
    replicates: int


class Suite(NamedTuple):
    """A named list of blocks."""

    name: str
    description: str
    blocks: tuple[Block, ...]

    def cells(self) -> list[Cell]:
        """The cells in order, problem by problem, each once."""
        cells = [
            Cell(e, p, block.replicates) for block in self.blocks for p in block.problems for e in block.estimators
        ]
        return list(dict.fromkeys(cells))


def block(estimators: str, problems: str, replicates: int) -> Block:
    """A block from two lists of specifications."""
    return Block(tuple(parse_list(estimators)), tuple(parse_list(problems)), replicates)


def grid(family: str, argument: str, values: list) -> str:
    """The points of a family along one argument; `family` may fix others.

    >>> grid("bernoulli-quadratic:target=0.45", "logit", [-2, 0])
    'bernoulli-quadratic:target=0.45,logit=-2,bernoulli-quadratic:target=0.45,logit=0'
    """
    separator = "," if ":" in family else ":"
    return ",".join(f"{family}{separator}{argument}={value}" for value in values)
