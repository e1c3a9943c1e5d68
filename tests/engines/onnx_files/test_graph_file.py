"""Reading an ONNX file's signature without onnx, against what onnx wrote."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from engines.contract import TensorSpec
from engines.errors import EngineError
from engines.onnx_files.graph_file import NUMPY_DTYPES, read_signature
from tests.engines.graphs import value, write_lookup, write_model


def test_every_dtype_is_the_one_onnx_means() -> None:
    for code, name in NUMPY_DTYPES.items():
        assert helper.tensor_dtype_to_np_dtype(code).name == name


@pytest.mark.parametrize("external", ["weights.bin", None])
def test_weights_files_are_those_beside_the_graph(tmp_path: Path, external: str | None) -> None:
    signature = read_signature(write_lookup(tmp_path, external=external))
    assert signature.weights == ((tmp_path / external,) if external else ())


def test_large_sizes_and_many_inputs(tmp_path: Path) -> None:
    shapes = {f"input{i}": (2**i, f"axis{i}") for i in range(0, 40, 3)}
    graph = write_model(
        tmp_path / "many.onnx",
        [helper.make_node("Identity", ["input0"], ["y"])],
        [value(name, T.FLOAT16, *shape) for name, shape in shapes.items()],
        [value("y", T.FLOAT16, 1, "axis0")],
    )
    assert read_signature(graph).inputs == tuple(TensorSpec(n, "float16", s) for n, s in shapes.items())


def test_initializers_listed_as_inputs_are_not_inputs(tmp_path: Path) -> None:
    graph = write_model(
        tmp_path / "old.onnx",
        [helper.make_node("Add", ["x", "c"], ["y"])],
        [value("x", T.FLOAT, "n"), value("c", T.FLOAT, 1)],
        [value("y", T.FLOAT, "n")],
        {"c": np.ones(1, np.float32)},
    )
    assert [spec.name for spec in read_signature(graph).inputs] == ["x"]


def test_every_truncation_is_refused_or_leaves_the_signature(tmp_path: Path) -> None:
    graph = write_lookup(tmp_path)
    whole, signature = graph.read_bytes(), read_signature(graph)
    refused = 0
    for size in range(len(whole)):
        graph.write_bytes(whole[:size])
        try:
            found = read_signature(graph)
        except EngineError:
            refused += 1
        else:
            assert found == signature
    # only what follows the graph in the file (the opset list) can be lost unnoticed
    assert refused > 0.9 * len(whole)


@pytest.mark.parametrize("content", [b"", b"\x08\x09garbage" * 20, b"\x89PNG\r\n\x1a\n" + bytes(50), b"<html></html>"])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    graph = tmp_path / "other.onnx"
    graph.write_bytes(content)
    with pytest.raises(EngineError, match=r"Opening .*other\.onnx: it is not a complete ONNX graph"):
        read_signature(graph)


def test_a_graph_without_output(tmp_path: Path) -> None:
    graph = write_model(tmp_path / "silent.onnx", [], [value("x", T.FLOAT, "n")], [])
    with pytest.raises(EngineError, match="its graph has no output"):
        read_signature(graph)


def test_a_folder_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Opening .*: it cannot be read"):
        read_signature(tmp_path)


def test_missing_weights(tmp_path: Path) -> None:
    graph = write_lookup(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EngineError, match=r"its weights file weights\.bin is missing\. Put it beside the graph"):
        read_signature(graph)


def test_short_weights(tmp_path: Path) -> None:
    graph = write_lookup(tmp_path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"weights\.bin has 63 bytes where 64 are needed"):
        read_signature(graph)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "C:\\weights.bin", "a\\..\\..\\b", ""])
def test_weights_outside_the_folder(tmp_path: Path, location: str) -> None:
    graph = write_lookup(tmp_path)
    model = onnx.load(graph, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="weights of weight lie outside its folder"):
        read_signature(graph)


def test_a_dtype_that_numpy_lacks(tmp_path: Path) -> None:
    graph = write_model(
        tmp_path / "brain.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", T.BFLOAT16, "n")],
        [value("y", T.BFLOAT16, "n")],
    )
    with pytest.raises(EngineError, match="x has element type 16 of ONNX, which numpy does not know"):
        read_signature(graph)


def test_an_input_without_shape(tmp_path: Path) -> None:
    model = onnx.load(write_lookup(tmp_path))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    graph = tmp_path / "shapeless.onnx"
    onnx.save(model, graph)
    with pytest.raises(EngineError, match="x has no shape"):
        read_signature(graph)


def test_raw_data_is_not_mistaken_for_fields(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
    tensor = numpy_helper.from_array(noise, "noise")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["noise"], ["y"])], "g", [], [value("y", T.UINT8, 5000)], [tensor]
        )
    )
    graph = tmp_path / "noise.onnx"
    onnx.save(model, graph)
    assert read_signature(graph).outputs == (TensorSpec("y", "uint8", (5000,)),)
