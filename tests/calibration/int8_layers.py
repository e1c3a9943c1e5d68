"""Single-layer float graphs, recipes for them, and what int8 arithmetic makes of them by NumPy."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.choose.quantizer import Form, Quantizer
from calibration.choose.recipe import LayerRecipe, OutputWindow, Recipe, output_window
from calibration.observe.layers import Layer, layers_of
from calibration.targets.editing import Int8Graphs

Array = NDArray[Any]
OPSET = [helper.make_opsetid("", 21)]


@dataclass(frozen=True)
class Single:
    """One layer between x and y; `padding` (top, left, bottom, right)."""

    folder: Path
    model: onnx.ModelProto
    weight: Array
    bias: Array
    x: Array
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    stride: int = 1

    @property
    def layer(self) -> Layer:
        return layers_of(self.model)[0]

    def exact(self, x: Array, weight: Array) -> Array:
        """The layer in float64 without its bias."""
        if weight.ndim == 2:
            return x.astype(np.float64) @ weight.astype(np.float64).T
        top, left, bottom, right = self.padding
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
        return np.einsum("bchwij,ocij->bohw", windows[:, :, :: self.stride, :: self.stride], weight.astype(np.float64))

    def broadcast(self, channels: Array) -> Array:
        return channels.reshape(1, -1, 1, 1) if self.weight.ndim == 4 else channels


def conv(
    folder: Path,
    seed: int = 0,
    *,
    channels: int = 6,
    outputs: int = 5,
    kernel: int = 3,
    stride: int = 1,
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    bias: bool = True,
) -> Single:
    """A convolution of values as they are after SiLU: from -0.28 to about 6."""
    rng = np.random.default_rng(seed)
    weight = (
        rng.standard_normal((outputs, channels, kernel, kernel)) * rng.uniform(0.1, 2, (outputs, 1, 1, 1))
    ).astype(np.float32)
    offset = rng.standard_normal(outputs).astype(np.float32) if bias else np.zeros(outputs, dtype=np.float32)
    x = rng.standard_normal((2, channels, 7, 9)).astype(np.float32) * 2
    x = (x / (1 + np.exp(-x))).astype(np.float32)
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": list(padding)}
    node = helper.make_node(
        "Conv", ["x", "m.weight", *(["m.bias"] if bias else [])], ["y"], name="m/Conv", **attributes
    )
    shapes = (["batch", channels, "height", "width"], ["batch", outputs, "rows", "columns"])
    tensors = {"m.weight": weight, **({"m.bias": offset} if bias else {})}
    return Single(folder, _model(node, shapes, tensors, folder), weight, offset, x, padding, stride)


def linear(folder: Path, seed: int = 0, *, features: int = 12, outputs: int = 5) -> Single:
    """A product with a constant matrix of values of both signs."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, features)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "m.weight.transposed"], ["y"], name="m/MatMul")
    shapes = (["batch", "pixels", features], ["batch", "pixels", outputs])
    model = _model(node, shapes, {"m.weight.transposed": np.ascontiguousarray(weight.T)}, folder)
    x = rng.standard_normal((2, 8, features)).astype(np.float32)
    return Single(folder, model, weight, np.zeros(outputs, dtype=np.float32), x)


def _model(node: Any, shapes: Any, tensors: dict[str, Array], folder: Path) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in zip("xy", shapes, strict=True)
    )
    constants = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph([node], "single", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=10)
    path = folder / "float.onnx"
    onnx.save(model, path, save_as_external_data=True, location="float.bin", size_threshold=0)
    return onnx.load(path, load_external_data=False)


def in_half(single: Single) -> Single:
    """The same layer with its constants stored in half precision, each behind a Cast."""
    model = onnx.ModelProto()
    model.CopyFrom(single.model)
    constants = {t.name: numpy_helper.to_array(t, str(single.folder)) for t in single.model.graph.initializer}
    casts = [helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}/Cast", to=1) for name in constants]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float16), f"{name}.half") for name, value in constants.items()
    )
    return replace(single, model=model)


def recipe(
    single: Single,
    form: Form,
    *,
    scales: tuple[float, ...] = (1.0,),
    corrections: Array | None = None,
    factors: Array | None = None,
) -> Recipe:
    """Nearest weight codes and, per range, min-max input codes whose scale is multiplied by one of `scales`."""
    weight = single.weight if factors is None else single.weight / columns_of(single, factors)
    x = coded_values(single, factors)
    weight_scales = (np.abs(weight).reshape(weight.shape[0], -1).max(axis=1) / 127).astype(np.float32)
    codes = np.rint(weight / weight_scales.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
    base = form.covering(float(x.min()), float(x.max()))
    inputs = tuple(Quantizer(scale=base.scale * k, lowest=base.lowest, highest=base.highest) for k in scales)
    window = None
    if weight.ndim == 4:
        y = single.exact(x, weight) + single.broadcast(single.bias)
        low, high = (np.stack([getattr(y, side)(axis=(0, 2, 3))] * len(scales)) for side in ("min", "max"))
        window = output_window(low, high, bias=single.bias, weight_scales=weight_scales, inputs=inputs, headroom=1.0)
    layer = LayerRecipe(
        node=single.layer.node,
        codes=codes,
        weight_scales=weight_scales,
        inputs=inputs,
        factors=factors,
        corrections=corrections,
        output=window,
    )
    return Recipe(ranges=len(scales), layers=(layer,))


def columns_of(single: Single, factors: Array) -> Array:
    """The factors of input channels as they lie along the weights, output channel first."""
    return factors.reshape(1, -1, *[1] * (single.weight.ndim - 2))


def coded_values(single: Single, factors: Array | None) -> Array:
    """What is coded: the input times its channels' factors."""
    if factors is None:
        return single.x
    scaled: Array = single.x * (factors if single.weight.ndim == 2 else columns_of(single, factors))
    return scaled


def stored_window(quantizer: Quantizer, lowest: int) -> Quantizer:
    """The quantizer with all 256 codes that 8 bits have: a window of 255 leaves one that values beyond it get."""
    return Quantizer(scale=quantizer.scale, lowest=lowest, highest=lowest + 255)


def by_integers(single: Single, told: Recipe, index: int, *, coded_output: bool) -> Array:
    """The layer's output in one range by integer arithmetic; with `coded_output` through the window's codes."""
    layer = told.layers[0]
    unit = layer.inputs[index].scale * layer.weight_scales.astype(np.float64)
    quantizer = stored_window(layer.inputs[index], layer.inputs[index].lowest)
    accumulator = single.exact(quantizer.codes(coded_values(single, layer.factors)), layer.codes)
    if coded_output:
        assert layer.output is not None
        centres, steps = (single.broadcast(part) for part in (layer.output.centres, step_of(layer.output, index)))
        accumulator = centres + np.clip(np.rint((accumulator - centres) / steps), -128, 127) * steps
    out = accumulator * single.broadcast(unit) + single.broadcast(single.bias)
    return out if layer.corrections is None else out + single.broadcast(layer.corrections[index])


def step_of(window: OutputWindow, index: int) -> Array:
    return window.steps.astype(np.float64) * window.gains[index]


def stored(graphs: Int8Graphs, folder: Path, name: str = "int8") -> Path:
    """The graph as a file in `folder`, with its large tensors in another one."""
    model, data = graphs.model, b""
    for key, value in graphs.tensors.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=key, dims=value.shape, data_type=kind, data_location=TensorProto.EXTERNAL)
        entries = {"location": f"{name}.bin", "offset": len(data), "length": value.nbytes}
        for field, entry in entries.items():
            tensor.external_data.add(key=field, value=str(entry))
        model.graph.initializer.append(tensor)
        data += value.tobytes()
    (folder / f"{name}.bin").write_bytes(data)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(path)
    return path
