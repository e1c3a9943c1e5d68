"""What the figures say of settings: which one to take, and which are not beaten by a faster one."""

import math
from dataclasses import dataclass

from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.measures import DETAIL, LR_CONSISTENCY, PSNR
from deploy.measure.metrics import Interval

MOST_PSNR_LOST = 0.15
"""dB, in the mean over the pictures."""
MOST_DETAIL_LOST = 0.05
MOST_CONSISTENCY_LOST = 1.0
"""dB; more is allowed where the LR picture is met to UNSEEN."""
UNSEEN = 20 * math.log10(255)
"""dB of an error of one level, 48.1: what lies above is not seen."""

JUDGED = (PSNR, DETAIL, LR_CONSISTENCY)

LIMITS = (
    f"loses at most {MOST_PSNR_LOST:g} dB PSNR, {MOST_DETAIL_LOST:g} of detail and {MOST_CONSISTENCY_LOST:g} dB LR "
    f"consistency (more while that stays above {UNSEEN:.1f} dB, one level), in the means over the pictures"
)
RULE = f"the fastest that beside the baseline {LIMITS}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row beside the baseline, picture by picture. `lost`: where it loses more than the rule allows."""

    psnr: Interval
    detail: Interval | None
    lr_consistency: Interval
    lost: tuple[str, ...]


def rows_with_model(evaluation: Evaluation) -> list[Row]:
    """The rows that a network made and that did not fail."""
    return [row for row in evaluation.sound_rows() if row.about.evaluations is not None]


def baseline_row(evaluation: Evaluation, name: str | None = None) -> Row | None:
    """The row that others are compared with: the one of that name, or of one draw with the most evaluations.

    None if that failed, or there is no row with a model.
    """
    if name is not None:
        return evaluation.sound_row(name)
    single = [row for row in rows_with_model(evaluation) if row.draws == 1]
    return max(single, key=lambda row: row.about.evaluations or 0, default=None)


def compare(evaluation: Evaluation, row: Row, baseline: Row) -> Comparison | None:
    """The row beside the baseline; None for the baseline itself."""
    psnr = evaluation.gain(row, PSNR, baseline.name)
    consistency = evaluation.gain(row, LR_CONSISTENCY, baseline.name)
    if psnr is None or consistency is None:
        return None
    detail = evaluation.gain(row, DETAIL, baseline.name)
    lost = []
    if psnr.mean < -MOST_PSNR_LOST:
        lost.append(PSNR)
    if _distance_from_original(row) - _distance_from_original(baseline) > MOST_DETAIL_LOST:
        lost.append(DETAIL)
    if consistency.mean < -MOST_CONSISTENCY_LOST and row.interval(LR_CONSISTENCY).mean < UNSEEN:
        lost.append(LR_CONSISTENCY)
    return Comparison(psnr=psnr, detail=detail, lr_consistency=consistency, lost=tuple(lost))


def recommended_row(evaluation: Evaluation, baseline: Row) -> Row:
    """What RULE says; the baseline itself if nothing faster is as good."""
    candidates = [baseline]
    for row in rows_with_model(evaluation):
        comparison = compare(evaluation, row, baseline)
        if comparison is not None and not comparison.lost:
            candidates.append(row)
    return min(candidates, key=lambda row: row.seconds)


def frontier(evaluation: Evaluation, measure: str) -> list[Row]:
    """The rows with a model that no faster one equals in this measure, from the fastest to the slowest.

    In detail, better is nearer to the original's 1: too much of it is noise.
    """
    best: list[Row] = []
    for row in sorted(rows_with_model(evaluation), key=lambda row: (row.seconds, -_merit(row, measure))):
        merit = _merit(row, measure)
        if not math.isnan(merit) and (not best or merit > _merit(best[-1], measure)):
            best.append(row)
    return best


def _merit(row: Row, measure: str) -> float:
    return -_distance_from_original(row) if measure == DETAIL else row.interval(measure).mean


def _distance_from_original(row: Row) -> float:
    return abs(1.0 - row.interval(DETAIL).mean)
