"""Profiles: on which share of the problems each estimator is near the best, as a figure."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .aggregation import FEWEST_PROBLEMS, profile
from .plotting import marker_style, name_key, panel_grid, told_apart
from .rankings import score_table

LARGEST_FACTOR = 10.0
FACTORS = np.geomspace(1.0, LARGEST_FACTOR, 61)
MOST_CURVES = 12

PROFILE = (
    "Performance profile: the share of the problems on which the variance times evaluations of an estimator is within a factor of the "
    "lowest of them, with the band that holds 95 % of bootstrap draws of blocks of replicates. An estimator that is not ranked on a "
    "problem is within no factor there: not run, exact, biased or of heavy tails. Of several settings the best over all is drawn."
)


def profile_pages(rows: pd.DataFrame) -> Iterator[Figure]:
    """The page of the rows that `standings` gives; none with too few problems on which two can be compared."""
    curves = profile_curves(rows)
    if curves.empty:
        return
    curves = told_apart(curves)
    figure, (axes,) = panel_grid(1, 3.2, columns=1)
    for _, curve in curves.groupby("name", sort=False):
        style = marker_style(curve.iloc[0])
        axes.fill_between(
            curve["factor"], curve["low"], curve["high"], color=style["color"], alpha=0.2, linewidth=0, step="post"
        )
        axes.step(curve["factor"], curve["share"], where="post", markevery=12, **style)
    axes.set(
        xscale="log", xlim=(1, LARGEST_FACTOR), ylim=(-0.02, 1.02), xticks=[1, 2, 4, 10], xticklabels=[1, 2, 4, 10]
    )
    axes.set(
        xlabel="factor of the lowest variance × evaluations", ylabel=f"share of {curves['problems'].iat[0]} problems"
    )
    axes.minorticks_off()
    axes.grid(axis="both")
    name_key(figure, curves)
    yield figure


def profile_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """`share` with `low` and `high` at each `factor` of each `setting`, the best of its `name`; empty with fewer than
    `FEWEST_PROBLEMS` problems."""
    fair = rows[rows["barred"] == ""]
    fair = fair[fair.groupby("problem")["setting"].transform("nunique") > 1]
    problems = list(fair["problem"].unique())
    if len(problems) < FEWEST_PROBLEMS:
        return pd.DataFrame()
    scores, draws = score_table(fair)
    settings = list(scores["setting"].unique())
    places = pd.Categorical(scores["setting"], settings).codes, pd.Categorical(scores["problem"], problems).codes
    values = np.full((len(settings), len(problems)), np.inf)
    drawn = np.full((len(draws), *values.shape), np.inf)
    values[places], drawn[:, places[0], places[1]] = scores["score"], draws
    share = profile(values, FACTORS)
    bands = np.stack(
        [np.quantile(profile(drawn, FACTORS[[i]])[..., 0], [0.025, 0.975], axis=0) for i in range(len(FACTORS))]
    )
    names = dict(zip(scores["setting"], scores["name"], strict=True))
    curves = []
    for i in _drawn(settings, names, share.mean(axis=1)):
        curve = {"factor": FACTORS, "share": share[i], "low": bands[:, 0, i], "high": bands[:, 1, i]}
        curves.append(pd.DataFrame(curve).assign(setting=settings[i], name=names[settings[i]], problems=len(problems)))
    return pd.concat(curves, ignore_index=True).assign(unbiased=True)


def _drawn(settings: list[str], names: dict[str, str], heights: np.ndarray) -> list[int]:
    """The settings to draw, best first: one of each name, and no more than can be told apart."""
    chosen: dict[str, int] = {}
    for i in np.argsort(-heights, kind="stable"):
        chosen.setdefault(names[settings[i]], int(i))
    return list(chosen.values())[:MOST_CURVES]
