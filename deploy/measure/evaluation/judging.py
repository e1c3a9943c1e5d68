"""The judge: which setting to take, and which are not beaten by a faster one.

Its rule, for `evaluate`, for the presets that `schedule` stores and for whoever chooses by hand: pictures are judged by
SSIMULACRA2, which stands for how people see them, within what PSNR and the consistency with the LR picture allow.
Detail, the amplitude above the LR Nyquist, is told and never rewarded: grain counts as detail.
"""

import math
from dataclasses import dataclass

from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.measures import LR_CONSISTENCY, PSNR, SSIMULACRA2
from deploy.measure.metrics import Interval

MOST_PSNR_LOST = 0.15
"""dB, in the mean over the pictures."""
MOST_SSIMULACRA2_LOST = 0.5
"""Points of 100. A belief: people tell two pictures apart by several."""
MOST_CONSISTENCY_LOST = 1.0
"""dB; more is allowed where the LR picture is met to UNSEEN."""
UNSEEN = 20 * math.log10(255)
"""dB of an error of one level, 48.1: what lies above is not seen."""

JUDGED = (SSIMULACRA2, PSNR, LR_CONSISTENCY)

LIMITS = (
    f"loses at most {MOST_SSIMULACRA2_LOST:g} of SSIMULACRA2, {MOST_PSNR_LOST:g} dB PSNR and "
    f"{MOST_CONSISTENCY_LOST:g} dB LR consistency (more while that stays above {UNSEEN:.1f} dB, one level), in the "
    "means over the pictures"
)
RULE = f"the fastest that beside the baseline (unless named, the one of the highest SSIMULACRA2) {LIMITS}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row beside the baseline, picture by picture. `lost`: where it loses more than the rule allows."""

    ssimulacra2: Interval
    psnr: Interval
    lr_consistency: Interval
    lost: tuple[str, ...]


def rows_with_model(evaluation: Evaluation) -> list[Row]:
    """The rows that a network made and that did not fail."""
    return [row for row in evaluation.sound_rows() if row.about.evaluations is not None]


def baseline_row(evaluation: Evaluation, name: str | None = None) -> Row | None:
    """The row that others are compared with: the one of that name, or of one draw with the highest SSIMULACRA2.

    None if that failed, or there is no row with a model.
    """
    if name is not None:
        return evaluation.sound_row(name)
    single = [row for row in rows_with_model(evaluation) if row.draws == 1]
    return max(single, key=lambda row: row.interval(SSIMULACRA2).mean, default=None)


def compare(evaluation: Evaluation, row: Row, baseline: Row) -> Comparison | None:
    """The row beside the baseline; None for the baseline itself."""
    look, psnr, consistency = (evaluation.gain(row, measure, baseline.name) for measure in JUDGED)
    if look is None or psnr is None or consistency is None:
        return None
    lost = []
    if look.mean < -MOST_SSIMULACRA2_LOST:
        lost.append(SSIMULACRA2)
    if psnr.mean < -MOST_PSNR_LOST:
        lost.append(PSNR)
    if consistency.mean < -MOST_CONSISTENCY_LOST and row.interval(LR_CONSISTENCY).mean < UNSEEN:
        lost.append(LR_CONSISTENCY)
    return Comparison(ssimulacra2=look, psnr=psnr, lr_consistency=consistency, lost=tuple(lost))


def recommended_row(evaluation: Evaluation, baseline: Row) -> Row:
    """What RULE says; the baseline itself if nothing faster is as good."""
    candidates = [baseline]
    for row in rows_with_model(evaluation):
        comparison = compare(evaluation, row, baseline)
        if comparison is not None and not comparison.lost:
            candidates.append(row)
    return min(candidates, key=lambda row: row.seconds)


def frontier(evaluation: Evaluation, measure: str) -> list[Row]:
    """The rows with a model that no faster one equals in this measure, from the fastest to the slowest."""
    best: list[Row] = []
    for row in sorted(rows_with_model(evaluation), key=lambda row: (row.seconds, -row.interval(measure).mean)):
        merit = row.interval(measure).mean
        if not math.isnan(merit) and (not best or merit > best[-1].interval(measure).mean):
            best.append(row)
    return best
