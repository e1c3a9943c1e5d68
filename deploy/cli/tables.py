"""Tables of figures as text that is as wide as it needs, in a pipe as on a terminal."""

from collections.abc import Sequence


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
