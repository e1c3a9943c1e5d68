"""Which setting is recommended, and which no faster one equals: on rows whose figures are given."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.measure.evaluation.contenders import About
from deploy.measure.evaluation.evaluate import Evaluation, Row
from deploy.measure.evaluation.judging import baseline_row, compare, frontier, recommended_row, rows_with_model
from deploy.measure.evaluation.measures import MEASURES
from deploy.measure.evaluation.originals import original_from_pixels
from deploy.measure.evaluation.plots import write_frontier
from deploy.measure.evaluation.report import report_from_evaluations, write_report
from deploy.measure.evaluation.tables import comparison_from_evaluation, table_from_evaluation, verdict_from_evaluation

RNG = np.random.default_rng(0)
ORIGINALS = tuple(
    original_from_pixels(f"{name}.png", RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8), 4.0) for name in "ab"
)


def row(
    name: str,
    steps: int | None,
    seconds: float,
    *,
    psnr: tuple[float, float] = (30.0, 32.0),
    detail: float = 0.8,
    lr: float = 40.0,
    draws: int = 1,
) -> Row:
    figures = dict.fromkeys(MEASURES, (1.0, 1.0))
    figures |= {"psnr": psnr, "energy": (detail, detail), "lr_consistency": (lr, lr)}
    pictures = tuple(one.pixels for one in ORIGINALS)
    about = About(text=name, evaluations=steps, series="series", label=name)
    return Row(name=name, about=about, figures=figures, pictures=pictures, seconds=seconds, draws=draws)


def evaluation(*rows: Row) -> Evaluation:
    return Evaluation(scale=4.0, samples=1, originals=ORIGINALS, rows=rows)


SLOW = row("slow", 200, 20.0)
FILTER = row("bicubic", None, 0.001)
BROKEN = Row(name="broken", about=About(text="", evaluations=500), figures={}, failure="it broke")


def test_the_baseline_is_the_one_with_most_steps_or_the_one_that_is_named() -> None:
    mean = row("mean", 800, 80.0, draws=4)
    found = evaluation(FILTER, row("fast", 5, 0.5), SLOW, BROKEN, mean)
    assert baseline_row(found) is SLOW
    named = baseline_row(found, "fast")
    assert named is not None and named.name == "fast"
    assert baseline_row(found, "broken") is None
    assert baseline_row(evaluation(FILTER)) is None
    assert [one.name for one in rows_with_model(found)] == ["fast", "slow", "mean"]


def test_differences_from_the_baseline_are_paired() -> None:
    fast = row("fast", 5, 0.5, psnr=(29.9, 31.7), detail=0.77, lr=39.5)
    compared = compare(evaluation(SLOW, fast), fast, SLOW)
    assert compared is not None
    assert compared.psnr.mean == pytest.approx(-0.2)
    assert compared.psnr.half_width == pytest.approx(12.706 * 0.1, rel=1e-3)  # -0.1 and -0.3
    assert compared.detail is not None and compared.detail.mean == pytest.approx(-0.03)
    assert compared.lr_consistency.mean == pytest.approx(-0.5)
    assert compared.lost == ("psnr",)
    assert compare(evaluation(SLOW, fast), SLOW, SLOW) is None


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({}, ()),
        ({"psnr": (29.86, 31.86)}, ()),
        ({"psnr": (29.84, 31.84)}, ("psnr",)),
        ({"psnr": (40.0, 40.0)}, ()),
        ({"detail": 0.76}, ()),
        ({"detail": 0.74}, ("energy",)),
        ({"detail": 1.24}, ()),  # as far from the original as 0.76
        ({"detail": 1.26}, ("energy",)),
        ({"lr": 39.1}, ()),
        ({"lr": 38.9}, ("lr_consistency",)),
    ],
)
def test_each_measure_may_lose_so_much(changed: dict[str, float], lost: tuple[str, ...]) -> None:
    fast = row("fast", 5, 0.5, **changed)  # type: ignore[arg-type]
    compared = compare(evaluation(SLOW, fast), fast, SLOW)
    assert compared is not None and compared.lost == lost


def test_consistency_beyond_what_is_seen_may_be_lost() -> None:
    high = row("high", 200, 20.0, lr=60.0)
    for lr, lost in ((48.2, ()), (48.0, ("lr_consistency",))):
        fast = row("fast", 5, 0.5, lr=lr)
        compared = compare(evaluation(high, fast), fast, high)
        assert compared is not None and compared.lost == lost


def test_the_fastest_of_the_good_ones_is_recommended() -> None:
    draft = row("draft", 2, 0.2, detail=0.5)
    good, better = row("good", 5, 0.5, detail=0.77), row("better", 10, 1.0)
    found = evaluation(FILTER, draft, good, better, SLOW, BROKEN)
    assert recommended_row(found, SLOW) is good
    assert recommended_row(evaluation(FILTER, draft, SLOW), SLOW) is SLOW
    told = verdict_from_evaluation(found)
    assert told[0] == "quality-time frontier, PSNR: draft"
    assert told[1] == "quality-time frontier, detail: draft, good, better"
    assert told[-1].startswith("recommended: good, the fastest that beside slow loses at most 0.15 dB PSNR, 0.05 of")
    assert (
        "recommended: slow, none that is faster loses" in verdict_from_evaluation(evaluation(FILTER, draft, SLOW))[-1]
    )
    assert verdict_from_evaluation(evaluation(FILTER, SLOW)) == []
    assert comparison_from_evaluation(evaluation(FILTER, SLOW)) == []
    table = {cells[0]: cells[1:] for cells in comparison_from_evaluation(found)}
    assert table["beside slow"][-1] == "loses more than allowed in"
    assert table["draft"] == ["+0.00 ±0.00", "-0.30 ±0.00", "+0.0 ±0.0", "100.00", "detail"]
    assert table["good"][-2:] == ["40.00", "nothing"]
    assert [cells[:2] for cells in table_from_evaluation(found)][1:3] == [["bicubic", ""], ["draft", "2"]]


def test_the_frontier_holds_what_no_faster_one_equals() -> None:
    rows = [
        row("a", 1, 1.0, psnr=(30, 30), detail=0.5, lr=math.nan),
        row("b", 2, 2.0, psnr=(29, 29), detail=1.1, lr=50.0),
        row("c", 3, 2.0, psnr=(31, 31), detail=1.1, lr=49.0),
        row("d", 4, 3.0, psnr=(31, 31), detail=1.6, lr=51.0),
    ]
    found = evaluation(FILTER, *rows)
    assert [one.name for one in frontier(found, "psnr")] == ["a", "c"]
    assert [one.name for one in frontier(found, "energy")] == ["a", "b"]  # 1.6 is further from 1 than 0.5
    assert [one.name for one in frontier(found, "lr_consistency")] == ["b", "d"]
    recorded = {one["name"]: one for one in report_from_evaluations([found])["rows"]}
    assert recorded["c"]["frontier"] == ["psnr"]
    assert recorded["b"]["against_baseline"]["lost"] == ["psnr"]
    assert recorded["d"]["against_baseline"] is None
    assert report_from_evaluations([found])["recommended"] == [{"scale": 4.0, "name": "c", "baseline": "d"}]


def test_the_plot_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    found = evaluation(FILTER, row("fast", 5, 0.5), SLOW)
    for name in ("first.png", "second.png"):
        write_frontier(found, tmp_path / name)
    first = (tmp_path / "first.png").read_bytes()
    assert first.startswith(b"\x89PNG") and len(first) > 20_000
    assert first == (tmp_path / "second.png").read_bytes()


def test_without_matplotlib_the_rest_of_the_report_is_there_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluation(FILTER, row("fast", 5, 0.5), SLOW)
    names = ["evaluation.json", "evaluation.md", "frontier.png", "pictures-1.png"]
    assert [path.name for path in write_report([found], tmp_path)] == names
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    written = write_report([found], tmp_path)
    assert "frontier.png" not in [path.name for path in written]
    assert "needs matplotlib: pip install 'idm-deploy[report]'" in written[1].read_text()
