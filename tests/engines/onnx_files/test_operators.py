"""What strangers put into graphs is refused before an engine sees it; what this tool writes passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, helper, numpy_helper

from engines.errors import EngineError
from engines.onnx_files.graph_file import read_signature
from engines.onnx_files.operators import OPERATORS, checked_signature, refuse_unknown_parts
from engines.onnx_files.wire_format import bytes_field
from tests.engines.graphs import write_lookup


def test_operators_are_those_that_onnx_has_and_none_holds_a_graph() -> None:
    for kind in OPERATORS[""]:
        attributes = onnx.defs.get_schema(kind, 21).attributes.values()
        assert not any("GRAPH" in str(attribute.type) for attribute in attributes), kind


def test_an_ordinary_graph_passes_and_may_use_only_its_weights_file(tmp_path: Path) -> None:
    graph = write_lookup(tmp_path)
    assert checked_signature(graph, ["weights.bin"]) == checked_signature(graph) == read_signature(graph)
    with pytest.raises(EngineError, match=r"it uses the weights file weights.bin, expected one of other.bin. Export"):
        checked_signature(graph, ["other.bin"])


def _loop(model: ModelProto) -> None:
    body = helper.make_graph([helper.make_node("Identity", ["keep"], ["on"])], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def _hidden(model: ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", body))


def _custom(model: ModelProto) -> None:
    model.graph.node[0].domain = "com.stranger"


def _unknown(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Einsum"


def _wanted(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.stranger", 1))


def _function(model: ModelProto) -> None:
    model.functions.append(helper.make_function("d", "Conv", ["a"], ["b"], [], []))


def _sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _named(model: ModelProto) -> None:
    model.graph.node[0].name = "x" * 5000


def _far(model: ModelProto) -> None:
    _external(model, "offset").value = "-16"


def _short(model: ModelProto) -> None:
    _external(model, "length").value = "4"


def _placed(model: ModelProto) -> None:
    _external(model, "location").value = "x" * 5000


def _external(model: ModelProto, key: str) -> onnx.StringStringEntryProto:
    return next(entry for entry in model.graph.initializer[0].external_data if entry.key == key)


def _huge(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def _text(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "text"))


def _outside(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model.graph.node[0].attribute.append(AttributeProto(name="value", t=tensor, type=AttributeProto.TENSOR))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_loop, "it holds a graph within the graph"),
        (_hidden, "it holds a graph within the graph"),
        (_custom, "it holds the operator com.stranger.Conv, which this tool does not write"),
        (_unknown, "it holds the operator Einsum, which this tool does not write"),
        (_wanted, "it wants operators of 'com.stranger'"),
        (_function, r"a part \(field 25\) that no graph of this tool has, such as functions"),
        (_sparse, r"its graph has a part \(field 15\)"),
        (_named, "a name in it has 5000 letters"),
        (_far, "takes 64 bytes from -16, expected 64 bytes"),
        (_short, "takes 4 bytes from 0, expected 64 bytes"),
        (_placed, "lies in a file whose name has 5000 letters"),
        (_huge, r"its array weight has the sizes \[1099511627776"),
        (_text, "elements of the type 8 of ONNX"),
        (_outside, "an attribute whose values lie in another file"),
    ],
)
def test_what_no_graph_of_ours_holds_is_refused(
    tmp_path: Path, change: Callable[[ModelProto], None], sentence: str
) -> None:
    path = write_lookup(tmp_path)
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=f"Opening {path}: .*{sentence}.*. Export the checkpoint again"):
        checked_signature(path)
    with pytest.raises(ValueError, match=sentence):
        refuse_unknown_parts("lookup", path.read_bytes())


def test_bytes_that_only_some_readers_take_are_refused(tmp_path: Path) -> None:
    path = write_lookup(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes_field(7, b""))
    with pytest.raises(EngineError, match="it holds 2 graphs, expected one"):
        checked_signature(path)
    path.write_bytes(whole.replace(b"features", b"fe\xff\xfeures"))
    with pytest.raises(EngineError, match=r"it is not a complete ONNX graph .*can't decode"):
        checked_signature(path)
    path.unlink()
    with pytest.raises(EngineError, match=r"lookup\.onnx: it cannot be read .*Copy the bundle"):
        checked_signature(path)
