"""Plotting: how an estimator looks, how panels fill pages, and how a page becomes files.

Colour and marker come from the estimator's name, so that it looks the same from figure to figure; where two on one page
would look alike, the later in the alphabet gives way.
Filled markers stand for estimators that declare to be unbiased, open ones for those that do not.

Figures are made without `pyplot`: nothing global is touched and no window can open. They are written without dates and
with reproducible identifiers, so that the same records give the same bytes.
"""

import io
import textwrap
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from .selection import brief

# Too pale for a thin line on white: the pink and the yellow of the palette, which is safe for the colour-blind.
_PALE = (6, 8)
COLOURS = tuple(colour for i, colour in enumerate(seaborn.color_palette("colorblind").as_hex()) if i not in _PALE)
MARKERS = "os^vDPXp"
# Chosen so that the eight best known estimators differ in colour and in marker.
SALT = b"1561947 "

# All lengths are in inches; a page is as wide as the text of a paper.
WIDTH = 7.0
TALLEST = 9.0
ROW = 0.17
ABOVE, BELOW, APART = 0.16, 0.36, 0.14
LEGEND = 0.2
CHARACTER = 0.062
INK = "#333333"
BAND = "#e4e4e4"
ALARM = "#b3001b"
STYLE = {
    **seaborn.plotting_context("paper", font_scale=0.85),
    **{f"{axis}tick.{kind}.width": 0.6 for axis in "xy" for kind in ("major", "minor")},
    **{f"{axis}tick.{kind}.size": size for axis in "xy" for kind, size in (("major", 3.5), ("minor", 2.0))},
    **seaborn.axes_style("ticks"),
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "scorepath",
}
FORMATS = {
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 150, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None}},
}

# The colours of a PNG: those of the estimators, and what lies between them and white along an edge.
PALETTE = 128


class Panel(NamedTuple):
    """What one set of axes shows: a title and rows of records."""

    title: str
    rows: pd.DataFrame


def look(name: str) -> tuple[str, str]:
    """The colour and the marker of the estimator called `name`."""
    code = zlib.crc32(SALT + name.encode())
    return COLOURS[code % len(COLOURS)], MARKERS[code // len(COLOURS) % len(MARKERS)]


def told_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with a `look` for each name that no other name in it has: in colour, if there are colours enough, else in
    colour and marker together."""
    names, looks = sorted(frame["name"].unique()), {}
    every = [(colour, marker) for marker in MARKERS for colour in COLOURS]
    for name in names:
        own = every.index(look(name))
        taken = set(looks.values()) if len(names) > len(COLOURS) else {colour for colour, _ in looks.values()}
        in_turn = [every[(own + step) % len(every)] for step in range(len(every))]
        free = (pair for pair in in_turn if pair not in taken and pair[0] not in taken)
        looks[name] = next(free, in_turn[0])
    return frame.assign(look=frame["name"].map(looks))


def marker_style(row: pd.Series, marker: str | None = None) -> dict:
    """Keywords of a marker for the estimator of `row`: open if it declares to be biased."""
    colour, own = row["look"] if "look" in row.index else look(row["name"])
    declared = bool(row["unbiased"]) if pd.notna(row["unbiased"]) else True
    return {
        "marker": marker or own,
        "color": colour,
        "markerfacecolor": colour if declared else "white",
        "markeredgecolor": colour,
    }


def title(problem: str, width: int = 58) -> str:
    """The name of a problem with its arguments in words, on as many lines as it takes."""
    family, _, arguments = problem.partition(":")
    words = arguments.replace("=-", "=−").replace("=", " = ").replace(",", ", ")
    return "\n".join(textwrap.wrap(f"{family}, {words}" if words else family, width, break_long_words=False))


def row_pages(panels: Sequence[Panel]) -> Iterator[tuple[Figure, list[tuple[Axes, Panel]]]]:
    """Pages of panels in two columns; every row of every panel is equally high, and all panels of a page equally
    wide."""
    pairs = [tuple(panels[i : i + 2]) for i in range(0, len(panels), 2)]
    page: list[tuple[Panel, ...]] = []
    for pair in pairs:
        if page and sum(map(_height, [*page, pair])) > TALLEST:
            yield _row_page(page)
            page = []
        page.append(pair)
    if page:
        yield _row_page(page)


def _height(pair: tuple[Panel, ...]) -> float:
    lines = max(title(panel.title).count("\n") + 1 for panel in pair)
    return ABOVE * lines + ROW * max(len(panel.rows) for panel in pair) + BELOW + APART


def _row_page(page: list[tuple[Panel, ...]]) -> tuple[Figure, list[tuple[Axes, Panel]]]:
    column, height = WIDTH / max(map(len, page)), sum(map(_height, page)) + 2 * LEGEND + APART
    figure, placed, top = Figure(figsize=(WIDTH, height)), [], height - APART / 2
    longest = max(len(label) for pair in page for panel in pair for label in row_labels(panel.rows))
    left = min(CHARACTER * longest + 0.1, 0.6 * column)
    for pair in page:
        below = top - _height(pair) + APART + BELOW + ROW * max(len(panel.rows) for panel in pair)
        for place, panel in enumerate(pair):
            start, rows = column * place, len(panel.rows)
            box = np.array([start + left, below - ROW * rows, column - left - 0.2, ROW * rows])
            axes = figure.add_axes(
                tuple(box / [WIDTH, height, WIDTH, height]), ylim=(rows - 0.5, -0.5), yticks=range(rows)
            )
            for text, verdict in zip(axes.set_yticklabels(row_labels(panel.rows)), panel.rows["verdict"], strict=True):
                text.set_color(ALARM if verdict == "biased" else INK)
            axes.tick_params(axis="y", length=0)
            figure.text((start + 0.07) / WIDTH, (below + 0.04) / height, title(panel.title), weight="bold", va="bottom")
            placed.append((axes, panel))
        top -= _height(pair)
    return figure, placed


def row_labels(rows: pd.DataFrame) -> list[str]:
    """Names for the rows of a panel, with the values of settings but not their names; a dagger marks heavy tails."""
    return list(rows["label"].map(brief) + rows["heavy_tailed"].map({True: " †", False: ""}))


def key(figure: Figure, rows: pd.DataFrame, *more: Line2D) -> None:
    """The legend below the panels: what a filled and an open marker say, and whatever else there is in `rows` to
    explain."""
    line = {"color": INK, "linestyle": "-", "marker": "o"}
    handles = [
        Line2D([], [], **line, label="declared unbiased, 95 % interval"),
        Line2D([], [], **{**line, "marker": "D"}, markerfacecolor="white", label="biased by design"),
        *more,
    ]
    words = sorted(set(rows["label"].str.findall(r"([\w.]+) = ").explode().dropna()))
    asides = {
        f"in brackets: {', '.join(words)}": bool(words),
        "† heavy tails, interval does not cover": rows["heavy_tailed"].any(),
        "in red: declared unbiased, found biased": (rows["verdict"] == "biased").any(),
    }
    handles += [Line2D([], [], linestyle="", label=aside) for aside, holds in asides.items() if holds]
    legend = figure.legend(handles=handles, loc="lower center", ncols=3, labelspacing=0.3, columnspacing=1.2)
    for text in legend.get_texts():
        text.set_color(ALARM if text.get_text().startswith("in red") else INK)


def name_key(figure: Figure, rows: pd.DataFrame, *asides: str) -> None:
    """The legend of figures whose markers tell estimators apart, in alphabetical order, and then what else is to be
    said."""
    first = rows.drop_duplicates("name").sort_values("name")
    handles = [Line2D([], [], linestyle="", label=row["name"], **marker_style(row)) for _, row in first.iterrows()]
    asides = (*["open markers: biased by design"] * bool(first["unbiased"].eq(False).any()), *asides)
    columns = int(np.clip(WIDTH / (CHARACTER * first["name"].str.len().max() + 0.3), 1, 5))
    options = {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2, "handletextpad": 0.1}
    figure.legend(handles=handles, title="; ".join(asides), title_fontsize=7.5, **options)


def panel_grid(count: int, height: float, columns: int = 2, names: int = 0) -> tuple[Figure, list[Axes]]:
    """A page of `count` equal panels, each `height` high, whose legend of so many names may stand outside below."""
    lines = -(-count // columns)
    figure = Figure(figsize=(WIDTH, lines * height + (2 + names // 3) * LEGEND), layout="constrained")
    return figure, [figure.add_subplot(lines, columns, i + 1) for i in range(count)]


def render(figure: Figure) -> dict[str, bytes]:
    """The bytes of `figure` in each format; to be called under `STYLE`."""
    if figure.get_layout_engine():
        # Laid out once: the places of things must not depend on the format.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    files = {}
    for suffix, options in FORMATS.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, **options)
        files[suffix] = in_a_palette(buffer) if suffix == "png" else buffer.getvalue()
    return files


def in_a_palette(png: io.BytesIO) -> bytes:
    """The picture in the colours that it needs: figures have few, and take a third of the bytes."""
    picture, smaller = Image.open(png).convert("RGB"), io.BytesIO()
    picture.quantize(PALETTE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        smaller, format="png", optimize=True
    )
    return smaller.getvalue()


def log_axis(axes: Axes, values: pd.DataFrame | pd.Series, which: str = "x") -> None:
    """A logarithmic axis around the positive ones of `values`, with more numbers on it where it is short."""
    positive = values.to_numpy(float)
    positive = positive[positive > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    room = max(high / low, 2.0) ** 0.12
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low / room, high * room)})
    axis = getattr(axes, f"{which}axis")
    if not positive.size:
        axis.set_ticks([])
    elif high / low < 8:
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_tick))
    elif high / low < 30:
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float, _) -> str:
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    digits, _, exponent = f"{value:.0e}".partition("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"
