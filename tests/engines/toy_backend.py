"""A backend that the product does not know: it interprets graphs with NumPy, in float32 and in int8.

It has the operators of the toy family's graphs (tests/deploy/families/toy) alone.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engines.arrays import Array
from engines.contract import (
    QLINEAR,
    Availability,
    Backend,
    Engine,
    Held,
    Opening,
)
from engines.errors import EngineError
from engines.onnx_files.graph_file import GraphSignature, read_signature

NAME = "numpy-toy"
PRECISIONS = ("fp32",)


def probe() -> Availability:
    """NumPy is always here."""
    return Availability(name=NAME, available=True, version=np.__version__, reason="", install="pip install numpy")


def open_engine(graph: Path, opening: Opening) -> Engine:
    """`graph` ready to be interpreted; an operator that is missing is refused now."""
    import onnx

    signature = read_signature(graph).with_sizes(graph, opening.sizes)
    body = onnx.load(str(graph)).graph
    if missing := sorted({node.op_type for node in body.node} - OPERATORS.keys()):
        raise EngineError(f"Opening {graph}: {NAME} has no operator {', '.join(missing)}. Take another engine.")
    return NumpyEngine(graph, signature, body)


class NumpyEngine(Engine):
    """One graph, node by node."""

    def __init__(self, graph: Path, signature: GraphSignature, body: Any) -> None:
        from onnx import helper, numpy_helper

        super().__init__(NAME, "fp32", graph, signature)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
        self._nodes = [
            (
                partial(OPERATORS[node.op_type], **{a.name: helper.get_attribute_value(a) for a in node.attribute}),
                list(node.input),
                list(node.output),
            )
            for node in body.node
        ]

    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        values = {**self._constants, **held.arrays, **feeds}
        for operator, inputs, outputs in self._nodes:
            made = operator(*(values[name] for name in inputs))
            values.update(zip(outputs, made if isinstance(made, list) else [made], strict=True))
        return {spec.name: values[spec.name] for spec in self.outputs}

    def _close(self) -> None:
        self._constants, self._nodes = {}, []


def windows(x: Array, shape: tuple[int, ...], pads: list[int], strides: list[int], fill: int = 0) -> Array:
    """(batch, channels, rows, columns, kernel height, kernel width)."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    every = np.lib.stride_tricks.sliding_window_view(padded, shape[2:], axis=(2, 3))
    return every[:, :, :: strides[0], :: strides[1]]


def convolved(x: Array, w: Array, b: Array, *, pads: list[int], strides: list[int], **_: Any) -> Array:
    """Conv of one group."""
    sums = np.tensordot(windows(x, w.shape, pads, strides), w, axes=((1, 4, 5), (1, 2, 3)))
    return np.moveaxis(sums, 3, 1) + b.reshape(-1, 1, 1)


def convolved_codes(
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    b: Array,
    *,
    pads: list[int],
    strides: list[int],
    **_: Any,
) -> Array:
    """QLinearConv: exact sums of codes, then one multiplication and rounding per value."""
    # int64 of codes: what is padded is the zero point, and so no longer anything
    codes = windows(x, w.shape, pads, strides, fill=int(x_zero)).astype(np.float64) - float(x_zero)
    weights = w.astype(np.float64) - w_zero.reshape(-1, *[1] * (3 if w_zero.ndim else 0))
    sums = np.moveaxis(np.tensordot(codes, weights, axes=((1, 4, 5), (1, 2, 3))), 3, 1) + b.reshape(-1, 1, 1)
    scaled = sums.astype(np.float32) * (x_scale * w_scale / y_scale).reshape(-1, 1, 1)
    return np.clip(np.rint(scaled) + y_zero, 0, 255).astype(np.uint8)


def quantized(x: Array, scale: Array, zero: Array) -> Array:
    """QuantizeLinear with one scale."""
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(zero.dtype)


def dequantized(codes: Array, scale: Array, zero: Array) -> Array:
    """DequantizeLinear with one scale."""
    return (codes.astype(np.float32) - zero.astype(np.float32)) * scale


def split(x: Array, sizes: Array, *, axis: int = 0) -> list[Array]:
    """Split into parts of given sizes."""
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Identity": np.array,
    "Add": np.add,
    "Mul": np.multiply,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Split": split,
    "Conv": convolved,
    "QLinearConv": convolved_codes,
    "QuantizeLinear": quantized,
    "DequantizeLinear": dequantized,
}

TOY_BACKEND = Backend(
    name=NAME,
    title="NumPy",
    package="numpy",
    extra="",
    probe=probe,
    open_engine=open_engine,
    precisions=PRECISIONS,
    int8_form=QLINEAR,
)
"""What one file and one line have to hold."""
