"""Records: every field is checked, and nothing changes on the way to a file or a frame and back."""

import json
import math

import numpy as np
import pytest
from synthetic_records import synthetic_records

from benchmarks.records import (
    FIELDS,
    RecordError,
    from_lines,
    make_record,
    problem_arguments,
    to_frame,
    to_line,
    validate,
)

MINIMAL = {"problem": "toy", "estimator": "disarm", "headline": True, "hyperparameters": {}, "seed": 0, "status": "ok"}


def test_lines_round_trip():
    records = synthetic_records()
    assert from_lines("".join(map(to_line, records))) == records


def test_a_line_holds_all_fields_in_their_order():
    line = to_line(make_record(**MINIMAL))
    assert list(json.loads(line)) == list(FIELDS)
    assert line.count("\n") == 1


def test_text_that_breaks_lines_elsewhere_stays_in_one_line():
    record = make_record(**{**MINIMAL, "status": "failed", "reason": "first\nsecond\u2028third \u00b5"})
    assert from_lines(to_line(record) + to_line(record)) == [record, record]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, np.float32("inf")])
def test_numbers_that_are_not_finite_become_null(value):
    record = make_record(**MINIMAL, snr=value, needed_replicates=value, replicates=value)
    assert (record["snr"], record["needed_replicates"], record["replicates"]) == (None, None, None)
    assert "Infinity" not in to_line(record) and "NaN" not in to_line(record)


def test_array_scalars_become_plain():
    record = make_record(
        **MINIMAL, variance=np.float32(0.5), replicates=np.int32(7), heavy_tailed=np.bool_(True), mse=np.array(2)
    )
    assert [type(record[name]) for name in ("variance", "replicates", "heavy_tailed", "mse")] == [
        float,
        int,
        bool,
        float,
    ]
    assert [record[name] for name in ("variance", "replicates", "heavy_tailed", "mse")] == [0.5, 7, True, 2.0]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"schema": 2}, "schema"),
        ({"problem": None}, "problem"),
        ({"estimator": 3}, "estimator"),
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"replicates": 1.5}, "replicates"),
        ({"variance": "0.1"}, "variance"),
        ({"variance": True}, "variance"),
        ({"variance": [0.1, 0.2]}, "variance"),
        ({"headline": 1}, "headline"),
        ({"verdict": "unbiased"}, "verdict"),
        ({"status": "fine"}, "status"),
        ({"status": "failed"}, "reason"),
        ({"hyperparameters": "temperature=1"}, "hyperparameters"),
        ({"versions": "[1]"}, "versions"),
        ({"variance_blocks": "{}"}, "variance_blocks"),
        ({"variance_blocks": "[1, null]"}, "variance_blocks"),
        ({"variance_blocks": "[1, NaN]"}, "variance_blocks"),
        ({"seconds_per_estimate": 0.1, "device": "cpu"}, "seconds_per_estimate"),
        ({"varience": 0.1}, "varience"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(RecordError, match=f"`{field}`"):
        make_record(**{**MINIMAL, **change})


def test_validation_sees_what_is_missing():
    record = make_record(**MINIMAL)
    validate(record)
    for name, field in FIELDS.items():
        if field.required:
            with pytest.raises(RecordError, match=f"`{name}`"):
                validate({**record, name: None})


def test_a_torn_line_is_named_with_its_source():
    line = to_line(make_record(**MINIMAL))
    with pytest.raises(RecordError, match=r"Line 2 of `records\.jsonl` is not a record"):
        from_lines(line + line[:40], "`records.jsonl`")
    with pytest.raises(RecordError, match="Line 1"):
        from_lines("[1, 2]")


def test_an_older_line_without_an_optional_field_is_read():
    record = make_record(**MINIMAL, variance=1.0)
    older = {name: value for name, value in record.items() if name not in ("cell", "max_share", "variance_blocks")}
    assert from_lines(json.dumps(older)) == [record]


def test_the_frame_keeps_every_value_and_knows_its_types():
    records = [
        make_record(**MINIMAL, variance=0.1, replicates=3, unbiased=True),
        make_record(**MINIMAL, needed_replicates=1e30),
    ]
    frame = to_frame(records)
    assert [str(dtype) for dtype in frame.dtypes] == [str(dtype) for dtype in to_frame([]).dtypes]
    kinds = {int: "Int64", float: "float64", bool: "boolean", str: "string"}
    assert all(str(frame[name].dtype) == kinds[field.type] for name, field in FIELDS.items())
    for name in FIELDS:
        held = [
            None if value is None or value != value else value
            for value in frame[name].astype(object).where(frame[name].notna(), None)
        ]
        assert held == [record[name] for record in records], name


def test_every_field_says_what_it_means():
    meanings = [field.meaning for field in FIELDS.values()]
    assert len(set(meanings)) == len(FIELDS) and all(len(meaning.split()) >= 3 for meaning in meanings)


@pytest.mark.parametrize(
    "name, expected", [("toy", {}), ("toy:k=8", {"k": "8"}), ("toy:k=8,scale=1e-3", {"k": "8", "scale": "1e-3"})]
)
def test_arguments_are_read_from_a_problem_name(name, expected):
    assert problem_arguments(name) == expected
