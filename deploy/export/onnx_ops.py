"""Writes a description down as an ONNX graph whose nodes carry the names of the modules they stand for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from deploy.bundle.checks import NEWEST_OPSET
from deploy.export.weights_file import Place
from deploy.families.rewriting.ops import Array, Part
from engines.contract import TensorSpec

IR_VERSION = 10
"""The IR version that belongs to opset 21; newer ones are refused by TensorRT 10's parser."""

NormForm = Literal["group", "instance"]
"""How group normalisation is written: as GroupNormalization, or as InstanceNormalization over reshaped groups followed
by the affine map. The mathematics is the same; which one a backend runs well is measured."""

_SMALL = 64
"""Arrays of at most this many bytes, and all integers, stay inside the graph file: shape inference reads them there."""


FAR = 1e30
"""What makes a difference of float32 values near one larger than any index, and none of them infinite."""


class OnnxOps:
    """`Ops` whose values are names of ONNX tensors. Collects nodes and the initializers they use."""

    def __init__(self, weights: Mapping[str, Array], norm: NormForm) -> None:
        self.nodes: list[NodeProto] = []
        self.used: dict[str, np.ndarray[Any, Any]] = {}
        """Initializers by name, in order of first use."""
        self._weights = weights
        self._norm = norm
        self._taken: dict[str, int] = {}

    def conv(
        self,
        x: str,
        name: str,
        *,
        stride: int = 1,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
    ) -> str:
        weight = self._weights[f"{name}.weight"]
        return self._node(
            "Conv",
            [x, *self._affine(name)],
            name,
            kernel_shape=list(weight.shape[2:]),
            strides=[stride, stride],
            pads=list(padding),
            group=groups,
        )

    def linear(self, x: str, name: str) -> str:
        transposed = f"{name}.weight.transposed"
        if transposed not in self.used:
            self.used[transposed] = np.ascontiguousarray(self._weights[f"{name}.weight"].T)
        product = self._node("MatMul", [x, transposed], name)
        if f"{name}.bias" not in self._weights:
            return product
        return self._node("Add", [product, self._initializer(f"{name}.bias")], name)

    def group_norm(self, x: str, name: str, *, groups: int, epsilon: float) -> str:
        if self._norm == "group":
            return self._node("GroupNormalization", [x, *self._affine(name)], name, num_groups=groups, epsilon=epsilon)
        ones = self._small(np.ones(groups, dtype=np.float32), f"ones.{groups}")
        zeros = self._small(np.zeros(groups, dtype=np.float32), f"zeros.{groups}")
        grouped = self.reshape(x, (0, groups, -1), f"{name}.groups")
        normal = self._node("InstanceNormalization", [grouped, ones, zeros], name, epsilon=epsilon)
        shape = self._node("Shape", [x], f"{name}.shape")
        normal = self._node("Reshape", [normal, shape], f"{name}.channels")
        weight, bias = (self._per_channel(f"{name}.{kind}") for kind in ("weight", "bias"))
        return self.add(self.mul(normal, weight, name), bias, name)

    def silu(self, x: str, name: str) -> str:
        return self._node("Mul", [x, self._node("Sigmoid", [x], name)], name)

    def relu(self, x: str, name: str) -> str:
        return self._node("Relu", [x], name)

    def leaky_relu(self, x: str, name: str, *, slope: float) -> str:
        return self._node("LeakyRelu", [x], name, alpha=slope)

    def add(self, a: str, b: str, name: str) -> str:
        return self._node("Add", [a, b], name)

    def mul(self, a: str, b: str, name: str) -> str:
        return self._node("Mul", [a, b], name)

    def scale(self, x: str, factor: float, name: str) -> str:
        return self.mul(x, self._number(factor), name)

    def reciprocal_root(self, x: str, name: str) -> str:
        return self._node("Reciprocal", [self._node("Sqrt", [x], name)], name)

    def sin(self, x: str, name: str) -> str:
        return self._node("Sin", [x], name)

    def cos(self, x: str, name: str) -> str:
        return self._node("Cos", [x], name)

    def absolute(self, x: str, name: str) -> str:
        return self._node("Abs", [x], name)

    def divide(self, a: str, b: str, name: str) -> str:
        return self._node("Div", [a, b], name)

    def exp(self, x: str, name: str) -> str:
        return self._node("Exp", [x], name)

    def clip(self, x: str, low: float, high: float, name: str) -> str:
        return self._node("Clip", [x, self._number(low), self._number(high)], name)

    def take(self, x: str, index: str, name: str, *, axis: int) -> str:
        return self._node("Gather", [x, index], name, axis=axis)

    def index_of_least(self, x: str, name: str, count: int) -> str:
        """Not ArgMin, which OpenVINO makes of a sort: the least number of those whose distance to the least is 0.

        Any other distance, times FAR, is larger than every number.
        """
        last = self._small(np.array([-1], dtype=np.int64), "axes.-1")
        above = self._node("Sub", [x, self._node("ReduceMin", [x, last], name, keepdims=1)], name)
        numbers = self.constant(np.arange(count, dtype=np.float32), f"{name}.numbers")
        numbered = self.add(self.scale(above, FAR, name), numbers, name)
        return self._node(
            "Cast", [self._node("ReduceMin", [numbered, last], name, keepdims=0)], name, to=TensorProto.INT64
        )

    def concat(self, parts: Sequence[str], name: str, *, axis: int) -> str:
        return self._node("Concat", list(parts), name, axis=axis)

    def split(self, x: str, sizes: Sequence[int], name: str, *, axis: int) -> list[str]:
        lengths = self._small(np.array(sizes, dtype=np.int64), f"{name}.sizes")
        node = self._name(name, "Split")
        outputs = [f"{node}.out{number}" for number in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x, lengths], outputs, name=node, axis=axis))
        return outputs

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        target = self._small(np.array(shape, dtype=np.int64), "shape." + ".".join(map(str, shape)))
        return self._node("Reshape", [x, target], name)

    def transpose(self, x: str, order: Sequence[int], name: str) -> str:
        return self._node("Transpose", [x], name, perm=list(order))

    def attention(self, q: str, k: str, v: str, name: str, *, scale: float, late: bool = False) -> str:
        """MatMul, Softmax, MatMul: the pattern that all three backends recognise as one attention.

        late: written so that they do not. OpenVINO's own attention took five times as long for 16 384 keys.
        """
        keys = self.transpose(k, (0, 1, 3, 2), f"{name}.keys")
        logits = self._node("MatMul", [self.scale(q, scale, f"{name}.queries"), keys], f"{name}.logits")
        if late:
            last = self._small(np.array([-1], dtype=np.int64), "axes.-1")
            largest = self._node("ReduceMax", [logits, last], f"{name}.largest", keepdims=1)
            shares = self.exp(self._node("Sub", [logits, largest], name), name)
            total = self._node("ReduceSum", [shares, last], f"{name}.total", keepdims=1)
            return self.divide(self._node("MatMul", [shares, v], f"{name}.mix"), total, name)
        return self._node("MatMul", [self._node("Softmax", [logits], name, axis=-1), v], f"{name}.mix")

    def unflatten(self, x: str, like: str, channels: int, name: str) -> str:
        size = self._node("Shape", [like], f"{name}.size", start=2, end=4)
        head = self._small(np.array([0, channels], dtype=np.int64), f"head.{channels}")
        return self._node("Reshape", [x, self.concat([head, size], f"{name}.shape", axis=0)], name)

    def upsample(self, x: str, name: str) -> str:
        scales = self._small(np.array([1, 1, 2, 2], dtype=np.float32), "scales.1.1.2.2")
        return self._node(
            "Resize",
            [x, "", scales],
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def constant(self, value: Array, name: str) -> str:
        self.used.setdefault(name, value)
        return name

    def _affine(self, name: str) -> list[str]:
        names = [f"{name}.weight", f"{name}.bias"]
        return [self._initializer(n) for n in names if n in self._weights]

    def _per_channel(self, name: str) -> str:
        return self.constant(self._weights[name][None, :, None, None], f"{name}.per_channel")

    def _initializer(self, name: str) -> str:
        self.used.setdefault(name, self._weights[name])
        return name

    def _number(self, value: float) -> str:
        return self._small(np.array(value, dtype=np.float32), f"number.{value!r}")

    def _small(self, value: np.ndarray[Any, Any], name: str) -> str:
        self.used.setdefault(name, value)
        return name

    def _node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        node = self._name(name, kind)
        output = f"{node}.out"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=node, **attributes))
        return output

    def _name(self, name: str, kind: str) -> str:
        """`<module path>/<kind>`, numbered from the second one of the same name on."""
        base = f"{name}/{kind}"
        count = self._taken[base] = self._taken.get(base, 0) + 1
        return base if count == 1 else f"{base}.{count}"


def graph_of(
    part: Part, norm: NormForm, *, compact: bool = False
) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:
    """The part as a model without its large weights, and those weights by name, in order of first use.

    `compact`: weights that fp16 holds exactly are stored as fp16, see `compacted`.
    """
    ops = OnnxOps(part.weights, norm)
    results = part.forward(ops, {spec.name: spec.name for spec in part.inputs})
    for spec in part.outputs:
        ops.nodes.append(helper.make_node("Identity", [results[spec.name]], [spec.name], name=f"{spec.name}/Identity"))
    small = {n: value for n, value in ops.used.items() if value.nbytes <= _SMALL or value.dtype != np.float32}
    large = {n: value for n, value in ops.used.items() if n not in small}
    widening: list[NodeProto] = []
    if compact:
        widening, large = compacted(large)
    graph = helper.make_graph(
        [*widening, *ops.nodes],
        part.name,
        [_value_info(spec) for spec in part.inputs],
        [_value_info(spec) for spec in part.outputs],
        initializer=[numpy_helper.from_array(value, name) for name, value in small.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", NEWEST_OPSET)], ir_version=IR_VERSION)
    model.producer_name = "idm-deploy"
    return model, large


def compacted(
    weights: Mapping[str, np.ndarray[Any, Any]],
) -> tuple[list[NodeProto], dict[str, np.ndarray[Any, Any]]]:
    """The weights with those that fp16 holds exactly as fp16 under `<name>.half`, and a Cast each that restores them.

    The Cast's output has the weight's own name, so nothing else in the graph changes. Backends fold it when they open
    the graph: the file is smaller, the arithmetic and the memory of a run are the same.
    """
    nodes: list[NodeProto] = []
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in weights.items():
        with np.errstate(over="ignore"):  # beyond the range of fp16: infinite, and therefore not equal
            half = value.astype(np.float16)
        if np.array_equal(half.astype(value.dtype), value):
            tensors[f"{name}.half"] = half
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}/Cast", to=TensorProto.FLOAT))
        else:
            tensors[name] = value
    return nodes, tensors


def attach_weights(model: onnx.ModelProto, location: str, places: Mapping[str, Place]) -> None:
    """Adds initializers whose bytes lie in the file `location` beside the graph."""
    for name, place in places.items():
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(place.dtype))
        tensor = TensorProto(name=name, dims=place.shape, data_type=kind, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", str(place.offset)), ("length", str(place.length))):
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, list(spec.shape))
