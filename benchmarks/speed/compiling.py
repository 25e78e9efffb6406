"""Compile time: whole suites cold and warm, against one naive `jit` for each cell.

`toys` has few points of many problems, `crossovers` many points of few, and `vae` larger programs. A suite runs in processes of its own,
first with an empty cache of compiled programs and then with the same. The naive way is what one writes for a single cell,
`jit(vmap(estimate))` over all keys with the parameters closed over and NumPy's moments of what comes back; it is timed on every
`STRIDE`-th cell that fits, in one process, and scaled to all of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

SUITES_TIMED = ("toys", "crossovers", "vae")
STRIDE = 12


def suite_seconds(name: str, cache: str) -> tuple[float, list[float]]:
    """Wall seconds of one run of the suite with this cache, and the compile seconds that its cells report."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    command = [sys.executable, "-m", "benchmarks", "run", name, "--json"]
    started = time.perf_counter()
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - started
    records = [json.loads(line) for line in output.splitlines()]
    reported = [r["compile_seconds"] for r in records if r["headline"] and r["compile_seconds"] is not None]
    return seconds, sorted(set(reported))


def naive_seconds(name: str) -> dict:
    """Seconds of the naive way on a sample of the cells, and how many cells there are."""
    import jax
    import numpy as np

    from estimators import ESTIMATORS

    from ..problems import PROBLEMS, mismatch
    from ..suites import SUITES

    cells, seconds, fitting = SUITES.create(name).cells(), [], 0
    for cell in cells:
        estimator, problem = cell.estimator.create(ESTIMATORS), cell.problem.create(PROBLEMS)
        if mismatch(estimator, problem) is not None:
            continue
        fitting += 1
        if fitting % STRIDE:
            continue
        started = time.perf_counter()
        state = estimator.init(jax.random.key(1), problem.example()[0])

        def estimate(key, estimator=estimator, problem=problem, state=state):
            return problem.gradient(lambda k, dist, f: estimator.estimate(k, state, dist, f), key)[0]

        keys = jax.random.split(jax.random.key(0), cell.replicates)
        kept = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.jit(jax.vmap(estimate))(keys))]
        [(np.mean(leaf, axis=0), np.var(leaf, axis=0)) for leaf in kept]
        seconds.append(time.perf_counter() - started)
    return {
        "cells": fitting,
        "timed": len(seconds),
        "seconds": sum(seconds),
        "scaled": sum(seconds) / len(seconds) * fitting,
    }


def row(name: str) -> dict:
    """The times of one suite."""
    with tempfile.TemporaryDirectory() as cache:
        cold, reported = suite_seconds(name, cache)
        warm, left = suite_seconds(name, cache)
    return {
        "suite": name,
        "cold": cold,
        "warm": warm,
        "naive": naive_seconds(name),
        "programs": len(reported),
        "compile_seconds": {"median": sorted(reported)[len(reported) // 2], "sum": sum(reported)},
        "compiled_when_warm": len(left),
    }


def main() -> None:
    rows = []
    for name in SUITES_TIMED:
        rows.append(row(name))
        print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
