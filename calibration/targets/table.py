"""The targets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from onnx import ModelProto

from calibration.choose.quantizer import Asymmetric, Form, Shifted
from calibration.choose.recipe import Recipe
from calibration.errors import ChoiceError
from calibration.targets import openvino, ort, tensorrt
from calibration.targets.editing import Int8Graphs

Writer = Callable[[ModelProto, Path, Recipe], Int8Graphs]

TARGETS: Final[dict[str, tuple[Writer, Form]]] = {
    ort.NAME: (ort.int8_graphs, Asymmetric()),
    openvino.NAME: (openvino.int8_graphs, Asymmetric()),
    tensorrt.NAME: (tensorrt.int8_graphs, Shifted()),
}
"""Name -> what writes its graphs, and the form of input codes that it makes the most of."""


def target_named(name: str) -> tuple[Writer, Form]:
    """The entry of one target."""
    if name not in TARGETS:
        raise ChoiceError(f"there is no int8 target {name!r}; choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]
