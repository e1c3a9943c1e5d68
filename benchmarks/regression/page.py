"""The figures as the tables of docs/speed.md, written between two marks, so that text and data cannot disagree."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.regression.figures import Figure, FigureError, Measured

PAGE = Path(__file__).parent.parent.parent / "docs" / "speed.md"
BEGIN = "<!-- figures of speed: written by `python -m benchmarks.regression --record` -->"
END = "<!-- end of the figures of speed -->"

WIDTH = {"ms": 10_000.0, "s": 90_000.0, "min": 5_400_000.0}
"""Milliseconds up to which a time is told in that unit; hours beyond."""


def tables_from_figures(figures: Sequence[Figure]) -> str:
    """One table per command, table of its report and kind of processor; what was never measured is left out.

    Where all were measured in one place, that is said once.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[Figure, Measured]]] = {}
    for figure in figures:
        for kind, found in figure.measured.items():
            groups.setdefault((figure.command, figure.model, figure.table, kind), []).append((figure, found))
    places = {_where(found) for members in groups.values() for _, found in members}
    tables = [_table(members, told=len(places) > 1) for members in groups.values()]
    return "\n\n".join([f"Measured on {place}." for place in places if len(places) == 1] + tables)


def page_with(figures: Sequence[Figure], text: str) -> str:
    """The page's text with the tables of these figures between the marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FigureError(f"The page has no place for the figures: it needs the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{tables_from_figures(figures)}\n\n{END}{after}"


def _table(members: Sequence[tuple[Figure, Measured]], *, told: bool) -> str:
    first, place = members[0]
    titles = {"step": "One step", "decode": "Decoding", "pictures": "A whole picture, everything included"}
    command = first.command.replace("{model}", f"{first.model}.bundle")
    lines = [f"{titles[first.table]}: `idm-deploy {command}`" + (f" ({_where(place)})" if told else ""), ""]
    lines += ["| | median | | median | times faster |", "| --- | --- | --- | --- | --- |"]
    for figure, found in members:
        cells = (figure.row, _time(found.row_ms), figure.over, _time(found.over_ms), f"{found.ratio:.3g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _where(found: Measured) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items()))
    return f"{found.hardware}, {found.date}; {versions}"


def _time(ms: float) -> str:
    if ms < WIDTH["ms"]:
        return f"{ms:.0f} ms"
    if ms < WIDTH["s"]:
        return f"{ms / 1e3:.1f} s"
    return f"{ms / 60e3:.1f} min" if ms < WIDTH["min"] else f"{ms / 3600e3:.2f} h"
