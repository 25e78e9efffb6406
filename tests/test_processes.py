"""A run of several processes has the numbers of one, whichever of them is asked; process 0 alone prints and writes."""

import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import loopback, processes
from benchmarks.accumulation import Totals, merged
from benchmarks.cli import main
from benchmarks.moments import BLOCKS, LONGEST_TAIL, Moments, Spread, tail_length
from benchmarks.specs import UserError

NAMES = ["--estimators", "leave-one-out,disarm,enumeration", "--problems", "bernoulli-nonseparable"]
# To a precision that the first estimator reaches in several rounds, and the second does not within its budget.
CELLS = [*NAMES, "--precision", "10%", "--replicates", "20000"]
NUMBERS = (
    "replicates",
    "variance",
    "variance_se",
    "bias_sq",
    "bias_sq_se",
    "mse",
    "snr",
    "cosine",
    "bias_max_z",
    "khat",
)


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    """That of the process that runs the tests, for those that it starts."""
    monkeypatch.setenv("JAX_ENABLE_X64", "1")


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def assert_same_numbers(found: list[dict], expected: list[dict]) -> None:
    """To 1e-6 in everything that is measured. (How heavy a tail of equal values is found to be is a matter of rounding.)"""
    assert [r["estimator"] for r in found] == [r["estimator"] for r in expected]
    for mine, theirs in zip(found, expected, strict=True):
        for name in NUMBERS:
            if theirs[name] is None:
                assert mine[name] is None
                continue
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-6, atol=1e-12, err_msg=name)


def alone(arguments: list[str], capsys) -> list[dict]:
    """The records of the same cells in this process."""
    assert main(["run", *arguments, "--json"]) == 0
    return list(map(json.loads, capsys.readouterr().out.splitlines()))


def test_two_processes_killed_and_resumed_have_the_numbers_of_one(tmp_path, capsys):
    """Both are killed after the first cell; the same command in two processes goes on from there. Process 1, which was given
    a folder of its own to see whether it writes, does not."""
    folders = [tmp_path / "run", tmp_path / "untouched"]
    port, started = loopback.free_port(), []
    for index, folder in enumerate(folders):
        arguments = [*CELLS, "--out", str(folder)]
        started.append(loopback.start(arguments, index, 2, port, 1, subprocess.DEVNULL, subprocess.DEVNULL))
    deadline = time.monotonic() + 120
    while not list(folders[0].glob("cells/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list(folders[0].glob("cells/*.json")))
    assert kept >= 1 and not folders[1].exists()

    first, second = loopback.run([*CELLS, "--out", str(folders[0]), "--json"], processes=2)
    assert (first.code, second.code) == (0, 0), first.error + second.error
    assert first.error.count("(found)") == kept and first.error.count("[3/3]") == 1
    assert second.out == "" and "/3]" not in second.error
    stored = records(folders[0])
    printed = map(json.loads, first.out.splitlines())
    assert sorted(printed, key=lambda record: record["estimator"]) == sorted(stored, key=lambda r: r["estimator"])
    assert len(stored) == 3 and not list(folders[0].glob("cells/*"))
    assert {record["batch"] for record in stored} == {1, 2 * 1024}
    expected = {record["estimator"]: record for record in alone(CELLS, capsys)}
    assert len({record["replicates"] for record in stored}) > 1
    assert_same_numbers(stored, [expected[record["estimator"]] for record in stored])


@pytest.mark.slow
def test_four_processes_have_the_numbers_of_one(capsys):
    """A fixed number of replicates that no number of processes divides."""
    arguments = [*NAMES[2:], "--estimators", "score-function", "--replicates", "4321"]
    ended = loopback.run([*arguments, "--json"], processes=4)
    assert [process.code for process in ended] == [0] * 4, ended[0].error
    assert [bool(process.out) for process in ended] == [True, False, False, False]
    assert_same_numbers(list(map(json.loads, ended[0].out.splitlines())), alone(arguments, capsys))


@pytest.fixture
def as_processes(monkeypatch):
    """Runs `action(index)` in threads that exchange vectors as processes do; what each returned or raised."""

    def run(action, count: int = 3) -> list:
        identity, barrier, exchanged, results = threading.local(), threading.Barrier(count, timeout=20), {}, {}

        def exchange(vector):
            exchanged[identity.index] = np.array(vector, np.float64)
            barrier.wait()
            rows = np.stack([exchanged[index] for index in range(count)])
            barrier.wait()
            return rows

        def body(index):
            identity.index = index
            try:
                results[index] = action(index)
            except Exception as error:
                results[index] = error

        monkeypatch.setattr(processes, "count", lambda: count)
        monkeypatch.setattr(processes, "index", lambda: identity.index)
        monkeypatch.setattr(processes, "gathered", exchange)
        threads = [threading.Thread(target=body, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [results[index] for index in range(count)]

    return run


def test_sums_keep_shapes_and_kinds(as_processes, monkeypatch):
    """Also where they are brought in several pieces."""
    monkeypatch.setattr(processes, "MOST_NUMBERS", 12)
    whole = np.arange(6).reshape(2, 3)
    for result in as_processes(lambda index: processes.added([whole * index, np.full(5, 0.5), np.array(1.0)])):
        np.testing.assert_array_equal(result[0], 3 * whole)
        assert result[0].dtype == whole.dtype
        np.testing.assert_array_equal(result[1], np.full(5, 1.5))
        assert result[2] == 3.0 and result[2].shape == ()


@pytest.mark.parametrize("longest", [50, LONGEST_TAIL + 1])
def test_merged_totals_are_those_of_all_replicates(longest, as_processes):
    """Counts, sums and the largest squared distances, exactly, however many each process has: one has none."""
    generator = np.random.default_rng(4)
    shares = [generator.exponential(size=(size, 2)) for size in (100, 0, 37)]

    def totals(samples) -> Totals:
        moments, spread = Moments.zero(np.zeros(2), 4), Spread(longest)
        for block, piece in enumerate(np.array_split(samples, 5)):
            first, *higher = (np.sum(piece**power, axis=0) for power in range(1, 5))
            moments.add(block, [len(piece)], first[None], np.stack(higher))
            spread.add(block, [len(piece)], np.sum(piece**2, axis=1), piece[:, 0] - 1)
        return Totals(moments, {"part": spread})

    everything = [totals(share) for share in shares]
    expected = everything[0].plus(everything[1]).plus(everything[2])
    for found in as_processes(lambda index: merged(everything[index])):
        np.testing.assert_array_equal(found.moments.counts, expected.moments.counts)
        np.testing.assert_array_equal(found.moments.first, expected.moments.first)
        np.testing.assert_array_equal(found.moments.higher, expected.moments.higher)
        mine, theirs = found.spreads["part"], expected.spreads["part"]
        np.testing.assert_array_equal(np.sort(mine.largest), np.sort(theirs.largest))
        np.testing.assert_array_equal(np.sort(mine.tail), np.sort(theirs.tail))
        assert len(mine.tail) == min(tail_length(137), longest)
        np.testing.assert_allclose([mine.fourths, mine.cosine], [theirs.fourths, theirs.cosine], rtol=1e-15)
        assert mine.aligned == theirs.aligned and mine.counts.sum() == 137
        assert found.moments.halved().counts[: BLOCKS // 2].sum() == 137


def test_a_process_that_fails_takes_the_others_along(as_processes):
    """Nobody waits for sums that will not come; what failed says why, and the others who."""

    def action(index):
        with processes.together():
            if index == 1:
                raise ValueError("out of memory")

    first, second, third = as_processes(action)
    assert isinstance(second, ValueError) and str(second) == "out of memory"
    assert str(first) == str(third) == "Process 1 of 3 failed."
    assert as_processes(lambda index: processes.together().__enter__()) is not None


def test_memory_that_ran_out_somewhere_ran_out_for_all(as_processes):
    """So that all try with less; unless another fails for a graver reason."""

    def action(index, worse=None):
        with processes.together():
            if index == 1:
                raise MemoryError("no room")
            if index == worse:
                raise ValueError("worse")

    first, second, third = as_processes(action)
    assert all(isinstance(error, MemoryError) for error in (first, second, third)) and str(second) == "no room"
    assert str(first) == str(third) == "Memory ran out on process 1 of 3."
    first, second, third = as_processes(lambda index: action(index, worse=2))
    assert isinstance(third, ValueError) and type(first) is type(second) is RuntimeError
    assert str(first) == str(second) == "Process 2 of 3 failed."


def test_the_first_is_asked_and_the_others_are_told(as_processes):
    asked = []

    def ask(answer):
        def action(index):
            return processes.on_the_first(lambda: asked.append(index) or answer, elsewhere="held")

        return as_processes(action)

    assert ask([1, 2]) == [[1, 2], "held", "held"]
    assert ask(None) == [None, None, None]
    assert asked == [0, 0]

    def refuse():
        raise UserError("The folder is full.")

    first, *others = as_processes(lambda index: processes.on_the_first(refuse))
    assert str(first) == "The folder is full."
    assert all(isinstance(other, UserError) and "Process 0" in str(other) for other in others)


def test_alone_nothing_is_exchanged():
    vector = np.arange(3.0)
    assert processes.count() == 1
    assert processes.added([vector])[0] is vector and processes.united(vector, 10) is vector
    np.testing.assert_array_equal(processes.of_the_first(vector), vector)
    assert processes.on_the_first(lambda: None, elsewhere=1) is None


CLUSTERS = {
    "srun": ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, "Slurm"),
    "one task": ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4"}, None),
    "a batch script": ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),
    "mpirun": ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
    "a laptop": ({}, None),
}


@pytest.mark.parametrize("environment, launcher", CLUSTERS.values(), ids=CLUSTERS)
def test_launchers_are_known(environment, launcher):
    assert processes.launched(environment) == launcher


MISTAKES = {
    "one of three": (["--coordinator", "localhost:1234"], "go together"),
    "no port": (["--coordinator", "localhost", "--processes", "2", "--process-id", "0"], "HOST:PORT"),
    "no such port": (["--coordinator", "localhost:99999", "--processes", "2", "--process-id", "0"], "HOST:PORT"),
    "counted from one": (["--coordinator", "localhost:1234", "--processes", "2", "--process-id", "2"], "from 0 to 1"),
    "no processes": (["--coordinator", "localhost:1234", "--processes", "0", "--process-id", "0"], "--processes"),
    "nobody to be found": (["--distributed"], "did not find each other"),
}


@pytest.mark.parametrize("options, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_a_sentence_and_exit_code_2(options, sentence, capsys):
    jax.devices()
    assert main(["run", *NAMES, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_a_port_in_use_is_a_sentence(capsys):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--coordinator", f"localhost:{port}", "--processes", "2", "--process-id", "0"]
        assert main(["run", *NAMES, *options]) == 2
    assert f"Port {port}" in capsys.readouterr().err
