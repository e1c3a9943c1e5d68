"""Evaluations as a machine reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import JUDGED, RULE, Comparison, baseline_row, compare, frontier, recommended_row
from deploy.measure.metrics import Interval


def report_from_evaluations(evaluations: Sequence[Evaluation], baseline: str | None = None) -> dict[str, Any]:
    """Everything measured, at all scales, in JSON's types; a value that is not finite is null."""
    first = evaluations[0]
    return {
        "scales": [one.scale for one in evaluations],
        "samples": first.samples,
        "measures": {name: measure.meaning for name, measure in first.measures.items()},
        "rule": RULE,
        "originals": [original for one in evaluations for original in _originals_json(one)],
        "rows": [row for one in evaluations for row in _rows_json(one, baseline)],
        "recommended": [
            {"scale": one.scale, "name": recommended_row(one, found).name, "baseline": found.name}
            for one in evaluations
            if (found := baseline_row(one, baseline)) is not None
        ],
    }


def report_from_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """The same of one scale."""
    return report_from_evaluations([evaluation])


def _originals_json(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "scale": evaluation.scale,
            "name": one.name,
            "size": list(one.size.for_user),
            "lr": [one.lr.shape[1], one.lr.shape[0]],
            "cut_from": None if one.whole is None else list(one.whole.for_user),
        }
        for one in evaluation.originals
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
    gain, kept = evaluation.gain(row), evaluation.fidelities(row)
    mean = evaluation.fidelity(row)
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
        if mean is None or kept is None
        else _interval_json(mean) | {"worst": _finite(min(kept)), "values": [_finite(value) for value in kept]},
    }


def _comparison_json(compared: Comparison) -> dict[str, Any]:
    return {
        "psnr": _interval_json(compared.psnr),
        "energy": None if compared.detail is None else _interval_json(compared.detail),
        "lr_consistency": _interval_json(compared.lr_consistency),
        "lost": list(compared.lost),
    }


def _interval_json(interval: Interval) -> dict[str, Any]:
    half = interval.half_width
    return {"mean": _finite(interval.mean), "half_width": None if half is None else _finite(half)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
