"""Calibration: the constants of `forecast`, fitted to cells that are compiled and run here.

A spread of cells is taken from the suites `quick` and `toys`: every so-many-th distinct program, and a few of autoencoders. Each is
compiled, and run as long as its suite says and ten times as long. All is timed in processor seconds, which other work on the machine
changes least. The constants minimise the squared logarithm of predicted over measured, with all of them positive, so that a small
program counts as much as a large one. The table of cells is kept with the constants: what they predict can be held against it (a test
does), and `factor95` says within which factor 95 % of the predictions lie.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scipy import optimize

from estimators import ESTIMATORS

from . import environment, forecast, harness, lowering
from .measurement import measure
from .problems import mismatch
from .random import fenced
from .runner import problem_of, truth_of
from .suites import SUITES, Cell
from .work import state_shape

# One program in so many of the suites.
EVERY = 7
MORE = (
    "bernoulli-vae score-function",
    "bernoulli-vae rebar",
    "bernoulli-vae leave-one-out:num_samples=4",
    "categorical-vae gumbel-softmax",
    "gaussian-vae pathwise",
)


def spread() -> list[Cell]:
    """The cells that are measured."""
    from .specs import Spec

    seen: dict[tuple, Cell] = {}
    for cell in [*SUITES.create("quick").cells(), *SUITES.create("toys").cells()]:
        if mismatch(cell.estimator.create(ESTIMATORS), problem_of(cell.problem)) is None:
            seen.setdefault(lowering.identity(cell), cell)
    pairs = (words.split() for words in MORE)
    more = [Cell(Spec.parse(estimator), Spec.parse(problem), 4_000) for problem, estimator in pairs]
    return [*list(seen.values())[::EVERY], *more]


def calibrate(say: Callable[[str], None]) -> Path:
    """Measure, fit, and write `constants.json`; its path."""
    cells = spread()
    before, rows = resident_bytes(), []
    for number, cell in enumerate(cells, start=1):
        rows.append(measured(cell))
        say(f"[{number}/{len(cells)}] {cell.estimator} on {cell.problem}: compiled in {rows[-1]['compile_seconds']} s")
    memory = {"process": before, "program": round((resident_bytes() - before) / len(cells))}
    path = Path(__file__).with_name(forecast.CONSTANTS)
    path.write_text(json.dumps(constants(rows, memory), indent=1) + "\n", encoding="utf-8")
    return path


def constants(rows: list[dict], memory: dict) -> dict:
    """What `constants.json` holds, from the measured cells and the memory of the process and of a program."""
    fitted = {name: fit(*table(rows, name)) for name in forecast.MODELS}
    machine = environment.machine()
    return {
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['devices']}",
        "platform": jax.local_devices()[0].platform,
        "versions": json.loads(environment.versions()),
        "load": round(os.getloadavg()[0], 1),
        **{name: dict(zip(forecast.MODELS[name], fitted[name].tolist(), strict=True)) for name in fitted},
        "memory": {**memory, "chunk": chunk_share(rows)},
        "factor95": {name: factor(fitted[name], *table(rows, name)) for name in fitted},
        "cells": rows,
    }


def measured(cell: Cell) -> dict:
    """One cell compiled and run (seconds by number of replicates), and what lowering says of its program."""
    estimator, problem = cell.estimator.create(ESTIMATORS), problem_of(cell.problem)
    truth, key = truth_of(cell.problem), jax.random.key(0)
    program = lowering.lowered(cell)[0]
    started = time.process_time()
    executable = harness.compiled(estimator, state_shape(estimator, problem), problem, fenced(key)).executable
    compiling = time.process_time() - started
    lengths = (1,) if program.deterministic else (cell.replicates, 10 * cell.replicates)
    memory = executable.memory_analysis()
    return {
        "estimator": str(cell.estimator),
        "problem": str(cell.problem),
        "compile_seconds": round(compiling, 3),
        "run_seconds": {n: round(_run_seconds(n, estimator, problem, truth, key), 5) for n in lengths},
        "device_bytes": int(memory.temp_size_in_bytes + memory.output_size_in_bytes),
        "program": program._asdict(),
    }


def _run_seconds(replicates: int, estimator, problem, truth, key) -> float:
    """Processor seconds of measuring a cell whose programs are compiled, without its warm-up: the lowest of five."""
    spent = []
    for _ in range(5):
        started = time.process_time()
        measure(estimator, problem, key, replicates=max(replicates, 2), truth=truth, warm_up_steps=0)
        spent.append(time.process_time() - started)
    return min(spent)


def table(rows: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """What the constants of the model `name` multiply, `[n, k]`, and the seconds measured, `[n]`."""
    programs = [(lowering.Program(**row["program"]), row) for row in rows]
    if name == "compile":
        pairs = [(program.compile_terms(), row["compile_seconds"]) for program, row in programs]
    else:
        pairs = [
            (program.run_terms(int(n)), spent) for program, row in programs for n, spent in row["run_seconds"].items()
        ]
    terms, seconds = zip(*pairs, strict=True)
    return np.array(terms), np.array(seconds)


def chunk_share(rows: list[dict]) -> float:
    """The memory on the device beside what is returned, as a share of the bytes that a chunk reads and writes; geometric mean."""
    programs = [(lowering.Program(**row["program"]), row["device_bytes"]) for row in rows]
    shares = [(held - p.returned_bytes()) / (p.chunk * p.bytes) for p, held in programs]
    return float(np.exp(np.mean(np.log(np.maximum(shares, 1e-3)))))


def fit(terms: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Positive constants whose sums over `terms` `[n, k]` are nearest to `measured` `[n]` on the logarithmic scale.

    >>> x = np.array([[1.0, 10.0], [1.0, 100.0], [1.0, 1000.0]])
    >>> fit(x, x @ [2.0, 0.03]).round(4).tolist()
    [2.0, 0.03]
    """
    scale = np.median(measured) / np.maximum(np.median(terms, axis=0), 1e-30) / terms.shape[1]
    relative = terms * scale / measured[:, None]
    start = np.log(np.maximum(optimize.nnls(relative, np.ones(len(measured)))[0], 1e-3))
    found = optimize.least_squares(lambda p: np.log(relative @ np.exp(p)), start, bounds=(-25, 25))
    return np.exp(found.x) * scale


def factor(constants: np.ndarray, terms: np.ndarray, measured: np.ndarray) -> float:
    """The factor within which 95 % of the predictions lie."""
    return round(float(np.exp(np.quantile(np.abs(np.log(terms @ constants / measured)), 0.95))), 2)


def resident_bytes() -> int:
    """The memory that the process holds now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
