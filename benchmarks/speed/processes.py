"""Scaling over processes: T1 in as many processes as are given a core each, which share one cell and talk on loopback.

With the same number of replicates for each process, and with the same number for all of them together. Where there are more processes
than cores they take turns on them, and nothing can be gained.
"""

import json
import sys

from .. import loopback
from ..environment import cores

ESTIMATOR, PROBLEM = "leave-one-out", "bernoulli-separable"
PROCESSES = (1, 2, 4)
REPLICATES = 4_000_000
ROUNDS = 3


def rate(processes: int, replicates: int) -> float:
    """The median of the replicates a second over some runs."""
    rates = [loopback.replicates_per_second(ESTIMATOR, PROBLEM, replicates, processes) for _ in range(ROUNDS)]
    return sorted(rates)[ROUNDS // 2]


def main() -> None:
    rows = []
    for processes in PROCESSES:
        weak, strong = rate(processes, REPLICATES * processes), rate(processes, REPLICATES)
        rows.append({"processes": processes, "weak": weak, "strong": strong})
        print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"replicates": REPLICATES, "cores": cores(), "rows": rows}))


if __name__ == "__main__":
    main()
