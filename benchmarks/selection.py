"""Selection: under what name a record is shown, in which order, and how many are shown where there are too many to
read.

Problems that differ in their arguments only are one *family*, its members are *points*. Runs of one estimator that
differ in their hyper-parameters are its *settings*, and are told apart by the hyper-parameters that differ and by
nothing else.
"""

import json
import math
import re
from collections.abc import Hashable, Sequence

import pandas as pd

from .records import problem_arguments, problem_family

# What else may tell two records of one estimator and setting on one problem apart, in merged runs.
CIRCUMSTANCES = ("seed", "replicates", "dtype", "device", "suite", "commit")


def arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` in reading order with four more columns: `family` and `point` of the problem, `name` and `label` of the
    estimator.

    `name` is the estimator without its arguments, `label` is unique within a problem unless two records are alike in
    all but their numbers.
    """
    frame = frame.assign(
        family=frame["problem"].map(problem_family).astype("string"),
        name=frame["estimator"].map(problem_family).astype("string"),
        point="",
        label="",
    )
    # Through objects, because a column of an empty or of a one-row frame would otherwise take the type of what is put
    # in.
    labels = pd.Series("", frame.index, dtype=object)
    points = pd.Series("", frame.index, dtype=object)
    for _, family in frame.groupby("family", sort=False):
        texts = differing([problem_arguments(problem) for problem in family["problem"]])
        points[family.index] = texts
        for name, group in family.groupby("name", sort=False):
            labels[group.index] = [f"{name} ({text})" if text else name for text in setting_texts(group)]
    frame = frame.assign(label=labels.astype("string"), point=points.astype("string"))
    order = sorted(range(len(frame)), key=lambda i: reading_order(frame["problem"].iat[i], frame["label"].iat[i]))
    return frame.iloc[order].reset_index(drop=True)


def setting_texts(group: pd.DataFrame) -> list[str]:
    """What tells the records of one estimator apart: `temperature = 0.5`, or nothing."""
    settings = [flatten(json.loads(text)) for text in group["hyperparameters"]]
    if group.duplicated(["problem", "parameters", "hyperparameters"]).any():
        more = group[list(CIRCUMSTANCES)].astype("string").fillna("unknown")
        settings = [{**setting, **row} for setting, row in zip(settings, more.to_dict("records"), strict=True)]
    return differing(settings)


def flatten(settings: dict, prefix: str = "") -> dict[str, Hashable]:
    """Nested settings, as those of an estimator that wraps another, under dotted names."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str | int | float) else json.dumps(value)
    return flat


def differing(items: Sequence[dict[str, Hashable]]) -> list[str]:
    """Each item in words, without what all of them have in common.

    >>> differing([{"logit": "0", "target": "0.45"}, {"logit": "-2", "target": "0.45"}])
    ['logit = 0', 'logit = -2']
    """
    names = sorted({name for item in items for name in item})
    told = [name for name in names if len({item.get(name) for item in items}) > 1]
    return [", ".join(f"{name} = {item[name]}" for name in told if name in item) for item in items]


def brief(label: str) -> str:
    """A label with the values of its settings and without their names.

    >>> brief("gumbel-softmax (temperature = 0.5)")
    'gumbel-softmax (0.5)'
    """
    return re.sub(r"[\w.]+ = ", "", label)


def reading_order(*texts: str) -> tuple:
    """A key for `sorted` under which the numbers within a text are compared as numbers.

    >>> sorted(["k = 10", "k = 9", "k = -1"], key=reading_order)
    ['k = -1', 'k = 9', 'k = 10']
    """
    words = (word for text in texts for word in text.replace("=", " = ").replace(",", " ").replace(")", " ").split(" "))
    return tuple((0, number, "") if (number := as_number(word)) is not None else (1, 0.0, word) for word in words)


def as_number(value) -> float | None:
    """`value` as a number, if it is one or spells one."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def evenly(values: Sequence, most: int) -> list:
    """At most `most` of `values`, the first and the last among them.

    >>> evenly(range(50), 3)
    [0, 24, 49]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def thin(frame: pd.DataFrame, points: int, settings: int) -> tuple[pd.DataFrame, str]:
    """At most so many points of each family and settings of each estimator of an arranged frame, and what is left out,
    in words."""
    families = frame.groupby("family", sort=False)["problem"]
    problems = [name for _, group in families for name in evenly(list(group.unique()), points)]
    named = frame.groupby(["family", "name"], sort=False)["label"]
    labels = {
        (family, label) for (family, _), g in named for label in evenly(sorted(g.unique(), key=reading_order), settings)
    }
    chosen = [pair in labels for pair in zip(frame["family"], frame["label"], strict=True)]
    kept = frame[frame["problem"].isin(problems) & pd.Series(chosen, frame.index, dtype=bool)]
    counts = {"points": frame["problem"].nunique() - len(problems), "settings": sum(named.nunique()) - len(labels)}
    words = [f"{count} more {noun}" for noun, count in counts.items() if count]
    return kept, " and ".join(words)
