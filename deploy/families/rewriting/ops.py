"""The operations a rewritten network is written in.

`T` is whatever a back end computes with: a torch tensor when the description is run, the name of a value when it
is written down as ONNX. Feature maps are (batch, channels, height, width). `name` is the dotted path of the module
an operation stands for; weights are looked up by it as `<name>.weight` and `<name>.bias` (the bias may be missing).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.contract import TensorSpec

T = TypeVar("T")
Array = NDArray[np.float32]
Feeds = Mapping[str, Any]

SAME = (1, 1, 1, 1)
"""The padding with which a 3x3 convolution keeps the size."""


class Ops(Protocol[T]):
    """What a description may ask for."""

    def conv(
        self, x: T, name: str, *, stride: int = 1, padding: tuple[int, int, int, int] = (0, 0, 0, 0), groups: int = 1
    ) -> T:
        """Cross-correlation with zero padding (top, left, bottom, right)."""

    def linear(self, x: T, name: str) -> T:
        """x (.., K) times the transposed weight (N, K), plus the bias: (.., N)."""

    def group_norm(self, x: T, name: str, *, groups: int, epsilon: float) -> T:
        """Normalisation over groups of channels with an affine map per channel."""

    def silu(self, x: T, name: str) -> T:
        """x * sigmoid(x)."""

    def relu(self, x: T, name: str) -> T:
        """max(x, 0)."""

    def leaky_relu(self, x: T, name: str, *, slope: float) -> T:
        """x where positive, slope * x elsewhere."""

    def add(self, a: T, b: T, name: str) -> T:
        """a + b with broadcasting."""

    def mul(self, a: T, b: T, name: str) -> T:
        """a * b with broadcasting."""

    def scale(self, x: T, factor: float, name: str) -> T:
        """x * factor."""

    def reciprocal_root(self, x: T, name: str) -> T:
        """1 / sqrt(x)."""

    def sin(self, x: T, name: str) -> T:
        """sin(x)."""

    def cos(self, x: T, name: str) -> T:
        """cos(x)."""

    def absolute(self, x: T, name: str) -> T:
        """|x|."""

    def divide(self, a: T, b: T, name: str) -> T:
        """a / b with broadcasting."""

    def exp(self, x: T, name: str) -> T:
        """e to the x."""

    def clip(self, x: T, low: float, high: float, name: str) -> T:
        """x limited to [low, high]."""

    def take(self, x: T, index: T, name: str, *, axis: int) -> T:
        """The entries of x along one axis that an int64 vector names."""

    def index_of_least(self, x: T, name: str, count: int) -> T:
        """For each row of `count` values along the last axis the int64 index of the least; of several, the first."""

    def concat(self, parts: Sequence[T], name: str, *, axis: int) -> T:
        """The parts one after the other."""

    def split(self, x: T, sizes: Sequence[int], name: str, *, axis: int) -> list[T]:
        """Consecutive parts of the given sizes."""

    def reshape(self, x: T, shape: Sequence[int], name: str) -> T:
        """x in another shape; 0 keeps the size of that axis and -1, once, takes what is left."""

    def transpose(self, x: T, order: Sequence[int], name: str) -> T:
        """The axes in another order."""

    def attention(self, q: T, k: T, v: T, name: str, *, scale: float, late: bool = False) -> T:
        """softmax(scale * q k^T) v over (batch, heads, pixels, features).

        late: the sum of the exponentials divides the product with v, where there are very many keys.
        """

    def unflatten(self, x: T, like: T, channels: int, name: str) -> T:
        """(batch, channels, pixels) as a feature map of the height and width of `like`."""

    def upsample(self, x: T, name: str) -> T:
        """Every pixel twice in both directions."""

    def constant(self, value: Array, name: str) -> T:
        """A tensor that is part of the network."""


def attended(ops: Ops[Any], x: Any, parts: tuple[Any, Any, Any], name: str, channels: int, width: int) -> Any:
    """What attention makes of queries, keys and values (batch, heads, pixels, width), as a feature map like `x`."""
    mixed = ops.attention(*parts, name, scale=width**-0.5)
    mixed = ops.reshape(ops.transpose(mixed, (0, 1, 3, 2), f"{name}.channels"), (0, channels, -1), f"{name}.mixed")
    return ops.unflatten(mixed, x, channels, f"{name}.image")


Forward = Callable[[Ops[Any], Feeds], dict[str, Any]]
"""(operations, inputs by name) -> outputs by name."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One graph.

    `weights` holds everything `forward` may look up. `extra` names the weights that no operation uses and that are
    carried all the same (the rewrite `drop-unused` switched off).
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Mapping[str, Array]
    forward: Forward
    extra: tuple[str, ...] = ()
