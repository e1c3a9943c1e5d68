"""From a checkpoint to a quantized bundle with its report, by the command itself."""

import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.bundle.records import Preset
from deploy.cli.main import app
from deploy.errors import FolderError
from deploy.images.files import read_image
from deploy.int8 import command
from deploy.int8.settings import TARGET_NAMES, Places, QuantizeSettings
from deploy.int8.telling.report import MOST_AMPLIFIED, amplification, difference, refuse_unwritable, write_report
from deploy.int8.telling.results import TargetResult, beyond_budget
from deploy.int8.trying.comparison import Fidelity
from tests.deploy.int8.conftest import CONFIG
from tests.deploy.quantized import with_held_out
from tests.json_schema import checked

OPTIONS = "--pictures 2 --crop 16 --scale 2 --ranges 2 --max-psnr-drop 5 --float-share 0 --targets ort,tensorrt"
MEASURED = {target: {"psnr_drop": 0.0} for target in TARGET_NAMES}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps everywhere and one held-out picture."""
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=2)})
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    monkeypatch.setattr("deploy.int8.telling.results.HELD_OUT", 1)


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
    tried, _, shown = page.partition("What was tried")[2].partition("Pictures and plots:")
    assert [line.count("|") for line in tried.splitlines()[2:-1]] == [6] * 4
    assert heading[0] == "target"
    assert [row[0] for row in rows] == ["ort", "tensorrt"]
    assert result.stdout.splitlines()[-1] == "report: idm_micro_gen-report"

    report = tmp_path / "idm_micro_gen-report"
    figures = json.loads((report / "quantization.json").read_text())
    named = {"bundle": "idm_micro_gen.bundle", "report": report.name, "only_int8": False}
    told = {name: figures[name] for name in ("preset", "float_bytes", "pictures", "photographs", "targets")}
    checked("quantize", json.dumps(named | told))  # what --json prints; the report's file says more
    assert figures["targets"]["ort"]["ranges"] == 2
    # First and last convolution stay in float, all others are in int8.
    assert 0 < figures["targets"]["ort"]["share_of_multiplications_in_float"] < 0.5
    assert figures["targets"]["ort"]["share_of_float_bytes"] < 0.6
    assert figures["targets"]["tensorrt"]["seconds_per_step"] == {}
    record = json.loads((report / "calibration.json").read_text())
    bundle = Bundle.open(tmp_path / "idm_micro_gen.bundle")
    assert bundle.manifest.quantization is not None
    assert record["noise_levels"] == list(bundle.manifest.quantization.noise_levels)
    held_out = bundle.manifest.quantization.targets["ort"].held_out
    assert held_out is not None and held_out.photographs == figures["photographs"] == 1
    change = figures["targets"]["ort"]["preset"]["ssimulacra2_change"]
    assert held_out.ssimulacra2_drop == pytest.approx(-change, abs=5e-4)
    plots = ("ranges-over-noise-levels.png", "partition-curve.png", "sqnr.png", "pictures-ort.png")
    assert all(read_image(report / name).pixels.std() > 10 for name in plots)
    # Every picture is linked, and every link leads somewhere.
    assert sorted(re.findall(r"\]\((.*?)\)", shown)) == sorted(path.name for path in report.glob("*.png"))

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


class CalibrationBegunError(Exception):
    """Raised where the calibration would begin."""


@pytest.mark.slow
def test_of_two_at_one_bundle_the_second_waits(
    micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other settings, hence other partial results: both end, and the bundle is that of the second."""
    monkeypatch.setattr("deploy.int8.recording.partial_results.LOOK_EVERY_S", 0.02)
    said: dict[str, list[str]] = {"first": [], "second": []}
    has_begun = threading.Event()

    def quantized(who: str, ranges: int) -> command.Outcome:
        return command.quantize(
            command.Source(path=micro.path),
            QuantizeSettings(pictures=2, crop=16, scales=(2.0,), ranges=ranges, max_psnr_drop=5.0, targets=("ort",)),
            Places(calibration=photographs, report=tmp_path / who, cache=tmp_path / "cache", threads=1),
            force=True,
            say=said[who].append,
            progress=lambda *_: has_begun.set(),
        )

    with ThreadPoolExecutor() as pool:
        first = pool.submit(quantized, "first", 2)
        assert has_begun.wait(60)
        second = pool.submit(quantized, "second", 1)
        first.result()
        second.result()
    told = [line for line in said["second"] if line.startswith("waiting for another")]
    assert told == [line for line in told if f"`idm-deploy quantize` of {micro.path}, which works in" in line] != []
    assert not [line for line in said["first"] if "waiting" in line]
    quantization = Bundle.open(micro.path).manifest.quantization
    assert quantization is not None and len(quantization.targets["ort"].edges) == 2


def begun(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, settings: QuantizeSettings | None = None, force: bool = False
) -> tuple[bool, list[str]]:
    """With what `force` the calibration of a bundle begins, and what is said before."""
    said: list[str] = []
    told = []

    def calibrate(*_: object, force: bool, **__: object) -> None:
        told.append(force)
        raise CalibrationBegunError

    monkeypatch.setattr(command, "quantize_bundle", calibrate)
    with pytest.raises(CalibrationBegunError):
        command.quantize(
            command.Source(path=bundle.path),
            settings or QuantizeSettings(),
            Places(report=bundle.path.parent / "report"),
            force=force,
            say=said.append,
            progress=lambda *_: None,
        )
    return told[0], said


def test_what_was_killed_before_it_was_measured_is_finished_by_the_same_command(
    quantized_idm: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.bundle"
    shutil.copytree(quantized_idm.path, copy)
    forced, said = begun(Bundle.open(copy), monkeypatch)
    assert forced and said == [f"{copy} was quantized, but not measured: it is quantized again"]
    measured = with_held_out(Bundle.open(copy), MEASURED)
    assert begun(measured, monkeypatch) == (False, [])  # and quantize_bundle refuses it


def test_targets_that_go_are_named(quantized_idm: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.bundle"
    shutil.copytree(quantized_idm.path, copy)
    bundle = with_held_out(Bundle.open(copy), MEASURED)
    _, said = begun(bundle, monkeypatch, QuantizeSettings(targets=("tensorrt",)), force=True)
    assert said == ["the graphs for openvino and ort go, since --targets does not name them"]


def test_held_out_pictures_beyond_the_budget_are_told() -> None:
    def row(psnr_int8: float, worst: float) -> TargetResult:
        found = Fidelity(decibels=(60.0, worst), psnr_float=(30.0,), psnr_int8=(psnr_int8,))
        figures = {"ranges": 1, "layers": 1, "in_float": (), "share_in_float": 0.0, "bytes": 1}
        return TargetResult(
            target="ort",
            preset=found,
            plain=None,
            seconds_float=None,
            seconds_int8=None,
            **figures,  # type: ignore[arg-type]
        )

    settings = QuantizeSettings(min_fidelity=40.0)
    assert beyond_budget(row(29.95, 40.0), settings) == ""
    told = beyond_budget(row(29.9, 38.5), settings)
    assert "0.100 dB are lost against the originals (at most 0.05 wanted)" in told
    assert "the worst is 38.5 dB from float (at least 40 wanted)" in told
    assert beyond_budget(row(29.95, 38.5), QuantizeSettings()) == ""


def test_a_report_folder_that_cannot_be_made_is_named_before_anything_is_calibrated(
    micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("calibrated first")

    monkeypatch.setattr(command, "quantize_bundle", never)
    (tmp_path / "taken").write_text("a file")
    for place in (tmp_path / "taken", tmp_path / "taken" / "inside"):
        with pytest.raises(FolderError, match=r"writing the report to .*taken.*Choose another folder with --report"):
            command.quantize(
                command.Source(path=micro.path),
                QuantizeSettings(),
                Places(report=place),
                say=print,
                progress=lambda *_: None,
            )
    refuse_unwritable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_folder_taken_since_is_named_by_the_report(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    nothing: object = object()
    with pytest.raises(FolderError, match=r"writing the report to .*taken.*Choose another folder with --report"):
        write_report(nothing, nothing, tmp_path / "taken", print)  # type: ignore[arg-type]  # refused before it is read


def test_the_report_of_the_current_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face.bundle").mkdir()
    monkeypatch.chdir(tmp_path / "face.bundle")
    assert command.default_report(Path()) == Path("face-report")
