"""What a graph file consists of, looked at before any engine is: only what this tool itself writes gets to one.

An engine takes what ONNX allows: loops that never end, programs in attributes, operators from other libraries, weights
from anywhere. None of that is in a graph of ours. Read with the standard library, as in `graph_file`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path
from typing import Final

from engines.errors import EngineError
from engines.onnx_files.graph_file import EXTERNAL, GraphSignature, signature_of_model
from engines.onnx_files.wire_format import fields, last_number, last_text, messages, numbers

ONNX: Final = ""
MICROSOFT: Final = "com.microsoft"
"""Of ONNX Runtime, where ONNX itself has no operator: matrices of codes that give floats, or have channels last."""

OPERATORS: Final = {
    ONNX: frozenset(
        {"Abs", "Add", "Cast", "Clip", "Concat", "Conv", "Cos", "DequantizeLinear"}
        | {"Div", "Exp", "Gather", "GroupNormalization", "Identity", "InstanceNormalization", "LeakyRelu", "MatMul"}
        | {"Mul", "Pad", "QLinearConv", "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceSum"}
        | {"Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Sin", "Softmax", "Split"}
        | {"Sqrt", "Sub", "Transpose"}
    ),
    MICROSOFT: frozenset({"MatMulIntegerToFloat", "QLinearConv"}),
}
"""By domain, the operators that `deploy.export` and `calibration.targets` write: a new one is added here first."""

LARGEST_GRAPH_BYTES = 256 << 20
"""Of a graph file; weights lie beside it."""
LONGEST_NAME = 1000
MOST_ELEMENTS = 1 << 33
"""Of one array of weights."""

_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
"""TensorProto.DataType -> bytes of an element, of the types that are exchanged."""

_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14}
"""Of ModelProto: versions, texts, the graph, operator sets; not functions (25) and training (20)."""
_GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13}
"""Of GraphProto: nodes, initializers, texts, what goes in and out and in between; not sparse initializers (15)."""
_NODE_TEXTS = {1, 2, 3, 4, 6, 7}
_NODE_OVERLOAD = 8
_SUBGRAPHS = {6, 11}
_TENSORS_OF_ATTRIBUTE = {5, 10}
_ATTRIBUTE_FIELDS = {1, 2, 3, 4, 5, 7, 8, 9, 13, 20}
"""Of AttributeProto: a name, a type, numbers, texts, arrays; not graphs (6, 11), sparse arrays and types."""


def checked_signature(graph: Path, weights: Collection[str] | None = None) -> GraphSignature:
    """The signature of a graph file that holds nothing but what this tool writes; an EngineError says what else.

    weights: names of the files beside it that it may use; None: any beside it.
    """
    try:
        if graph.stat().st_size > LARGEST_GRAPH_BYTES:
            raise EngineError(
                f"Opening {graph}: it has {graph.stat().st_size} bytes, more than any graph of this tool. Export again."
            )
        model = graph.read_bytes()
    except OSError as error:
        raise EngineError(
            f"Opening {graph}: it cannot be read ({error.strerror}). Copy the bundle here again."
        ) from error
    try:
        problem = next(_problems(model), None)
    except ValueError as error:  # bytes that are no messages, names that are not UTF-8
        problem = f"it is not a complete ONNX graph ({error})"
    if problem is not None:
        raise EngineError(f"Opening {graph}: {problem}. Export the checkpoint again with this version.")
    signature = signature_of_model(model, graph)
    strangers = [path.name for path in signature.weights if weights is not None and path.name not in weights]
    if strangers:
        raise EngineError(
            f"Opening {graph}: it uses the weights file {strangers[0]}, expected one of {', '.join(weights or ())}. "
            "Export the checkpoint again."
        )
    return signature


def refuse_unknown_parts(name: str, model: bytes) -> None:
    """ValueError if a graph that this tool wrote would not be opened by it: an operator is missing in `OPERATORS`."""
    problem = next(_problems(model), None)
    if problem is not None:
        raise ValueError(f"the graph {name} that was just made could not be opened again: {problem}")


def _problems(model: bytes) -> Iterator[str]:
    bodies = []
    for number, value, _ in fields(model):
        if number == 7 and isinstance(value, memoryview):
            bodies.append(value)
        elif number == 8 and isinstance(value, memoryview):
            if (domain := last_text(value, 1)) not in (*OPERATORS, "ai.onnx"):
                yield f"it wants operators of {domain!r}, which this tool does not write"
        elif number not in _MODEL_FIELDS:
            yield f"it has a part (field {number}) that no graph of this tool has, such as functions"
    if len(bodies) != 1:  # a second one would be merged into the first by those who run it
        yield f"it holds {len(bodies)} graphs, expected one"
    for body in bodies:
        yield from _problems_of_graph(body)


def _problems_of_graph(body: memoryview) -> Iterator[str]:
    for number, value, _ in fields(body):
        if number not in _GRAPH_FIELDS:
            yield f"its graph has a part (field {number}) that none of this tool has"
        elif number == 1 and isinstance(value, memoryview):
            yield from _problems_of_node(value)
        elif number == 5 and isinstance(value, memoryview):
            yield from _problems_of_tensor(value)
        elif number in (11, 12, 13) and isinstance(value, memoryview):
            _text(value, 1)


def _problems_of_node(node: memoryview) -> Iterator[str]:
    texts: dict[int, str] = {}
    for number, value, _ in fields(node):
        if number in _NODE_TEXTS and isinstance(value, memoryview):
            texts[number] = bytes(value).decode()
            if len(texts[number]) > LONGEST_NAME and number != 6:
                yield f"a name in it has {len(texts[number])} letters"
        elif number == 5 and isinstance(value, memoryview):
            yield from _problems_of_attribute(value)
        elif number == _NODE_OVERLOAD:
            yield "it calls a function of its own"
    kind, domain = texts.get(4, ""), texts.get(7, "")
    if kind not in OPERATORS.get("" if domain == "ai.onnx" else domain, ()):
        yield f"it holds the operator {f'{domain}.' if domain else ''}{kind}, which this tool does not write"


def _problems_of_attribute(attribute: memoryview) -> Iterator[str]:
    for number, value, _ in fields(attribute):
        if number not in _ATTRIBUTE_FIELDS:
            yield "it holds a graph within the graph" if number in _SUBGRAPHS else "it holds an unknown attribute"
        elif number == 1 and isinstance(value, memoryview):
            bytes(value).decode()
        elif number in _TENSORS_OF_ATTRIBUTE and isinstance(value, memoryview):
            if last_number(value, 14) == EXTERNAL:
                yield "it has an attribute whose values lie in another file"
            yield from _problems_of_tensor(value)


def _problems_of_tensor(tensor: memoryview) -> Iterator[str]:
    """An array has a known type and sensible sizes, and if its values lie in another file, all of them and no more."""
    name, kind = _text(tensor, 8), last_number(tensor, 2)
    sizes = numbers(tensor, 1)
    count = prod(sizes)
    if any(size > MOST_ELEMENTS for size in sizes) or count > MOST_ELEMENTS:  # negative ones are huge as they lie there
        yield f"its array {name} has the sizes {sizes[:8]}"
    elif kind not in _SIZES:
        yield f"its array {name} has elements of the type {kind} of ONNX, which this tool does not write"
    elif last_number(tensor, 14) == EXTERNAL:
        entries = {last_text(entry, 1): last_text(entry, 2) for entry in messages(tensor, 13)}
        needed = count * _SIZES[kind]
        offset, length = entries.get("offset", "0"), entries.get("length", str(needed))
        if len(entries.get("location", "")) > LONGEST_NAME:
            yield f"its array {name} lies in a file whose name has {len(entries['location'])} letters"
        elif not (offset.isascii() and offset.isdigit() and length == str(needed)):
            yield f"its array {name} takes {length[:40]} bytes from {offset[:40]}, expected {needed} bytes"


def _text(message: memoryview, number: int) -> str:
    text = last_text(message, number)
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a name in it has {len(text)} letters")
    return text
