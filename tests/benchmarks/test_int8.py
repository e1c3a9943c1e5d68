"""The int8 benchmark on a tiny network: every row is made and measured, an earlier run is gone on with."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import int8
from benchmarks.int8_tables import table_of_ranges, table_of_ways
from benchmarks.int8_ways import Workbench, nearest_codes
from deploy.bundle import Bundle
from deploy.bundle.records import Preset
from deploy.images.files import write_image
from deploy.int8.settings import QuantizeSettings
from deploy.int8.trying.comparison import Fidelity
from deploy.sampling.choices import Choices
from tests.deploy.exported import exported, exported_latent

QUICK = ["--pictures", "2", "--calibration-pictures", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=3)})
        return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for number in range(3):
        rough = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        write_image(np.kron(rough, np.ones((4, 4, 1), np.uint8)), folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small crops, two steps, and a budget that random weights meet."""
    settings = partial(QuantizeSettings, crop=16, scales=(2.0,), max_psnr_drop=50.0, float_share=0.0)
    monkeypatch.setattr(int8, "QuantizeSettings", settings)
    monkeypatch.setattr(int8, "PLAIN", Choices(equation="ddim", steps=2, placement="uniform", start=0.0, eta=0.0))
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)


def words(bundle: Bundle, pictures: Path, *more: str) -> list[str]:
    return [str(bundle.path), *QUICK, "--originals", str(pictures), "--calib", str(pictures), *more]


@pytest.mark.slow
def test_every_way_is_measured_and_a_second_run_goes_on(
    bundle: Bundle, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundle.manifest.as_bytes()
    kept = ["--targets", "ort", "--scratch", str(tmp_path / "scratch"), "--json", str(tmp_path / "r.json")]
    assert int8.main(words(bundle, pictures, *kept)) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert Bundle.open(bundle.path).manifest.as_bytes() == before
    named = [(row["way"], row["target"], row["sampling"]) for row in report["rows"]]
    naive = ("naive, everything in int8", "naive, first and last in float", "naive, the same layers")
    ways = (*naive, "default")
    assert named == [
        *(("int8 weights only", "-", sampling) for sampling in ("plain", "preset")),
        *((way, "ort", sampling) for way in ways for sampling in ("plain", "preset")),
    ]
    rows = {(row["way"], row["sampling"]): row for row in report["rows"]}
    assert rows["naive, everything in int8", "plain"]["share_of_multiplications_in_float"] == pytest.approx(0)
    ends, same, default = (rows[way, "plain"]["share_of_multiplications_in_float"] for way in ways[1:])
    assert 0 < ends <= same == default < 0.5
    for row in report["rows"]:
        assert 5 < row["worst"] <= row["mean"] < 200  # it changes the pictures, and leaves them pictures
    assert rows["int8 weights only", "plain"]["mean"] > rows["naive, everything in int8", "plain"]["mean"]
    assert printed.count("\n| ") == 2 + 5

    def never(*_: object) -> Fidelity:
        raise AssertionError("measured again")

    monkeypatch.setattr(Workbench, "measured", never)
    assert int8.main(words(bundle, pictures, *kept)) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.slow
def test_several_ranges_stand_against_one(
    bundle: Bundle, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--ranges", "--targets", "tensorrt", "--steps", "2,3", "--equations", "ddim", "--json", str(tmp_path / "r")]
    with pytest.MonkeyPatch.context() as patch:  # no more ranges than there are recorded steps
        configurations = int8.configurations

        def few(steps: list[int], equations: list[str]) -> list[int8.Configuration]:
            made = configurations(steps, equations)
            return [replace(c, ranges=2) for c in made]

        patch.setattr(int8, "configurations", few)
        assert int8.main(words(bundle, pictures, *more)) == 0
    report = json.loads((tmp_path / "r").read_text())
    assert len(report["rows"]) == 2 * (2 + 4)
    assert {row["ranges"] for row in report["rows"] if row["ranges_asked"] == "1"} == {1}
    assert {row["ranges"] for row in report["rows"] if row["ranges_asked"] == "2"} == {2}
    assert capsys.readouterr().out.count("\n| ") == 2 + 6


def test_gains_are_paired() -> None:
    rows = [
        {"target": "ort", "way": "ddim", "ranges": ranges, "fidelity": values}
        for ranges, values in ((1, [40.0, 50.0]), (4, [41.0, 53.0]))
    ]
    report = {"bundle": "a.bundle", "pictures": ["1", "2"], "photographs": ["1", "2"], "rows": rows}
    # The gains are 1 and 3: mean 2, standard error 1, t for one degree of freedom 12.71.
    assert table_of_ranges(report).splitlines()[-1] == "| ddim | ort | 45.00 | 4 | 47.00 | +2.00 ±12.71 |"


def test_a_way_is_one_line_with_both_samplings() -> None:
    row = {"target": "ort", "way": "default", "ranges": 3, "share_of_multiplications_in_float": 0.006}
    row |= {"mean": 45.04, "worst": 40.0, "psnr_change": 0.5, "ssim_change": 0.5}
    preset = {
        **row,
        "mean": 52.0,
        "worst": 50.0,
        "psnr_change": -0.01,
        "ssim_change": -0.002,
        "ssimulacra2_change": -0.05,
    }
    rows = [{**row, "sampling": "plain"}, {**preset, "sampling": "preset"}]
    report = {"bundle": "a.bundle", "pictures": ["1"], "photographs": ["1"], "preset": "balanced", "rows": rows}
    line = "| default | ort | 3 | 0.6% | 45.0 | 40.0 | 52.0 | 50.0 | -0.010 | -0.0020 | -0.05 |"
    assert table_of_ways(report).splitlines()[-1] == line


def test_nearest_codes_clip_nothing() -> None:
    made = nearest_codes(np.array([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0]], np.float32))
    assert made.codes.tolist() == [[127, -50, 0], [0, 0, 0]]
    assert made.scales == pytest.approx([0.01, 1.0])


def test_a_model_that_generates_is_refused(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generates = exported_latent("latent_gen_tiny", tmp_path)
    assert int8.main(words(generates, pictures)) == 1
    assert "generates pictures: there are no originals to measure it on" in capsys.readouterr().err
