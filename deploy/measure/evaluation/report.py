"""The folder that an evaluation leaves: figures, tables, contact sheets with the worst cases first, and a plot."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import FolderError, MissingPackage
from deploy.images.files import write_image
from deploy.images.pictures import Pixels
from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import (
    JUDGED,
    RULE,
    Comparison,
    baseline_row,
    compare,
    frontier,
    recommended_row,
    rows_with_model,
)
from deploy.measure.evaluation.measures import PSNR, SSIMULACRA2, Result
from deploy.measure.evaluation.plots import check_plots_can_be_made, write_curve, write_frontier
from deploy.measure.evaluation.tables import markdown_from_evaluations, markdown_table
from deploy.measure.metrics import Interval
from deploy.measure.sheet import contact_sheet
from engines.new_files import write_text


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
        write_text(figures, json.dumps(record, indent=1, sort_keys=True))
        write_text(table, markdown_from_evaluations(evaluations, baseline, notes).removesuffix("\n"))
        written = [figures, table]
        for evaluation in plotted:
            written.append(folder / f"frontier{_suffix(evaluation, evaluations)}.png")
            write_frontier(evaluation, written[-1], baseline)
        if len(evaluations) > 1 and plotted:
            written.append(folder / "curve.png")
            write_curve(evaluations, written[-1])
    except OSError as error:
        raise FolderError(
            f"writing the report to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error
    for evaluation in evaluations:
        for number, sheet in enumerate(contact_sheets(evaluation), 1):
            written.append(folder / f"pictures{_suffix(evaluation, evaluations)}-{number}.png")
            write_image(sheet, written[-1])
    return written


def write_generation(
    folder: Path, record: dict[str, Any], title: str, table: list[list[str]], lines: Sequence[str]
) -> list[Path]:
    """The figures of generated pictures as JSON and Markdown in `folder`, which is made if it is not there."""
    written = [folder / "generation.json", folder / "generation.md"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(written[0], json.dumps(record, indent=1, sort_keys=True))
        parts = [f"## {title}", "", *markdown_table(table), "", *(f"* {line}" for line in lines), ""]
        write_text(written[1], "\n".join(parts).removesuffix("\n"))
    except OSError as error:
        raise FolderError(
            f"writing the report to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error
    return written


def _suffix(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    return "" if len(evaluations) == 1 else f"-x{evaluation.scale:g}"


def report_from_evaluations(evaluations: Sequence[Evaluation], baseline: str | None = None) -> dict[str, Any]:
    """Everything measured, at all scales, in JSON's types; a value that is not finite is null."""
    first = evaluations[0]
    return {
        "scales": [evaluation.scale for evaluation in evaluations],
        "samples": first.samples,
        "measures": {name: measure.meaning for name, measure in first.measures.items()},
        "protocol": first.protocol,
        "photographs": len({name for evaluation in evaluations for name in evaluation.photographs}),
        "rule": RULE,
        "originals": [original for evaluation in evaluations for original in _originals_json(evaluation)],
        "rows": [row for evaluation in evaluations for row in _rows_json(evaluation, baseline)],
        "recommended": [
            {"scale": evaluation.scale, "name": recommended_row(evaluation, against).name, "baseline": against.name}
            for evaluation in evaluations
            if (against := baseline_row(evaluation, baseline)) is not None
        ],
    }


def _originals_json(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "scale": evaluation.scale,
            "name": original.name,
            "size": list(original.size.for_user),
            "lr": [original.lr.shape[1], original.lr.shape[0]],
            "cut_from": None if original.whole is None else list(original.whole.for_user),
            "photograph": photograph,
        }
        for original, photograph in zip(evaluation.originals, evaluation.photographs, strict=True)
    ]


def _rows_json(evaluation: Evaluation, baseline: str | None) -> list[dict[str, Any]]:
    against = baseline_row(evaluation, baseline)
    best = {measure: {row.name for row in frontier(evaluation, measure)} for measure in JUDGED}
    rows = []
    for row in evaluation.rows:
        if row.failure is not None:
            rows.append({"scale": evaluation.scale, "name": row.name, "failure": row.failure})
            continue
        compared = None if against is None else compare(evaluation, row, against)
        rows.append(
            _row_json(evaluation, row)
            | {"against_baseline": None if compared is None else _comparison_json(compared)}
            | {"frontier": [measure for measure in JUDGED if row.name in best[measure]]}
        )
    return rows


def _row_json(evaluation: Evaluation, row: Row) -> dict[str, Any]:
    gain, fidelities, mean = evaluation.gain(row), evaluation.fidelities(row), evaluation.fidelity(row)
    return {
        "scale": evaluation.scale,
        "name": row.name,
        "description": row.about.text,
        "draws": row.draws,
        "evaluations": row.about.evaluations,
        "seconds": row.seconds,
        "figures": {
            measure: _interval_json(row.interval(measure)) | {"values": [_finite(v) for v in row.figures[measure]]}
            for measure in evaluation.measures
        },
        "psnr_over_back_projection": None if gain is None else _interval_json(gain),
        "counterpart": row.about.counterpart,
        "fidelity": None
        if mean is None or fidelities is None
        else _interval_json(mean) | {"worst": _finite(min(fidelities)), "values": [_finite(v) for v in fidelities]},
    }


def _comparison_json(compared: Comparison) -> dict[str, Any]:
    return {
        "ssimulacra2": _interval_json(compared.ssimulacra2),
        "psnr": _interval_json(compared.psnr),
        "lr_consistency": _interval_json(compared.lr_consistency),
        "lost": list(compared.lost),
    }


def _interval_json(interval: Interval) -> dict[str, Any]:
    half = interval.half_width
    return {
        "mean": _finite(interval.mean),
        "half_width": None if half is None else _finite(half),
        "pictures": interval.count,
        "photographs": interval.photographs,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
    """PSNR and SSIMULACRA2 of the picture shown, and what it kept of its counterpart."""
    result = Result(pixels=row.pictures[index], original=evaluation.originals[index])
    psnr, look = (evaluation.measures[measure].of(result) for measure in (PSNR, SSIMULACRA2))
    text = f"{psnr:.2f} dB, SSIMULACRA2 {look:.1f}"
    fidelities = evaluation.fidelities(row)
    return text if fidelities is None else f"{text}, fidelity {fidelities[index]:.1f}"
