"""Records: what a measurement says, as flat rows of JSON scalars. The one place that knows their fields.

A record is one part of the gradient of one problem, as one estimator estimated it: moments, their uncertainty, what
they cost and under what they were taken. A measurement makes one record for each part of the problem's gradient, and
everything printed or drawn later is made of records alone.

`b = E[G] - g` is the bias of an estimate `G` of the truth `g`; the variance of `G` is the trace of its covariance. JSON
has no infinities: a number that is not finite is null.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

Record = dict[str, str | int | float | bool | None]

SCHEMA = 1
VERDICTS = ("biased", "unbiased within eps", "undetermined", "biased by design")
STATUSES = ("ok", "failed", "incompatible")


class RecordError(ValueError):
    """What is wrong with a record, as a sentence."""


class Field(NamedTuple):
    """The type of a field, what it means and in which unit, and whether every record has it."""

    type: type
    meaning: str
    required: bool = False


FIELDS: dict[str, Field] = {
    "schema": Field(int, "version of this list of fields", True),
    "suite": Field(str, "name of the suite, empty outside of one"),
    "problem": Field(str, "name of the problem, with its arguments after a colon, sorted", True),
    "estimator": Field(str, "name of the estimator", True),
    "parameters": Field(str, "which part of the gradient: distribution, encoder, loc, ..."),
    "headline": Field(bool, "whether this is the first part of its problem", True),
    "hyperparameters": Field(str, "hyper-parameters of the estimator, as a JSON object", True),
    "unbiased": Field(bool, "whether the estimator declares to be unbiased"),
    "seed": Field(int, "seed of the run", True),
    "replicates": Field(int, "independent estimates measured"),
    "replicate_budget": Field(int, "most replicates that a run to a precision could take"),
    "precision_target": Field(
        str, "precision asked for: a share such as 1%, or a width in the units of variance and gradient"
    ),
    "precision_reached": Field(
        float,
        "larger of the half-width of the variance's interval and the minimum detectable bias for an exact truth: shares of "
        "variance and of truth_norm (at least sqrt(variance) / 10) if the target is one, else as they are",
    ),
    "warmup": Field(int, "adaptation steps before the state was frozen"),
    "dim": Field(int, "coordinates of this part of the gradient"),
    "truth_kind": Field(str, "closed form, enumeration, quadrature, reference run or unknown"),
    "truth_norm": Field(float, "Euclidean norm of the truth"),
    "truth_se": Field(float, "standard error of the truth, as a Euclidean norm; 0 for an exact truth"),
    "bias_sq": Field(float, "unbiased estimate of |b|^2; negative by chance where the bias is small"),
    "bias_sq_se": Field(float, "standard error of bias_sq"),
    "bias_sq_ci_low": Field(float, "lower end of the 95 % interval of |b|^2"),
    "bias_sq_ci_high": Field(float, "upper end of the 95 % interval of |b|^2"),
    "bias_max_z": Field(
        float, "largest |mean - truth| over the tested coordinates, in standard errors, corrected for skewness"
    ),
    "bias_p_value": Field(float, "p-value of no bias, family-wise over the tested coordinates"),
    "tested_dim": Field(int, "coordinates with enough effective events to be tested one by one"),
    "min_detectable_bias": Field(
        float, "bias of one coordinate that would be found with probability 0.8, in the unit of the gradient"
    ),
    "relative_bias": Field(float, "sqrt(|bias_sq|) with the sign of bias_sq, over truth_norm"),
    "verdict": Field(str, "what the interval of the bias says: " + ", ".join(VERDICTS)),
    "epsilon": Field(float, "relative bias up to which an estimator counts as unbiased"),
    "needed_replicates": Field(float, "replicates after which an undetermined verdict should be decided"),
    "variance": Field(float, "trace of the covariance of one whole estimate with all its samples"),
    "variance_se": Field(float, "standard error of variance"),
    "variance_ci_low": Field(float, "lower end of the 95 % interval of variance"),
    "variance_ci_high": Field(float, "upper end of the 95 % interval of variance"),
    "variance_blocks": Field(
        str, "squared distances from the mean averaged over blocks of consecutive replicates, as a JSON list"
    ),
    "mse": Field(float, "mean squared distance of one estimate from the truth"),
    "snr": Field(float, "|E[G]|^2, without its noise floor, over variance"),
    "cosine": Field(float, "mean cosine between one estimate and the truth"),
    "sign_agreement": Field(float, "share of estimates with a positive inner product with the truth"),
    "khat": Field(float, "Pareto tail index of the squared distances from the mean"),
    "kurtosis": Field(float, "largest fourth standardised moment of a coordinate; 3 for a normal law"),
    "max_share": Field(float, "share of the largest squared distance in their sum"),
    "heavy_tailed": Field(bool, "whether the tails are too heavy for the interval of the variance"),
    "evaluations": Field(int, "calls of the objective by one estimate, of its terms if it is a sum"),
    "seconds_per_estimate": Field(float, "seconds for one estimate, compilation left out"),
    "batch": Field(int, "replicates computed together when timed"),
    "compile_seconds": Field(
        float,
        "seconds of tracing and compiling the program, with all estimators that share it; null if it was found in a cache",
    ),
    "variance_x_evaluations": Field(float, "variance times evaluations"),
    "variance_x_seconds": Field(float, "variance times seconds_per_estimate"),
    "stream": Field(str, "name of the key stream; estimators that share it saw the same noise"),
    "status": Field(str, "what became of the cell: " + ", ".join(STATUSES), True),
    "reason": Field(str, "why the cell failed or could not run, as a sentence"),
    "device": Field(str, "kind of device"),
    "dtype": Field(str, "precision of the estimates"),
    "versions": Field(str, "versions of the packages, as a JSON object"),
    "commit": Field(str, "commit of the code"),
    "cell": Field(str, "digest of what defines the cell, given by the store; a resumed run knows it by this"),
}

_CHOICES = {"verdict": VERDICTS, "status": STATUSES}
_JSON_FIELDS = ("hyperparameters", "versions")
_JSON_LISTS = ("variance_blocks",)
_WORDS = {int: "an integer of 64 bits", float: "a finite number", bool: "true or false", str: "text"}
_DTYPES = {int: "Int64", float: "float64", bool: "boolean", str: "string"}


def make_record(**values) -> Record:
    """A valid record of `values`, in the order of `FIELDS`; fields that are not given are null.

    Scalars of array libraries become plain numbers, numbers that are not finite become null, mappings become JSON.

    >>> record = make_record(problem="toy", estimator="disarm", headline=True, hyperparameters={}, seed=0, status="ok", khat=np.inf)
    >>> record["schema"], record["hyperparameters"], record["khat"], record["variance"]
    (1, '{}', None, None)
    """
    values = {"schema": SCHEMA, **values}
    record = {name: _plain(values.get(name), field.type) for name, field in FIELDS.items()}
    validate({**record, **{name: None for name in values if name not in FIELDS}})
    return record


def _plain(value, kind: type):
    """`value` as JSON will hold it in a field of type `kind`; left as it is where it does not fit, for `validate` to
    refuse."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if not isinstance(value, str | None) and np.ndim(value) == 0:
        value = np.asarray(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, float) and kind is int and value.is_integer():
        return int(value)
    if type(value) is int and kind is float:
        return float(value)
    return value


def validate(record: Mapping) -> None:
    """Raise `RecordError`, naming the field, unless `record` has every field of `FIELDS` with a value that fits it."""
    if record.get("schema") != SCHEMA:
        raise RecordError(
            f"The field `schema` of a record is {record.get('schema')!r}; this version reads {SCHEMA} only."
        )
    for name in record:
        if name not in FIELDS:
            raise RecordError(f"A record has no field `{name}`; its fields are those of `benchmarks.records.FIELDS`.")
    for name, field in FIELDS.items():
        value = record.get(name)
        if value is None and field.required:
            raise RecordError(f"The field `{name}` of a record is missing: {field.meaning}.")
        if value is not None and not _fits(value, field.type):
            raise RecordError(f"The field `{name}` of a record must be {_WORDS[field.type]}, got {value!r}.")
        if value is not None and value not in _CHOICES.get(name, (value,)):
            raise RecordError(
                f"The field `{name}` of a record must be one of {', '.join(_CHOICES[name])}; got {value!r}."
            )
        if value is not None and name in _JSON_FIELDS and not _is_json_object(value):
            raise RecordError(f"The field `{name}` of a record must hold a JSON object, got {value!r}.")
        if value is not None and name in _JSON_LISTS and not _is_json_list(value):
            raise RecordError(f"The field `{name}` of a record must hold a JSON list of numbers, got {value!r}.")
    if record.get("seconds_per_estimate") is not None and not (record.get("batch") and record.get("device")):
        raise RecordError("The field `seconds_per_estimate` of a record says nothing without `batch` and `device`.")
    if record["status"] != "ok" and not record.get("reason"):
        raise RecordError(f"The field `reason` of a record must say why its status is {record['status']!r}.")


def _fits(value, kind: type) -> bool:
    if type(value) is not kind:
        return False
    return math.isfinite(value) if kind is float else abs(value) < 2**63 if kind is int else True


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _is_json_list(text: str) -> bool:
    try:
        numbers = json.loads(text)
    except ValueError:
        return False
    return isinstance(numbers, list) and all(
        type(number) in (int, float) and math.isfinite(number) for number in numbers
    )


def to_line(record: Record) -> str:
    """One line of JSON, its fields in the order of `FIELDS`, with the end of the line."""
    return json.dumps({name: record[name] for name in FIELDS}, allow_nan=False, ensure_ascii=False) + "\n"


def from_lines(text: str, source: str = "the records") -> list[Record]:
    """The records of JSON lines; `source` names them in an error. A field that an older file lacks is null."""
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(make_record(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise RecordError(f"Line {number} of {source} is not a record. {error}") from error
    return records


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record, one column for each field, each with the nullable type of its field.

    >>> to_frame([]).dtypes["replicates"]
    Int64Dtype()
    """
    frame = pd.DataFrame(list(records), columns=list(FIELDS))
    return frame.astype({name: _DTYPES[field.type] for name, field in FIELDS.items()})


def problem_family(problem: str) -> str:
    """The name of a problem without its arguments."""
    return problem.partition(":")[0]


def problem_arguments(problem: str) -> dict[str, str]:
    """The arguments in the name of a problem, as text.

    >>> problem_arguments("bernoulli-quadratic:logit=-2,target=0.45")
    {'logit': '-2', 'target': '0.45'}
    """
    pieces = [piece.partition("=") for piece in problem.partition(":")[2].split(",") if piece]
    return {name: value for name, _, value in pieces}


def safe_name(text: str, longest: int = 60) -> str:
    """`text` as a part of a file name that any file system can hold.

    >>> safe_name("bernoulli-quadratic:logit=-2,target=0.45")
    'bernoulli-quadratic-logit=-2-target=0.45'
    """
    return re.sub(r"[^A-Za-z0-9.=_-]+", "-", text)[:longest].strip(".-")
