"""Evaluations as a person reads them: tables, what they say, and what their columns mean."""

import math
from collections.abc import Mapping, Sequence

from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import (
    JUDGED,
    LIMITS,
    baseline_row,
    compare,
    frontier,
    recommended_row,
    rows_with_model,
)
from deploy.measure.evaluation.measures import Measure
from deploy.measure.metrics import Interval

GAIN_HEADING = "PSNR over back-proj."
FIDELITY_HEADING = "fidelity"


def measures_shown(evaluation: Evaluation) -> Mapping[str, Measure]:
    """The measures that are defined for some row: without another scale, for instance, none compares with it."""
    rows = evaluation.sound_rows()
    return {
        name: measure
        for name, measure in evaluation.measures.items()
        if not rows or any(not math.isnan(row.interval(name).mean) for row in rows)
    }


def table_from_evaluation(evaluation: Evaluation) -> list[list[str]]:
    """The heading and the rows of the table: means, with the half width of the 95 % interval where there is one."""
    shown = measures_shown(evaluation)
    heading = ["", "steps", *(measure.heading for measure in shown.values()), GAIN_HEADING, "s/picture"]
    if _has_fidelity(evaluation):
        heading.append(FIDELITY_HEADING)
    return [heading, *(_cells(evaluation, row, shown) for row in evaluation.rows)]


def _cells(evaluation: Evaluation, row: Row, shown: Mapping[str, Measure]) -> list[str]:
    if row.failure is not None:
        return [row.name, row.failure]
    steps = "" if row.about.evaluations is None else str(row.about.evaluations)
    cells = [text_from_interval(row.interval(name), measure.decimals) for name, measure in shown.items()]
    gain = evaluation.gain(row)
    cells += ["" if gain is None else text_from_interval(gain, 2, sign=True), f"{row.seconds:.3f}"]
    if _has_fidelity(evaluation):
        fidelity = evaluation.fidelity(row)
        cells.append("" if fidelity is None else text_from_interval(fidelity, 1))
    return [row.name, steps, *cells]


def _has_fidelity(evaluation: Evaluation) -> bool:
    return any(evaluation.fidelities(row) is not None for row in evaluation.rows)


def comparison_from_evaluation(evaluation: Evaluation, baseline: str | None = None) -> list[list[str]]:
    """The heading and the rows beside the baseline, picture by picture; nothing where there is no other row."""
    against = baseline_row(evaluation, baseline)
    if against is None:
        return []
    heading = [f"beside {against.name}", "PSNR", "detail", "LR cons.", "times faster", "loses more than allowed in"]
    rows = []
    for row in rows_with_model(evaluation):
        comparison = compare(evaluation, row, against)
        if comparison is not None:
            detail = "-" if comparison.detail is None else text_from_interval(comparison.detail, 2, sign=True)
            lost = ", ".join(evaluation.measures[name].heading for name in comparison.lost)
            consistency = text_from_interval(comparison.lr_consistency, 1, sign=True)
            psnr, faster = text_from_interval(comparison.psnr, 2, sign=True), f"{against.seconds / row.seconds:.2f}"
            rows.append([row.name, psnr, detail, consistency, faster, lost or "nothing"])
    return [heading, *rows] if rows else []


def verdict_from_evaluation(evaluation: Evaluation, baseline: str | None = None) -> list[str]:
    """Which settings no faster one equals, and which to take; nothing where only one was run."""
    against = baseline_row(evaluation, baseline)
    if against is None or len(rows_with_model(evaluation)) < 2:
        return []
    lines = [
        f"quality-time frontier, {evaluation.measures[measure].heading}: {', '.join(row.name for row in best)}"
        for measure in JUDGED
        if (best := frontier(evaluation, measure))
    ]
    chosen = recommended_row(evaluation, against)
    why = f"the fastest that beside {against.name}" if chosen is not against else "none that is faster"
    return [*lines, f"recommended: {chosen.name}, {why} {LIMITS}"]


def remarks_on(evaluation: Evaluation, baseline: str | None = None) -> list[str]:
    """What to know of the tables of one scale: what they say, and how originals were made to fit."""
    remarks = verdict_from_evaluation(evaluation, baseline)
    cut = [one for one in evaluation.originals if one.whole is not None]
    if cut:
        one = cut[0]
        remarks.append(
            f"{len(cut)} of {len(evaluation.originals)} originals were cut, their middle kept (as {one.name}, "
            f"{one.whole} to {one.size}), to what whole LR pixels enlarge to"
        )
    return remarks


def legend_from_evaluations(evaluations: Sequence[Evaluation]) -> list[str]:
    """What the rows are, which is the same at every scale, and what fidelity is held against."""
    texts = {row.name: row.about.text for evaluation in evaluations for row in evaluation.sound_rows()}
    lines = [f"{name}: {text}" for name, text in texts.items()]
    against = dict.fromkeys(
        row.about.counterpart
        for evaluation in evaluations
        for row in evaluation.sound_rows()
        if evaluation.fidelities(row) is not None and row.about.counterpart is not None
    )
    if against:
        others = f"those of {', '.join(against)}{', whichever samples alike' if len(against) > 1 else ''}"
        lines.append(f"{FIDELITY_HEADING}: dB between the pictures and {others}, from the same noise")
    return lines


def title_from_evaluation(evaluation: Evaluation) -> str:
    """What the table is of."""
    several = ", means with 95 % intervals" if len(evaluation.originals) > 1 else ""
    return f"{pictures_of(evaluation)}{several}"


def pictures_of(evaluation: Evaluation) -> str:
    """E.g. "8 originals at 4x"."""
    count = len(evaluation.originals)
    return f"{count} original{'s' if count != 1 else ''} at {evaluation.scale:g}x"


def text_from_interval(interval: Interval, decimals: int, *, sign: bool = False) -> str:
    """E.g. "27.31 ±0.80"."""
    if not math.isfinite(interval.mean):
        return "-" if math.isnan(interval.mean) else "inf"
    mean = f"{interval.mean:{'+' if sign else ''}.{decimals}f}"
    return mean if interval.half_width is None else f"{mean} ±{interval.half_width:.{decimals}f}"


def markdown_from_evaluations(
    evaluations: Sequence[Evaluation], baseline: str | None = None, notes: Sequence[str] = ()
) -> str:
    """The tables in Markdown, with what each row and column means under them."""
    parts = []
    for evaluation in evaluations:
        parts += [
            f"## {title_from_evaluation(evaluation)}",
            "",
            *markdown_table(table_from_evaluation(evaluation)),
            "",
        ]
        compared = comparison_from_evaluation(evaluation, baseline)
        parts += [*markdown_table(compared), ""] if compared else []
        parts += [*(f"* {line}" for line in remarks_on(evaluation, baseline)), ""]
    columns = [f"* {measure.heading}: {measure.meaning}" for measure in measures_shown(evaluations[-1]).values()]
    rows = [f"* {line}" for line in legend_from_evaluations(evaluations)]
    return "\n".join([*parts, "## Rows", "", *rows, "", "## Columns", "", *columns, *(f"* {n}" for n in notes), ""])


def markdown_table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown, the heading first; shorter rows end in empty cells."""
    width = len(cells[0])
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in cells]
    lines.insert(1, f"|{'---|' * width}")
    return lines
