"""Sweeps: what becomes of variance and bias along a hyper-parameter of an estimator or an argument of a problem.

A sweep is found, not declared: wherever records agree in all but one number, and that number takes three values or
more, there is a curve. Its name is that number's, `sweep-temperature` for a hyper-parameter and `sweep-normal-cosine-k`
for an argument. Where a gradient has several parts, their variances along an argument have a page besides,
`sweep-k-loc-log_scale`.
"""

import itertools
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plotting import log_axis, marker_style, name_key, panel_grid, title, told_apart
from .records import problem_arguments, safe_name
from .selection import as_number, evenly, flatten
from .tables import ROUNDING, relative_bias

# Fewer values than this do not make a curve.
FEWEST_VALUES = 3
MOST_PANELS = 4
# A range wider than this is drawn on a logarithmic axis.
WIDE = 12.0


def sweep_figures(frame: pd.DataFrame) -> Iterator[tuple[str, str, Figure]]:
    """Every sweep among measured headline rows: its name, what it is along, and its page."""
    settings = [flatten(json.loads(text)) for text in frame["hyperparameters"]]
    for number in sorted({name for setting in settings for name in setting}):
        along = _along(frame, number, settings, frame["problem"], frame["name"])
        if len(along):
            yield safe_name(f"sweep-{number}"), number.replace("_", " "), _page(number, along)
    for family, number, along in _along_arguments(frame):
        yield safe_name(f"sweep-{family}-{number}"), f"{number.replace('_', ' ')} of {family}", _page(number, along)


def part_figures(frame: pd.DataFrame) -> Iterator[tuple[str, str, Figure]]:
    """Every sweep along an argument of problems whose gradient has several parts, among measured rows of all parts: its
    name, what it is along, and a page with a line of panels for each problem and a panel for each part."""
    found: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for _, number, along in _along_arguments(frame[~frame["headline"]]):
        found.setdefault((number, *along["parameters"].drop_duplicates().sort_values()), []).append(along)
    for (number, *parts), frames in sorted(found.items()):
        words = f"{number.replace('_', ' ')}, of {' and '.join(parts)} one by one"
        along = pd.concat(frames)
        if not along["exact"].all():
            yield safe_name(f"sweep-{'-'.join([number, *parts])}"), words, _part_page(number, parts, along)


def _along_arguments(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Every family of problems with an argument that there are curves along, and the rows on them."""
    for family, group in frame.groupby("family", sort=False):
        arguments = [problem_arguments(problem) for problem in group["problem"]]
        for number in sorted({name for argument in arguments for name in argument}):
            others = [f"{family}:" + ",".join(f"{k}={v}" for k, v in a.items() if k != number) for a in arguments]
            along = _along(group, number, arguments, pd.Series(others, group.index), group["label"])
            if len(along):
                yield family, number, along


def _along(frame: pd.DataFrame, number: str, items: list[dict], panel: pd.Series, line: pd.Series) -> pd.DataFrame:
    """Rows that lie on a curve along `number`, with their place `along` it, the `panel` they belong to and the
    `line`."""
    rest = [
        json.dumps({name: value for name, value in item.items() if name != number}, sort_keys=True) for item in items
    ]
    along = [as_number(item.get(number)) for item in items]
    frame = frame.assign(
        along=pd.Series(along, frame.index, dtype=float), panel=panel, line=line + pd.Series(rest, frame.index)
    )
    frame = frame[frame["along"].notna()]
    values = frame.groupby(["panel", "line"])["along"].transform("nunique")
    return frame[values >= FEWEST_VALUES].sort_values("along", kind="stable")


def _page(number: str, frame: pd.DataFrame) -> Figure:
    """A line of panels for each problem, variance to the left and bias to the right."""
    frame = told_apart(frame)
    panels = sorted(frame["panel"].unique())
    shown = evenly(panels, MOST_PANELS)
    figure, places = panel_grid(2 * len(shown), 2.0)
    for panel, left, right in zip(shown, places[::2], places[1::2], strict=True):
        rows = frame[frame["panel"] == panel]
        for _, line in rows.groupby("line"):
            _variance_line(left, line[~line["exact"]])
        log_axis(left, rows.loc[~rows["exact"], ["variance_ci_low", "variance_ci_high"]], "y")
        heights = [height for _, line in rows.groupby("line") for height in _bias_line(right, line)]
        log_axis(right, pd.Series(heights, dtype=float), "y")
        if not heights:
            right.text(0.5, 0.5, "nothing to show as a share of the truth", ha="center", transform=right.transAxes)
        left.set_title(title(panel.removesuffix(":")))
        for axes, label in ((left, "variance"), (right, "squared bias / |truth|²")):
            _along_axis(axes, number, label, rows)
    name_key(figure, frame, "arrows: upper end of an interval that holds zero", *_left_out(panels, shown))
    return figure


def _part_page(number: str, parts: list[str], frame: pd.DataFrame) -> Figure:
    """A line of panels for each problem, a column for each part of the gradient, variances with their intervals; a
    variance that is rounding beside the truth or the others of its line is no point."""
    largest = frame.groupby(["panel", "parameters", "line"])["variance"].transform("max")
    seen = ~frame["exact"] & (frame["variance"] > ROUNDING * largest)
    frame, vanishing = told_apart(frame[seen]), int((~seen).sum())
    panels = list(frame["panel"].unique())
    shown = evenly(panels, MOST_PANELS)
    figure, places = panel_grid(len(parts) * len(shown), 2.0, columns=len(parts))
    for (panel, part), axes in zip(itertools.product(shown, parts), places, strict=True):
        rows = frame[(frame["panel"] == panel) & (frame["parameters"] == part)]
        for _, line in rows.groupby("line"):
            _variance_line(axes, line)
        log_axis(axes, rows[["variance_ci_low", "variance_ci_high"]], "y")
        axes.set_title(f"{title(panel.removesuffix(':'))}: {part}")
        _along_axis(axes, number, "variance", rows)
    asides = [f"without variance and left out: {vanishing}"] * (vanishing > 0)
    name_key(figure, frame, *asides, *_left_out(panels, shown))
    return figure


def _left_out(panels: list[str], shown: list[str]) -> list[str]:
    """How many problems a page has no room for, in words, if any."""
    return [f"problems not shown: {len(panels) - len(shown)}"] * (len(panels) > len(shown))


def _along_axis(axes: Axes, number: str, label: str, rows: pd.DataFrame) -> None:
    """The names of the axes, and a logarithmic one for what spans a wide range."""
    axes.set(xlabel=number.replace("_", " "), ylabel=label)
    axes.grid(axis="y")
    if (rows["along"] % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if rows["along"].min() > 0 and rows["along"].max() > WIDE * rows["along"].min():
        log_axis(axes, rows["along"])


def _variance_line(axes: Axes, line: pd.DataFrame) -> None:
    if len(line):
        style = marker_style(line.iloc[0])
        ends = line["variance_ci_low"], line["variance_ci_high"]
        axes.fill_between(line["along"], *ends, color=style["color"], alpha=0.2, linewidth=0)
        axes.plot(line["along"], line["variance"], **style)


def _bias_line(axes: Axes, line: pd.DataFrame) -> list[float]:
    """The squared bias with its interval where that is above zero, elsewhere an arrow at its upper end; the heights
    that must be seen."""
    shares = [relative_bias(row) for _, row in line.iterrows()]
    squares = [
        (x, *(share * abs(share) for share in three)) for x, three in zip(line["along"], shares, strict=True) if three
    ]
    style = marker_style(line.iloc[0])
    found = np.array([square for square in squares if square[2] > 0]).reshape(-1, 4)
    bounds = np.array([(x, high) for x, _, low, high in squares if low <= 0 < high]).reshape(-1, 2)
    axes.vlines(found[:, 0], found[:, 2], found[:, 3], color=style["color"])
    axes.plot(found[:, 0], found[:, 1], **style)
    axes.plot(bounds[:, 0], bounds[:, 1], linestyle="", marker=r"$\downarrow$", markersize=6, color=style["color"])
    return [*found[:, 1], *found[:, 3], *bounds[:, 1]]
