"""Weights are read from the file beside a graph, whatever other names that file has, and from nowhere else."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import EngineError
from engines.onnx_files.external_tensors import array_of_tensor, load_external_tensors

VALUES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1, -2], dtype=np.int8),
    "c": np.linspace(0, 1, 4).astype(np.float16),
}


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    """Three tensors in one file that has two names."""
    made = helper.make_model(
        helper.make_graph([], "g", [], [], [numpy_helper.from_array(v, n) for n, v in VALUES.items()])
    )
    onnx.save(made, tmp_path / "g.onnx", save_as_external_data=True, location="g.bin", size_threshold=0)
    os.link(tmp_path / "g.bin", tmp_path / "another name")
    return onnx.load(tmp_path / "g.onnx", load_external_data=False)


def test_a_file_of_two_names_is_read(model: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(onnx.checker.ValidationError):  # why onnx is not asked
        numpy_helper.to_array(model.graph.initializer[0], str(tmp_path))
    for tensor in model.graph.initializer:
        array = array_of_tensor(tensor, tmp_path)
        assert array.dtype == VALUES[tensor.name].dtype
        assert np.array_equal(array, VALUES[tensor.name])
    load_external_tensors(model, tmp_path)
    for tensor in model.graph.initializer:
        assert tensor.data_location != TensorProto.EXTERNAL
        assert np.array_equal(array_of_tensor(tensor, tmp_path / "elsewhere"), VALUES[tensor.name])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("location", "../g.bin", "expected the name of a file in that folder"),
        ("location", "", "expected the name of a file"),
        ("location", "gone.bin", "gone.bin cannot be read"),
        ("offset", "-4", "cannot be read"),
        ("offset", "none", "cannot be read"),
        ("offset", "1000000", "found 0 of 24"),
        ("length", "8", "24 bytes were expected in g.bin, found 24 of 8"),
    ],
)
def test_what_lies_elsewhere_or_is_cut_is_refused(
    model: onnx.ModelProto, tmp_path: Path, key: str, value: str, said: str
) -> None:
    tensor: Any = model.graph.initializer[0]
    next(entry for entry in tensor.external_data if entry.key == key).value = value
    with pytest.raises(EngineError, match=said):
        array_of_tensor(tensor, tmp_path)
