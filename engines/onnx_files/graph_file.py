"""What an ONNX file says about itself, read with the standard library alone.

Backends disagree here: OpenVINO forgets the names of dynamic axes, renames tensors and, given a damaged file, tries
five other formats on stderr. Reading the few fields that matter from the file gives every backend the same
signature and the same sentence for a file that is damaged or whose weights are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

from engines.contract import ANONYMOUS, TensorSpec
from engines.errors import EngineError
from engines.onnx_files.wire_format import fields, last_message, last_number, last_text, messages
from engines.paths import is_file_there

NUMPY_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""TensorProto.DataType -> numpy; the rest (strings, complex, bfloat16, 8- and 4-bit floats) is not exchanged."""

EXTERNAL = 1
"""TensorProto.DataLocation of weights that lie in another file."""


@dataclass(frozen=True)
class GraphSignature:
    """Inputs and outputs of an ONNX file, and the weights files beside it that it needs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[Path, ...]

    def with_sizes(self, graph: Path, sizes: Mapping[str, int]) -> GraphSignature:
        """The signature with the named dynamic axes fixed to `sizes`; EngineError if an input has no such axis."""
        axes = sorted({axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str)} - {ANONYMOUS})
        for name, size in sizes.items():
            if name not in axes:
                near = get_close_matches(name, axes, 1)
                hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(axes) or 'none'}."
                raise EngineError(f"Opening {graph}: it has no dynamic axis {name!r} to fix. {hint}")
            if size < 1:
                raise EngineError(f"Opening {graph}: the axis {name} cannot be fixed to {size}. Give 1 or more.")
        return replace(
            self,
            inputs=tuple(_fixed(spec, sizes) for spec in self.inputs),
            outputs=tuple(_fixed(spec, sizes) for spec in self.outputs),
        )


def _fixed(spec: TensorSpec, sizes: Mapping[str, int]) -> TensorSpec:
    shape = (sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.shape)
    return replace(spec, shape=tuple(shape))


def read_signature(graph: Path) -> GraphSignature:
    """The signature of `graph`, whose weights files exist and are long enough; nothing is said of their contents."""
    try:
        model = graph.read_bytes()
    except FileNotFoundError:
        raise EngineError(f"Opening {graph}: there is no such file. Copy the bundle here again.") from None
    except OSError as error:
        raise EngineError(f"Opening {graph}: it cannot be read ({error.strerror}). Check its permissions.") from error
    return signature_of_model(model, graph)


def signature_of_model(model: bytes, graph: Path) -> GraphSignature:
    """The signature of what a file holds or could hold, whose weights files lie beside `graph`."""
    try:
        return _signature_of_model(model, graph)
    except ValueError as error:  # a damaged message (_fields), or a name that is not UTF-8
        raise EngineError(f"Opening {graph}: it is not a complete ONNX graph ({error}). Write it again.") from error


def _signature_of_model(model: bytes, graph: Path) -> GraphSignature:
    body = last_message(model, 7)  # ModelProto.graph
    if body is None:
        raise ValueError("it holds no graph")
    inputs, outputs, initializers = [], [], []
    for number, value, _ in fields(body):
        if number == 5 and isinstance(value, memoryview):
            initializers.append(value)
        elif number == 11 and isinstance(value, memoryview):
            inputs.append(value)
        elif number == 12 and isinstance(value, memoryview):
            outputs.append(value)
    if not outputs:
        raise ValueError("its graph has no output")
    constants = {last_text(tensor, 8) for tensor in initializers}
    needs: dict[Path, int] = {}
    for tensor in initializers:
        _note_weights(tensor, graph, needs)
    _check_weights(needs, graph)
    return GraphSignature(
        # a graph of IR version 3 lists its initializers among the inputs
        inputs=tuple(_spec(value, graph) for value in inputs if last_text(value, 1) not in constants),
        outputs=tuple(_spec(value, graph) for value in outputs),
        weights=tuple(needs),
    )


def _spec(value_info: memoryview, graph: Path) -> TensorSpec:
    name = last_text(value_info, 1)
    tensor = last_message(last_message(value_info, 2) or b"", 1)  # ValueInfoProto.type.tensor_type
    code = last_number(tensor, 1) if tensor is not None else 0
    if code not in NUMPY_DTYPES:
        raise EngineError(
            f"Opening {graph}: {name} has element type {code} of ONNX, which numpy does not know. "
            f"Export inputs and outputs as {', '.join(NUMPY_DTYPES.values())}."
        )
    shape = last_message(tensor or b"", 2)
    if shape is None:
        raise EngineError(f"Opening {graph}: {name} has no shape. Export it with its number of axes.")
    return TensorSpec(name, NUMPY_DTYPES[code], tuple(_axis(dim) for dim in messages(shape, 1)))


def _axis(dimension: memoryview) -> int | str:
    for number, value, _ in fields(dimension):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2 and isinstance(value, memoryview):
            return bytes(value).decode() or ANONYMOUS
    return ANONYMOUS


def _note_weights(tensor: memoryview, graph: Path, needs: dict[Path, int]) -> None:
    """`needs` (file -> bytes it must have) covers `tensor` too, if its data lie outside the graph."""
    if last_number(tensor, 14) != EXTERNAL:
        return
    entries = {last_text(entry, 1): last_text(entry, 2) for entry in messages(tensor, 13)}
    location = entries.get("location", "")
    inside = not (PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute())
    if not location or not inside or ".." in PurePosixPath(location.replace("\\", "/")).parts:
        raise EngineError(f"Opening {graph}: weights of {last_text(tensor, 8)} lie outside its folder: {location!r}.")
    end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    path = graph.parent / location
    needs[path] = max(needs.get(path, 0), end)


def _check_weights(needs: dict[Path, int], graph: Path) -> None:
    for path, size in needs.items():
        try:
            length = path.stat().st_size if is_file_there(path) else None
        except (OSError, ValueError) as error:  # a name that no system takes
            raise EngineError(
                f"Opening {graph}: its weights file {path.name[:60]} cannot be read ({error})."
            ) from error
        if length is None:
            raise EngineError(f"Opening {graph}: its weights file {path.name} is missing. Put it beside the graph.")
        if length < size:
            raise EngineError(
                f"Opening {graph}: its weights file {path.name} has {length} bytes where {size} are needed. "
                "It was cut short: copy it again."
            )
