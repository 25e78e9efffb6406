"""`python -m benchmarks.speed [--out FOLDER] [PART ...]`: measure, each part in a process of its own, and write the page.

A part that is not measured now is taken from the folder, so that one may be measured again by itself. Needs some twenty minutes on two
quiet cores.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ..environment import machine
from ..files import write_aside
from .page import render

PARTS = ("throughput", "growth", "compiling", "shares", "scaling", "processes")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="folder for the numbers and the page")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}.")
    for part in arguments.parts or PARTS:
        command = [sys.executable, "-m", f"benchmarks.speed.{part}"]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if finished.returncode:
            print(f"The part {part!r} failed; the others go on.", file=sys.stderr)
            continue
        write_aside(arguments.out / f"{part}.json", json.dumps(json.loads(finished.stdout), indent=1) + "\n")
    found = {part: arguments.out / f"{part}.json" for part in PARTS}
    measured = {part: json.loads(file.read_text()) for part, file in found.items() if file.exists()}
    # How many devices there were is for each part to say: it ran in a process of its own.
    facts = {name: text for name, text in machine().items() if name != "devices"}
    write_aside(arguments.out / "README.md", render(measured, facts))
    print(arguments.out / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
