"""Rankings and differences: who is ahead, who is kept out and why, and what captions say of it, against the code."""

import re

import numpy as np
import pytest
from synthetic_records import blocks, identity, synthetic_records

from benchmarks.averaging import averaging_tables
from benchmarks.cli import main
from benchmarks.comparison import ComparisonError
from benchmarks.differences import difference_table, differences, only_in_one
from benchmarks.profiles import profile_curves
from benchmarks.rankings import COLUMNS, over_problems, ranking_tables
from benchmarks.records import make_record, to_frame
from benchmarks.standings import standings
from benchmarks.store import open_run

RECORDS = synthetic_records()
PAIRS = [record for record in RECORDS if record["problem"] == "bernoulli-pairs" and record["status"] == "ok"]
ROWS = standings(to_frame(RECORDS))


def changed(records: list, estimator: str, **values) -> list:
    """Records with those of one estimator changed."""
    return [make_record(**{**record, **values}) if record["estimator"] == estimator else record for record in records]


def with_variance(estimator: str, variance: float, error: float = 0.01, records: list = PAIRS, **values) -> list:
    """The same with a variance, its blocks and its products."""
    (evaluations,) = {record["evaluations"] for record in records if record["estimator"] == estimator}
    numbers = {"variance": variance, "variance_se": error * variance, "variance_x_evaluations": variance * evaluations}
    text = blocks("bernoulli-pairs", estimator, variance, error * variance)
    return changed(records, estimator, **{**numbers, "variance_blocks": text, **values})


def ranks(records: list, **options) -> dict:
    rows = standings(to_frame(records), **options)
    return {row.label: row.rank for row in rows.itertuples() if not row.barred}


def texts(table) -> dict:
    """The rows of a table of one problem, by estimator."""
    return {row[1]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_what_cannot_be_told_apart_shares_a_rank():
    """Two that share most of their noise are told apart at a distance at which two that do not are tied."""
    records = with_variance("rebar", 2.0, records=with_variance("relax", 1.98))
    found = ranks(records)
    assert found["relax"] < found["rebar"]
    apart = ranks(changed(records, "rebar", stream="another/0"))
    assert apart["relax"] == apart["rebar"]
    assert ranks(changed(records, "rebar", variance_blocks=None)) == apart
    order = [label for label, _ in sorted(found.items(), key=lambda item: item[1])]
    costs = {row.label: row.variance_x_evaluations for row in standings(to_frame(records)).itertuples()}
    assert order == sorted(order, key=costs.get)


def test_the_exact_the_biased_and_the_heavy_tailed_are_kept_out_with_a_reason():
    records = changed(changed(PAIRS, "relax", heavy_tailed=True, khat=0.71), "rebar", verdict="biased")
    (table,) = ranking_tables(standings(to_frame(records)))
    reasons = {name: row["notes"] for name, row in texts(table).items() if row["rank"] == "—"}
    assert set(reasons) == {"enumeration", "gumbel-softmax", "straight-through", "relax †", "rebar"}
    words = {
        "enumeration": "exact",
        "gumbel-softmax": "biased by design",
        "relax †": "heavy tails (k-hat 0.71)",
        "rebar": "biased",
    }
    for name, word in words.items():
        assert reasons[name].startswith(f"kept out: {word}")
    assert table.rows[-1][0] == "—" and table.rows[0][0] == "1"


def test_ratios_are_to_the_baseline_at_equal_cost():
    (table,) = ranking_tables(standings(to_frame(PAIRS), "disarm"))
    row, held = texts(table)["rebar"], {record["estimator"]: record for record in PAIRS}
    ratio = held["rebar"]["variance_x_evaluations"] / held["disarm"]["variance_x_evaluations"]
    assert float(row["× baseline"].split(" ")[0]) == pytest.approx(ratio, rel=0.01)
    times = held["rebar"]["variance_x_seconds"] / held["disarm"]["variance_x_seconds"]
    assert float(row["by time"].split(" ")[0]) == pytest.approx(times, rel=0.01)
    assert texts(table)["disarm"]["notes"] == "baseline" and "that of disarm," in table.caption

    def width(text):
        low, high = re.search(r"\[(.*), (.*)\]", text).groups()
        return float(high) - float(low)

    assert width(row["× baseline"]) < width(row["95 % without pairing"])
    other = changed(PAIRS, "rebar", device="gpu", stream="another/0")
    row = texts(ranking_tables(standings(to_frame(other), "disarm"))[0])["rebar"]
    assert (row["by time"], row["notes"]) == ("—", "unpaired: other stream")


def test_a_baseline_is_a_name_or_a_setting_and_is_in_the_run():
    frame = to_frame(RECORDS)
    assert set(standings(frame, "rebar:temperature=.1").query("reference and against")["label"]) == {
        "rebar (temperature = 0.1)"
    }
    missing = {row.problem for row in standings(frame, "disarm").itertuples() if row.reference and not row.against}
    assert "normal-cosine:k=1" in missing and "bernoulli-pairs" not in missing
    for baseline, words in {
        "leave-two-out": "is not in this run",
        "rebar:temperature=9": "is not in",
        "rebar:x": "Cannot read",
    }.items():
        with pytest.raises(ComparisonError, match=words):
            standings(frame, baseline)


def test_captions_count_what_the_code_counts():
    fair = ROWS[ROWS["barred"] == ""]
    sizes = fair.groupby("problem").size()
    pairs = int((sizes * (sizes - 1) // 2).sum())
    for table in ranking_tables(ROWS):
        assert (
            f"the run makes {pairs:,} comparisons of pairs, one family under Holm's correction at 5 %" in table.caption
        )
        family = fair[fair["family"] == table.name.removesuffix("-ranking")]
        others = len(family) - family["problem"].nunique()
        assert f"{others} of {others} intervals are paired" in table.caption
        assert set(table.columns) - {"point"} == set(COLUMNS)


def test_the_family_of_a_ranking_is_that_of_the_whole_run():
    """A difference that is found among the pairs of one problem is none among three hundred pairs without one."""
    near = with_variance("rebar", 2.0, records=with_variance("relax", 1.98))
    tied = [record for record in with_variance("relax", 2.0, records=near) if record["estimator"] in ("relax", "rebar")]
    many = [make_record(**{**record, "problem": f"other:k={k}"}) for k in range(300) for record in tied]
    assert ranks(near)["relax"] < ranks(near)["rebar"]
    rows = standings(to_frame([*near, *many]))
    found = {row.label: row.rank for row in rows[rows["problem"] == "bernoulli-pairs"].itertuples()}
    assert rows["pairs"].iat[0] == 300 + 15 and found["relax"] == found["rebar"]


def test_over_problems_counts_problems_and_averages_logarithms():
    table, words = over_problems(ROWS)
    held = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert words == "" and held["leave-one-out"]["geometric mean"] == "1.00 [1.00, 1.00]"
    fair = ROWS[(ROWS["barred"] == "") & ROWS["against"]]
    for name in ("score-function", "pathwise"):
        ratios = [row.ratio.value for row in fair.itertuples() if row.setting == name]
        assert held[name]["over"] == str(len(ratios))
        assert float(held[name]["geometric mean"].split(" ")[0]) == pytest.approx(
            np.exp(np.mean(np.log(ratios))), rel=0.01
        )
    assert f"over the {fair['problem'].nunique()} problems" in table.caption and "never of variances" in table.caption
    four = [problem for problem in dict.fromkeys(ROWS["problem"]) if not problem.startswith("normal-cosine")][:4]
    few = [record for record in RECORDS if record["problem"] in four]
    table, words = over_problems(standings(to_frame(few)))
    assert table is None and "too few to summarise (fewer than 5)" in words
    assert profile_curves(standings(to_frame(few))).empty


def test_a_profile_ends_where_the_estimator_runs():
    curves = profile_curves(ROWS)
    fair = ROWS[ROWS["barred"] == ""]
    problems = fair["problem"].nunique()
    assert set(curves["problems"]) == {problems}
    for name, curve in curves.groupby("name"):
        shares = curve["share"].to_numpy()
        assert np.all(np.diff(shares) >= 0) and np.all(curve["low"] <= curve["high"])
        assert shares[-1] <= fair.loc[fair["name"] == name, "problem"].nunique() / problems
    assert curves.groupby("name")["share"].first().sum() == pytest.approx(1.0)  # one is the best of each problem


def test_averaging_shows_the_biased_alone():
    tables = averaging_tables(ROWS)
    shown = {row[table.columns.index("estimator")].split(" ")[0] for table in tables for row in table.rows}
    assert shown == {"gumbel-softmax", "straight-through", "relax"}
    (table,) = averaging_tables(standings(to_frame(PAIRS)))
    row, record = table.rows[0], next(r for r in PAIRS if r["estimator"] == table.rows[0][0])
    assert float(row[1].split(" ")[0]) == pytest.approx(record["bias_sq"] + record["variance"], rel=0.02)


@pytest.fixture
def runs(tmp_path):
    """Writes records as a run and gives its folder."""

    def write(name: str, records: list) -> str:
        run = open_run(tmp_path / name, {"suite": "toys"})
        for record in records:
            run.write(identity(record), [record])
        run.consolidate()
        return str(tmp_path / name)

    return write


def test_a_run_does_not_differ_from_itself(runs, capsys):
    folder = runs("a", PAIRS)
    assert main(["compare", folder, folder, "--strict"]) == 0
    out = capsys.readouterr().out
    assert f"0 of {len(PAIRS)} cells" in out and "|" not in out and "Only in" not in out
    assert main(["compare", folder, folder, "--all"]) == 0
    assert capsys.readouterr().out.count("1.000 [1.000, 1.000]") == len(PAIRS) - 1


def test_what_changed_beyond_the_joint_error_is_shown_and_nothing_else(runs, capsys):
    """A variance a fiftieth higher is seen on one stream and not on two; a bias, a verdict and a cost are told."""
    low, high = with_variance("disarm", 1.0), with_variance("disarm", 1.02, evaluations=3)
    rows = differences(low, high)
    assert [row.a["estimator"] for row in rows.itertuples() if row.differs] == ["disarm"]
    assert not any(differences(low, changed(high, "disarm", stream="another/0"))["differs"])
    assert main(["compare", runs("a", low), runs("b", high), "--strict"]) == 1
    out = capsys.readouterr().out
    assert "| bernoulli-pairs | disarm | distribution | **1.020" in out and "evaluations 2 → 3" in out
    record = next(record for record in PAIRS if record["estimator"] == "rebar")
    biased = {"bias_sq": record["bias_sq"] + 9 * record["bias_sq_se"], "verdict": "biased"}
    table = difference_table(differences(PAIRS, changed(PAIRS, "rebar", **biased)))
    assert [row[1] for row in table.rows] == ["rebar"] and table.bold == {(0, 4)}
    assert "→ biased" in table.rows[0][5]


def test_the_caption_of_a_comparison_counts_its_tests():
    """One test of bias for each cell with a truth, one of the variance where neither is exact or heavy-tailed."""
    other = changed(changed(PAIRS, "relax", heavy_tailed=True, khat=0.8), "rebar", bias_sq=None, bias_sq_se=None)
    table = difference_table(differences(PAIRS, other), everything=True)
    assert f"in {(len(PAIRS) - 2) + (len(PAIRS) - 1):,} tests" in table.caption
    assert f"{len(PAIRS) - 2} of {len(PAIRS) - 2} ratios are paired" in table.caption
    held = {row[1]: row[5] for row in table.rows}
    assert held["relax"] == "heavy tails in B" and held["enumeration"] == "exact in both"
    assert difference_table(differences(PAIRS, [])).rows == []


def test_what_only_one_run_has_is_said():
    gone = [record for record in PAIRS if record["estimator"] != "disarm"]
    failed = {"status": "failed", "reason": "It was not finite."}
    lines = only_in_one(PAIRS, changed(gone, "rebar", **failed))
    assert lines == [
        "Only in A, on bernoulli-pairs: disarm.",
        "Measured in A only: rebar (temperature = 0.4) on bernoulli-pairs; in B it is failed: It was not finite.",
    ]
    assert only_in_one([], PAIRS) == ["Only in B: all of bernoulli-pairs."]
