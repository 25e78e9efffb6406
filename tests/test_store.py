"""The store: what is found again after an interruption, what is refused, and that no file is ever seen half-written."""

import json
import os
from pathlib import Path

import pytest
from synthetic_records import identity, measured, synthetic_records

from benchmarks import store
from benchmarks.cells import cell_digest, cell_file_name
from benchmarks.records import from_lines, make_record
from benchmarks.store import StoreError, existing_run, open_run, write_aside

RUN = {"suite": "toys", "seed": 0, "replicates": 100_000}


def cells() -> list[tuple[dict, list[dict]]]:
    """Some cells of the synthetic run: of one part, of two, of three, and one that failed."""
    grouped = {}
    for record in synthetic_records():
        grouped.setdefault((record["estimator"], record["problem"], record["hyperparameters"]), []).append(record)
    chosen = [
        group for group in grouped.values() if group[0]["problem"].startswith(("vae", "logistic", "bernoulli-pairs"))
    ]
    return [(identity(group[0]), group) for group in chosen]


CELLS = cells()


@pytest.fixture
def run(tmp_path):
    """A run on disk with all cells written."""
    run = open_run(tmp_path / "run", RUN, {"command": "scorepath run toys"})
    for cell in CELLS:
        run.write(*cell)
    return run


def without_cell(records):
    return [{**record, "cell": None} for record in records]


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_finished_cell_is_found_again_by_another_process(run, consolidated):
    if consolidated:
        run.consolidate()
    resumed = open_run(run.path, RUN)
    for known, records in CELLS:
        assert without_cell(resumed.finished(known)) == records
        assert (
            without_cell(resumed.finished({**known, "hyperparameters": json.dumps(known["hyperparameters"])}))
            == records
        )
    assert resumed.finished({**CELLS[0][0], "estimator": "new"}) is None
    assert resumed.finished({**CELLS[0][0], "seed": 1}) is None
    assert resumed.finished({**CELLS[0][0], "hyperparameters": {"temperature": 2.5}}) is None
    assert resumed.about() == {"identity": RUN, "about": {"command": "scorepath run toys"}}


def test_records_do_not_depend_on_the_order_of_finishing(tmp_path):
    written = []
    for name, order in (("forward", CELLS), ("backward", CELLS[::-1])):
        run = open_run(tmp_path / name, RUN)
        for known, records in order:
            run.write(dict(sorted(known.items(), reverse=name == "backward")), records)
        before = existing_run(run.path).records()
        written.append(run.consolidate().read_bytes())
        assert existing_run(run.path).records() == before == from_lines(written[-1].decode())
        assert not (run.path / "cells").exists()
    assert written[0] == written[1]
    assert len(before) == sum(len(records) for _, records in CELLS)


@pytest.mark.parametrize("consolidated", [False, True])
def test_other_conditions_are_refused_by_name(run, consolidated):
    if consolidated:
        run.consolidate()
    known, records = CELLS[0]
    for refused in (lambda r, i: r.finished(i), lambda r, i: r.write(i, records)):
        with pytest.raises(StoreError, match="with replicates 100000 where this run has 7; choose another folder"):
            refused(existing_run(run.path), {**known, "replicates": 7})
    with pytest.raises(StoreError, match="measured under other conditions"):
        existing_run(run.path).finished({**known, "precision": 0.01})


def test_another_run_is_refused_by_name(run):
    with pytest.raises(StoreError, match="holds another run, with seed 0 where this run has 1;"):
        open_run(run.path, {**RUN, "seed": 1})
    with pytest.raises(StoreError, match="holds another run"):
        open_run(run.path, {**RUN, "dtype": "float64"})


def test_a_cell_measured_again_replaces_the_earlier_result(run):
    known, records = CELLS[0]
    run.consolidate()
    run.write(known, [{**record, "variance": 1.25} for record in records])
    again = open_run(run.path, RUN)
    assert {record["variance"] for record in again.finished(known)} == {1.25}
    assert len(again.records()) == sum(len(records) for _, records in CELLS)


def test_torn_files_are_ignored_and_swept(run):
    old, new = (run.path / "cells" / f".{name}.json.abc.tmp" for name in ("old", "new"))
    for file in (old, new):
        file.write_text('{"identity": {"estim')
    os.utime(old, (1, 1))
    resumed = open_run(run.path, RUN)
    assert len(resumed.records()) == sum(len(records) for _, records in CELLS)
    assert not old.exists() and new.exists()  # the new one may belong to a process that is writing it
    resumed.consolidate()
    assert not new.exists()


def test_a_file_is_flushed_to_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append(names), replace(*names)))
    write_aside(tmp_path / "file", "text")
    (first, (source, target)) = calls
    assert first == "fsync" and target == tmp_path / "file"
    assert source.parent == target.parent and source.name.startswith(".") and source.name.endswith(".tmp")


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stage):
    write_aside(tmp_path / "file", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        write_aside(tmp_path / "file", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_cells_count_once_after_an_interrupted_consolidation(run, monkeypatch):
    before = run.records()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.consolidate()
    assert (run.path / "records.jsonl").exists() and len(list((run.path / "cells").glob("*.json"))) == len(CELLS)
    assert open_run(run.path, RUN).records() == before
    open_run(run.path, RUN).consolidate()
    assert existing_run(run.path).records() == before and not (run.path / "cells").exists()


def test_consolidation_takes_in_what_another_process_finished(tmp_path):
    first, second = open_run(tmp_path, RUN), open_run(tmp_path, RUN)
    first.write(*CELLS[0])
    second.write(*CELLS[1])
    first.consolidate()
    assert len(existing_run(tmp_path).records()) == len(CELLS[0][1]) + len(CELLS[1][1])


def test_a_cell_file_that_was_edited_or_renamed_is_refused(run):
    file, other = sorted((run.path / "cells").glob("*.json"))[:2]
    text = file.read_text()
    file.write_text(text.replace('"replicates": 100000', '"replicates": 100', 1))
    with pytest.raises(StoreError, match="holds another cell than its name says"):
        existing_run(run.path)
    file.write_text(text[:100])
    with pytest.raises(StoreError, match="cannot be read"):
        existing_run(run.path)
    file.write_text(other.read_text())
    with pytest.raises(StoreError, match="another cell"):
        existing_run(run.path)
    file.write_text("{}")
    with pytest.raises(StoreError, match="not the file of a cell"):
        existing_run(run.path)


def test_records_that_do_not_belong_to_the_cell_are_refused(tmp_path):
    run = open_run(tmp_path, RUN)
    with pytest.raises(StoreError, match="needs records of its own"):
        run.write(CELLS[0][0], CELLS[1][1])
    with pytest.raises(StoreError, match="got 0"):
        run.write(CELLS[0][0], [])
    with pytest.raises(StoreError, match="seed is missing"):
        run.finished({"estimator": "disarm", "problem": "toy", "hyperparameters": {}})
    assert run.records() == []


def test_folders_that_cannot_hold_a_run_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        open_run(tmp_path / "file" / "run", RUN)
    with pytest.raises(StoreError, match=r"holds other things \(file\) and no run"):
        open_run(tmp_path, RUN)
    with pytest.raises(StoreError, match="is not a folder that holds a run; `scorepath run"):
        existing_run(tmp_path)
    with pytest.raises(StoreError, match="is not a folder that holds a run"):
        existing_run(tmp_path / "nowhere")


def test_gathered_records_that_are_torn_are_refused_with_their_line(run):
    gathered = run.consolidate()
    gathered.write_text(gathered.read_text()[:-30])
    with pytest.raises(StoreError, match=rf"Line {len(run.records())} of `.*records\.jsonl`"):
        existing_run(run.path)


def test_records_of_several_runs_may_lie_together(tmp_path):
    """Merged runs: the same cells at two seeds, and records that no store has marked."""
    import numpy as np

    rng = np.random.default_rng(0)
    seeds = [measured(rng, "toy", "disarm", "discrete", 3, 1.0, 1.0, 0.0, seed=seed) for seed in (0, 1)]
    unmarked = [make_record(**{**record, "cell": None}) for records in seeds for record in records]
    write_aside(tmp_path / "records.jsonl", "".join(map(store.to_line, unmarked)))
    assert sorted(record["seed"] for record in existing_run(tmp_path).records()) == [0, 1]


def test_file_names_are_readable_safe_and_distinct():
    names = set()
    for estimator, problem in (
        ("a/b", "x:y=1"),
        ("a-b", "x:y=1"),
        ("..", "../../etc"),
        ("é" * 300, "p" * 300),
        ("a-b", "x-y=1"),
    ):
        known = {"estimator": estimator, "problem": problem, "hyperparameters": {}, "seed": 0}
        name = cell_file_name(known)
        assert name.isascii() and not set(name) & set('/\\:*?"<>| ') and not name.startswith(".") and len(name) < 200
        assert cell_digest(known) in name
        names.add(name)
    assert len(names) == 5
    assert cell_file_name(CELLS[0][0]).startswith("score-function--bernoulli-pairs--")
