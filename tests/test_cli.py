"""The command line as a user meets it: what it prints, where it keeps it, and what it says of mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cli import main, parser

ROOT = Path(__file__).parent.parent
PLUGIN = '''
"""A user's own estimator: the score function, under another name."""
from typing import ClassVar
import jax
from estimators import ESTIMATORS, AbstractStatelessEstimator
from estimators.base import draw, weighted_score

@ESTIMATORS.register("my-score-function")
class MyScoreFunction(AbstractStatelessEstimator):
    """One sample, no baseline."""
    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = ()

    def gradient(self, key, dist, f):
        xs = draw(key, dist, 1)
        return weighted_score(dist, xs, jax.vmap(f)(xs))

    def evaluations(self, dist):
        return 1
'''
QUICK = [
    "run",
    "--estimators",
    "score-function,enumeration",
    "--problems",
    "bernoulli-quadratic",
    "--replicates",
    "200",
]


def scorepath(*arguments: str, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


def test_help_does_not_import_jax():
    """What makes `--help` fast is that nothing heavy is imported."""
    code = "import sys, benchmarks.cli; benchmarks.cli.parser().format_help(); print('jax' in sys.modules, 'pandas' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == ["False", "False"]
    assert "scorepath run quick" in parser().format_help()


def test_lists_and_documentation(capsys):
    assert main(["list", "estimators", "--json"]) == 0
    names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert {"score-function", "leave-one-out", "disarm", "rebar", "gumbel-softmax", "straight-through"} <= set(names)
    for what in ("problems", "suites"):
        assert main(["list", what]) == 0
        assert capsys.readouterr().out
    for name in ("gumbel-softmax", "bernoulli-quadratic", "quick"):
        assert main(["info", name]) == 0
        assert name in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "float32" in (text := capsys.readouterr().out) or "float64" in text


MISTAKES = {
    "no such suite": (["run", "quik"], "did you mean 'quick'"),
    "no such estimator": (
        ["run", "--estimators", "rebarr", "--problems", "bernoulli-quadratic"],
        "did you mean 'rebar'",
    ),
    "no such problem": (
        ["run", "--estimators", "rebar", "--problems", "bernouli-quadratic"],
        "bernoulli-quadratic",
    ),
    "no such name": (["info", "gumble-softmax"], "gumbel-softmax"),
    "incompatible": (
        ["run", "--estimators", "pathwise", "--problems", "bernoulli-quadratic"],
        "needs a reparameterizable",
    ),
    "bad temperature": (
        ["run", "--estimators", "gumbel-softmax:temperature=-1", "--problems", "bernoulli-quadratic"],
        "temperature > 0",
    ),
    "not a number": (
        ["run", "--estimators", "gumbel-softmax:temperature=nan", "--problems", "bernoulli-quadratic"],
        "temperature > 0",
    ),
    "text for a number": (
        ["run", "--estimators", "gumbel-softmax:temperature=warm", "--problems", "bernoulli-quadratic"],
        "gumbel-softmax",
    ),
    "no such argument": (
        ["run", "--estimators", "rebar:temprature=1", "--problems", "bernoulli-quadratic"],
        "temprature",
    ),
    "one half": (["run", "--estimators", "rebar"], "go together"),
    "nothing": (["run"], "Say what to run"),
    "both": (["run", "quick", "--estimators", "rebar", "--problems", "bernoulli-quadratic"], "Say what to run"),
    "no plug-in": (["list", "estimators", "--plugin", "nowhere.py"], "no plug-in file"),
    "not a run": (["report", "/"], "run"),
    "no such baseline": (["report", str(ROOT / "results" / "quick"), "--baseline", "leave-two-out"], "not in this run"),
    "unreadable baseline": (
        ["report", str(ROOT / "results" / "quick"), "--baseline", "disarm:x"],
        "name:setting=value",
    ),
    "nothing to compare": (["compare", str(ROOT / "results" / "quick"), "/"], "not a folder that holds a run"),
    "unwritable": ([*QUICK, "--out", "/proc/nowhere"], "cannot be written"),
}


@pytest.mark.parametrize("arguments, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_a_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


@pytest.mark.parametrize("option", [["--replicates", "0"], ["--replicates", "many"], ["--seed", "x"], ["--nonsense"]])
def test_a_bad_option_exits_with_2(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*QUICK, *option])
    assert stop.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_a_plugin_that_does_not_load(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    assert main(["list", "estimators", "--plugin", str(tmp_path / "broken.py")]) == 2
    assert "does not load: ModuleNotFoundError" in capsys.readouterr().err


def test_a_plugin_is_measured_like_the_others(tmp_path):
    """On the same stream it is draw for draw the estimator that it copies."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    arguments = [
        "run",
        "--plugin",
        str(tmp_path / "mine.py"),
        "--problems",
        "bernoulli-quadratic",
        "--replicates",
        "500",
    ]
    result = scorepath(*arguments, "--estimators", "my-score-function,score-function", "--json", check=True)
    mine, ours = map(json.loads, result.stdout.splitlines())
    assert (mine["estimator"], ours["estimator"]) == ("my-score-function", "score-function")
    assert mine["variance"] == ours["variance"] and mine["bias_sq"] == ours["bias_sq"]


def test_records_on_standard_output_and_all_else_on_standard_error(capsys):
    assert main([*QUICK, "--json"]) == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [r["estimator"] for r in records] == ["score-function", "enumeration"]
    assert all(r["status"] == "ok" and r["replicates"] == 200 for r in records)
    assert "[2/2]" in captured.err


def test_a_pair_that_does_not_fit_becomes_a_row(capsys):
    arguments = [
        "run",
        "--estimators",
        "pathwise,enumeration",
        "--problems",
        "bernoulli-quadratic",
        "--replicates",
        "50",
        "--json",
    ]
    assert main([*arguments, "--strict"]) == 0
    pathwise, enumeration = map(json.loads, capsys.readouterr().out.splitlines())
    assert pathwise["status"] == "incompatible" and "reparameterizable" in pathwise["reason"]
    assert enumeration["status"] == "ok"


def test_a_failing_cell_becomes_a_row_and_the_others_go_on(tmp_path, capsys):
    """An estimator that raises, and one that returns NaN; `--strict` turns them into exit code 1."""
    broken = PLUGIN.replace("my-score-function", "raises").replace(
        "xs = draw(key, dist, 1)", "raise RuntimeError('no luck')"
    )
    nan = PLUGIN.replace("my-score-function", "nan").replace("jax.vmap(f)(xs)", "jax.vmap(f)(xs) * float('nan')")
    for name, text in {"raises": broken, "nan": nan}.items():
        (tmp_path / f"{name}.py").write_text(text)
    plugins = [word for name in ("raises", "nan") for word in ("--plugin", str(tmp_path / f"{name}.py"))]
    names = ["--estimators", "raises,nan,enumeration", "--problems", "bernoulli-quadratic", "--replicates", "50"]
    assert main(["run", *plugins, *names, "--json", "--strict"]) == 1
    raises, nans, enumeration = map(json.loads, capsys.readouterr().out.splitlines())
    assert raises["status"] == "failed" and raises["reason"] == "RuntimeError: no luck"
    assert nans["status"] == "failed" and "finite" in nans["reason"]
    assert enumeration["status"] == "ok"


def test_a_run_is_resumed_and_reported(tmp_path, capsys):
    """The second run finds every cell; another number of replicates in the same folder is refused; the report is made."""
    out = str(tmp_path / "run")
    assert main([*QUICK, "--out", out]) == 0
    capsys.readouterr()
    before = (tmp_path / "run" / "records.jsonl").read_text()
    assert main([*QUICK, "--out", out]) == 0
    assert capsys.readouterr().err.count("(found)") == 2
    assert (tmp_path / "run" / "records.jsonl").read_text() == before
    assert main([*QUICK, "--replicates", "300", "--out", out]) == 2
    assert "other conditions" in capsys.readouterr().err
    assert main(["report", out]) == 0
    assert (tmp_path / "run" / "README.md").exists()


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    """Killed without warning after its first cell, the run keeps that cell, and ends with what an undisturbed run has."""
    names = [
        "run",
        "--problems",
        "bernoulli-quadratic",
        "--replicates",
        "300",
        "--estimators",
        "enumeration,score-function,disarm",
    ]
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *names, "--out", str(out)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = len(list(out.glob("cells/*.json")))
    assert kept >= 1
    resumed = scorepath(*names, "--out", str(out), check=True)
    assert resumed.stderr.count("(found)") >= kept
    scorepath(*names, "--out", str(tmp_path / "whole"), check=True)

    def numbers(folder: Path) -> list:
        lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
        return [[r["estimator"], r["variance"], r["bias_sq"], r["mse"]] for r in lines]

    assert numbers(out) == numbers(tmp_path / "whole")
    assert not list(out.glob("cells/*"))


def test_a_dry_run_measures_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", "quick", "--dry-run", "--out", str(out)]) == 0
    assert "cells" in capsys.readouterr().out
    assert not out.exists()
