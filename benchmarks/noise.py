"""Noise: what is kept and shown of decompositions, from their rows alone.

A row is one estimator in the training step of one problem: its sampling and minibatch noise and their total, each with its interval (see
`decomposition`). Rows are kept as JSON lines in `decomposition.jsonl`; a table for each family of problems and a figure of shares are made
of them.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .files import StoreError
from .plotting import COLOURS, INK, STYLE, Panel, render, row_pages
from .records import safe_name
from .selection import arrange
from .typesetting import Table, extent, with_interval

LINES = "decomposition.jsonl"
PARTS = ("sampling", "minibatch", "total", "share", "ratio")
FIELDS: dict[str, str] = {
    "problem": "name of the problem, with its arguments after a colon, sorted",
    "estimator": "name of the estimator",
    "hyperparameters": "hyper-parameters of the estimator, as a JSON object",
    "unbiased": "whether the estimator declares to be unbiased",
    "parameters": "which part of the gradient: encoder",
    "seed": "seed of the run",
    "replicates": "minibatches drawn, with two estimates in each",
    "batch": "images of one minibatch, all different",
    "images": "images of the data set",
    "dim": "coordinates of the gradient",
    "sampling": "mean over minibatches of the variance (trace of the covariance) of an estimate within one",
    "minibatch": "variance over minibatches of the mean of an estimate within one; negative by chance where it is small",
    "total": "variance of an estimate",
    "share": "sampling over total",
    "ratio": "total over that of the first estimator of the problem, on the same minibatches",
    **{f"{part}_ci_{end}": f"{end} end of the 95 % interval of {part}" for part in PARTS for end in ("low", "high")},
    "baseline": "the estimator that ratio refers to",
    "exact_minibatch": "minibatch part of the exact gradient, from the exact gradients of all single images; null if unknown",
    "truth_norm": "Euclidean norm of the exact gradient of the whole data set; null if unknown",
    "status": "ok or incompatible",
    "reason": "why the pair could not run",
    "device": "kind of device",
    "dtype": "precision of the estimates",
    "versions": "versions of the packages, as a JSON object",
    "commit": "commit of the code",
}
COLUMNS = ("estimator", "sampling noise", "minibatch noise", "total", "share of sampling, %", "total, over the first")
GREY = "#c4c4c4"
WORDS = (
    "Shares of sampling noise (blue, with the 95 % interval of where it ends) and of minibatch noise (grey) in the variance of a "
    "training gradient; the variance itself stands to the right."
)


def make_row(**values) -> dict:
    """A row of `values` in the order of `FIELDS`; what is not given, or not finite, is null.

    >>> make_row(problem="toy", share=math.inf)["share"] is None
    True
    """
    if unknown := set(values) - set(FIELDS):
        raise ValueError(f"A row of a decomposition has no field {', '.join(sorted(unknown))}.")
    plain = {name: json.dumps(v, sort_keys=True) if isinstance(v, Mapping) else v for name, v in values.items()}
    return {name: None if isinstance(v := plain.get(name), float) and not math.isfinite(v) else v for name in FIELDS}


def to_line(row: Mapping) -> str:
    """One line of JSON with its end."""
    return json.dumps(dict(row), allow_nan=False, ensure_ascii=False) + "\n"


def tables(rows: list[dict]) -> Iterator[Table]:
    """One table for each problem that has rows with numbers."""
    for problem, group in arranged(rows).groupby("problem", sort=False):
        cells = [
            (row["label"], *(_text(row, part) for part in PARTS[:3]), _text(row, "share", 100.0), _text(row, "ratio"))
            for _, row in group.iterrows()
        ]
        yield Table(safe_name(problem), caption(group), COLUMNS, cells)


def _text(row: pd.Series, part: str, unit: float = 1.0) -> str:
    """A part with its interval, or alone if it is known: no sampling noise, and the ratio of the first estimator to itself."""
    value, low, high = (unit * row[name] for name in (part, f"{part}_ci_low", f"{part}_ci_high"))
    return with_interval(value, low, high) if high > low else f"{value:g}"


def arranged(rows: list[dict]) -> pd.DataFrame:
    """The rows with numbers, problem by problem as they were asked for, the quietest estimator first, with labels."""
    frame = pd.DataFrame([row for row in rows if row["status"] == "ok"], columns=list(FIELDS))
    problems = list(frame["problem"].unique())
    frame = arrange(frame)
    place = frame["problem"].map(problems.index)
    return frame.assign(place=place).sort_values(["place", "total"], kind="stable").reset_index(drop=True)


def caption(group: pd.DataFrame) -> str:
    """What the numbers of one problem are and what stands behind them."""
    what = {name: extent(group[name]) for name in ("batch", "images", "replicates", "seed", "dim", "device", "dtype")}
    sentences = [
        f"{group['problem'].iat[0]}: variance of the gradient with respect to the encoder (dimension {what['dim']}) from a minibatch of "
        f"{what['batch']} of {what['images']} images, drawn without replacement.",
        f"Two estimates in each of {what['replicates']} minibatches, seed {what['seed']}, {what['device']}, {what['dtype']}.",
        "Brackets are 95 % jackknife intervals over 32 blocks; a minibatch part is negative where the estimate is.",
        f"The first estimator is {group['baseline'].iat[0]}; ratios are paired, since all see the same minibatches.",
    ]
    if group["exact_minibatch"].notna().any():
        exact, norm = (with_interval(float(group[name].iat[0])) for name in ("exact_minibatch", "truth_norm"))
        sentences.append(
            f"Exact gradients have a minibatch noise of {exact}, and the gradient of the whole data set a norm of {norm}."
        )
    return " ".join(sentences)


def draw(rows: list[dict]) -> list[bytes]:
    """The pages of the figure, as PNG."""
    frame = arranged(rows).assign(verdict="", heavy_tailed=False)
    panels = [Panel(name, group.reset_index(drop=True)) for name, group in frame.groupby("problem", sort=False)]
    pages = []
    with matplotlib.rc_context(STYLE):
        for figure, placed in row_pages(panels):
            for axes, panel in placed:
                _bars(axes, panel.rows)
            _key(figure)
            pages.append(render(figure)["png"])
    return pages


def _bars(axes: Axes, rows: pd.DataFrame) -> None:
    """One bar for each estimator: the share of sampling noise from the left, that of minibatch noise for the rest, the total beside."""
    for y, row in rows.iterrows():
        share, low, high = (100 * min(max(row[name], 0), 1) for name in ("share", "share_ci_low", "share_ci_high"))
        axes.barh(y, share, height=0.72, color=COLOURS[0])
        axes.barh(y, 100 - share, left=share, height=0.72, color=GREY)
        axes.plot([low, high], [y, y], color=INK, linewidth=1.2, solid_capstyle="butt", clip_on=False)
        axes.text(102, y, with_interval(row["total"]), va="center", ha="left", size=7, color=INK)
    axes.set(xlim=(0, 122), xticks=range(0, 101, 25))
    axes.spines["bottom"].set_bounds(0, 100)
    axes.set_xlabel("share of the variance, %", labelpad=1)


def _key(figure: Figure) -> None:
    handles = [Patch(color=COLOURS[0], label="sampling noise"), Patch(color=GREY, label="minibatch noise")]
    figure.legend(handles=handles, loc="lower center", ncols=2)


def page(rows: list[dict], figures: list[str], command: str) -> str:
    """What `README.md` holds: the figure, the tables, what is missing, and how all was made."""
    parts = ["# Where the variance comes from", *(f"![{WORDS}]({name})" for name in figures)]
    parts += [table.to_markdown().strip() for table in tables(rows)]
    gaps = [f"- {row['estimator']} on {row['problem']}: {row['reason']}" for row in rows if row["status"] != "ok"]
    parts += ["Pairs that do not fit:", "\n".join(gaps)] if gaps else []
    parts.append(
        "Noise is drawn anew for each image, so sampling noise falls as one over the size of the minibatch, and so does minibatch noise "
        "while that is small beside the data set: the shares hold for minibatches of other sizes. The minibatch part is that of the "
        "estimator's own mean, which for a biased estimator is not the exact gradient."
    )
    parts.append(f"Made by `{command}`; every number is in [{LINES}]({LINES}).")
    return "\n\n".join(parts) + "\n"


def write(folder: str | Path, rows: list[dict], command: str) -> list[Path]:
    """Write lines, page and figures of `rows` into `folder`; the files. Raises `StoreError` if it cannot be written."""
    pages = draw(rows) if any(row["status"] == "ok" for row in rows) else []
    figures = {f"shares{'' if n == 1 else f'-{n}'}.png": data for n, data in enumerate(pages, start=1)}
    files = {
        LINES: "".join(map(to_line, rows)).encode(),
        "README.md": page(rows, list(figures), command).encode(),
    } | figures
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
    except OSError as error:
        raise StoreError(f"The folder `{folder}` cannot be written: {error.strerror or error}.") from error
    return [Path(folder) / name for name in files]
