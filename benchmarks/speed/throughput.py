"""Replicates a second on the four tasks: the naive script, the naive script at its best batch, a loop by hand, and the suite."""

import json
import sys

import equinox as eqx
import jax
import numpy as np

from ..environment import cores
from ..measurement import measure
from ..problems import Truth
from ..startup import prepare
from . import bare, naive, rival
from .clock import Job, take_turns
from .tasks import Task, tasks


def jobs(task: Task) -> dict[str, tuple[Job, int]]:
    """The ways to do a task, each with its number of replicates."""
    few, many = task.naive_replicates, task.replicates
    found = {"naive": (naive.moments(task.loss, task.parameters, few), few)}
    for batch in task.batches:
        found[f"naive, batch {batch}"] = naive.moments(task.loss, task.parameters, few, batch), few
    for name, complete in (("by hand", False), ("by hand, all sums", True)):
        found[name] = bare.moments(task.gradients(task.chunk), task.arrays, many, task.chunk, complete), many
    found["suite"] = suite(task), many
    return found | rival.jobs(task)


def suite(task: Task) -> Job:
    """`measure`, with all that it does beside mean and variance."""
    truth = task.problem.truth()
    if truth is None:
        shapes = eqx.filter_eval_shape(lambda p: p.gradient(_zeros, jax.random.key(0))[0], task.problem)
        truth = Truth(jax.tree.map(lambda s: np.zeros(s.shape), shapes), "reference run")
    return lambda seed: measure(
        task.estimator, task.problem, jax.random.key(seed), replicates=task.replicates, truth=truth
    )


def _zeros(key, dist, f):
    return jax.tree.map(lambda leaf: 0 * leaf, dist), None


def main() -> None:
    prepare()
    rows = []
    for task in tasks():
        rates = take_turns(jobs(task))
        rows.append({"task": task.name, "replicates": task.replicates, "rates": rates})
        print(task.name, {name: f"{rate['rate']:.3g}" for name, rate in rates.items()}, file=sys.stderr, flush=True)
    print(json.dumps({"cores": cores(), "rows": rows}))


if __name__ == "__main__":
    main()
