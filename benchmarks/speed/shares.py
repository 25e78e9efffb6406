"""Where the time of an estimate goes: random bits, the draws made of them, values of `f`, the rest of the gradient, moments.

Each column is a program that does all that the column before it does, and one thing more; a share is the difference of their times. On one
core, so that nothing is shared.
"""

import json
import sys
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import harness
from ..environment import give_cores
from ..hoisting import hoisted
from ..random import fenced
from .clock import take_turns
from .tasks import Task, bits, categories, normals

TRIPS = 256


def stages(task: Task) -> dict[str, Callable]:
    """What one replicate computes up to each stage, as a function of its key."""
    estimator, problem = task.estimator, task.problem
    dist, f = problem.dist, problem.f
    evaluations = estimator.evaluations(dist)

    def words(key):
        keys = jax.random.split(key, evaluations)
        return jax.vmap(lambda k: jax.random.bits(k, dist.event_shape))(keys).astype(jnp.float32)

    def draws(key):
        return jax.vmap(dist.sample)(jax.random.split(key, evaluations))

    return {
        "random bits": words,
        "draws": draws,
        "values of f": lambda key: jax.vmap(f)(draws(key)),
        "gradient": lambda key: jnp.concatenate([g.ravel() for g in jax.tree.leaves(estimator.gradient(key, dist, f))]),
    }


def loop(stage: Callable, chunk: int) -> Callable[[int], object]:
    """A function of the seed that runs the stage for `TRIPS` chunks and adds the results up."""
    example = jax.random.key(0)
    shape = jax.eval_shape(stage, example).shape

    @jax.jit
    def run(key):
        remaining = hoisted(lambda i: stage(jax.random.fold_in(key, i)), jnp.zeros((), jnp.uint32))

        def trip(i, total):
            indices = (i * chunk + jnp.arange(chunk)).astype(jnp.uint32)
            return total + jnp.sum(jax.vmap(remaining)(indices), axis=0)

        return jax.lax.fori_loop(0, TRIPS, trip, jnp.zeros(shape, jnp.float32))

    return lambda seed: jax.block_until_ready(run(fenced(jax.random.key(seed))))


def whole(task: Task, program: harness.Program, trips: int = TRIPS) -> Callable[[int], object]:
    """The harness's program on a span of so many trips for each device."""
    arrays, _ = eqx.partition((task.estimator, None, task.problem), eqx.is_array)
    zeros, spans = np.zeros(program.work.size, np.float32), [(0, program.work.chunk * trips)]
    spans *= len(program.work.devices)
    return lambda seed: harness.run(program, arrays, fenced(jax.random.key(seed)), zeros, zeros, spans)


def main() -> None:
    give_cores(0, 0, 1)
    rows = []
    for task in [bits(), *normals(), *categories()]:
        key = fenced(jax.random.key(0))
        program = harness.compiled(task.estimator, None, task.problem, key, devices=tuple(jax.local_devices()[:1]))
        count = program.work.chunk * TRIPS
        jobs = {name: (loop(stage, program.work.chunk), count) for name, stage in stages(task).items()}
        rates = take_turns(jobs | {"moments": (whole(task, program), count)}, rounds=9)
        microseconds = {name: 1e6 / rate["rate"] for name, rate in rates.items()}
        rows.append({"task": task.name, "microseconds": microseconds})
        print(task.name, microseconds, file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
