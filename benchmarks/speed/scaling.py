"""Weak scaling: T1 with as many replicates for each device as for one, on forced CPU devices, and the cost of a call.

Forced devices are threads of one process, which is given a core for each: beyond the cores that there are nothing can be gained,
and what is lost there is the price of having many devices. The cost of a call tells what a thousand devices would do: each makes
its spans alone, and what they send to the host is the same for any number of replicates.
"""

import json
import os
import subprocess
import sys

from ..environment import give_cores

PER_DEVICE = 1_000_000
DEVICES = (1, 2, 4)


def one() -> dict:
    """The rate of T1 on the devices that there are, and what one call costs and sends."""
    import jax

    from ..startup import prepare

    prepare()
    from .. import harness
    from ..random import fenced
    from .clock import take_turns
    from .shares import whole
    from .tasks import bits
    from .throughput import suite

    devices = len(jax.local_devices())
    task = bits()._replace(replicates=PER_DEVICE * devices)
    rates = take_turns({"suite": (suite(task), task.replicates)}, rounds=3)
    program = harness.compiled(task.estimator, None, task.problem, fenced(jax.random.key(0)))
    merge, sums = merging(task, program)
    empty = take_turns({"call": (whole(task, program, trips=1), 1)}, rounds=9)["call"]
    powers = (program.work.apart + program.work.order - 1) * program.work.size
    sizes = powers * 8 + program.capacity * len(program.work.sizes) * 3 * 4
    return {
        "devices": devices,
        "rate": rates["suite"]["rate"],
        "seconds_of_a_small_call": 1 / empty["rate"],
        "bytes_of_a_call_and_device": sizes,
        "seconds_of_a_merge": merge,
        "bytes_of_the_sums": sums,
        "replicates_of_a_call_and_device": program.capacity,
    }


def merging(task, program) -> tuple[float, int]:
    """Seconds in which the host adds the replicates of one call and device to its sums, and the bytes of these."""
    import equinox as eqx
    import jax

    from ..accumulation import Cell
    from ..random import fenced
    from ..schedule import Share
    from .clock import take_turns

    arrays, _ = eqx.partition((task.estimator, None, task.problem), eqx.is_array)
    cell = Cell(program, arrays, task.problem, fenced(jax.random.key(0)), task.problem.truth())
    share = Share(0, (0, program.capacity))
    result, totals = cell.run([share.edges])[0], cell.nothing(share.length)
    rate = take_turns({"merge": (lambda seed: cell.add(totals, share, result), 1)}, rounds=19)["merge"]["rate"]
    moments, spreads = totals.moments, totals.spreads.values()
    kept = [moments.counts, moments.first, moments.higher, *(part.squares for part in spreads)]
    return 1 / rate, sum(array.nbytes for array in kept)


def main() -> None:
    rows = []
    for devices in DEVICES:
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
        command = [sys.executable, "-m", "benchmarks.speed.scaling", "one"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        give_cores(process.pid, 0, devices)
        rows.append(json.loads(process.communicate()[0]))
        print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    print(json.dumps(one())) if sys.argv[1:] == ["one"] else main()
