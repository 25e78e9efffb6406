"""Taking turns: rates of several ways to do one thing, measured A B C A B C in one process."""

import time
from collections.abc import Callable, Mapping

import numpy as np

Job = Callable[[int], object]


def take_turns(jobs: Mapping[str, tuple[Job, int]], rounds: int = 5) -> dict[str, dict[str, float]]:
    """For each job, a function of a seed and how many replicates it makes: the median rate in replicates a second over the rounds, and
    the quartiles. Each is run once before the first round, so that nothing compiles meanwhile."""
    seconds = {name: [] for name in jobs}
    for seed in range(rounds + 1):
        for name, (job, _) in jobs.items():
            started = time.perf_counter()
            job(seed)
            if seed:
                seconds[name].append(time.perf_counter() - started)
    return {name: _rates(jobs[name][1] / np.array(taken)) for name, taken in seconds.items()}


def _rates(rates: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(rates, [0.25, 0.5, 0.75])
    return {"rate": float(median), "low": float(low), "high": float(high)}
