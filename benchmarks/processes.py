"""Many processes: how they find each other, and the few things that they say to each other.

Every process runs the same program of the same cells on devices of its own, each its share of the calls, and what they
exchange are sums on the host: float64, bit for bit, added in the order of the processes, so that all end with the same
numbers. Process 0 alone prints, writes, and asks the store. Outside of a run of several processes nothing is
exchanged, and all of this is the identity.
"""

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from .specs import UserError

# Numbers that one exchange brings to a process: it bounds the memory of merging wide gradients.
MOST_NUMBERS = 2**22
# How long one that has ended waits for the others: longer than process 0 needs to gather its records, and no more than it has to
# be when one of them is gone.
SHUTDOWN_SECONDS = 60
# What a launcher sets for each process that it starts: the number of them.
LAUNCHERS = {"Slurm": "SLURM_STEP_NUM_TASKS", "Open MPI": "OMPI_COMM_WORLD_SIZE"}


def count() -> int:
    """How many processes share the run."""
    return jax.process_count()


def index() -> int:
    """Which of them this is."""
    return jax.process_index()


def start(
    distributed: bool = False, coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join the processes of one run, if there are several; to be called before any device is used.

    They are named by `coordinator`, `processes` and `process`, which go together, or found by JAX if `distributed` or if
    a launcher started several. Raises `UserError` where that fails.
    """
    named = (coordinator, processes, process)
    if any(value is not None for value in named):
        _check(*named)
    elif not (distributed or launched(os.environ)):
        return
    with _in_a_sentence():
        jax.distributed.initialize(*named, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
    if jax.device_count() != jax.local_device_count() * count():
        raise UserError(
            f"Process {index()} has {jax.local_device_count()} devices of {jax.device_count()} in {count()} processes; all need "
            "the same number. Set `JAX_NUM_CPU_DEVICES` on CPU, or what the launcher gives each task."
        )
    # The first exchange connects them, of which Gloo tells on standard output, where records go.
    with _in_a_sentence(), _standard_output_as_error():
        gathered(np.zeros(1))


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The processes of this run did not find each other ({reason}); start them together, and "
            "name them with `--coordinator HOST:PORT --processes N --process-id I`."
        ) from error


def launched(environment: Mapping[str, str]) -> str | None:
    """The launcher that started this process as one of several.

    >>> launched({"SLURM_STEP_NUM_TASKS": "4"}), launched({"SLURM_STEP_NUM_TASKS": "1"})
    ('Slurm', None)
    """
    sizes = {name: environment.get(variable, "") for name, variable in LAUNCHERS.items()}
    return next((name for name, size in sizes.items() if size.isdecimal() and int(size) > 1), None)


@contextmanager
def _standard_output_as_error() -> Iterator[None]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator is None or processes is None or process is None:
        raise UserError("`--coordinator`, `--processes` and `--process-id` go together, the last from 0 on.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"`--coordinator` needs HOST:PORT, the address of process 0, got {coordinator!r}.")
    if not 0 <= process < processes:
        raise UserError(
            f"`--process-id` needs a number from 0 to {processes - 1} (`--processes` less one), got {process}."
        )
    if process == 0 and not _is_free(int(port)):
        raise UserError(f"Port {port} of `--coordinator` is in use on this machine; choose another.")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As JAX will: what a run that has just ended leaves behind on the port does not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


def gathered(vector: np.ndarray) -> np.ndarray:
    """The float64 vectors `[n]` of all processes, `[processes, n]`."""
    if count() == 1:
        return vector[None]
    # As words, which no precision of JAX rounds.
    words = np.ascontiguousarray(vector, np.float64).view(np.uint32)
    return np.ascontiguousarray(multihost_utils.process_allgather(words)).view(np.float64)


def added(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Sums over all processes of arrays of float64, or of whole numbers below 2^53; every process has the same."""
    if count() == 1:
        return arrays
    flat = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    length = min(MOST_NUMBERS // count(), len(flat))
    padded = np.pad(flat, (0, -len(flat) % length)).reshape(-1, length)
    total = np.concatenate([gathered(piece).sum(axis=0) for piece in padded])
    pieces = np.split(total[: len(flat)], np.cumsum([np.size(array) for array in arrays])[:-1])
    return [
        piece.reshape(np.shape(array)).astype(np.asarray(array).dtype)
        for piece, array in zip(pieces, arrays, strict=True)
    ]


def united(values: np.ndarray, longest: int) -> np.ndarray:
    """The float64 vectors of all processes one after the other; each has at most `longest` numbers."""
    if count() == 1:
        return values
    lengths = gathered(np.array([float(len(values))]))[:, 0].astype(int)
    rows = gathered(np.pad(values, (0, longest - len(values))))
    return np.concatenate([row[:length] for row, length in zip(rows, lengths, strict=True)])


def of_the_first(vector: np.ndarray) -> np.ndarray:
    """The float64 vector of process 0."""
    return gathered(vector)[0]


@contextmanager
def together() -> Iterator[None]:
    """What is done inside, all have done, or none goes on: a process that fails here takes the others with it instead of
    leaving them to wait for its sums. Where all that happened is that memory ran out somewhere, all raise
    `MemoryError`, and may try with less."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    grave = 0 if failure is None else 1 if isinstance(failure, MemoryError) else 2
    graves = gathered(np.array([float(grave)]))[:, 0]
    if failure is not None and grave == graves.max():
        raise failure
    if graves.any():
        worst = int(graves.argmax())
        if graves[worst] == 1:
            raise MemoryError(f"Memory ran out on process {worst} of {count()}.")
        raise RuntimeError(f"Process {worst} of {count()} failed.") from failure


def on_the_first(action: Callable, elsewhere=None):
    """What `action` returns on process 0; on the others `elsewhere`, or `None` if that was `None`. What it raises on
    process 0 ends the others as well, by a `UserError`."""
    if count() == 1:
        return action()
    result, failure = None, None
    if index() == 0:
        try:
            result = action()
        except Exception as error:
            failure = error
    word = math.nan if failure is not None else float(result is not None)
    answer = of_the_first(np.array([word]))[0]
    if failure is not None:
        raise failure
    if math.isnan(answer):
        raise UserError("Process 0 has stopped this run, and says why.")
    return result if index() == 0 else elsewhere if answer else None
