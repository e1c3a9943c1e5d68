"""Constants of an ONNX file, read and replaced, against what onnx reads from the result."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import EngineError
from engines.onnx_files.graph_constants import read_constants, with_constants
from tests.engines.graphs import Array, value, write_model

VALUES: dict[str, Array] = {
    "codes": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
    "zero": np.array(0, dtype=np.int8),
    "scale": np.array([0.5, 2, -1], dtype=np.float32),
}


def write_constants(folder: Path, external: str | None) -> Path:
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in VALUES]
    outputs = [value("codes.out", TensorProto.INT8, 3, 4), value("scale.out", TensorProto.FLOAT, 3)]
    return write_model(folder / "constants.onnx", nodes, [], outputs, VALUES, external)


@pytest.mark.parametrize("external", ["weights.bin", None])
def test_constants_of_a_dtype_are_read(tmp_path: Path, external: str | None) -> None:
    found = read_constants(write_constants(tmp_path, external), "int8")
    assert set(found) == {"codes", "zero"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, VALUES[name])
        assert (array.dtype, array.shape) == (np.int8, VALUES[name].shape)


@pytest.mark.parametrize("external", ["weights.bin", None])
def test_replaced_constants_have_new_values_and_all_else_stays(tmp_path: Path, external: str | None) -> None:
    graph = write_constants(tmp_path, external)
    changed = {"codes": VALUES["codes"].astype(np.float16).T, "zero": np.array(7, dtype=np.uint8)}
    found, before = onnx.load_from_string(with_constants(graph, changed)), onnx.load(graph, load_external_data=False)
    expected = VALUES | changed
    for tensor in found.graph.initializer:
        read = numpy_helper.to_array(tensor, str(tmp_path))
        np.testing.assert_array_equal(read, expected.pop(tensor.name))
    assert not expected
    for model in (found, before):
        del model.graph.initializer[:]
    assert found == before


def test_nothing_to_replace_changes_nothing(tmp_path: Path) -> None:
    graph = write_constants(tmp_path, "weights.bin")
    assert onnx.load_from_string(with_constants(graph, {})) == onnx.load(graph, load_external_data=False)


def test_a_constant_that_is_not_there_is_named(tmp_path: Path) -> None:
    graph = write_constants(tmp_path, None)
    with pytest.raises(EngineError, match=r"no constant 'scales' to replace\. Did you mean scale\?"):
        with_constants(graph, {"scales": VALUES["scale"]})
    with pytest.raises(EngineError, match=r"no constant 'bias\.7' to replace\. Quantize again"):
        with_constants(graph, {"bias.7": VALUES["scale"]})


def test_values_that_are_not_plain_bytes_are_refused(tmp_path: Path) -> None:
    graph = write_constants(tmp_path, None)
    model = onnx.load(graph)
    model.graph.initializer.append(helper.make_tensor("odd", TensorProto.INT8, [2], [1, 2]))
    onnx.save(model, graph)
    with pytest.raises(EngineError, match=r"the values of odd are not stored as plain bytes\. Write it again"):
        read_constants(graph, "int8")


def test_a_graph_that_is_damaged_is_refused(tmp_path: Path) -> None:
    graph = write_constants(tmp_path, None)
    graph.write_bytes(graph.read_bytes()[:-3])
    for read in (lambda: read_constants(graph, "int8"), lambda: with_constants(graph, {})):
        with pytest.raises(EngineError, match="not a complete ONNX graph"):
            read()
