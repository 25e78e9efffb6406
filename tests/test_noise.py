"""Decompositions as a user meets them: the command, its rows, the page that is made of them, and what it says of mistakes."""

import json

import pytest

from benchmarks import noise
from benchmarks.cli import main
from benchmarks.store import StoreError

NUMBERS = {
    "sampling": (2.0, 1.8, 2.2),
    "minibatch": (-0.1, -0.3, 0.1),
    "total": (1.9, 1.7, 2.1),
    "share": (1.05, 0.9, 1.2),
    "ratio": (1.0, 1.0, 1.0),
}
COMMAND = ["decompose", "--estimators", "leave-one-out,pathwise", "--problems", "bernoulli-vae:batch=4", "--batch", "2"]


def row(**changes) -> dict:
    numbers = {part: values[0] for part, values in NUMBERS.items()}
    ends = {f"{p}_ci_{end}": v[i] for p, v in NUMBERS.items() for i, end in ((1, "low"), (2, "high"))}
    common = {
        "estimator": "disarm",
        "hyperparameters": {},
        "problem": "toy:batch=9",
        "parameters": "encoder",
        "status": "ok",
    }
    counts = {
        "batch": 10,
        "images": 1797,
        "replicates": 4000,
        "seed": 3,
        "dim": 2424,
        "device": "cpu",
        "dtype": "float32",
    }
    exact = {"baseline": "disarm", "exact_minibatch": 0.122, "truth_norm": 0.29}
    return noise.make_row(**{**common, **counts, **numbers, **ends, **exact, **changes})


def test_a_table_says_what_the_rows_say():
    """The quietest first, intervals in brackets, what is known without one; the caption names all that stands behind."""
    other = row(
        estimator="arm", total=1.0, total_ci_low=0.9, total_ci_high=1.1, ratio=0.5, ratio_ci_low=0.4, ratio_ci_high=0.6
    )
    (table,) = noise.tables([row(), other])
    assert [cells[0] for cells in table.rows] == ["arm", "disarm"]
    assert table.rows[1][1:] == ("2.0 [1.8, 2.2]", "−0.10 [−0.30, 0.10]", "1.9 [1.7, 2.1]", "105 [90, 120]", "1")
    words = (
        "minibatch of 10 of 1,797 images",
        "without replacement",
        "4,000 minibatches",
        "seed 3",
        "cpu",
        "float32",
        "0.122",
        "0.290",
    )
    assert all(word in table.caption for word in words)
    assert "Exact gradients" not in next(iter(noise.tables([row(exact_minibatch=None)]))).caption


def test_the_same_rows_give_the_same_files(tmp_path):
    rows = [row(), row(estimator="pathwise", status="incompatible", reason="It does not fit.")]
    first, second = (noise.write(tmp_path / name, rows, "scorepath decompose") for name in "ab")
    assert [path.name for path in first] == ["decomposition.jsonl", "README.md", "shares.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [json.loads(line) for line in first[0].read_text().splitlines()] == rows
    assert "pathwise on toy:batch=9: It does not fit." in first[1].read_text() and "shares.png" in first[1].read_text()


def test_nothing_to_show_is_a_page_without_a_figure(tmp_path):
    files = noise.write(tmp_path, [row(status="incompatible", reason="It does not fit.")], "scorepath decompose")
    assert [path.name for path in files] == ["decomposition.jsonl", "README.md"]
    with pytest.raises(StoreError, match="cannot be written"):
        noise.write("/proc/nowhere", [], "")
    with pytest.raises(ValueError, match="no field sampled"):
        noise.make_row(sampled=1.0)


def test_the_command_writes_a_row_for_every_pair(tmp_path, capsys):
    assert main([*COMMAND, "--replicates", "64", "--json", "--out", str(tmp_path)]) == 0
    ours, pathwise = map(json.loads, capsys.readouterr().out.splitlines())
    assert ours["status"] == "ok" and ours["sampling_ci_low"] < ours["sampling"] < ours["sampling_ci_high"]
    assert ours["total"] == pytest.approx(ours["sampling"] + ours["minibatch"])
    assert (ours["images"], ours["batch"], ours["ratio"], ours["baseline"]) == (4, 2, 1.0, "leave-one-out")
    assert ours["exact_minibatch"] > 0 and set(ours) == set(noise.FIELDS)
    assert pathwise["status"] == "incompatible" and "reparameterizable" in pathwise["reason"]
    assert (tmp_path / "decomposition.jsonl").read_text().count("\n") == 2


MISTAKES = {
    "no autoencoder": (["--problems", "bernoulli-quadratic"], "needs an autoencoder"),
    "too large": (["--batch", "5"], "`batch` of 1 to 4"),
    "too few": (["--replicates", "63"], "at least 64, got 63"),
    "no such estimator": (["--estimators", "rebarr"], "did you mean 'rebar'"),
    "no such problem": (["--problems", "bernoulli-vea"], "bernoulli-vae"),
    "unwritable": (["--out", "/proc/nowhere", "--estimators", "pathwise"], "cannot be written"),
}


@pytest.mark.parametrize("arguments, sentence", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_a_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert main([*COMMAND, *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
