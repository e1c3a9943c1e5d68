"""Initializers that lie in a weights file beside their graph, read from there.

onnx reads them too, but (1.22) refuses a file that has several names, as backups and caches that store equal files
once give it. Here nothing is ever written to a weights file, so a second name does no harm.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, short_words

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def array_of_tensor(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """The values of an initializer, which may lie in a file of `folder`."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return np.array(numpy_helper.to_array(tensor))
    return _read(tensor, folder)


def load_external_tensors(model: ModelProto, folder: Path) -> None:
    """Every initializer of `model` that lies in a file of `folder` is in the model itself."""
    from onnx import TensorProto, numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(_read(tensor, folder), tensor.name))


def _read(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    from onnx import helper

    where = {entry.key: entry.value for entry in tensor.external_data}
    location, doing = where.get("location", ""), f"reading the weights {tensor.name} of a graph in {folder}"
    if PurePath(location).name != location or location in ("", ".", ".."):
        raise EngineError(f"{doing}: they lie in {location!r}, expected the name of a file in that folder.")
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = math.prod(tensor.dims)
    try:
        offset, length = int(where.get("offset", "0")), int(where.get("length", str(count * kind.itemsize)))
        with (folder / location).open("rb") as file:
            file.seek(offset)
            content = file.read(count * kind.itemsize)
    except (OSError, ValueError) as error:
        raise EngineError(f"{doing}: {location} cannot be read ({short_words(error)}). Export it again.") from error
    if not len(content) == length == count * kind.itemsize:
        raise EngineError(
            f"{doing}: {count * kind.itemsize} bytes were expected in {location}, found {len(content)} of {length}."
            " Export it again."
        )
    return np.frombuffer(content, kind).reshape(tuple(tensor.dims)).copy()
