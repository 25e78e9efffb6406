"""The store: a folder that holds one run, and survives whatever interrupts it.

    run.json        what the run is, written once
    cells/          one file for each finished cell, while the run lasts
    records.jsonl   all records, once the run is consolidated

A *cell* is one estimator on one problem at one seed. Its *identity* is a JSON object with at least `estimator`, `problem`,
`hyperparameters` and `seed`, and whatever else its numbers depend on: replicates, warm-up, precision. A digest of the identity names the
file and marks the records, so a finished cell is found again after an interruption, and one that was measured under other
conditions is never taken for it. Every file appears whole or not at all: it is written under another name, flushed to disk, and renamed.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .records import Record, RecordError, from_lines, make_record, to_line

# The same cell measured twice differs in something else than these.
LABEL = ("estimator", "problem", "hyperparameters", "seed")

# A temporary file lives for milliseconds; one as old as this was left by a process that died.
STALE_SECONDS = 60


class StoreError(ValueError):
    """Why a folder cannot be read or written as a run, as a sentence."""


class Cell(NamedTuple):
    """A finished cell: what it was measured under, and its records."""

    conditions: Mapping
    records: list[Record]


class RunDirectory:
    """A run on disk; made by `open_run` to measure, or by `existing_run` to read."""

    def __init__(self, path: Path):
        self.path = path
        self._cells = dict(self._read_consolidated())
        for file in self._cell_files():
            digest, cell = _read_cell(file)
            self._cells[digest] = cell

    def about(self) -> dict:
        """What `run.json` says: the `identity` of the run, and what was noted `about` it; empty if there is none."""
        file = self.path / "run.json"
        return _read_json(file) if file.exists() else {}

    def finished(self, identity: Mapping) -> list[Record] | None:
        """The records of the cell, or `None` if it is still to be measured.

        Raises `StoreError` if the folder holds the same estimator, problem and seed measured under other conditions.
        """
        if (digest := cell_digest(identity)) in self._cells:
            return list(self._cells[digest].records)
        for cell in self._cells.values():
            if cell.records and _label(cell.records[0]) == _label(identity):
                raise StoreError(
                    f"`{self.path}` holds {identity['estimator']} on {identity['problem']} measured under other conditions"
                    f"{_differences(identity, cell.conditions)}; choose another folder with `--out`."
                )
        return None

    def write(self, identity: Mapping, records: list[Record]) -> list[Record]:
        """Store a finished cell, in place of an earlier result of it; the records as stored."""
        self.finished(identity)
        if not records or any(_label(record) != _label(identity) for record in records):
            raise StoreError(
                f"A cell needs records of its own {', '.join(LABEL)}; got {len(records)} for {dict(identity)}."
            )
        digest = cell_digest(identity)
        records = [make_record(**{**record, "cell": digest}) for record in records]
        content = {"identity": dict(identity), "records": records}
        write_aside(self.path / "cells" / cell_file_name(identity), json.dumps(content, indent=1, allow_nan=False))
        self._cells[digest] = Cell(identity, records)
        return records

    def records(self) -> list[Record]:
        """All records, in an order that does not depend on the order in which cells finished."""
        cells = [cell.records for cell in self._cells.values() if cell.records]
        return [record for records in sorted(cells, key=_order) for record in records]

    def consolidate(self) -> Path:
        """Gather all records into `records.jsonl` and remove the files of the cells; the file."""
        files = self._cell_files()
        self._cells |= dict(_read_cell(file) for file in files)
        gathered = self.path / "records.jsonl"
        write_aside(gathered, "".join(map(to_line, self.records())))
        with _in_a_sentence(self.path):
            for file in files:
                file.unlink(missing_ok=True)
            if not self._cell_files():
                shutil.rmtree(self.path / "cells", ignore_errors=True)
        return gathered

    def sweep(self) -> None:
        """Remove temporary files left by a process that died while writing."""
        for file in [*self.path.glob(".*.tmp"), *self.path.glob("cells/.*.tmp")]:
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > STALE_SECONDS:
                    file.unlink()

    def _cell_files(self) -> list[Path]:
        return sorted(file for file in self.path.glob("cells/*.json") if not file.name.startswith("."))

    def _read_consolidated(self) -> Iterator[tuple[str, Cell]]:
        gathered = self.path / "records.jsonl"
        cells: dict[str, list[Record]] = {}
        if gathered.exists():
            try:
                records = from_lines(gathered.read_text(encoding="utf-8"), f"`{gathered}`")
            except (RecordError, OSError, UnicodeDecodeError) as error:
                raise StoreError(str(error)) from error
            for number, record in enumerate(records):
                cells.setdefault(record["cell"] or f"record {number}", []).append(record)
        return ((digest, Cell(records[0], records)) for digest, records in cells.items())


def open_run(path: str | Path, identity: Mapping, about: Mapping | None = None) -> RunDirectory:
    """The run at `path`, new or resumed. `identity` is what all of its cells share, and must be that of the run found there;
    `about` is noted with it when the run is new: the command, the machine, versions."""
    path = Path(path)
    with _in_a_sentence(path):
        path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    if foreign and not _is_run(path):
        raise StoreError(
            f"`{path}` holds other things ({min(foreign)}) and no run; choose a new or empty folder with `--out`."
        )
    run = RunDirectory(path)
    run.sweep()
    held = run.about().get("identity")
    if held is None:
        note = {"identity": dict(identity), "about": dict(about or {})}
        write_aside(path / "run.json", json.dumps(note, indent=1, sort_keys=True) + "\n")
    elif _canonical(held) != _canonical(identity):
        raise StoreError(
            f"`{path}` holds another run{_differences(identity, held)}; choose another folder with `--out`."
        )
    return run


def existing_run(path: str | Path) -> RunDirectory:
    """The run at `path`, to be read."""
    if not _is_run(Path(path)):
        raise StoreError(f"`{path}` is not a folder that holds a run; `scorepath run SUITE --out {path}` makes one.")
    return RunDirectory(Path(path))


def write_aside(path: Path, content: str | bytes) -> Path:
    """Write `path` whole or not at all, making its folder."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _in_a_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return path


def cell_digest(identity: Mapping) -> str:
    """Sixteen hexadecimal digits that stand for an identity; the order of its keys does not matter."""
    if missing := [name for name in LABEL if name not in identity]:
        raise StoreError(f"The identity of a cell needs {', '.join(LABEL)}; {', '.join(missing)} is missing.")
    return hashlib.sha256(_canonical({**identity, "hyperparameters": _label(identity)[2]}).encode()).hexdigest()[:16]


def cell_file_name(identity: Mapping) -> str:
    """A name that a person can read and any file system can hold.

    >>> cell_file_name({"estimator": "disarm", "problem": "toy:logit=-2,target=0.45", "hyperparameters": {}, "seed": 0})
    'disarm--toy-logit=-2-target=0.45--381ab7025c18bed3.json'
    """
    words = [re.sub(r"[^A-Za-z0-9.=_-]+", "-", identity[name])[:60].strip(".-") for name in ("estimator", "problem")]
    return "--".join([*words, cell_digest(identity)]) + ".json"


def _read_cell(file: Path) -> tuple[str, Cell]:
    content = _read_json(file)
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


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"`{file}` cannot be read ({error}); remove it to have it made again.") from error
    if not isinstance(content, dict):
        raise StoreError(f"`{file}` does not hold a JSON object; remove it to have it made again.")
    return content


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("run.json", "records.jsonl", "cells"))


def _canonical(value) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _label(source: Mapping) -> tuple:
    """What the same cell has in common whatever it was measured under; hyper-parameters in one form, JSON or not."""
    settings = source["hyperparameters"]
    settings = json.loads(settings) if isinstance(settings, str) else settings
    return source["estimator"], source["problem"], _canonical(settings), source["seed"]


def _order(records: list[Record]) -> tuple:
    names = ("suite", "problem", "estimator", "hyperparameters", "seed", "cell")
    return tuple((records[0][name] is not None, records[0][name]) for name in names)


def _differences(wanted: Mapping, held: Mapping) -> str:
    """How `held` differs from `wanted`, in words."""
    names = [name for name in wanted if name in held and name not in LABEL[:3]]
    differing = [name for name in names if _canonical(wanted[name]) != _canonical(held[name])]
    return "".join(f", with {name} {held[name]} where this run has {wanted[name]}" for name in differing)


@contextmanager
def _in_a_sentence(path: Path):
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"`{path}` cannot be written: {error.strerror or error}. Choose another folder with `--out`."
        ) from error
