"""The store: a folder that holds one run, and survives whatever interrupts it.

    run.json        what the run is, written once
    cells/          one file for each finished cell, while the run lasts
    records.jsonl   all records, once the run is consolidated

A finished cell is found again after an interruption, and one that was measured under other conditions is never taken
for it: `cells` says how they are told apart. Every file appears whole or not at all, because it is written under
another name, flushed to disk, and renamed.
"""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .cells import (
    LABEL,
    Cell,
    canonical,
    cell_digest,
    cell_file_name,
    cell_text,
    differences,
    label,
    read_cell,
    read_json,
    reading_order,
)
from .files import StoreError, in_a_sentence, write_aside
from .records import Record, from_lines, make_record, to_line

# A temporary file lives for milliseconds; one as old as this was left by a process that died.
STALE_SECONDS = 60


class RunDirectory:
    """A run on disk; made by `open_run` to measure, or by `existing_run` to read."""

    def __init__(self, path: Path):
        self.path = path
        self._cells: dict[str, Cell] = {}
        self._digests: dict[tuple, str] = {}
        # A cell in a file of its own is newer than one of the same identity among the gathered records.
        for digest, cell in [*self._gathered().items(), *map(read_cell, self._cell_files())]:
            self._add(digest, cell)

    def about(self) -> dict:
        """What `run.json` says: the `identity` of the run, and what was noted `about` it; empty if there is none."""
        file = self.path / "run.json"
        return read_json(file) if file.exists() else {}

    def finished(self, identity: Mapping) -> list[Record] | None:
        """The records of the cell, or `None` if it is still to be measured.

        Raises `StoreError` if the folder holds the same estimator, problem and seed measured under other conditions.
        """
        digest = cell_digest(identity)
        held = self._digests.get(label(identity), digest)
        if held != digest:
            raise StoreError(
                f"`{self.path}` holds {identity['estimator']} on {identity['problem']} measured under other conditions"
                f"{differences(identity, self._cells[held].conditions)}; choose another folder with `--out`."
            )
        return list(self._cells[digest].records) if digest in self._cells else None

    def write(self, identity: Mapping, records: list[Record]) -> list[Record]:
        """Store a finished cell, in place of an earlier result of it; the records as stored."""
        self.finished(identity)
        if not records or any(label(record) != label(identity) for record in records):
            raise StoreError(
                f"A cell needs records of its own {', '.join(LABEL)}; got {len(records)} for {dict(identity)}."
            )
        digest = cell_digest(identity)
        records = [make_record(**{**record, "cell": digest}) for record in records]
        write_aside(self.path / "cells" / cell_file_name(identity), cell_text(identity, records))
        self._add(digest, Cell(identity, records))
        return list(records)

    def records(self) -> list[Record]:
        """All records, in an order that does not depend on the order in which cells finished."""
        cells = [cell.records for cell in self._cells.values() if cell.records]
        return [record for records in sorted(cells, key=reading_order) for record in records]

    def consolidate(self) -> Path:
        """Gather all records into `records.jsonl` and remove the files of the cells; the file.

        Interrupted between the two, the run has its cells twice, and a cell counts once.
        """
        files = self._cell_files()
        for file in files:
            self._add(*read_cell(file))
        gathered = write_aside(self.path / "records.jsonl", "".join(map(to_line, self.records())))
        with in_a_sentence(self.path):
            for file in files:
                file.unlink(missing_ok=True)
            if not self._cell_files():
                shutil.rmtree(self.path / "cells", ignore_errors=True)
        return gathered

    def _add(self, digest: str, cell: Cell) -> None:
        self._cells[digest] = cell
        for record in cell.records[:1]:
            self._digests[label(record)] = digest

    def _cell_files(self) -> list[Path]:
        return sorted(file for file in self.path.glob("cells/*.json") if not file.name.startswith("."))

    def _gathered(self) -> dict[str, Cell]:
        file, cells = self.path / "records.jsonl", {}
        if file.exists():
            try:
                records = from_lines(file.read_text(encoding="utf-8"), f"`{file}`")
            except (ValueError, OSError) as error:
                raise StoreError(str(error)) from error
            for number, record in enumerate(records):
                cells.setdefault(record["cell"] or f"record {number}", Cell(record, [])).records.append(record)
        return cells


def open_run(path: str | Path, identity: Mapping, about: Mapping | None = None) -> RunDirectory:
    """The run at `path`, new or resumed.

    `identity` is what all of its cells share, and must be that of the run found there; `about` is noted with it when
    the run is new: the command, the machine, versions.
    """
    path = Path(path)
    with in_a_sentence(path):
        path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    if foreign and not _is_run(path):
        raise StoreError(f"`{path}` holds other things ({min(foreign)}) and no run; choose a new folder with `--out`.")
    _sweep(path)
    run = RunDirectory(path)
    held = run.about().get("identity")
    if held is None:
        note = {"identity": dict(identity), "about": dict(about or {})}
        write_aside(path / "run.json", json.dumps(note, indent=1, sort_keys=True) + "\n")
    elif canonical(held) != canonical(identity):
        raise StoreError(
            f"`{path}` holds another run{differences(identity, held)}; choose another folder with `--out`."
        )
    return run


def existing_run(path: str | Path) -> RunDirectory:
    """The run at `path`, to be read."""
    if not _is_run(Path(path)):
        raise StoreError(f"`{path}` is not a folder that holds a run; `scorepath run SUITE --out {path}` makes one.")
    return RunDirectory(Path(path))


def _sweep(path: Path) -> None:
    """Remove temporary files left by a process that died while writing."""
    for file in [*path.glob(".*.tmp"), *path.glob("cells/.*.tmp")]:
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("run.json", "records.jsonl", "cells"))
