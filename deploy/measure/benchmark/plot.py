"""The report of a benchmark as a plot for people: up to four panels, one per part that was measured."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deploy.errors import DeployError, MissingPackage

Row = Mapping[str, Any]

INK, FAINT, ACCENT = "#1c1e22", "#c9ced6", "#0f6cbd"
PART_COLOURS = {"encode": "#8fb8de", "denoise": "#0f6cbd", "decode": "#e0a43b", "other": "#b9bec7"}
WHOLE_FROM = 100.0
"""Factors from here on are shown without decimals."""


def check_plot(path: Path) -> None:
    """Nothing stands in the way of writing a plot to `path`."""
    if find_spec("matplotlib") is None:
        raise MissingPackage(f"Drawing {path} needs matplotlib: pip install 'idm-deploy[report]'.")
    if not path.parent.is_dir():
        raise DeployError(f"{path} cannot be written: there is no folder {path.parent}. Make it, or name another.")


def write_plot(report: Mapping[str, Any], path: Path) -> None:
    """The panels of the parts that have figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawers: list[tuple[list[Row], Callable[[Any, list[Row]], None]]] = [
        (_timed(report["timings"].get("step", [])), _draw_steps),
        (_timed(report.get("pictures", {}).get("rows", [])), _draw_pictures),
        (_timed(report.get("batches", {}).get("rows", [])), _draw_batches),
        (_timed(report.get("sizes", {}).get("rows", [])), _draw_sizes),
    ]
    panels = [(rows, draw) for rows, draw in drawers if rows]
    if not panels:
        raise DeployError(f"{path} was not written: no part that can be drawn was measured. Leave out --part.")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(7.0 * columns, 3.9 * lines + 0.6), layout="constrained", squeeze=False
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (rows, draw) in zip(grid.flat, panels, strict=False):
        axes.tick_params(colors=INK, length=0)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, rows)
    bundle, cpu = Path(report["bundle"]).name, report["cpu"]
    figure.suptitle(f"{bundle}, {report['lr_size']} to {report['size']}, {report['threads']} threads, {cpu}", color=INK)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def _timed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.get("failure")]


def _draw_steps(axes: Any, rows: list[Row]) -> None:
    """Bars with the spread of the rounds, and how many times faster than the first."""
    medians = [row["median_ms"] for row in rows]
    spread = [
        [row["median_ms"] - min(row["times_ms"]) for row in rows],
        [max(row["times_ms"]) - row["median_ms"] for row in rows],
    ]
    colours = [FAINT if row["name"].startswith("PyTorch") else ACCENT for row in rows]
    axes.barh(range(len(rows)), medians, color=colours, xerr=spread, error_kw={"ecolor": INK, "elinewidth": 1})
    for number, row in enumerate(rows):
        axes.annotate(
            f" {row['ratio']:.2f}x", (max(row["times_ms"]), number), va="center", color=INK, fontsize=9, xytext=(2, 0),
            textcoords="offset points",
        )  # fmt: skip
    axes.set_xlim(0, 1.15 * max(max(row["times_ms"]) for row in rows))
    _name_bars(axes, rows, "milliseconds; whiskers: fastest and slowest round")
    axes.set_title("One step", loc="left", color=INK)


def _draw_pictures(axes: Any, rows: list[Row]) -> None:
    """The engines' pictures by part, and how many times faster they are than each published sampler."""
    whole = [row for row in rows if not row["extrapolated_from_steps"]]
    ends = [0.0] * len(whole)
    for part, colour in PART_COLOURS.items():
        widths = [row["parts_ms"].get(part, 0.0) for row in whole]
        if not any(widths):  # nothing to decode
            continue
        axes.barh(range(len(whole)), widths, left=ends, color=colour, label=part)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for number, (row, end) in enumerate(zip(whole, ends, strict=True)):
        faster = [f"{_factor(value)} {name}" for name, value in row.get("times_faster", {}).items()]
        axes.annotate(
            "\n".join(faster), (end, number), va="center", color=INK, fontsize=9, xytext=(4, 0),
            textcoords="offset points",
        )  # fmt: skip
    axes.set_xlim(0, 1.4 * max(ends))
    _name_bars(axes, whole, "milliseconds, medians of the parts; beside: times faster than as published")
    axes.set_title("A whole picture", loc="left", color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_batches(axes: Any, rows: list[Row]) -> None:
    counts = [row["pictures"] for row in rows]
    axes.plot(counts, [row["pictures_per_second"] for row in rows], marker="o", color=ACCENT)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_ylim(0, 1.25 * max(row["pictures_per_second"] for row in rows))
    axes.set_xlabel("pictures at once", color=INK)
    axes.set_ylabel("pictures per second", color=INK)
    axes.set_title("Throughput", loc="left", color=INK)


def _draw_sizes(axes: Any, rows: list[Row]) -> None:
    """Time over output pixels, with the line on which cost would be proportional to them."""
    pixels = [_pixels(row) for row in rows]
    seconds = [row["median_ms"] / 1e3 for row in rows]
    axes.plot(pixels, [seconds[0] * count / pixels[0] for count in pixels], color=FAINT, linestyle="--")
    axes.plot(pixels, seconds, marker="o", color=ACCENT)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(pixels, [row["size"] for row in rows], fontsize=8)
    axes.set_yticks(seconds, [f"{value:.2g}" for value in seconds])
    axes.minorticks_off()
    axes.set_xlabel("output size", color=INK)
    axes.set_ylabel("seconds", color=INK)
    axes.set_title("How cost grows (dashed: with the pixels)", loc="left", color=INK)


def _name_bars(axes: Any, rows: Sequence[Row], label: str) -> None:
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(label, color=INK)


def _pixels(row: Row) -> int:
    width, height = (int(side) for side in row["size"].split("x"))
    return width * height


def _factor(value: float) -> str:
    return f"{value:.0f}x" if value >= WHOLE_FROM else f"{value:.1f}x"
