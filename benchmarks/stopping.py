"""What stopping at a precision does to intervals and verdicts: simulated runs, looked at as the harness looks at them.

Each run draws estimates from a known law until its target is met or its budget ends, and is then asked two things:
whether the 95 % interval of the variance holds the variance, and whether the mean, which is right, is called biased.
`python -m benchmarks.stopping` prints a table of both.
"""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from . import statistics
from .moments import BLOCKS, Moments, Spread, largest, tail_length
from .precision import Precision, Standing, rounds
from .schedule import PILOT, edges

Samples = Float[np.ndarray, "count coordinates"]


class Law(NamedTuple):
    """A law of estimates: `draw(generator, count)`, its mean, and the trace of its covariance."""

    draw: Callable[[np.random.Generator, int], Samples]
    mean: float
    variance: float


LAWS = {
    "normal": Law(lambda g, n: 1 + g.standard_normal((n, 2)), 1.0, 2.0),
    "Student, 9 degrees of freedom": Law(lambda g, n: 1 + g.standard_t(9, (n, 2)), 1.0, 2 * 9 / 7),
    "exponential": Law(lambda g, n: g.exponential(size=(n, 1)), 1.0, 1.0),
    "one event in 100": Law(lambda g, n: (g.random((n, 1)) < 0.01).astype(float), 0.01, 0.01 * 0.99),
    "lognormal, sigma 0.5": Law(lambda g, n: g.lognormal(0, 0.5, (n, 1)), np.exp(0.125), np.expm1(0.25) * np.exp(0.25)),
    "gamma, shape 0.25": Law(lambda g, n: g.gamma(0.25, size=(n, 1)), 0.25, 0.25),
}


class Stopped(NamedTuple):
    """Where simulated runs stopped (`[runs]` each): whether the interval covered, the p-value of no bias, how many
    replicates were run, and whether the tail was flagged as too heavy for the interval."""

    covered: np.ndarray
    p_value: np.ndarray
    replicates: np.ndarray
    flagged: np.ndarray


def simulate(law: Law, target: Precision | None, budget: int, runs: int, seed: int = 0) -> Stopped:
    """Runs of estimates that follow `law`, each of at most `budget`; with no target, of all of it."""
    generator = np.random.default_rng(seed)
    return Stopped(*map(np.array, zip(*(_run(law, target, budget, generator) for _ in range(runs)), strict=True)))


def _run(law: Law, target: Precision | None, budget: int, generator: np.random.Generator) -> tuple:
    pilot = law.draw(generator, min(PILOT, rounds(budget, target)[0]))
    moments, spread = Moments.zero(pilot.mean(axis=0), order=4), Spread(tail_length(budget))
    truth = np.full(pilot.shape[1], law.mean)
    for count in rounds(budget, target):
        fresh = law.draw(generator, count - max(moments.count, len(pilot)))
        fresh = fresh if moments.count else np.concatenate([pilot, fresh])
        more = sums(fresh, count, moments.centre, spread.longest)
        moments, spread = moments.halved().plus(more[0]), spread.halved().plus(more[1])
        standing, bias = look(moments, spread, truth)
        if target is not None and standing.meets(target):
            break
    covered = standing.low <= law.variance <= standing.high
    return covered, bias.p_value, count, statistics.pareto_shape(spread.tail) > statistics.HEAVY


def sums(samples: Samples, end: int, centre: np.ndarray, longest: int) -> tuple[Moments, Spread]:
    """What is kept of the last replicates of `end`, in the blocks of a run of that length."""
    begin = end - len(samples)
    bounds = np.array([edge for edge in edges(end) if edge >= begin])
    rows, starts = slice(BLOCKS + 1 - len(bounds), BLOCKS), bounds[:-1] - begin
    # Coordinate by coordinate, which NumPy adds up fastest.
    deviations = np.ascontiguousarray((samples - centre).T)
    squares = deviations * deviations
    q = squares.sum(axis=0)
    counts, first, total = np.zeros(BLOCKS, int), np.zeros((BLOCKS, len(centre))), np.zeros(BLOCKS)
    counts[rows], first[rows] = np.diff(bounds), np.add.reduceat(deviations, starts, axis=1).T
    total[rows] = np.add.reduceat(q, starts)
    higher = np.stack([np.sum(power, axis=1) for power in (squares, squares * deviations, squares * squares)])
    spread = Spread(longest, counts, total, float(q @ q), largest(q, longest))
    return Moments(centre, counts, first, higher), spread


def look(moments: Moments, spread: Spread, truth: np.ndarray) -> tuple[Standing, statistics.Bias]:
    """What `summary` makes of them."""
    bias = statistics.bias(
        statistics.Sample(
            count=moments.count,
            offset=moments.mean - truth,
            variance=moments.variance,
            third=moments.third,
            fourth=moments.fourth,
            blocks=moments.block_means(),
            truth_se=np.zeros(len(truth)),
        )
    )
    trace = float(moments.variance.sum())
    spans = statistics.variance(trace, spread.squares.sum(), spread.fourths, moments.count)
    norm = float(np.linalg.norm(truth))
    return Standing(*spans, detectable=bias.min_detectable, truth_norm=norm, tested=bias.tested), bias


def rows(budget: int = 2**16, runs: int = 2000) -> Iterator[dict]:
    """One row for each law and target: coverage of the variance, rate of false alarms at levels 0.01 and 0.001, mean
    replicates, and the share of runs that were flagged."""
    for name, law in LAWS.items():
        for text in (None, "2%", "5%", "10%", "50%"):
            stopped = simulate(law, Precision.parse(text) if text else None, budget, runs)
            yield {
                "law": name,
                "target": text or "none",
                "coverage": float(np.mean(stopped.covered)),
                "alarms at 0.01": float(np.mean(stopped.p_value < 1e-2)),
                "alarms at 0.001": float(np.mean(stopped.p_value < 1e-3)),
                "replicates": float(np.mean(stopped.replicates)),
                "flagged": float(np.mean(stopped.flagged)),
            }


if __name__ == "__main__":
    for number, row in enumerate(rows()):
        if number == 0:
            print("\t".join(row))
        print("\t".join(f"{value:.4g}" if isinstance(value, float) else value for value in row.values()))
        sys.stdout.flush()
