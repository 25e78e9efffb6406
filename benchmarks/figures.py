"""Figures: records as a paper draws them.

    variance    the variance of each estimator on each problem, with its interval
    bias        the bias as a share of the truth, with its interval, over the smallest that could have been detected
    cost        the bias against variance times evaluations: what is worth its price stands at the lower left
    sweep-X     variance and squared bias along a hyper-parameter or an argument of a problem
    sweep-X-P-Q the variance of each part of the gradient along an argument
    profile     the share of problems on which each estimator is near the lowest at equal cost

Elsewhere only the headline part of a gradient is drawn. Of a family with many points, and of an estimator with many settings, the
first three figures show a few; a sweep shows them all, and a profile counts them all.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .plotting import (
    BAND,
    INK,
    STYLE,
    Panel,
    key,
    log_axis,
    marker_style,
    name_key,
    panel_grid,
    render,
    row_pages,
    title,
    told_apart,
)
from .profiles import PROFILE, profile_pages
from .selection import thin
from .sweeps import part_figures, sweep_figures
from .tables import relative_bias

MOST_POINTS = 3
MOST_SETTINGS = 3
PANELS_PER_PAGE = 6

VARIANCE = "Variance of one estimate with its 95 % interval, in increasing order."
BIAS = (
    "Bias as a share of the norm of the truth with its 95 % interval, on an axis that is linear up to the bias that counts as "
    "none; within the grey bars a bias of one coordinate could go unseen."
)
COST = "Bias against variance times evaluations: what is worth its price stands at the lower left."
SWEEP = "Variance and squared bias along {}."
PART_SWEEP = "Variance with its 95 % interval along {}."


class Drawing(NamedTuple):
    """A page of figures: what it shows, in words, and its bytes in each format."""

    words: str
    formats: dict[str, bytes]


def draw(rows: pd.DataFrame, parts: pd.DataFrame) -> dict[str, Drawing]:
    """All figures that the rows of `standings`, and measured rows of all `parts`, have something to show in, by name;
    the second page of `bias` is `bias-2`."""
    drawn = {}
    with matplotlib.rc_context(STYLE):
        along = ((name, PART_SWEEP.format(what), [figure]) for name, what, figure in part_figures(parts))
        for name, words, pages in (*all_figures(rows), *along, ("profile", PROFILE, profile_pages(rows))):
            for number, figure in enumerate(pages, start=1):
                drawn[name if number == 1 else f"{name}-{number}"] = Drawing(words, render(figure))
    return drawn


def all_figures(headline: pd.DataFrame) -> Iterator[tuple[str, str, Iterable[Figure]]]:
    """Names, words and pages of the figures of measured headline rows."""
    shown = thin(headline, MOST_POINTS, MOST_SETTINGS)[0].sort_values("variance", kind="stable")
    rows = {
        problem: shown[shown["problem"] == problem].reset_index(drop=True) for problem in headline["problem"].unique()
    }
    panels = [Panel(problem, group) for problem, group in rows.items() if len(group)]
    known = [panel for panel in panels if panel.rows["bias_sq"].notna().any()]
    yield "variance", VARIANCE, variance_pages(panels)
    yield "bias", BIAS, bias_pages(known)
    yield "cost", COST, cost_pages(known)
    for name, number, figure in sweep_figures(headline):
        yield name, SWEEP.format(number), [figure]


def variance_pages(panels: list[Panel]) -> Iterator[Figure]:
    """Estimators in the order of their variance, on a logarithmic axis; an exact one has its place and no point."""
    for figure, placed in row_pages(panels):
        for axes, panel in placed:
            axes.grid(axis="x")
            for y, row in panel.rows.iterrows():
                if row["exact"]:
                    axes.text(
                        0.01, y, "0 (exact)", transform=axes.get_yaxis_transform(), va="center", color=INK, size=7.5
                    )
                else:
                    _point(axes, row, (row["variance"], row["variance_ci_low"], row["variance_ci_high"]), y)
            log_axis(axes, panel.rows.loc[~panel.rows["exact"], ["variance_ci_low", "variance_ci_high"]])
            axes.set_xlabel("variance", labelpad=1)
        key(figure, pd.concat([panel.rows for _, panel in placed]))
        yield figure


def _point(axes: Axes, row: pd.Series, numbers: tuple[float, float, float], y: int) -> None:
    """A marker with its interval along the horizontal axis."""
    value, low, high = numbers
    style = marker_style(row, "o" if row["unbiased"] else "D")
    axes.plot([low, high], [y, y], color=style["color"], linewidth=1.6, solid_capstyle="butt")
    axes.plot([value], [y], linestyle="", **style)


def bias_pages(panels: list[Panel]) -> Iterator[Figure]:
    """Relative bias in percent: linear up to the bias that counts as none, logarithmic beyond."""
    for figure, placed in row_pages(panels):
        for axes, panel in placed:
            epsilon = 100 * float(panel.rows["epsilon"].fillna(0.01).median())
            axes.set_xscale("symlog", linthresh=epsilon, linscale=0.7)
            axes.axvline(0, color=INK, linewidth=0.6)
            for side in (-epsilon, epsilon):
                axes.axvline(side, color=INK, linewidth=0.6, linestyle=":")
            ends = np.array([_bias_row(axes, row, y) for y, row in panel.rows.iterrows()])
            _symlog_axis(axes.xaxis, min(-2 * epsilon, *ends[:, 0]), max(2 * epsilon, *ends[:, 1]), epsilon)
            axes.set_xlabel("bias, % of the truth", labelpad=1)
        band = Line2D([], [], color=BAND, linewidth=6, label="smallest bias detectable in a coordinate")
        threshold = Line2D([], [], color=INK, linewidth=0.6, linestyle=":", label="counts as unbiased")
        key(figure, pd.concat([panel.rows for _, panel in placed]), band, threshold)
        yield figure


def _bias_row(axes: Axes, row: pd.Series, y: int) -> tuple[float, float]:
    """One row of the bias figure; how far it reaches to the left and to the right."""
    shares = relative_bias(row)
    if shares is None:
        reason = "truth unknown" if pd.isna(row["bias_sq"]) else "truth nearly zero"
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.text(0.01, y, reason, transform=axes.get_yaxis_transform(), va="center", color=INK, size=7, bbox=paper)
        return 0.0, 0.0
    detectable = 100 * row["min_detectable_bias"] / row["truth_norm"]
    axes.barh(y, 2 * detectable, left=-detectable, height=0.8, color=BAND, zorder=0.5)
    value, low, high = (100 * share for share in shares)
    _point(axes, row, (value, low, high), y)
    return min(low, -detectable), max(high, detectable)


def cost_pages(panels: list[Panel]) -> Iterator[Figure]:
    """Bias against variance times evaluations; an exact gradient has no place on the logarithmic axis and is left
    out."""
    for start in range(0, len(panels), PANELS_PER_PAGE):
        page = panels[start : start + PANELS_PER_PAGE]
        told = told_apart(pd.concat([panel.rows[~panel.rows["exact"]] for panel in page], keys=range(len(page))))
        figure, places = panel_grid(len(page), 2.1, names=told["name"].nunique())
        for number, (axes, panel) in enumerate(zip(places, page, strict=True)):
            rows = told[told.index.get_level_values(0) == number]
            reach = [_cost_point(axes, row) for _, row in rows.iterrows()]
            epsilon = 100 * float(panel.rows["epsilon"].fillna(0.01).median())
            axes.set_yscale("symlog", linthresh=epsilon, linscale=0.5)
            log_axis(axes, rows[["variance_x_evaluations"]])
            _symlog_axis(axes.yaxis, 0.0, max(2 * epsilon, *reach, 0.0), epsilon)
            axes.set_ylim(bottom=-0.2 * epsilon)
            axes.axhline(epsilon, color=INK, linewidth=0.6, linestyle=":")
            axes.set(xlabel="variance × evaluations", ylabel="bias, % of the truth")
            axes.set_title(title(panel.title))
        name_key(figure, told, "exact gradients left out")
        yield figure


def _cost_point(axes: Axes, row: pd.Series) -> float:
    """One estimator in the cost figure, with the interval of its bias; how far up it reaches."""
    shares = relative_bias(row)
    if shares is None:
        return 0.0
    value, low, high = (max(100 * share, 0.0) for share in shares)
    style = marker_style(row)
    axes.plot([row["variance_x_evaluations"]] * 2, [low, high], color=style["color"])
    axes.plot([row["variance_x_evaluations"]], [value], linestyle="", clip_on=False, **style)
    return high


def _symlog_axis(axis: Axis, low: float, high: float, epsilon: float) -> None:
    """Ticks at zero and at powers of ten from the threshold on, as plain numbers."""
    powers = 10.0 ** np.arange(math.ceil(math.log10(epsilon)), math.ceil(math.log10(max(high, -low))) + 1)
    ticks = [tick for tick in [*-powers[::-1], 0.0, *powers] if 2 * low <= tick <= 2 * high]
    axis.set_view_interval(2 * low, 2 * high, ignore=True)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}".replace("-", "−")))
