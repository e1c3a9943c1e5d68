"""Which reports belong to a bundle."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from deploy.bundle import Bundle
from deploy.errors import DeployError
from deploy.packaged.places import IDM_BUNDLE
from deploy.report.facts import Facts, engine_decision, is_of, quantization_reports
from tests.deploy.report.facts_for_tests import (
    calibration_record,
    packaged_bundle,
    quantization_entry,
    quantization_record,
)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle in a folder of its own, quantized as far as its manifest says; the current folder is another one."""
    copytree(IDM_BUNDLE, tmp_path / "made" / "x.bundle")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    changed = packaged_bundle(quantization=quantization_entry())
    return Bundle(tmp_path / "made" / "x.bundle", changed.manifest)


def write(folder: Path, calibration: Any, quantization: Any = None) -> None:
    folder.mkdir()
    (folder / "calibration.json").write_text(json.dumps(calibration))
    if quantization is not None:
        (folder / "quantization.json").write_text(json.dumps(quantization))


@pytest.mark.parametrize("place", ["made", "here"])
def test_the_report_is_found_beside_the_bundle_and_here(bundle: Bundle, tmp_path: Path, place: str) -> None:
    write(tmp_path / place / "x-report", calibration_record(), quantization_record())
    measured, calibrated = quantization_reports(bundle)
    assert measured is not None
    assert calibrated is not None
    assert measured.data["preset"] == "balanced"
    assert calibrated.data["targets"]["ort"]["form"] == "asymmetric"


def test_without_measurements_the_scales_are_still_there(bundle: Bundle, tmp_path: Path) -> None:
    write(tmp_path / "made" / "x-report", calibration_record())
    measured, calibrated = quantization_reports(bundle)
    assert measured is None
    assert calibrated is not None


def test_no_report_is_none(bundle: Bundle) -> None:
    assert quantization_reports(bundle) == (None, None)


def test_a_damaged_report_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write(tmp_path / "made" / "x-report", calibration_record())
    (tmp_path / "made" / "x-report" / "calibration.json").write_text("{")
    with pytest.raises(DeployError, match=r"calibration\.json: it is not JSON .* `idm-deploy quantize` wrote"):
        quantization_reports(bundle)


def changed(*path: Any, value: Any) -> dict[str, Any]:
    data: Any = calibration_record()
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    found: dict[str, Any] = data
    return found


@pytest.mark.parametrize(
    "other",
    [
        changed("noise_levels", value=[0.1, 0.5]),
        changed("noise_levels", value=[0.1, 0.5, 0.8]),
        changed("targets", "ort", "edges", value=[0.0, 0.4, 1.0]),
        changed("targets", "ort", "noise_corrections", 0, "gain", value=[1.002]),
        changed("targets", "ort", "noise_corrections", value=[]),
        changed("targets", value={}),
        {},
    ],
)
def test_the_report_of_another_calibration_is_not_taken(bundle: Bundle, tmp_path: Path, other: dict[str, Any]) -> None:
    assert is_of(bundle, calibration_record())
    assert not is_of(bundle, other)
    write(tmp_path / "made" / "x-report", other, quantization_record())
    assert quantization_reports(bundle) == (None, None)


def test_a_float_bundle_has_no_calibration() -> None:
    assert not is_of(packaged_bundle(), calibration_record())


def test_targets_come_in_the_order_of_the_page() -> None:
    facts = Facts(bundle=packaged_bundle(quantization=quantization_entry()))
    assert list(facts.targets) == ["ort", "tensorrt"]
    assert facts.edges == (0.0, 0.3, 1.0)
    assert Facts(bundle=packaged_bundle()).edges == ()


def test_no_decision_before_build_engine_was_asked() -> None:
    assert engine_decision(packaged_bundle(weights="ema", files={})) is None
