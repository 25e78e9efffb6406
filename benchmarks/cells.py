"""Cells: what tells one measurement from another, and the file that holds one while a run lasts.

A *cell* is one estimator on one problem at one seed. Its *identity* is a JSON object with at least `estimator`,
`problem`, `hyperparameters` and `seed`, and whatever else its numbers depend on: replicates, warm-up, precision. The
digest of the identity names the file and marks the records. Cells that agree in the four but not in the rest are one
thing measured under different conditions, and never stand for each other.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .files import StoreError
from .records import Record, make_record, safe_name

# The same cell measured twice differs in something else than these.
LABEL = ("estimator", "problem", "hyperparameters", "seed")


class Cell(NamedTuple):
    """A finished cell: what it was measured under, and its records."""

    conditions: Mapping
    records: list[Record]


def cell_digest(identity: Mapping) -> str:
    """Sixteen hexadecimal digits that stand for an identity; the order of its keys does not matter."""
    if missing := [name for name in LABEL if name not in identity]:
        raise StoreError(f"The identity of a cell needs {', '.join(LABEL)}; {', '.join(missing)} is missing.")
    return hashlib.sha256(canonical({**identity, "hyperparameters": label(identity)[2]}).encode()).hexdigest()[:16]


def cell_file_name(identity: Mapping) -> str:
    """A name that a person can read and any file system can hold.

    >>> cell_file_name({"estimator": "disarm", "problem": "toy:logit=-2,target=0.45", "hyperparameters": {}, "seed": 0})
    'disarm--toy-logit=-2-target=0.45--381ab7025c18bed3.json'
    """
    words = safe_name(identity["estimator"]), safe_name(identity["problem"]), cell_digest(identity)
    return "--".join(words) + ".json"


def label(source: Mapping) -> tuple:
    """What the same cell has in common whatever it was measured under; hyper-parameters in one form, JSON or not."""
    settings = source["hyperparameters"]
    settings = json.loads(settings) if isinstance(settings, str) else settings
    return source["estimator"], source["problem"], canonical(settings), source["seed"]


def reading_order(records: list[Record]) -> tuple:
    """A key for `sorted` that does not depend on when a cell finished."""
    names = ("suite", "problem", "estimator", "hyperparameters", "seed", "cell")
    return tuple((records[0][name] is not None, records[0][name]) for name in names)


def differences(wanted: Mapping, held: Mapping) -> str:
    """How `held` differs from `wanted`, in words."""
    names = [name for name in wanted if name in held and name not in LABEL[:3]]
    differing = [name for name in names if canonical(wanted[name]) != canonical(held[name])]
    return "".join(f", with {name} {held[name]} where this run has {wanted[name]}" for name in differing)


def canonical(value) -> str:
    """One text for all spellings of one JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def cell_text(identity: Mapping, records: list[Record]) -> str:
    """What the file of a cell holds."""
    return json.dumps({"identity": dict(identity), "records": records}, indent=1, allow_nan=False)


def read_cell(file: Path) -> tuple[str, Cell]:
    """The digest of a cell, and the cell, from its file."""
    content = read_json(file)
    try:
        digest = cell_digest(content["identity"])
        cell = Cell(content["identity"], [make_record(**record) for record in content["records"]])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"`{file}` is not the file of a cell ({error}); remove it to measure the cell again."
        ) from error
    if not file.stem.endswith(digest) or any(record["cell"] != digest for record in cell.records):
        raise StoreError(f"`{file}` holds another cell than its name says; remove it to measure the cell again.")
    return digest, cell


def read_json(file: Path) -> dict:
    """The JSON object in `file`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"`{file}` cannot be read ({error}); remove it to have it made again.") from error
    if not isinstance(content, dict):
        raise StoreError(f"`{file}` does not hold a JSON object; remove it to have it made again.")
    return content
