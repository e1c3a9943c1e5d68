"""From a checkpoint to a quantized bundle with its report, by the command itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.errors import FolderError
from deploy.images.files import read_image
from deploy.quantization import command
from deploy.quantization.report import MOST_AMPLIFIED, amplification, difference
from deploy.quantization.settings import Places, QuantizeSettings
from tests.deploy.quantization.conftest import CONFIG

OPTIONS = "--pictures 2 --crop 16 --scale 2 --ranges 2 --max-psnr-drop 5 --float-share 0 --targets ort,tensorrt"


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps everywhere and one held-out picture."""
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": {"equation": "ddim", "steps": 2}})
    monkeypatch.setattr("deploy.quantization.trajectories.PLAIN_STEPS", 2)
    monkeypatch.setattr("deploy.quantization.results.HELD_OUT", 1)


@pytest.mark.slow
def test_a_checkpoint_becomes_a_quantized_bundle_with_a_report(
    micro_checkpoint: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    words = ["quantize", str(micro_checkpoint), "--config", "config.json", "--calib", str(photographs)]
    words += ["--cache-dir", "cache", *OPTIONS.split()]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    heading, *rows = [line.split() for line in result.stdout.splitlines()[1:4]]
    page = (tmp_path / "idm_micro_gen-report" / "quantization.md").read_text()
    assert "size: weights of the denoiser" in page
    assert [line.count("|") for line in page.partition("What was tried")[2].splitlines()[2:]] == [6] * 4
    assert heading[0] == "target"
    assert [row[0] for row in rows] == ["ort", "tensorrt"]
    assert result.stdout.splitlines()[-1] == "report: idm_micro_gen-report"

    report = tmp_path / "idm_micro_gen-report"
    figures = json.loads((report / "quantization.json").read_text())
    assert figures["targets"]["ort"]["ranges"] == 2
    # First and last convolution stay in float, all others are in int8.
    assert 0 < figures["targets"]["ort"]["share_of_multiplications_in_float"] < 0.5
    assert figures["targets"]["ort"]["share_of_float_bytes"] < 0.6
    assert figures["targets"]["tensorrt"]["seconds_per_step"] == {}
    record = json.loads((report / "calibration.json").read_text())
    bundle = Bundle.open(tmp_path / "idm_micro_gen.bundle")
    assert bundle.manifest.quantization is not None
    assert record["noise_levels"] == bundle.manifest.quantization["noise_levels"]
    plots = ("ranges-over-noise-levels.png", "partition-curve.png", "sqnr.png", "pictures-ort.png")
    assert all(read_image(report / name).pixels.std() > 10 for name in plots)

    # The same again is refused, until --force.
    again = CliRunner().invoke(app, [*words[:2], *words[2:]])
    assert again.exception is not None and "is quantized already" in str(again.exception)


def test_equal_pictures_have_a_grey_difference(photographs: Path) -> None:
    pixels = read_image(photographs / "0.png").pixels
    assert (difference(pixels, pixels, 8) == 128).all()
    assert amplification([(pixels, pixels)]) == MOST_AMPLIFIED


def test_differences_are_amplified_until_they_can_be_seen() -> None:
    dark, bright = (np.full((2, 2, 3), value, np.uint8) for value in (100, 103))
    # 3 levels apart: 8 times that is 24, which can be seen. 16 times would be more than is needed.
    assert amplification([(dark, bright)]) == 8
    assert (difference(dark, bright, 8) == 128 - 24).all()
    assert amplification([(dark, dark), (dark, dark + 60)]) == 1


def test_a_report_folder_that_cannot_be_made_is_named_before_anything_is_calibrated(
    micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("calibrated first")

    monkeypatch.setattr(command, "quantize_bundle", never)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FolderError, match=r"writing the report to .*taken.*Choose another folder with --report"):
        command.quantize(
            command.Source(path=micro.path),
            QuantizeSettings(),
            Places(report=tmp_path / "taken"),
            say=print,
            progress=lambda *_: None,
        )
