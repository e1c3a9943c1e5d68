"""The report of a benchmark as tables for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deploy.measure.benchmark.settings import STEP
from deploy.picture.jobs import text_from_seconds
from deploy.picture.memory import text_from_bytes

Report = Mapping[str, Any]
Row = Mapping[str, Any]
Table = tuple[str, list[list[str]]]
"""A title and rows of cells, the heading first; a row that failed is its name and the reason."""


def tables_from_report(report: Report) -> list[Table]:
    """One table per part that was measured."""
    tables = [_timings(report, kind, rows) for kind, rows in report["timings"].items()]
    writers = {
        "pictures": _pictures,
        "batches": _batches,
        "sizes": _sizes,
        "start_up": _start_up,
        "roofline": _roofline,
        "disk": _disk,
    }
    return tables + [write(report) for part, write in writers.items() if part in report]


def notes_of(report: Report) -> list[str]:
    """Why a part has no figures."""
    parts = (report.get(part, {}) for part in ("batches", "sizes", "roofline"))
    return [part["note"] for part in parts if "note" in part]


def _timings(report: Report, kind: str, rows: Sequence[Row]) -> Table:
    what = "one step" if kind == STEP else "decoding"
    title = f"{what} at {report['size']}, batch {report['batch']}, {report['threads']} threads, {report['cpu']}"
    heading = ["", "median", "fastest", "slowest", "times faster"]
    return title, [heading, *_rows(rows, lambda row: [*_spread(row), f"{row['ratio']:.2f}"])]


def _pictures(report: Report) -> Table:
    rows = report["pictures"]["rows"]
    samplers = list(dict.fromkeys(name for row in rows for name in row.get("times_faster", {})))
    parts = list(dict.fromkeys(part for row in rows for part in row.get("parts_ms", {})))
    title = f"a whole picture, {report['lr_size']} to {report['size']}, batch {report['batch']}, everything included"
    heading = ["", "steps", "median", "fastest", "slowest", *parts, *(f"x {name}" for name in samplers)]

    def cells(row: Row) -> list[str]:
        texts = [str(row["evaluations"]), *_spread(row)]
        texts += [_milliseconds(row["parts_ms"][part]) if part in row["parts_ms"] else "" for part in parts]
        faster = row.get("times_faster", {})
        return texts + [f"{faster[name]:.1f}" if name in faster else "" for name in samplers]

    return title, [heading, *_rows(rows, cells)]


def sampling_notes(report: Report) -> list[str]:
    """How the pictures were sampled, and which rows were not made but computed from timed steps."""
    rows = report.get("pictures", {}).get("rows", [])
    notes = [
        f"{row['name']}: extrapolated from {row['extrapolated_from_steps']} timed steps to {row['evaluations']}"
        for row in rows
        if row.get("extrapolated_from_steps") and not row.get("failure")
    ]
    return notes + list(dict.fromkeys(row["sampling"] for row in rows if not row.get("extrapolated_from_steps", True)))


def _batches(report: Report) -> Table:
    rows = report["batches"]["rows"]
    title = f"pictures at once, {report['size']}, {report['batches'].get('engine', 'no engine')}"
    cells = [["", "median", "fastest", "slowest", "pictures/s", "together"]]
    cells += _rows(rows, lambda row: [*_spread(row), f"{row['pictures_per_second']:.3g}", str(row["at_once"])])
    return title, cells


def _sizes(report: Report) -> Table:
    rows = report["sizes"]["rows"]
    title = f"one picture from {report['lr_size']} at each size, {report['sizes'].get('engine', 'no engine')}"
    cells = [["", "median", "fastest", "slowest", "us/pixel", "tiles"]]
    cells += _rows(rows, lambda row: [*_spread(row), f"{row['us_per_pixel']:.3g}", str(row["tiles"])])
    return title, cells


def _start_up(report: Report) -> Table:
    rows = report["start_up"]["rows"]
    device = any(row.get("device_bytes") is not None for row in rows)
    title = "a new process: seconds until each point (the picture has one step), and its memory"
    heading = ["", "imported", "bundle open", "engine ready", "first picture", "resident", "peak"]

    def cells(row: Row) -> list[str]:
        texts = [f"{row[name]:.2f}" for name in ("imported", "opened", "ready", "first_picture")]
        texts += [text_from_bytes(row[name]) for name in ("resident_bytes", "peak_bytes")]
        return texts + ([text_from_bytes(row["device_bytes"] or 0)] if device else [])

    return title, [heading + (["GPU"] if device else []), *_rows(rows, cells)]


def _roofline(report: Report) -> Table:
    rows = report["roofline"]["rows"]
    title = f"operations per second, {report['threads']} threads: a large matrix product, and the layers of the step"
    cells = [["", "product", "step", "reached"]]

    def cells_of(row: Row) -> list[str]:
        reached = "" if row["reached"] is None else f"{row['reached'] / 1e9:.0f} G"
        share = "" if row["fraction"] is None else f"{row['fraction']:.0%}"
        return [f"{row['peak'] / 1e9:.0f} G", reached, share]

    return title, cells + _rows(rows, cells_of)


def _disk(report: Report) -> Table:
    return "on disk", [["", "size"], *([name, text_from_bytes(count)] for name, count in report["disk"].items())]


def _rows(rows: Iterable[Row], cells: Any) -> list[list[str]]:
    return [[row["name"], row["failure"]] if row.get("failure") else [row["name"], *cells(row)] for row in rows]


def _spread(row: Row) -> list[str]:
    times = row["times_ms"]
    return [_milliseconds(value) for value in (row["median_ms"], min(times), max(times))]


def _milliseconds(value: float) -> str:
    if value < 10_000:
        return f"{value:.1f} ms"
    return f"{value / 1e3:.1f} s" if value < 120_000 else text_from_seconds(value / 1e3)
