"""What the command sets before JAX starts: a cache of programs with an off switch."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, jax
from benchmarks.startup import cache_folder, prepare
prepare()
from benchmarks import measure
from benchmarks.problems import PROBLEMS
from estimators import ScoreFunction
m = measure(ScoreFunction(), PROBLEMS.create("bernoulli-nonseparable"), jax.random.key(0), replicates=50)
folder = cache_folder()
print(json.dumps({"devices": len(jax.local_devices()), "folder": str(folder), "compile": m.compile_seconds,
                  "variance": float(m.summary()["variance"])}))
"""


def run(**environment):
    """What the program says under these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "SCOREPATH_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**kept, "JAX_PLATFORMS": "cpu", **environment},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def test_a_second_run_finds_its_programs_and_reports_no_compile_time(tmp_path):
    """Cold there is a compile time; warm there is none, and the numbers are the same."""
    cold, warm = (run(JAX_COMPILATION_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert cold["folder"] == str(tmp_path) and any(tmp_path.iterdir())
    assert cold["compile"] > 0 and warm["compile"] is None
    assert cold["variance"] == warm["variance"]


def test_the_cache_can_be_switched_off_and_devices_are_those_of_jax(tmp_path):
    found = run(SCOREPATH_COMPILE_CACHE="off", JAX_COMPILATION_CACHE_DIR=str(tmp_path), JAX_NUM_CPU_DEVICES="3")
    assert found["folder"] == "None" and not any(tmp_path.iterdir())
    assert found["devices"] == 3 and found["compile"] > 0
