"""The arithmetic of an evaluation on flat pictures, where every figure is known by hand."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deploy.errors import FolderError, PlanError, SizeError
from deploy.images.pictures import Pixels
from deploy.measure.evaluation.contenders import BACK_PROJECTED, BICUBIC, MODEL_FREE, About
from deploy.measure.evaluation.evaluate import evaluate, mean_picture
from deploy.measure.evaluation.measures import MEASURES
from deploy.measure.evaluation.originals import original_from_pixels
from deploy.measure.evaluation.report import contact_sheets, report_from_evaluations, write_report
from deploy.measure.evaluation.tables import (
    curve_from_evaluations,
    legend_from_evaluations,
    markdown_from_evaluations,
    table_from_evaluation,
    text_from_interval,
)
from deploy.measure.metrics import Interval
from engines.errors import EngineError


def flat(value: int, side: int = 16) -> Pixels:
    return np.full((side, side, 3), value, np.uint8)


def psnr_of(error: float) -> float:
    """20 log10(255 / error)."""
    return 20 * math.log10(255 / error)


@dataclass(frozen=True, kw_only=True)
class Fake:
    """Answers with a flat picture that depends on the original and the draw."""

    name: str
    value: Callable[[int, int], int]
    is_random: bool = False
    counterpart: str | None = None

    def about(self, original: object = None) -> About:
        del original
        return About(text=f"{self.name} described", evaluations=5, counterpart=self.counterpart)

    def enlarged(self, lr: Pixels, size: tuple[int, int], draw: int) -> Pixels:
        assert size[0] == size[1]
        return flat(self.value(int(lr[0, 0, 0]), draw), size[0])


def refuse(_value: int, _draw: int) -> int:
    raise SizeError("too large for this engine")


def silent(_doing: str, _fraction: float) -> None:
    pass


ORIGINALS = [original_from_pixels(f"{value}.png", flat(value), 4.0) for value in (100, 140)]


def test_figures_of_flat_pictures_by_hand() -> None:
    off = Fake(name="off", value=lambda value, _: value + (10 if value == 100 else 20))
    (row,) = evaluate(ORIGINALS, [off], scale=4.0, progress=silent).rows
    assert row.figures["psnr"] == pytest.approx([psnr_of(10), psnr_of(20)])
    assert row.figures["lr_consistency"] == pytest.approx([psnr_of(10), psnr_of(20)])
    # A grey error e changes Y by e * (65.481 + 128.553 + 24.966) / 255.
    assert row.figures["psnr_y"] == pytest.approx([psnr_of(10 * 219 / 255), psnr_of(20 * 219 / 255)])
    assert row.figures["colour"] == pytest.approx([10, 20])
    assert row.figures["colour_to_lr"] == pytest.approx([10, 20], abs=1e-4)
    # Flat pictures: SSIM is its luminance term, (2ab + c1) / (a^2 + b^2 + c1).
    c1 = (0.01 * 255) ** 2
    ssim = [(2 * a * b + c1) / (a * a + b * b + c1) for a, b in ((100, 110), (140, 160))]
    assert row.figures["ssim"] == pytest.approx(ssim)
    assert all(math.isnan(value) for value in row.figures["energy"])
    # Two values: half the difference over sqrt(1) times t = 12.706 for one degree of freedom.
    mean = (psnr_of(10) + psnr_of(20)) / 2
    interval = row.interval("psnr")
    assert interval.mean == pytest.approx(mean)
    assert interval.half_width == pytest.approx(12.706 * (psnr_of(10) - psnr_of(20)) / 2, rel=1e-3)


def test_one_draw_and_the_mean_of_draws_are_two_rows() -> None:
    draws = Fake(name="model", value=lambda value, draw: value + (10, -10, 30, -10)[draw], is_random=True)
    one, mean = evaluate(ORIGINALS, [draws], scale=4.0, samples=4, progress=silent).rows
    # The mean of the draws' figures, and the figures of the mean of the draws: (10 - 10 + 30 - 10) / 4 = 5.
    expected = (3 * psnr_of(10) + psnr_of(30)) / 4
    assert one.figures["psnr"] == pytest.approx([expected] * 2)
    assert (one.name, mean.name) == ("model", "model, mean of 4")
    assert mean.figures["psnr"] == pytest.approx([psnr_of(5)] * 2)
    np.testing.assert_array_equal(one.pictures[0], flat(110))
    np.testing.assert_array_equal(mean.pictures[1], flat(145))
    # The mean takes four pictures' work.
    assert (one.draws, mean.draws, mean.about.evaluations) == (1, 4, 20)
    assert mean.seconds == pytest.approx(4 * one.seconds)


def test_what_is_not_random_is_drawn_once() -> None:
    calls: list[int] = []
    sure = Fake(name="sure", value=lambda value, draw: calls.append(draw) or value)  # type: ignore[func-returns-value]
    rows = evaluate(ORIGINALS, [sure], scale=4.0, samples=4, progress=silent).rows
    assert [row.name for row in rows] == ["sure"]
    assert calls == [0, 0]


def test_consistency_between_scales_holds_the_result_against_a_smaller_one_of_the_same_picture() -> None:
    """Enlarged to 16 pixels a picture is 10 levels too bright, to 8 pixels 4: reduced, they are 6 levels apart."""

    @dataclass(frozen=True, kw_only=True)
    class Drifting(Fake):
        def enlarged(self, lr: Pixels, size: tuple[int, int], draw: int) -> Pixels:
            return flat(int(lr[0, 0, 0]) + {16: 10, 8: 4}[size[0]] + draw, size[0])

    drifting = Drifting(name="drifts", value=lambda value, _: value, is_random=True)
    one, mean = evaluate(ORIGINALS, [drifting], scale=4.0, smaller=2.0, samples=2, progress=silent).rows
    for row in (one, mean):
        assert row.figures["scale_consistency"] == pytest.approx([psnr_of(6)] * 2, abs=1e-4)
    assert one.figures["psnr"] == pytest.approx([(psnr_of(10) + psnr_of(11)) / 2] * 2)
    (alone,) = evaluate(ORIGINALS, [Fake(name="a", value=lambda value, _: value)], scale=4.0, progress=silent).rows
    assert all(math.isnan(value) for value in alone.figures["scale_consistency"])


def test_how_much_draws_differ_is_told_of_both_rows() -> None:
    """Draws at +10 and -10 levels: a deviation of sqrt(2 * 10^2 / 1)."""
    draws = Fake(name="model", value=lambda value, draw: value + (10, -10)[draw], is_random=True)
    one, mean = evaluate(ORIGINALS, [draws], scale=4.0, samples=2, progress=silent).rows
    assert one.figures["diversity"] == pytest.approx([math.sqrt(200)] * 2)
    assert all(math.isnan(value) for value in mean.figures["diversity"])
    (sure,) = evaluate(ORIGINALS, [Fake(name="a", value=lambda value, _: value)], scale=4.0, progress=silent).rows
    assert all(math.isnan(value) for value in sure.figures["diversity"])


def test_crops_of_one_photograph_have_no_interval_and_it_is_said() -> None:
    crops = [replace(original, photograph="bridge") for original in ORIGINALS]
    off = Fake(name="off", value=lambda value, _: value + (10 if value == 100 else 20))
    result = evaluate(crops, [off], scale=4.0, progress=silent)
    assert result.rows[0].interval("psnr").half_width is None
    text = markdown_from_evaluations([result])
    assert text.startswith("## 2 originals of 1 photograph at 4x\n")
    assert "all 2 originals are crops or near duplicates of one photograph (bridge): there is no interval" in text


def test_the_scales_are_told_as_a_curve_with_the_number_of_pictures(tmp_path: Path) -> None:
    off = Fake(name="off", value=lambda value, _: value + 10)
    results = [
        evaluate(
            [original_from_pixels(f"{v}.png", flat(v, 24), scale) for v in (100, 140)],
            [off],
            scale=scale,
            progress=silent,
        )
        for scale in (2.0, 4.0)
    ]
    heading, line = curve_from_evaluations(results, "psnr")
    assert heading == ["PSNR over scales, 2 originals of 2 photographs", "2x", "4x"]
    assert line == ["off", "28.13 ±0.00", "28.13 ±0.00"]
    assert "\n## Over the scales\n" in markdown_from_evaluations(results)
    results = [evaluate(ORIGINALS, [*MODEL_FREE, off, Fake(name="b", value=lambda v, _: v)], scale=s, progress=silent)
               for s in (2.0, 4.0)]  # fmt: skip
    assert "curve.png" in [path.name for path in write_report(results, tmp_path)]


def test_the_mean_picture_rounds_half_to_even() -> None:
    np.testing.assert_array_equal(mean_picture([flat(1), flat(2)]), flat(2))
    np.testing.assert_array_equal(mean_picture([flat(2), flat(3)]), flat(2))
    np.testing.assert_array_equal(mean_picture([flat(255)] * 300), flat(255))


def test_gains_are_paired_with_the_back_projected_row() -> None:
    base = Fake(name=BACK_PROJECTED, value=lambda value, _: value + (10 if value == 100 else 20))
    better = Fake(name="better", value=lambda value, _: value + (5 if value == 100 else 10))
    result = evaluate(ORIGINALS, [base, better], scale=4.0, progress=silent)
    gain = result.gain(result.rows[1])
    assert gain is not None
    assert gain.mean == pytest.approx(20 * math.log10(2))
    assert gain.half_width == pytest.approx(0, abs=1e-9)  # the same for both pictures
    assert result.gain(result.rows[0]) is None
    assert result.gain(result.rows[1], over="absent") is None


def test_fidelity_compares_first_draws_with_the_reference() -> None:
    """Off by 10 and by 14: 4 levels apart."""
    float_row = Fake(name="float", value=lambda value, draw: value + (10, 90)[draw], is_random=True)
    int8_row = Fake(name="int8", value=lambda value, draw: value + (14, 40)[draw], is_random=True, counterpart="float")
    broken = Fake(name="broken", value=refuse, counterpart="float")
    contenders = [float_row, int8_row, broken]
    result = evaluate(ORIGINALS, contenders, scale=4.0, samples=2, progress=silent)
    kept = {row.name: result.fidelity(row) for row in result.rows}
    assert kept["int8"] is not None
    assert kept["int8"].mean == pytest.approx(psnr_of(4))
    assert [name for name, interval in kept.items() if interval is None] == [
        "float",
        "float, mean of 2",
        "int8, mean of 2",
        "broken",
    ]
    table = {cells[0]: cells for cells in table_from_evaluation(result)}
    assert table[""][-1] == "fidelity"
    assert table["int8"][-1] == "36.1 ±0.0"
    assert "fidelity: dB between the pictures and those of float, from the same noise" in legend_from_evaluations(
        [result]
    )
    recorded = {row["name"]: row for row in report_from_evaluations([result])["rows"]}["int8"]
    assert recorded["counterpart"] == "float"
    assert recorded["fidelity"]["worst"] == pytest.approx(psnr_of(4))


def test_one_that_fails_has_a_row_that_says_why() -> None:
    contenders = [
        Fake(name="broken", value=refuse),
        Fake(name="sound", value=lambda value, _: value),
    ]
    result = evaluate(ORIGINALS, contenders, scale=4.0, progress=silent)
    assert [row.failure for row in result.rows] == ["100.png: too large for this engine", None]
    assert table_from_evaluation(result)[1] == ["broken", "100.png: too large for this engine"]
    assert report_from_evaluations([result])["rows"][0] == {
        "scale": 4.0,
        "name": "broken",
        "failure": "100.png: too large for this engine",
    }


def test_an_engine_that_fails_in_the_middle_is_left_alone_and_the_others_go_on() -> None:
    asked: list[int] = []

    def fall_over(value: int, _draw: int) -> int:
        asked.append(value)
        if len(asked) == 2:
            raise EngineError("the engine fell over")
        return value

    originals = [*ORIGINALS, original_from_pixels("180.png", flat(180), 4.0)]
    contenders = [Fake(name="falls", value=fall_over), Fake(name="sound", value=lambda value, _: value)]
    falls, sound = evaluate(originals, contenders, scale=4.0, progress=silent).rows
    assert asked == [100, 140]
    assert falls.failure == "140.png: the engine fell over"
    assert len(sound.pictures) == 3


def test_no_sample_is_refused() -> None:
    with pytest.raises(PlanError, match="at least 1 sample of each picture, found 0"):
        evaluate(ORIGINALS, [], scale=4.0, samples=0, progress=silent)


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    contenders = [Fake(name=name, value=lambda value, _: value, is_random=True) for name in "ab"]
    evaluate(ORIGINALS, contenders, scale=4.0, samples=2, progress=lambda _, share: told.append(share))
    assert told == pytest.approx([(k + 1) / 4 for k in range(4)])


def test_back_projection_is_the_better_of_the_rows_without_a_model() -> None:
    ramp = np.tile((np.arange(32) % 8 * 32)[None, :, None], (32, 1, 3)).astype(np.uint8)
    original = original_from_pixels("ramp.png", ramp, 4.0)
    result = evaluate([original], MODEL_FREE, scale=4.0, progress=silent)
    assert [row.name for row in result.rows] == [BICUBIC, BACK_PROJECTED]
    plain, corrected = (row.figures["lr_consistency"][0] for row in result.rows)
    assert corrected > plain + 6


def test_the_report_is_json_without_nan(tmp_path: Path) -> None:
    exact = Fake(name="exact", value=lambda value, _: value)
    result = evaluate(ORIGINALS, [*MODEL_FREE, exact], scale=4.0, progress=silent)
    written = write_report([result], tmp_path / "report", notes=["a note"])
    assert [path.name for path in written] == ["evaluation.json", "evaluation.md", "pictures-1.png"]
    data = json.loads(written[0].read_text(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert [row["name"] for row in data["rows"]] == [BICUBIC, BACK_PROJECTED, "exact"]
    assert data["rows"][2]["figures"]["psnr"] == {
        "mean": None,
        "half_width": None,
        "pictures": 2,
        "photographs": 2,
        "values": [None, None],
    }
    assert data["protocol"].startswith(
        "protocol plain: originals fixed, inputs reduced by the scale; LR by antialiased"
    )
    assert data["photographs"] == 2
    assert data["rows"][2]["figures"]["colour"]["values"] == [0.0, 0.0]
    assert data["originals"][0] == {
        "scale": 4.0,
        "name": "100.png",
        "size": [16, 16],
        "lr": [4, 4],
        "cut_from": None,
        "photograph": "0: 100.png",
    }
    assert data["notes"] == ["a note"]
    assert "* a note" in written[1].read_text()
    assert data["measures"].keys() == MEASURES.keys()


def test_sizes_are_told_as_users_say_them(tmp_path: Path) -> None:
    """31 rows of 45 pixels are cut to 28 of 44; width comes first."""
    original = original_from_pixels("wide.png", np.full((31, 45, 3), 100, np.uint8), 4.0)
    result = evaluate([original], list(MODEL_FREE), scale=4.0, progress=silent)
    written = write_report([result], tmp_path / "report", notes=[])
    (told,) = json.loads(written[0].read_text())["originals"]
    assert (told["size"], told["lr"], told["cut_from"]) == ([44, 28], [11, 7], [45, 31])
    assert "45x31 to 44x28" in written[1].read_text()


def test_the_table_says_what_was_measured() -> None:
    off = Fake(name="off", value=lambda value, _: value + 10)
    result = evaluate(ORIGINALS, [off], scale=4.0, progress=silent)
    heading, cells = table_from_evaluation(result)
    assert len(cells) == len(heading)
    assert cells[:3] == ["off", "5", "28.13 ±0.00"]
    assert "detail" not in heading  # flat originals have none
    text = markdown_from_evaluations([result])
    assert text.startswith("## 2 originals of 2 photographs at 4x, means with 95 % intervals over photographs\n\nproto")
    assert "* off: off described" in text


def test_intervals_read_well() -> None:
    assert (
        text_from_interval(Interval(mean=0.2, half_width=0.05, count=9, photographs=9), 2, sign=True) == "+0.20 ±0.05"
    )
    assert text_from_interval(Interval(mean=1.26, half_width=None, count=1, photographs=1), 1) == "1.3"
    assert text_from_interval(Interval(mean=math.inf, half_width=None, count=1, photographs=1), 1) == "inf"
    assert text_from_interval(Interval(mean=math.nan, half_width=None, count=0, photographs=0), 1) == "-"


def test_the_worst_case_comes_first_on_the_sheet() -> None:
    """The second original's result is worse, so its flat tile (140) lies above the first's (100)."""
    off = Fake(name="off", value=lambda value, _: value + (1 if value == 100 else 20))
    (sheet,) = contact_sheets(evaluate(ORIGINALS, [off], scale=4.0, progress=silent))
    rows = {value: np.flatnonzero((sheet == value).all(axis=2).sum(axis=1) > 200) for value in (100, 140)}
    assert rows[140].max() < rows[100].min()


def test_a_report_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = evaluate(ORIGINALS, MODEL_FREE, scale=4.0, progress=silent)
    with pytest.raises(FolderError, match=r"writing the report to .*taken: .*Choose another folder with -o"):
        write_report([result], tmp_path / "taken")
