"""A run of several processes on this machine: for tests, and for the table of how speed scales with processes.

    python -m benchmarks.loopback 2 --estimators leave-one-out --problems bernoulli-quadratic --replicates 1000000

Each process has one CPU device unless told otherwise, and a core for each, its own as long as there are enough: more
processes are more cores.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from .environment import give_cores

# How often the processes are asked whether they have ended.
POLL_SECONDS = 0.05


class Ended(NamedTuple):
    """How one process ended, and what it printed; minus a signal's number if one ended it."""

    code: int
    out: str
    error: str


def run(arguments: Sequence[str], processes: int, devices: int = 1, timeout: float = 600.0) -> list[Ended]:
    """`scorepath run` with these arguments in `processes` processes that share the cells, each with so many CPU devices.

    When one fails, or after `timeout` seconds, the others are ended: they would wait for it.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = [[open(os.path.join(folder, f"{stream}{i}"), "w+") for stream in "oe"] for i in range(processes)]
        started = [start(arguments, i, processes, port, devices, *files[i]) for i in range(processes)]
        try:
            _wait(started, time.monotonic() + timeout)
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                process.wait()
        return [Ended(process.returncode, *map(_text, pair)) for process, pair in zip(started, files, strict=True)]


def replicates_per_second(estimator: str, problem: str, replicates: int, processes: int, devices: int = 1) -> float:
    """The rate of one cell in `processes` processes, by the clock of the slowest; compilation, and the one exchange of sums
    at the end, are left out. Raises `RuntimeError` if the run fails."""
    cell = ["--estimators", estimator, "--problems", problem, "--replicates", str(replicates), "--json"]
    first, *others = run(cell, processes, devices)
    failed = [ended for ended in (first, *others) if ended.code]
    record = json.loads(first.out.splitlines()[0]) if not failed else {"status": "failed", "reason": failed[0].error}
    if record["status"] != "ok":
        raise RuntimeError(f"{estimator} on {problem} in {processes} processes: {record['reason']}")
    return 1 / record["seconds_per_estimate"]


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(
    arguments: Sequence[str], index: int, processes: int, port: int, devices: int, out, error
) -> subprocess.Popen:
    """Start process `index` of `processes`, which meet at `port`."""
    names = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes), "--process-id", str(index)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-m", "benchmarks", "run", *arguments, *names]
    process = subprocess.Popen(command, stdout=out, stderr=error, env=environment)
    give_cores(process.pid, index * devices, devices)
    return process


def _wait(started: list[subprocess.Popen], deadline: float) -> None:
    """Until all have ended well, one has failed, or time is up."""
    while time.monotonic() < deadline:
        codes = [process.poll() for process in started]
        if any(codes) or None not in codes:
            return
        time.sleep(POLL_SECONDS)


def _text(file) -> str:
    with file:
        file.seek(0)
        return file.read()


def main(argv: Sequence[str]) -> int:
    """Run the command in the number of processes that comes first; prints what process 0 does."""
    ended = run(argv[1:], int(argv[0]))
    print(ended[0].out, end="")
    print("".join(process.error for process in ended), file=sys.stderr, end="")
    return max(abs(process.code) for process in ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
