"""Tables, figures and the report: that they say what the records say, and nothing that the records do not support."""

import csv
import io
import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic_records import identity, measured, synthetic_records, unmeasured

from benchmarks import figures, plotting, sweeps
from benchmarks.records import FIELDS, make_record, to_frame
from benchmarks.report import NOTHING, summary_lines, summary_table, write_report
from benchmarks.selection import arrange, evenly
from benchmarks.store import StoreError, open_run
from benchmarks.tables import COLUMNS, headline_tables, holm, measurements, part_tables, unmeasured_table
from benchmarks.typesetting import Table, duration, latex, with_interval

RECORDS = synthetic_records()
PAIRS = [record for record in RECORDS if record["problem"] == "bernoulli-pairs" and record["status"] == "ok"]
FRAME = to_frame(RECORDS)
DIGITS = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")


def table_of(records):
    (table,) = headline_tables(to_frame(records))
    return table


def row_of(table, estimator):
    return next(dict(zip(table.columns, row, strict=True)) for row in table.rows if estimator in row)


def changed(estimator, **values):
    """The records of one problem with one of them changed."""
    return [make_record(**{**record, **values}) if record["estimator"] == estimator else record for record in PAIRS]


def read_numbers(text):
    """The numbers printed by `with_interval`."""
    body, _, power = text.translate(DIGITS).partition(" ×10")
    return [float(number) * 10.0 ** int(power or 0) for number in re.findall(r"-?[\d.]+", body)]


def test_a_printed_interval_is_the_interval_rounded():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        value = rng.choice([-1, 1]) * 10 ** rng.uniform(-12, 12)
        low, high = value - abs(value) * 10 ** rng.uniform(-3, 1, size=2) * [1, -1]
        printed = read_numbers(with_interval(value, low, high))
        # Rounding moves a number by half the interval at most, or there are four digits.
        allowed = max((high - low) / 2, 0.5e-3 * max(abs(low), abs(high), abs(value))) * 1.001
        assert np.all(np.abs(np.subtract(printed, [value, low, high])) <= allowed), (value, low, high, printed)
        assert printed[1] < printed[2] or (high - low) < 2e-3 * max(abs(low), abs(high))


@pytest.mark.parametrize(
    "numbers, text",
    [
        ((0.015931, 0.015622, 0.016251), "0.0159 [0.0156, 0.0163]"),
        ((-0.0004, -0.8, 0.7), "0.00 [−0.80, 0.70]"),
        ((12345.0, 12300.0, 12400.0), "1.23 [1.23, 1.24] ×10⁴"),
        ((6.953, 6.944, 6.962), "6.95 [6.94, 6.96]"),
        ((2.0841e-3, 2.0811e-3, 2.0879e-3), "2.084 [2.081, 2.088] ×10⁻³"),
        ((0.0, 0.0, 0.0), "0"),
        ((3.0, 3.0, 3.0), "3.00 [3.00, 3.00]"),
        ((1.5,), "1.50"),
        ((float("nan"), 1.0, 2.0), "—"),
    ],
)
def test_numbers_are_printed_with_the_digits_they_carry(numbers, text):
    assert with_interval(*numbers) == text


def test_durations_choose_their_unit():
    assert [duration(s) for s in (3e-9, 1.34e-6, 0.02, 61.0, float("nan"))] == ["3 ns", "1.3 µs", "20 ms", "61 s", "—"]


def test_holm_by_its_definition():
    assert np.allclose(holm(pd.Series([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert holm(pd.Series([0.9, None, 0.8])).tolist()[::2] == [1.0, 1.0]


def test_every_measured_headline_record_has_its_row():
    for table in headline_tables(FRAME):
        rows = FRAME[
            (FRAME["problem"].str.split(":").str[0] == table.name) & FRAME["headline"] & (FRAME["status"] == "ok")
        ]
        if "Not shown" not in table.caption:
            assert len(table.rows) == len(rows)
        assert {row[table.columns.index("estimator")].split(" ")[0] for row in table.rows} == set(rows["estimator"])
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_caption_says_what_stands_behind_the_numbers():
    caption = headline_tables(FRAME)[0].caption
    tests = sum(record["status"] == "ok" and record["unbiased"] for record in RECORDS)
    for words in (
        "100,000 replicates",
        "seed 0",
        "9 cells",
        "95 % intervals",
        "cpu",
        "float32",
        "dimension 12",
        "truth: enumeration",
        "time for one estimate in batches of 4,096",
    ):
        assert words in caption
    assert f"The run makes {tests} tests of no bias, one family under Holm's correction at 5 %." in caption
    assert "†" not in caption and "‡" not in caption and "Not shown" not in caption


def test_a_verdict_of_bias_is_marked_unless_it_survives_all_tests_of_the_run():
    tests = sum(record["unbiased"] for record in PAIRS)
    for p_value, mark in ((0.1 / tests, " ‡"), (0.04 / tests, "")):
        table = table_of(changed("disarm", verdict="biased", bias_p_value=p_value))
        assert row_of(table, "disarm")["verdict"] == "biased" + mark
        assert ("‡" in table.caption) == bool(mark)


def test_bold_is_what_cannot_be_told_from_the_lowest():
    def bold(records, column="variance"):
        table = table_of(records)
        return {table.rows[row][0] for row, where in table.bold if table.columns[where] == column}

    assert bold(PAIRS) == {"relax"}  # below it are enumeration, which is exact, and two biased ones
    low = {"variance": 1e-3, "variance_ci_low": 0.9e-3, "variance_ci_high": 1.1e-3, "variance_x_evaluations": 2e-3}
    assert bold(changed("disarm", **low)) == {"disarm"}
    assert bold(changed("disarm", **low, verdict="biased")) == {"relax"}
    assert bold(changed("disarm", variance_ci_low=0.2)) == {"disarm", "relax"}
    costly = {**low, "evaluations": 1_000_000}
    assert bold(changed("disarm", **costly)) == {"disarm"}
    assert bold(changed("disarm", **costly), "variance × evaluations") == {"relax"}


def test_heavy_tails_are_marked_and_never_bold():
    low = {"variance": 1e-3, "variance_ci_low": 0.9e-3, "variance_ci_high": 1.1e-3}
    table = table_of(changed("disarm", **low, heavy_tailed=True, khat=0.71))
    row = row_of(table, "disarm †")
    assert row["notes"] == "heavy tails, k-hat 0.71" and "† marks tails" in table.caption
    assert {table.rows[row][0] for row, _ in table.bold} == {"relax"}


def test_bias_is_given_in_percent_or_where_the_truth_is_nothing_in_its_own_unit():
    values = {"bias_sq": 4e-4, "bias_sq_ci_low": -1e-4, "bias_sq_ci_high": 9e-4, "needed_replicates": None}
    row = row_of(table_of(changed("disarm", **values, truth_norm=0.2)), "disarm")
    assert (row["bias, % of truth"], row["notes"]) == ("10 [−5, 15]", "")
    row = row_of(table_of(changed("disarm", **values, truth_norm=0.0)), "disarm")
    assert (row["bias, % of truth"], row["notes"]) == ("—", "truth 0, bias 0.020 [−0.010, 0.030]")
    unknown = {name: None for name in FIELDS if name.startswith(("bias", "truth"))}
    row = row_of(table_of(changed("disarm", **unknown, verdict=None)), "disarm")
    assert (row["bias, % of truth"], row["verdict"], row["notes"]) == ("—", "—", "")


def test_labels_tell_what_differs_and_nothing_else():
    rng = np.random.default_rng(0)

    def arranged(*settings, **other):
        cells = [measured(rng, "toy", "rebar", "discrete", 1, 1.0, 1.0, 0.0, settings=s, **other) for s in settings]
        return list(itertools.chain(*cells))

    nested = [{"count": 2, "inner": {"class": "REBAR", "temperature": t}} for t in (0.5, 0.25)]
    assert list(arrange(to_frame(arranged({"temperature": 0.5})))["label"]) == ["rebar"]
    assert list(arrange(to_frame(arranged(*nested)))["label"]) == [
        f"rebar (inner.temperature = {t})" for t in (0.25, 0.5)
    ]
    seeds = arranged({}, seed=10) + arranged({}, seed=9)
    assert list(arrange(to_frame(seeds))["label"]) == ["rebar (seed = 9)", "rebar (seed = 10)"]


def grid(points):
    rng = np.random.default_rng(0)
    cells = [
        measured(rng, f"grid:logit={i},target=0.5", e, "discrete", 1, 1.0, 1.0, 0.0)
        for i in points
        for e in ("disarm", "rebar")
    ]
    return list(itertools.chain(*cells))


def test_a_large_grid_is_one_readable_table_and_a_few_panels():
    (table,) = headline_tables(to_frame(grid(range(50))))
    points = [row[0] for row in table.rows]
    assert list(dict.fromkeys(points)) == [f"logit = {i}" for i in evenly(range(50), 6)]
    assert (
        "Not shown: 44 more points; the CSV file has them." in table.caption and "grid at target = 0.5" in table.caption
    )
    pages = {name: list(drawn) for name, _, drawn in figures.all_figures(measurements(to_frame(grid(range(50)))))}
    assert {name: [len(page.axes) for page in drawn] for name, drawn in pages.items()} == {
        "variance": [3],
        "bias": [3],
        "cost": [3],
        "sweep-grid-logit": [2],
    }


def test_sweeps_are_found_where_three_values_differ_in_one_number():
    names = [name for name, _, _ in figures.all_figures(measurements(FRAME))]
    assert names == ["variance", "bias", "cost", "sweep-temperature", "sweep-normal-cosine-k"]
    two = [name for name, _, _ in figures.all_figures(measurements(to_frame(grid(range(2)))))]
    assert two == ["variance", "bias", "cost"]


def test_a_sweep_draws_the_numbers_of_the_records():
    headline = measurements(FRAME)
    page = next(
        drawn
        for name, _, drawn in figures.all_figures(headline[headline["headline"]])
        if name == "sweep-normal-cosine-k"
    )[0]
    rows = headline[
        (headline["estimator"] == "pathwise") & headline["headline"] & (headline["family"] == "normal-cosine")
    ]
    expected = sorted(
        (float(problem.split("=")[1]), variance)
        for problem, variance in zip(rows["problem"], rows["variance"], strict=True)
    )
    lines = [list(zip(*line.get_data(), strict=True)) for line in page.axes[0].lines]
    assert expected in [[(float(x), float(y)) for x, y in line] for line in lines] and len(lines) == 3


def test_the_parts_of_a_gradient_along_an_argument_have_a_page_of_their_own():
    """A panel for each part, drawn at the numbers of its records; what is rounding beside the rest of a panel is no point."""
    rows = measurements(FRAME)
    ((name, what, page),) = sweeps.part_figures(rows)
    assert (name, what) == ("sweep-k-loc-log_scale", "k, of loc and log_scale one by one")
    assert [axes.get_title() for axes in page.axes] == ["normal-cosine: loc", "normal-cosine: log_scale"]
    for axes, part in zip(page.axes, ("loc", "log_scale"), strict=True):
        chosen = rows[(rows["family"] == "normal-cosine") & (rows["parameters"] == part)]
        assert len(axes.lines) == chosen["name"].nunique() == 3
        drawn = sorted(float(y) for line in axes.lines for y in line.get_ydata())
        np.testing.assert_allclose(drawn, sorted(chosen["variance"]))
    chosen = (
        (rows["name"] == "pathwise") & (rows["parameters"] == "loc") & (rows["problem"] == chosen["problem"].iat[0])
    )
    ((_, _, page),) = sweeps.part_figures(rows.assign(variance=rows["variance"].mask(chosen, 1e-20)))
    points = [sum(len(line.get_ydata()) for line in axes.lines) for axes in page.axes]
    assert points[0] == points[1] - 1
    assert page.legends[0].get_title().get_text() == "without variance and left out: 1"


def test_an_exact_gradient_is_told_and_not_drawn():
    rows = measurements(to_frame([record for record in RECORDS if record["problem"] == "bernoulli-pairs"]))
    (page,) = next(drawn for name, _, drawn in figures.all_figures(rows) if name == "variance")
    axes = page.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0 (exact)"]
    assert axes.get_yticklabels()[0].get_text() == "enumeration"
    xs = np.concatenate([np.ravel(line.get_xdata()) for line in axes.lines])
    shown = rows[~rows["exact"]]
    assert xs.min() == shown["variance_ci_low"].min() > 0 and xs.max() == shown["variance_ci_high"].max()
    centres = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert centres == sorted(shown["variance"])


def test_an_estimator_looks_the_same_whatever_stands_beside_it():
    famous = "score-function leave-one-out disarm rebar relax gumbel-softmax straight-through pathwise".split()
    looks = [plotting.look(name) for name in famous]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(famous)
    assert plotting.look("disarm") == ("#de8f05", "^")


def test_markdown_and_latex_hold_the_same_cells():
    rows = [("a|b_c", "1.6 ×10⁻⁵"), ("µ†‡ #~^\\<", "−2")]
    odd = Table("odd", "50 % of a|b_c & {d}", ("estimator", "variance"), rows, frozenset({(0, 1)}))
    assert odd.to_markdown().splitlines()[2] == r"| a\|b_c | **1.6 ×10⁻⁵** |"
    assert (
        latex(odd.rows[1][0]) == r"$\mu$$^\dagger$$^\ddagger$ \#\textasciitilde{}\textasciicircum{}\textbackslash{}$<$"
    )
    for table in [*headline_tables(FRAME), *part_tables(FRAME), unmeasured_table(FRAME), odd]:
        markdown = [
            re.split(r"(?<!\\)\|", line)[1:-1] for line in table.to_markdown().splitlines()[: len(table.rows) + 2]
        ]
        assert {len(cells) for cells in markdown} == {len(table.columns)}
        text = table.to_latex()
        bare = re.sub(r"\\[{}\\]", "", text)
        assert text.isascii() and bare.count("{") == bare.count("}") and text.count("$") % 2 == text.count(r"\$") % 2
        body = [
            line for line in text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")
        ]
        assert len(body) == len(table.rows)
        assert {len(re.split(r"(?<!\\)&", line)) for line in body} == {len(table.columns)}
        assert text.count(r"\textbf") == len(table.bold) and table.to_markdown().count("**") == 2 * len(table.bold)


def small_run():
    """Two problems, one of them with parts, a sweep, and both kinds of gaps."""
    problems = ("bernoulli-quadratic:logit=0,target=0.45", "vae:checkpoint=late")
    names = ("enumeration", "score-function", "gumbel-softmax", "relax", "pathwise")
    return [record for record in RECORDS if record["problem"] in problems and record["estimator"] in names]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A run on disk with a report that was written over an older one."""
    run = open_run(
        tmp_path_factory.mktemp("report") / "small", {"suite": "toys", "seed": 0}, {"command": "scorepath run <small>"}
    )
    groups = itertools.groupby(small_run(), key=identity)
    for known, group in groups:
        run.write(known, list(group))
    for stale in ("tables/gone.md", "figures/gone.png", "notes.txt"):
        (run.path / stale).parent.mkdir(exist_ok=True)
        (run.path / stale).write_text("stale")
    return run.path, write_report(run.path)


def test_the_report_is_whole_and_nothing_in_it_is_stale(directory):
    path, written = directory
    on_disk = {file for file in path.rglob("*") if file.is_file() and "cells" not in file.parts}
    assert on_disk == {*written, path / "run.json", path / "notes.txt"}
    assert written[0] == path / "README.md" and all(file.stat().st_size > 0 for file in written)
    names = {file.relative_to(path).as_posix() for file in written}
    for link in re.findall(r"\]\(([^)]+)\)", (path / "README.md").read_text()):
        assert link in names
    figures_drawn = {name.removesuffix(".png") for name in names if name.endswith(".png")}
    assert figures_drawn == {f"figures/{name}" for name in ("variance", "bias", "cost", "sweep-temperature")}
    assert {f"{name}.{suffix}" for name in figures_drawn for suffix in ("pdf", "svg")} <= names


def test_the_page_needs_no_other_file(directory):
    page = (directory[0] / "report.html").read_text()
    assert all(source.startswith("data:image/svg+xml;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert page.count("<img") == 4 and not re.search(r"<(script|link|iframe)|https?://|@import|url\(", page)
    assert "<small>" not in page and "scorepath run &lt;small&gt;" in page
    assert re.search(r"<b>\d", page) and "failed" in page


def test_the_same_records_give_the_same_bytes(directory):
    path, written = directory
    before = {file: file.read_bytes() for file in written}
    assert write_report(path) == written
    assert {file: file.read_bytes() for file in written} == before


def test_the_csv_files_hold_every_measured_number(directory):
    path, _ = directory
    texts = [(path / "tables" / f"{name}.csv").read_text() for name in ("bernoulli-quadratic", "vae")]
    rows = [row for text in texts for row in csv.DictReader(io.StringIO(text))]
    records = [record for record in small_run() if record["status"] == "ok"]
    assert len(rows) == len(records)

    def key(row):
        return (
            row["problem"],
            row["estimator"],
            json.loads(row["hyperparameters"]).get("temperature", 0),
            row["parameters"],
        )

    for row, record in zip(sorted(rows, key=key), sorted(records, key=key), strict=True):
        for name in FIELDS:
            if isinstance(record[name], float):
                assert float(row[name]) == record[name]
            elif record[name] is None and name != "cell":
                assert row[name] == ""
            elif name != "cell":
                assert row[name] == str(record[name])


@pytest.mark.parametrize(
    "records", [[], [unmeasured("relax", "toy", "failed", "It was not finite.")]], ids=["empty", "failed"]
)
def test_a_run_without_numbers_has_a_report_that_says_so(tmp_path, records):
    run = open_run(tmp_path, {"suite": "toys"})
    for record in records:
        run.write(identity(record), [record])
    written = {file.name for file in write_report(tmp_path)}
    assert {"README.md", "report.html"} <= written and not (tmp_path / "figures").exists()
    for name in ("README.md", "report.html"):
        assert NOTHING in (tmp_path / name).read_text()
        assert ("It was not finite." in (tmp_path / name).read_text()) == bool(records)
    assert summary_lines(records) == [NOTHING] + ["Failed: relax on toy. It was not finite."] * bool(records)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not a folder that holds a run"):
        write_report(tmp_path / "nowhere")


def test_the_summary_has_a_line_for_every_row_and_every_gap():
    from rich.console import Console

    lines = summary_lines(small_run())
    rows = [line.split("  ")[1] for line in lines if line.startswith("  ")]
    assert rows[:3] == ["enumeration", "gumbel-softmax (2.0)", "relax"]
    assert "vae:checkpoint=late" in lines
    assert "Failed: relax on vae:checkpoint=late. The estimate was not finite in 3 of 100000 replicates." in lines
    assert "3 pairs of estimator and problem are incompatible." in lines
    printed = io.StringIO()
    Console(file=printed, width=150).print(summary_table(small_run()))
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == lines


def test_columns_and_pairs_without_numbers_are_listed_once():
    table = unmeasured_table(FRAME)
    assert table.rows[0][:2] == ("relax", "failed")
    assert "1 failed and 16 incompatible" in table.caption
    pathwise = [row for row in table.rows if row[0] == "pathwise" and "discrete" in row[3]]
    assert len(pathwise) == 1 and pathwise[0][2].endswith("and 1 more")
    assert unmeasured_table(to_frame(grid(range(1)))) is None and len(COLUMNS) == 8


def test_nothing_downstream_of_a_record_imports_jax():
    modules = (
        "records, cells, store, selection, typesetting, tables, plotting, sweeps, figures, report, "
        "comparison, aggregation, averaging, standings, rankings, profiles, differences, noise"
    )
    program = f"import sys; from benchmarks import {modules}; print(sorted({{'jax', 'equinox', 'estimators'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
