"""The records of the int8 targets beside those of the backends that run them."""

import subprocess
import sys

import pytest

from calibration.targets.table import TARGETS, target_named, target_of_form
from engines.backends import BACKENDS


@pytest.mark.parametrize(
    ("target", "backend", "on_cpu"),
    [("ort", "onnxruntime-cpu", True), ("openvino", "openvino-cpu", True), ("tensorrt", "onnxruntime-cpu", False)],
)
def test_graphs_are_tried_on_a_cpu(target: str, backend: str, on_cpu: bool) -> None:
    assert (target_named(target).tried_on, target_named(target).on_cpu) == (backend, on_cpu)


def test_each_int8_form_has_one_target_written_as_its_backends_like_it() -> None:
    assert len({target.form for target in TARGETS.values()}) == len(TARGETS)
    run = {name: target_of_form(backend.int8_form) for name, backend in BACKENDS.items() if backend.int8_form}
    assert {name: target.name for name, target in run.items() if target} == {
        "onnxruntime-cpu": "ort",
        "openvino-cpu": "openvino",
        "tensorrt": "tensorrt",
        "tensorrt-rtx": "tensorrt",
    }
    assert all(target.norm == BACKENDS[name].norm for name, target in run.items() if target)
    assert target_of_form(None) is target_of_form("binary") is None


def test_looking_up_needs_no_onnx() -> None:
    program = "import sys; from calibration.targets.table import TARGETS; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
