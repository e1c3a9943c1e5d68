"""The folder that an evaluation leaves: figures, tables, contact sheets with the worst cases first, and a plot."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.errors import FolderError, MissingPackage
from deploy.images.files import write_image
from deploy.images.pictures import Pixels
from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import (
    JUDGED,
    RULE,
    baseline_row,
    compare,
    frontier,
    recommended_row,
    rows_with_model,
)
from deploy.measure.evaluation.measures import DETAIL, PSNR, Result
from deploy.measure.evaluation.plots import check_plots_can_be_made, write_frontier
from deploy.measure.evaluation.tables import markdown_from_evaluations
from deploy.measure.metrics import Interval
from deploy.measure.sheet import contact_sheet


def write_report(
    evaluations: Sequence[Evaluation], folder: Path, *, baseline: str | None = None, notes: Sequence[str] = ()
) -> list[Path]:
    """The files written to `folder`, which is made if it is not there; of several scales, their names say which.

    Without matplotlib the plot is left out, and a line among the table's notes says so.
    """
    try:
        check_plots_can_be_made()
        plotted = [evaluation for evaluation in evaluations if len(rows_with_model(evaluation)) > 1]
    except MissingPackage as missing:
        plotted, notes = [], [*notes, str(missing)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures, table = folder / "evaluation.json", folder / "evaluation.md"
        record = report_from_evaluations(evaluations, baseline) | {"notes": list(notes)}
        figures.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        table.write_text(markdown_from_evaluations(evaluations, baseline, notes), encoding="utf-8")
        written = [figures, table]
        for evaluation in plotted:
            written.append(folder / f"frontier{_suffix(evaluation, evaluations)}.png")
            write_frontier(evaluation, written[-1], baseline)
    except OSError as error:
        raise FolderError(
            f"writing the report to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error
    for evaluation in evaluations:
        for number, sheet in enumerate(contact_sheets(evaluation), 1):
            written.append(folder / f"pictures{_suffix(evaluation, evaluations)}-{number}.png")
            write_image(sheet, written[-1])
    return written


def _suffix(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    return "" if len(evaluations) == 1 else f"-x{evaluation.scale:g}"


def report_from_evaluations(evaluations: Sequence[Evaluation], baseline: str | None = None) -> dict[str, Any]:
    """Everything measured, at all scales, in JSON's types; a value that is not finite is null."""
    first = evaluations[0]
    record: dict[str, Any] = _plain(
        {
            "scales": [evaluation.scale for evaluation in evaluations],
            "samples": first.samples,
            "measures": {name: measure.meaning for name, measure in first.measures.items()},
            "rule": RULE,
            "originals": [original for evaluation in evaluations for original in _originals(evaluation)],
            "rows": [row for evaluation in evaluations for row in _rows(evaluation, baseline)],
            "recommended": [
                {"scale": evaluation.scale, "name": recommended_row(evaluation, against).name, "baseline": against.name}
                for evaluation in evaluations
                if (against := baseline_row(evaluation, baseline)) is not None
            ],
        }
    )
    return record


def _plain(value: Any) -> Any:
    """The value in JSON's types."""
    if isinstance(value, Interval):
        return {"mean": _plain(value.mean), "half_width": _plain(value.half_width)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _originals(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "scale": evaluation.scale,
            "name": original.name,
            "size": original.size.for_user,
            "lr": [original.lr.shape[1], original.lr.shape[0]],
            "cut_from": original.whole,
        }
        for original in evaluation.originals
    ]


def _rows(evaluation: Evaluation, baseline: str | None) -> list[dict[str, Any]]:
    against = baseline_row(evaluation, baseline)
    best = {measure: {row.name for row in frontier(evaluation, measure)} for measure in JUDGED}
    rows = []
    for row in evaluation.rows:
        if row.failure is not None:
            rows.append({"scale": evaluation.scale, "name": row.name, "failure": row.failure})
            continue
        compared = None if against is None else compare(evaluation, row, against)
        beside = compared and {
            "psnr": compared.psnr,
            "energy": compared.detail,
            "lr_consistency": compared.lr_consistency,
            "lost": compared.lost,
        }
        frontiers = [measure for measure in JUDGED if row.name in best[measure]]
        rows.append(_row(evaluation, row) | {"against_baseline": beside, "frontier": frontiers})
    return rows


def _row(evaluation: Evaluation, row: Row) -> dict[str, Any]:
    fidelities, mean = evaluation.fidelities(row), evaluation.fidelity(row)
    return {
        "scale": evaluation.scale,
        "name": row.name,
        "description": row.about.text,
        "draws": row.draws,
        "evaluations": row.about.evaluations,
        "seconds": row.seconds,
        "figures": {
            measure: _plain(row.interval(measure)) | {"values": row.figures[measure]} for measure in evaluation.measures
        },
        "psnr_over_back_projection": evaluation.gain(row),
        "counterpart": row.about.counterpart,
        "fidelity": fidelities and _plain(mean) | {"worst": min(fidelities), "values": fidelities},
    }


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
    fidelities = [of_row for row in rows if (of_row := evaluation.fidelities(row)) is not None]
    if fidelities:
        return [min(values) for values in zip(*fidelities, strict=True)], "lowest fidelity"
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
    result = Result(pixels=row.pictures[index], original=evaluation.originals[index])
    text = f"{evaluation.measures[PSNR].of(result):.2f} dB, detail {evaluation.measures[DETAIL].of(result):.2f}"
    fidelities = evaluation.fidelities(row)
    return text if fidelities is None else f"{text}, fidelity {fidelities[index]:.1f}"
