"""The coverage page: its simulations are measurements, its claims hold in small, and the page committed is that of its rows.

A rate is compared with what is stated by a bound that a right method violates once in a million seeds (binomial). The
page itself is made with more runs than a test has time for.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import coverage, coverage_page, harness, measure, simulation
from benchmarks.coverage_cells import cells, planted_bugs, unbiased_family
from benchmarks.coverage_page import FLAGGED, QUANTITIES, SILENT, row
from benchmarks.testing import assert_unbiased
from benchmarks.work import single

pytestmark = pytest.mark.usefixtures("single_precision")

RESULTS = Path(__file__).parent.parent / "results/coverage"
RUNS = 250


@pytest.fixture(scope="module")
def known():
    with jax.enable_x64(False):
        return cells()


def test_a_simulated_run_is_a_measurement(known):
    """All that a record says, to 1e-5, of the run that `measure` makes with the same key; the cosine is not simulated."""
    cell = known["score-function on gaussian-quadratic, scale"]
    *_, simulated = simulation.runs(cell.subject, 0, ("a", "b"), 3, 1000)
    key = harness.stream_key(0, "a", "b", "2")
    m = measure(cell.subject.estimator, cell.subject.problem, key, replicates=1000)
    found, expected = simulated.summary(cell.part), m.summary(cell.part)
    apart = {"cosine", "sign_agreement", "batch", "compile_seconds", "seconds_per_estimate", "variance_x_seconds"}
    for name in expected.keys() - apart:
        pair = found[name], expected[name]
        if name == "variance_blocks":
            np.testing.assert_allclose(*map(json.loads, pair), rtol=1e-5)
        elif type(expected[name]) in (int, float):
            np.testing.assert_allclose(*pair, rtol=1e-5, err_msg=name)
        else:
            assert pair[0] == pair[1], name


@pytest.mark.slow
def test_the_exact_variances_are_those_of_the_estimators(known):
    """The mean of 100 sample variances of each coordinate is the exact one within 5 of its standard errors, where a fourth
    moment exists."""
    for name, cell in known.items():
        if name == "Student t, 2.5 degrees":
            continue
        found = np.array([m.moments.variance for m in simulation.runs(cell.subject, 1, ("exact",), 100, 500)])
        error = found.std(axis=0) / 10
        assert np.all(np.abs(found.mean(axis=0) - cell.variance) < 5 * error), name
        assert np.all(error < 0.1 * cell.variance), "underpowered"


@pytest.mark.parametrize("name", ["Student t, 10 degrees", "score-function on bernoulli-quadratic"])
def test_intervals_cover_on_light_tails(name, known):
    """Nominal 95 %: a coverage of 93 % fails once in a million seeds, one of 80 % passes once in a hundred."""
    rows = {r.quantity: r for r in coverage.interval_rows(name, known[name], 5, RUNS, 1000)}
    for quantity in QUANTITIES:
        assert rows[quantity].rate * RUNS >= stats.binom.ppf(1e-6, RUNS, 0.93), rows[quantity]
    assert rows[FLAGGED].rate < 0.1


@pytest.mark.parametrize("name, covers", [("Student t, 2.5 degrees", 0.8), ("lognormal", 0.95)])
def test_the_flag_is_raised_where_intervals_cannot_hold(name, covers, known):
    """Where they cover too little, most runs are flagged; a miss without a flag is no more frequent than on light tails."""
    rows = {r.quantity: r for r in coverage.interval_rows(name, known[name], 5, RUNS, 2000)}
    assert rows["variance"].rate < covers
    assert rows[FLAGGED].rate > 0.6
    assert rows[SILENT].rate * RUNS <= stats.binom.isf(1e-6, RUNS, 0.07)


def test_unbiased_estimators_are_called_biased_as_rarely_as_is_stated():
    """Every twentieth of the two hundred cells, in forty tables."""
    family = unbiased_family()
    assert len(family) == 200 and all(subject.estimator.unbiased for _, subject in family)
    cell, table = coverage.false_alarm_rows(family[::20], 5, tables=40, replicates=500)
    assert cell.runs == 400 and cell.rate * 400 <= stats.binom.isf(1e-6, 400, coverage.VERDICT_LEVEL)
    assert table.runs == 40 and table.rate * 40 <= stats.binom.isf(1e-6, 40, coverage.TABLE_LEVEL)


@pytest.mark.slow
def test_planted_bugs_are_found_at_the_stated_power():
    """A power of 80 % leaves at most 14 of 20 runs unfound, and one of 99.9 % at most three, in all but a millionth of seeds."""
    for name, subject in planted_bugs(jax.random.key(0)).items():
        at_power, surely = coverage.detection_rows(name, subject, 5, runs=20)
        assert at_power.rate * 20 >= stats.binom.ppf(1e-6, 20, coverage.POWER), at_power
        assert surely.rate * 20 >= stats.binom.ppf(1e-6, 20, coverage.SURE), surely
        assert at_power.replicates <= surely.replicates


@pytest.mark.slow
def test_planted_bugs_have_the_bias_that_is_said(key):
    """Each against the truth that it would have by `shrinkage`, of which a twentieth would be found."""
    for subject in planted_bugs(jax.random.key(0)).values():
        shrunk = jax.tree.map(lambda g, s=subject: (1 + s.estimator.shrinkage) * g, subject.truth.gradient)

        def one(k, s=subject):
            return single(s.estimator, s.state, s.problem, k)[0]

        norm = float(np.linalg.norm(subject.truth.gradient.logits))
        assert_unbiased(one, shrunk, key=key, replicates=400_000, detects=norm / 20)


def test_a_row_knows_whether_it_keeps_what_is_stated():
    kept = row("coverage", "a", "light", "variance", 10, [1] * 94 + [0] * 6, 0.93)
    assert (kept.rate, kept.holds) == (0.94, True)
    np.testing.assert_allclose(kept.rate_se, np.sqrt(0.94 * 0.06 / 99))
    exact = stats.binomtest(94, 100).proportion_ci(method="exact")
    np.testing.assert_allclose([kept.ci_low, kept.ci_high], [exact.low, exact.high])
    assert row("coverage", "a", "light", "variance", 10, [1] * 92 + [0] * 8, 0.93).holds is False
    assert row("false alarm", "a", "", "verdict", 10, [1] * 5 + [0] * 995, 1e-3, True).holds is False
    assert row("false alarm", "a", "", "verdict", 10, [1] * 2 + [0] * 998, 1e-3, True).holds is True
    assert row("detection", "a", "", "verdict", 10, [1] * 90 + [0] * 110, 0.8).holds is False
    alone = row("coverage", "a", "heavy", "variance", 10, [1, np.nan, 0, 1])
    assert (alone.runs, alone.holds) == (3, None)


def test_the_committed_page_is_that_of_its_rows_and_keeps_what_it_states():
    frame = pd.read_csv(RESULTS / coverage_page.ROWS)
    about = json.loads((RESULTS / "run.json").read_text())["about"]
    assert (RESULTS / "README.md").read_text() == coverage_page.page(frame, about)
    assert "Everything that is stated below holds." in (RESULTS / "README.md").read_text()
    assert not frame["holds"].map(coverage_page.broken).any()
    # The coverage of what was not flagged may have one run or none behind it.
    assert frame.loc[frame["runs"] > 1, "rate_se"].notna().all()
    light = frame[(frame["tails"] == "light") & frame["quantity"].isin(QUANTITIES)]
    assert len(light) == 6 * len(QUANTITIES) and (light["rate"] >= 0.93).all()
    assert set(frame["cell"]) >= {"Student t, 2.5 degrees", "lognormal", "score-function on gaussian-quadratic, scale"}


def test_what_is_not_kept_is_bold_and_named(tmp_path):
    rows = [row("coverage", "toy", "light", q, 10, [1] * 9 + [0] * 11, 0.93) for q in coverage_page.COLUMNS]
    rows.append(row("false alarm", "cells", "", "verdict", 10, [0] * 20, 1e-3, True))
    rows.append(row("detection", "bug", "", "verdict", 10, [0] * 20, 0.8))
    coverage_page.write_page(tmp_path, rows, {"command": "it"}, 0)
    text = (tmp_path / "README.md").read_text()
    assert "**Not kept: bias of a coordinate on toy;" in text and "**45.0 ± 11.4**" in text and "| **no** |" in text


def test_a_file_for_a_folder_is_a_sentence(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert coverage.main(["--out", str(file)]) == 2
    assert "needs a folder" in capsys.readouterr().err
