"""Group normalisation for OpenVINO's processor kernels: rewritten, when a graph is opened, so that arrays stay put.

Convolutions want the channels of a pixel beside each other in memory. OpenVINO (2026.4) normalises groups as an MVN
over reshaped arrays, channel after channel, so each normalisation copies its input into the other order, and often
back. The same is written here with what runs in the convolutions' order:

    m = mean of each channel        v = mean of (x - m)^2 of each channel
    M = mean of m over a group      V = mean of v + (m - M)^2 over a group      y = (x - M) / sqrt(V + epsilon)

Deviations are taken before they are squared, so nothing cancels where a mean is far larger than the deviation. Channels
that are joined bring m and v with them, where those were made for an earlier normalisation. What it gains:
docs/measurements.md, normalisation in the convolutions' order.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

CHANNELS_LAST: Final = "channels-last"
PLANAR: Final = "planar"
NORMALISATIONS: Final = (CHANNELS_LAST, PLANAR)
"""How groups are normalised: in the order of the convolutions, or as the graph says it, channel after channel."""


@dataclass(frozen=True, kw_only=True)
class GroupNorm:
    """A normalisation of groups as the graph has it: `x` reshaped, through `mvn`, and reshaped `back`."""

    x: Any
    channels: int
    groups: int
    epsilon: float
    back: Any


def normalise_channels_last(openvino: Any, model: Any) -> int:
    """How many normalisations of an opened model were rewritten in place; what it computes stays the same."""
    found = [norm for node in model.get_ordered_ops() if (norm := _group_norm(node)) is not None]
    writer = _Writer(openvino.opset13)
    for norm in found:
        norm.back.output(0).replace(writer.normalised(norm).output(0))
    if found:
        model.validate_nodes_and_infer_types()
    return len(found)


def _group_norm(mvn: Any) -> GroupNorm | None:
    """The normalisation of groups around an MVN; None for other nodes, and where more than that is done there."""
    if mvn.get_type_name() != "MVN":
        return None
    attributes = mvn.get_attributes()
    reshape = _source(mvn, 0).get_node()
    if reshape.get_type_name() != "Reshape" or not attributes["normalize_variance"]:
        return None
    if attributes["eps_mode"] != "INSIDE_SQRT":
        return None
    x = _source(reshape, 0)
    shape, grouped = x.get_partial_shape(), reshape.get_output_partial_shape(0)
    if shape.rank.is_dynamic or len(shape) != 4 or shape[1].is_dynamic or len(grouped) != 3 or grouped[1].is_dynamic:
        return None
    axes = _source(mvn, 1).get_node()
    if axes.get_type_name() != "Constant" or list(np.ravel(axes.data)) not in ([2], [-1]):
        return None
    back = _reshape_back(mvn, x)
    channels, groups = shape[1].get_length(), grouped[1].get_length()
    if back is None or channels % groups:
        return None
    return GroupNorm(x=x, channels=channels, groups=groups, epsilon=float(attributes["eps"]), back=back)


def _reshape_back(mvn: Any, x: Any) -> Any | None:
    """The node that gives the normalised groups the shape of `x` again, behind nothing but factors 1 and terms 0."""
    node = mvn
    while True:
        readers = [reader for port in node.output(0).get_target_inputs() if not _reads_shape(reader := port.get_node())]
        if len(readers) != 1:
            return None
        node, before = readers[0], node
        kind = node.get_type_name()
        if kind == "Reshape":
            shape = _source(node, 1).get_node()
            is_back = shape.get_type_name() == "ShapeOf" and _same(_source(shape, 0), x)
            return node if is_back and _same(_source(node, 0), before.output(0)) else None
        neutral = {"Multiply": 1.0, "Add": 0.0}.get(kind)
        others = [_source(node, i) for i in (0, 1) if not _same(_source(node, i), before.output(0))]
        if neutral is None or len(others) != 1 or not _is_constant(others[0].get_node(), neutral):
            return None


def _is_constant(node: Any, value: float) -> bool:
    """Whether a node is a constant whose numbers are all `value`, in any shape."""
    while node.get_type_name() in ("Reshape", "Convert"):
        node = _source(node, 0).get_node()
    return node.get_type_name() == "Constant" and bool((node.data == value).all())


def _source(node: Any, index: int) -> Any:
    return node.input(index).get_source_output()


def _reads_shape(node: Any) -> bool:
    return bool(node.get_type_name() == "ShapeOf")


def _place(output: Any) -> tuple[str, int]:
    """The node's name, which is its own within a model, and the number of its output."""
    return output.get_node().get_friendly_name(), output.get_index()


def _same(one: Any, other: Any) -> bool:
    return _place(one) == _place(other)


class _Writer:
    """Writes normalisations into one model, and looks at each array once."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops
        self._moments: dict[tuple[str, int], tuple[Any, Any]] = {}

    def normalised(self, norm: GroupNorm) -> Any:
        """The node whose output is the array with its groups normalised."""
        ops = self._ops
        mean, variance = self._moments_of(norm.x)
        group_mean = self._group_mean(mean, norm)
        from_mean = ops.subtract(mean, group_mean)
        group_variance = self._group_mean(ops.add(variance, ops.multiply(from_mean, from_mean)), norm)
        factor = ops.power(ops.add(group_variance, _number(norm.epsilon)), _number(-0.5))
        return ops.multiply(ops.subtract(norm.x, group_mean), factor)

    def _moments_of(self, x: Any) -> tuple[Any, Any]:
        """Mean and variance of each channel, (batch, channels, 1, 1)."""
        place = _place(x)
        if place not in self._moments:
            self._moments[place] = self._joined(x.get_node()) or self._observed(x)
        return self._moments[place]

    def _joined(self, node: Any) -> tuple[Any, Any] | None:
        """Those of joined channels, joined; None where the node joins no channels."""
        if node.get_type_name() != "Concat" or node.get_attributes()["axis"] not in (1, -3):
            return None
        parts = [self._moments_of(_source(node, index)) for index in range(node.get_input_size())]
        means, variances = zip(*parts, strict=True)
        return self._ops.concat(list(means), 1), self._ops.concat(list(variances), 1)

    def _observed(self, x: Any) -> tuple[Any, Any]:
        ops, sides = self._ops, np.array([2, 3], np.int64)
        mean = ops.reduce_mean(x, sides, keep_dims=True)
        # The length of the deviations rather than their squares' mean: where sizes are open, OpenVINO would write the
        # squares out first.
        length = ops.reduce_l2(ops.subtract(x, mean), sides, keep_dims=True)
        return mean, ops.divide(ops.multiply(length, length), self._pixels(x))

    def _pixels(self, x: Any) -> Any:
        """How many pixels an array has."""
        ops, first, last = self._ops, np.array([2], np.int64), np.array([4], np.int64)
        sides = ops.slice(ops.shape_of(x, "i64"), first, last, np.array([1], np.int64))
        return ops.convert(ops.reduce_prod(sides, np.array([0], np.int64), keep_dims=True), "f32")

    def _group_mean(self, values: Any, norm: GroupNorm) -> Any:
        """The mean over the channels of each group, given to each of them: a 1x1 convolution."""
        size = norm.channels // norm.groups
        weights = np.kron(np.eye(norm.groups), np.full((size, size), 1 / size)).astype(np.float32)
        return self._ops.convolution(values, weights[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])


def _number(value: float) -> Any:
    return np.array(value, np.float32)


def reorders_left(compiled: Any) -> int:
    """How many arrays a compiled model copies into another order in each run.

    Constants, which are reordered once, are not counted, nor are single numbers of each channel.
    """
    reorders = (node for node in compiled.get_runtime_model().get_ops() if _layer_kind(node) == "Reorder")
    return sum(_layer_kind(_source(node, 0).get_node()) != "Const" and not _is_small(node) for node in reorders)


def _is_small(node: Any) -> bool:
    """Whether an array has no more than one number in each channel."""
    shape = node.get_output_partial_shape(0)
    return shape.rank.is_static and all(side.is_static and side.get_length() == 1 for side in list(shape)[2:])


def _layer_kind(node: Any) -> str:
    info = node.get_rt_info()
    return str(info["layerType"].astype(str)) if "layerType" in info else ""
