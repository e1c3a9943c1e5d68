"""Runs a description with PyTorch, eagerly: the yardstick between the published network and its ONNX graphs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deploy.families.rewriting.ops import Array, Part


class TorchOps:
    """`Ops` on torch tensors. Weights share the arrays' memory."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = {name: torch.from_numpy(value) for name, value in weights.items()}

    def conv(
        self,
        x: Tensor,
        name: str,
        *,
        stride: int = 1,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
    ) -> Tensor:
        top, left, bottom, right = padding
        if (top, left) == (bottom, right):
            return functional.conv2d(x, *self._affine(name), stride=stride, padding=(top, left), groups=groups)
        padded = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(padded, *self._affine(name), stride=stride, groups=groups)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, *self._affine(name))

    def group_norm(self, x: Tensor, name: str, *, groups: int, epsilon: float) -> Tensor:
        return functional.group_norm(x, groups, *self._affine(name), eps=epsilon)

    def silu(self, x: Tensor, name: str) -> Tensor:
        return functional.silu(x)

    def relu(self, x: Tensor, name: str) -> Tensor:
        return functional.relu(x)

    def leaky_relu(self, x: Tensor, name: str, *, slope: float) -> Tensor:
        return functional.leaky_relu(x, slope)

    def add(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        return a + b

    def mul(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        return a * b

    def scale(self, x: Tensor, factor: float, name: str) -> Tensor:
        return x * factor

    def reciprocal_root(self, x: Tensor, name: str) -> Tensor:
        return torch.rsqrt(x)

    def sin(self, x: Tensor, name: str) -> Tensor:
        return torch.sin(x)

    def cos(self, x: Tensor, name: str) -> Tensor:
        return torch.cos(x)

    def absolute(self, x: Tensor, name: str) -> Tensor:
        return x.abs()

    def divide(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        return a / b

    def exp(self, x: Tensor, name: str) -> Tensor:
        return torch.exp(x)

    def clip(self, x: Tensor, low: float, high: float, name: str) -> Tensor:
        return x.clamp(low, high)

    def take(self, x: Tensor, index: Tensor, name: str, *, axis: int) -> Tensor:
        return x.index_select(axis, index)

    def index_of_least(self, x: Tensor, name: str, count: int) -> Tensor:
        return x.argmin(dim=-1)

    def concat(self, parts: Sequence[Tensor], name: str, *, axis: int) -> Tensor:
        return torch.cat(list(parts), dim=axis)

    def split(self, x: Tensor, sizes: Sequence[int], name: str, *, axis: int) -> list[Tensor]:
        return list(torch.split(x, list(sizes), dim=axis))

    def reshape(self, x: Tensor, shape: Sequence[int], name: str) -> Tensor:
        return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])

    def transpose(self, x: Tensor, order: Sequence[int], name: str) -> Tensor:
        return x.permute(list(order))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, name: str, *, scale: float, late: bool = False) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, scale=scale)

    def unflatten(self, x: Tensor, like: Tensor, channels: int, name: str) -> Tensor:
        return x.reshape(x.shape[0], channels, like.shape[2], like.shape[3])

    def upsample(self, x: Tensor, name: str) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="nearest")

    def constant(self, value: Array, name: str) -> Tensor:
        return torch.from_numpy(value)

    def _affine(self, name: str) -> tuple[Tensor, Tensor | None]:
        return self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias")


class PartRunner:
    """A part as a callable: arrays or tensors by name in, tensors by name out."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._ops = TorchOps(part.weights)

    @torch.inference_mode()
    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs; `feeds` may hold more than the part asks for."""
        return self._part.forward(self._ops, {spec.name: feeds[spec.name] for spec in self._part.inputs})

    def tensors(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """The arrays that the part asks for, as tensors on the same memory."""
        return {spec.name: torch.from_numpy(feeds[spec.name]) for spec in self._part.inputs}
