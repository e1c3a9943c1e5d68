"""What must be installed to quantize is asked for before any work."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.errors import MissingPackage
from deploy.int8 import installed
from deploy.int8.installed import backend_of_target, refuse_without_onnx, targets_here
from deploy.int8.trying.comparison import runs_in_int8
from engines.contract import Availability

OPENVINO = "pip install 'idm-deploy[openvino]'"


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has ONNX Runtime alone."""

    class Probed:
        def __init__(self, name: str) -> None:
            self.name = name

        def probe(self) -> Availability:
            there = self.name != "openvino-cpu"
            reason = "" if there else "openvino is not installed"
            return Availability(name=self.name, available=there, version=None, reason=reason, install=OPENVINO)

    monkeypatch.setattr(installed, "backend_named", Probed)


def test_everything_asked_for_is_there() -> None:
    said: list[str] = []
    assert targets_here(None, said.append) == ("ort", "openvino", "tensorrt")
    assert targets_here(["tensorrt"], said.append) == ("tensorrt",)
    assert targets_here(["typo"], said.append) == ("typo",)  # left to the settings, which name the nearest
    assert targets_here([], said.append) == ()  # likewise: at least one is needed
    assert said == []


@pytest.mark.usefixtures("without_openvino")
def test_what_cannot_be_tried_is_left_out_aloud_or_refused_by_name() -> None:
    said: list[str] = []
    assert targets_here(None, said.append) == ("ort", "tensorrt")
    assert said == [f"no graphs for openvino, which cannot be tried here: {OPENVINO}"]
    with pytest.raises(MissingPackage, match=r"Quantizing for openvino tries the graphs .*openvino\].*--targets"):
        targets_here(["ort", "openvino"], said.append)


def test_onnx_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse_without_onnx()
    real = importlib.util.find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name == "onnx" else real(name)

    monkeypatch.setattr(installed, "find_spec", find)
    with pytest.raises(MissingPackage, match=r"needs the package onnx: pip install 'idm-deploy\[quantize\]'"):
        refuse_without_onnx()
    result = CliRunner().invoke(app, ["quantize", str(tmp_path)])
    assert isinstance(result.exception, MissingPackage)


def test_where_openvino_would_cut_sums_off_its_graphs_are_tried_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ONNX Runtime, whose answer is right with unsigned weights; how long a step takes there says nothing."""
    for saturates, backend in ((False, "openvino-cpu"), (True, "onnxruntime-cpu")):
        monkeypatch.setattr("engines.saturation.int8_saturates", lambda _, found=saturates: found)
        assert backend_of_target("openvino") == backend
        assert runs_in_int8("openvino") is not saturates
        assert backend_of_target("ort") == backend_of_target("tensorrt") == "onnxruntime-cpu"
        assert runs_in_int8("ort") and not runs_in_int8("tensorrt")
