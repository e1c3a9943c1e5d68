"""An evaluation as a person reads it: a table, a file of figures, contact sheets with the worst cases first."""

import json
import math
from pathlib import Path

import numpy as np

from deploy.errors import FolderError
from deploy.evaluation.evaluate import Evaluation, Row, report_from_evaluation
from deploy.evaluation.measures import MEASURES
from deploy.evaluation.originals import Original, Pixels
from deploy.images.files import write_image
from deploy.images.metrics import Interval, psnr
from deploy.images.sheet import contact_sheet

SHEET_ROWS = 8
"""Originals on one contact sheet."""

GAIN_HEADING = "PSNR over back-proj."


def table_from_evaluation(evaluation: Evaluation) -> list[list[str]]:
    """The heading and the rows of the table: means, with the half width of the 95 % interval where there is one."""
    heading = ["", *(measure.heading for measure in MEASURES.values()), GAIN_HEADING, "s/picture"]
    if evaluation.reference is not None:
        heading.append(f"fidelity to {evaluation.reference}")
    return [heading, *(_cells(evaluation, row) for row in evaluation.rows)]


def _cells(evaluation: Evaluation, row: Row) -> list[str]:
    if row.failure is not None:
        return [row.name, row.failure]
    cells = [text_from_interval(row.interval(name), measure.decimals) for name, measure in MEASURES.items()]
    gain = evaluation.gain(row)
    seconds = "" if row.seconds is None else f"{row.seconds:.3f}"
    cells += ["" if gain is None else text_from_interval(gain, 2, sign=True), seconds]
    if evaluation.reference is not None:
        kept = evaluation.fidelity(row)
        cells.append("" if kept is None else text_from_interval(kept, 1))
    return [row.name, *cells]


def text_from_interval(interval: Interval, decimals: int, *, sign: bool = False) -> str:
    """E.g. "27.31 ±0.80"."""
    if not math.isfinite(interval.mean):
        return "-" if math.isnan(interval.mean) else "inf"
    mean = f"{interval.mean:{'+' if sign else ''}.{decimals}f}"
    return mean if interval.half_width is None else f"{mean} ±{interval.half_width:.{decimals}f}"


def markdown_from_evaluation(evaluation: Evaluation) -> str:
    """The table in Markdown, with what each row and column means under it."""
    table = table_from_evaluation(evaluation)
    width = len(table[0])
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in table]
    lines.insert(1, f"|{'---|' * width}")
    rows = [f"* {row.name}: {row.description}" for row in evaluation.rows if row.failure is None]
    columns = [f"* {measure.heading}: {measure.meaning}" for measure in MEASURES.values()]
    head = (
        f"{len(evaluation.originals)} originals at {evaluation.scale:g}x; means with 95 % intervals over the pictures."
    )
    return "\n".join([head, "", *lines, "", *rows, "", *columns, ""])


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """The files written to `folder`, which is made if it is not there: figures, table, contact sheets."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures, table = folder / "evaluation.json", folder / "evaluation.md"
        figures.write_text(json.dumps(report_from_evaluation(evaluation), indent=1, sort_keys=True) + "\n")
        table.write_text(markdown_from_evaluation(evaluation), encoding="utf-8")
    except OSError as error:
        raise FolderError(
            f"writing the report to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error
    written = [figures, table]
    for number, sheet in enumerate(contact_sheets(evaluation), 1):
        written.append(folder / f"pictures-{number}.png")
        write_image(sheet, written[-1])
    return written


def contact_sheets(evaluation: Evaluation) -> list[Pixels]:
    """Every original with every row's picture; those where the last row is worst come first."""
    rows = [row for row in evaluation.rows if row.failure is None]
    if not rows:
        return []
    order = np.argsort([rows[-1].figures["psnr"][index] for index in range(len(evaluation.originals))], kind="stable")
    lines = [_line(original, rows, int(index)) for index, original in ((i, evaluation.originals[i]) for i in order)]
    return [
        contact_sheet(lines[first : first + SHEET_ROWS], title=f"{evaluation.scale:g}x, worst first")
        for first in range(0, len(lines), SHEET_ROWS)
    ]


def _line(original: Original, rows: list[Row], index: int) -> list[tuple[str, Pixels]]:
    lr = (f"{original.name}\nLR {original.lr.shape[1]}x{original.lr.shape[0]}", original.lr)
    made = [(f"{row.name}\n{_noted(row, original, index)}", row.pictures[index]) for row in rows]
    return [lr, *made, ("original", original.pixels)]


def _noted(row: Row, original: Original, index: int) -> str:
    energy = row.figures["energy"][index]
    return f"{psnr(row.pictures[index], original.pixels):.2f} dB, detail {energy:.2f}"
