"""The plot of an evaluation: quality against time, and the settings that no faster one equals."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deploy.errors import MissingPackage
from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import JUDGED, baseline_row, frontier, recommended_row, rows_with_model
from deploy.measure.evaluation.measures import DETAIL
from deploy.measure.evaluation.tables import pictures_of

INK, GREY, LIGHT = "#1c1e22", "#696e76", "#d9dce1"
SERIES_COLOURS = ("#0f6cbd", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
MARKS = "osD^vPX*"


def check_plots_can_be_made() -> None:
    """matplotlib is installed."""
    if find_spec("matplotlib") is None:
        raise MissingPackage("Plotting the quality-time frontier needs matplotlib: pip install 'idm-deploy[report]'.")


def write_frontier(evaluation: Evaluation, path: Path, baseline: str | None = None) -> None:
    """`path` holds the plot: a panel per judged measure, a point per row with a model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(JUDGED), figsize=(5 * len(JUDGED), 4.6), layout="constrained")
    for axes, measure in zip(panels, JUDGED, strict=True):
        _draw_panel(axes, evaluation, measure, baseline)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=9)
    figure.suptitle(f"Quality against time: means of {pictures_of(evaluation)}")
    # No date or version in the file: the same figures give the same bytes.
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def _draw_panel(axes: Any, evaluation: Evaluation, measure: str, baseline: str | None) -> None:
    rows = [row for row in rows_with_model(evaluation) if math.isfinite(row.interval(measure).mean)]
    axes.set_xscale("log")
    best = frontier(evaluation, measure)
    axes.plot(
        [row.seconds for row in best],
        [_value(row, measure) for row in best],
        **{"color": LIGHT, "linewidth": 8, "marker": "o", "markersize": 8, "solid_capstyle": "round", "zorder": 1},
        label="quality-time frontier",
    )
    for number, (series, members) in enumerate(_series(rows).items()):
        colour, mark = SERIES_COLOURS[number % len(SERIES_COLOURS)], MARKS[number % len(MARKS)]
        members = sorted(members, key=lambda row: row.seconds)
        axes.plot(
            [row.seconds for row in members],
            [_value(row, measure) for row in members],
            **{"color": colour, "marker": mark, "linewidth": 1, "markersize": 5, "zorder": 3},
            label=series or "settings",
        )
        _label_points(axes, members, measure, colour, below=number % 2 == 1)
    against = baseline_row(evaluation, baseline)
    if against is not None and len(rows) > 1:
        chosen = recommended_row(evaluation, against)
        _ring(axes, against, measure, GREY, "baseline")
        _ring(axes, chosen, measure, INK, "recommended")
    _draw_levels(axes, evaluation, measure)
    _name_axes(axes, evaluation, measure)


def _series(rows: list[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.about.series, []).append(row)
    return grouped


def _value(row: Row, measure: str) -> float:
    return row.interval(measure).mean


def _label_points(axes: Any, members: list[Row], measure: str, colour: str, *, below: bool) -> None:
    """Short names beside the points."""
    for row in members:
        text = row.about.label or str(row.about.evaluations)
        axes.annotate(
            text.removesuffix(" steps").removesuffix(" step"),
            (row.seconds, _value(row, measure)),
            textcoords="offset points",
            xytext=(0, -13 if below else 7),
            ha="center",
            fontsize=7,
            color=colour,
            zorder=4,
        )


def _ring(axes: Any, row: Row, measure: str, colour: str, label: str) -> None:
    axes.plot(
        [row.seconds],
        [_value(row, measure)],
        **{"linestyle": "none", "marker": "o", "markersize": 13, "fillstyle": "none", "color": colour, "zorder": 5},
        markeredgewidth=2 if label == "recommended" else 1,
        label=label,
    )


def _draw_levels(axes: Any, evaluation: Evaluation, measure: str) -> None:
    """What is reached without a model, and the original's own detail."""
    for number, row in enumerate(row for row in evaluation.sound_rows() if row.about.evaluations is None):
        value = _value(row, measure)
        if math.isfinite(value):
            axes.axhline(value, color=GREY, linewidth=1, linestyle=("--", ":")[number % 2], label=row.name, zorder=2)
    if measure == DETAIL:
        axes.axhline(1, color=INK, linewidth=0.8, zorder=2)
        axes.annotate(
            "the original", (0.99, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7
        )


def _name_axes(axes: Any, evaluation: Evaluation, measure: str) -> None:
    axes.set_title(evaluation.measures[measure].heading, fontsize=11)
    axes.set_ylabel(evaluation.measures[measure].meaning.split(";")[0], fontsize=7, color=GREY)
    axes.set_xlabel("seconds a picture", fontsize=8, color=GREY)
    axes.tick_params(colors=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1, y=0.12)
    _number_seconds(axes)


def _number_seconds(axes: Any) -> None:
    """Round numbers as they are said; powers of ten at most two decades apart would leave an axis with one of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
