"""Tables: as text that is as wide as it needs, in a pipe as on a terminal, or as rich fits them to the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from deploy.errors import readable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_result(record: Any, show: Callable[[], None], *, as_json: bool) -> None:
    """The result on stdout: as JSON, or as `show` prints it for people."""
    if as_json:
        typer.echo(json.dumps(record, indent=1, sort_keys=True))
    else:
        show()


def text_from_cells(title: str, cells: Sequence[Sequence[str]]) -> str:
    """The title and the rows, the first column aligned left and the others right; the first row is the heading.

    A row that is shorter than the heading ends in a remark, which is not aligned.
    """
    full = [row for row in cells if len(row) == len(cells[0])]
    widths = [max(len(row[column]) for row in full) for column in range(len(cells[0]))]
    widths[0] = max(len(row[0]) for row in cells)
    lines = [title] if title else []
    for row in cells:
        if len(row) < len(cells[0]):
            lines.append("  ".join([row[0].ljust(widths[0]), *row[1:]]))
        else:
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def plain_console() -> Console:
    """Where tables are printed: square brackets in them are no markup, as in the pip lines of `doctor`."""
    from rich.console import Console

    return Console(markup=False, highlight=False)


def table_of_facts(facts: Iterable[tuple[str, ...]]) -> Table:
    """Lines of a name and what there is to say about it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for row in facts:
        table.add_row(*map(readable, row))
    return table


def table_of_rows(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Table:
    """A table without lines; the caption stands below it."""
    from rich.table import Table

    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(*map(readable, row))
    return table
