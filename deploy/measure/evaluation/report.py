"""The folder that an evaluation leaves: figures, tables, contact sheets with the worst cases first, and a plot."""

import json
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import FolderError, MissingPackage
from deploy.images.files import write_image
from deploy.measure.evaluation.evaluate import Evaluation
from deploy.measure.evaluation.judging import rows_with_model
from deploy.measure.evaluation.plots import check_plots_can_be_made, write_frontier
from deploy.measure.evaluation.record import report_from_evaluations
from deploy.measure.evaluation.sheets import contact_sheets
from deploy.measure.evaluation.tables import markdown_from_evaluations


def write_report(
    evaluations: Sequence[Evaluation], folder: Path, *, baseline: str | None = None, notes: Sequence[str] = ()
) -> list[Path]:
    """The files written to `folder`, which is made if it is not there; of several scales, their names say which.

    Without matplotlib the plot is left out, and a line among the table's notes says so.
    """
    try:
        check_plots_can_be_made()
        plotted = [one for one in evaluations if len(rows_with_model(one)) > 1]
    except MissingPackage as missing:
        plotted, notes = [], [*notes, str(missing)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures, table = folder / "evaluation.json", folder / "evaluation.md"
        record = report_from_evaluations(evaluations, baseline) | {"notes": list(notes)}
        figures.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        table.write_text(markdown_from_evaluations(evaluations, baseline, notes), encoding="utf-8")
        written = [figures, table]
        for one in plotted:
            written.append(folder / f"frontier{_suffix(one, evaluations)}.png")
            write_frontier(one, written[-1], baseline)
    except OSError as error:
        raise FolderError(
            f"writing the report to {folder}: {error.strerror}. Choose another folder with -o."
        ) from error
    for one in evaluations:
        for number, sheet in enumerate(contact_sheets(one), 1):
            written.append(folder / f"pictures{_suffix(one, evaluations)}-{number}.png")
            write_image(sheet, written[-1])
    return written


def _suffix(one: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    return "" if len(evaluations) == 1 else f"-x{one.scale:g}"
