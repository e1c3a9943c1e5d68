"""The constants (initializers) of an ONNX file, read and replaced without onnx.

A graph that serves several purposes with other constants lies on disk once: whoever opens it says what differs.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.onnx_files.graph_file import EXTERNAL, NUMPY_DTYPES, read_signature
from engines.onnx_files.wire_format import (
    bytes_field,
    fields,
    last_message,
    last_number,
    last_text,
    messages,
    number_field,
    numbers,
    text_field,
)

Array = NDArray[Any]

GRAPH, INITIALIZER = 7, 5
"""ModelProto.graph and GraphProto.initializer."""

NAME, DIMS, DATA_TYPE, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 8, 1, 2, 9, 13, 14
"""Fields of TensorProto."""

CODES: Final = {name: code for code, name in NUMPY_DTYPES.items()}


def read_constants(graph: Path, dtype: str) -> dict[str, Array]:
    """Every constant of that dtype, those in weights files included."""
    read_signature(graph)  # what is damaged or missing is told there
    constants = {}
    for tensor in messages(_body_of(graph.read_bytes()), INITIALIZER):
        if NUMPY_DTYPES.get(last_number(tensor, DATA_TYPE)) == dtype:
            constants[last_text(tensor, NAME)] = _array_of(tensor, dtype, graph)
    return constants


def with_constants(graph: Path, constants: Mapping[str, Array]) -> bytes:
    """The ONNX file with these values instead of its own; a value may have another dtype or shape."""
    read_signature(graph)
    model = graph.read_bytes()
    rest_of_graph, names = [], []
    for number, value, whole in fields(_body_of(model)):
        name = last_text(value, NAME) if number == INITIALIZER and isinstance(value, memoryview) else ""
        names.append(name)
        if name not in constants:
            rest_of_graph.append(whole)
    for name in constants:
        if name not in names:
            near = get_close_matches(name, filter(None, names), 1)
            hint = f"Did you mean {near[0]}?" if near else "Quantize again."
            raise EngineError(f"Opening {graph}: it has no constant {name!r} to replace. {hint}")
    replaced = [bytes_field(INITIALIZER, tensor_message(name, value)) for name, value in constants.items()]
    rest = [whole for number, _, whole in fields(model) if number != GRAPH]
    return b"".join([*rest, bytes_field(GRAPH, b"".join([*rest_of_graph, *replaced]))])


def tensor_message(name: str, value: Array) -> bytes:
    """A TensorProto with its values inside."""
    dims = b"".join(number_field(DIMS, size) for size in value.shape)
    data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
    kind = number_field(DATA_TYPE, CODES[value.dtype.name])
    return dims + kind + text_field(NAME, name) + bytes_field(RAW_DATA, data)


def _body_of(model: bytes) -> memoryview:
    body = last_message(model, GRAPH)
    assert body is not None  # read_signature found one
    return body


def _array_of(tensor: memoryview, dtype: str, graph: Path) -> Array:
    shape = numbers(tensor, DIMS)
    if last_number(tensor, DATA_LOCATION) == EXTERNAL:
        entries = {last_text(entry, 1): last_text(entry, 2) for entry in messages(tensor, EXTERNAL_DATA)}
        count = int(np.prod(shape, dtype=np.int64))
        path, offset = graph.parent / entries["location"], int(entries.get("offset", 0))
        return np.fromfile(path, np.dtype(dtype).newbyteorder("<"), count, offset=offset).reshape(shape)
    raw = last_message(tensor, RAW_DATA)
    if raw is None:
        raise EngineError(
            f"Reading {graph}: the values of {last_text(tensor, NAME)} are not stored as plain bytes. Write it again."
        )
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).reshape(shape)
