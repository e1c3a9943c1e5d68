"""Contact sheets of an evaluation, the worst cases first."""

import math
from collections.abc import Sequence

from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.measures import DETAIL, PSNR, Result
from deploy.measure.evaluation.originals import Pixels
from deploy.measure.sheet import contact_sheet

COLUMNS = 8
"""Most pictures beside each other; more are spread over several lines of about the same length."""
LINES = 8
"""Lines of pictures on one sheet; one original is never divided between two."""

Line = list[tuple[str, Pixels]]


def contact_sheets(evaluation: Evaluation) -> list[Pixels]:
    """Every original with every row's picture, the worst first: by fidelity where rows have a counterpart, by the last
    row's PSNR elsewhere."""
    rows = evaluation.sound_rows()
    if not rows:
        return []
    values, rule = _merits(evaluation, rows)
    order = sorted(range(len(evaluation.originals)), key=lambda index: values[index])
    groups = [_lines(evaluation, rows, index) for index in order]
    each = max(1, LINES // len(groups[0]))
    return [
        contact_sheet(
            [line for group in groups[first : first + each] for line in group],
            title=f"{evaluation.scale:g}x, {rule} first",
        )
        for first in range(0, len(groups), each)
    ]


def _merits(evaluation: Evaluation, rows: Sequence[Row]) -> tuple[list[float], str]:
    """How good each original's case is, and by which rule."""
    kept = [found for row in rows if (found := evaluation.fidelities(row)) is not None]
    if kept:
        return [min(values) for values in zip(*kept, strict=True)], "lowest fidelity"
    return list(rows[-1].figures[PSNR]), f"lowest PSNR of {rows[-1].name}"


def _lines(evaluation: Evaluation, rows: Sequence[Row], index: int) -> list[Line]:
    original = evaluation.originals[index]
    tiles = [
        (f"{original.name}\noriginal, {original.size}", original.pixels),
        (f"LR\n{original.lr.shape[1]}x{original.lr.shape[0]}", original.lr),
        *((f"{row.name}\n{_noted(evaluation, row, index)}", row.pictures[index]) for row in rows),
    ]
    each = math.ceil(len(tiles) / math.ceil(len(tiles) / COLUMNS))
    return [tiles[first : first + each] for first in range(0, len(tiles), each)]


def _noted(evaluation: Evaluation, row: Row, index: int) -> str:
    """PSNR and detail of the picture shown, and what it kept of its counterpart."""
    shown = Result(pixels=row.pictures[index], original=evaluation.originals[index])
    text = f"{evaluation.measures[PSNR].of(shown):.2f} dB, detail {evaluation.measures[DETAIL].of(shown):.2f}"
    kept = evaluation.fidelities(row)
    return text if kept is None else f"{text}, fidelity {kept[index]:.1f}"
