"""Memory and time against the number of replicates: T1 from a thousand to a hundred million, each in a process of its own.

Memory is the largest resident set while the cell runs, above what the same process held when its program was compiled and had run once.
"""

import json
import resource
import subprocess
import sys
import time

COUNTS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)


def one(replicates: int) -> dict:
    """Run T1 with so many replicates here."""
    from ..startup import prepare

    prepare()
    from .tasks import bits
    from .throughput import suite

    task = bits()
    suite(task._replace(replicates=500))(0)
    before = _peak()
    started = time.perf_counter()
    suite(task._replace(replicates=replicates))(1)
    return {
        "replicates": replicates,
        "seconds": time.perf_counter() - started,
        "megabytes": (_peak() - before) / 1024,
        "megabytes_at_rest": before / 1024,
    }


def _peak() -> int:
    """The largest resident set so far, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    rows = []
    for replicates in COUNTS:
        command = [sys.executable, "-m", "benchmarks.speed.growth", str(replicates)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append(json.loads(output))
        print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1])))) if len(sys.argv) > 1 else main()
