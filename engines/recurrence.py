"""Runs of one graph of which each makes the next one's input: a linear recurrence around the graph.

With x the input and y the output of a run, its estimate is e = p x + q y, kept within bounds, and the next input is
x' = k x + s0 e + s1 e(of the run before) + ... + f. In numbers: p = 2, q = -1, bounds -1 to 1, k = 0.5, s0 = 0.5 make
of x = 1, y = 0.5 the estimate 1.5, kept at 1, and the next input 0.5 + 0.5 = 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.onnx_files.wire_format import bytes_field, number_field, text_field

Array = NDArray[Any]

FLOAT32 = 1
"""TensorProto.FLOAT."""

NO_BOUNDS = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One run: what it is fed besides x, and p, q, the bounds, k, the shares s and the array f of the formula above."""

    feeds: Mapping[str, Array]
    input_share: float
    output_share: float
    bounds: tuple[float, float] = NO_BOUNDS
    keep: float = 0.0
    estimate_shares: tuple[float, ...] = (1.0,)
    fresh: Array | None = None

    @property
    def scalars(self) -> dict[str, np.float32]:
        """The numbers by the names that the graph of `update_graph` gives them."""
        named = {"p": self.input_share, "q": self.output_share, "low": self.bounds[0], "high": self.bounds[1]}
        named |= {"k": self.keep} | {f"s{index}": share for index, share in enumerate(self.estimate_shares)}
        return {name: np.float32(value) for name, value in named.items()}


def next_input(step: Step, x: Array, y: Array, estimates: list[Array]) -> Array:
    """The next x, in NumPy; `estimates`, newest first, gains this run's and keeps as many as the shares name."""
    named = step.scalars
    estimates.insert(0, np.clip(y * named["q"] + x * named["p"], named["low"], named["high"]))
    del estimates[max(1, len(step.estimate_shares)) :]
    found: Array = x * named["k"]
    for index, estimate in enumerate(estimates[: len(step.estimate_shares)]):
        found = found + estimate * named[f"s{index}"]
    return found if step.fresh is None else found + step.fresh


def update_graph(estimates: int, *, fresh: bool) -> bytes:
    """An ONNX model that computes `next` and `estimate` from x, y, the earlier estimates e1.. and the numbers.

    Only its last node writes `next`, after every node that reads x: both may share their memory.
    """
    shares = [f"s{index}" for index in range(estimates)]
    older = [f"e{index}" for index in range(1, estimates)]
    arrays = ["x", "y", *older, *(["f"] if fresh else [])]
    nodes = [("Mul", ["y", "q"], "qy"), ("Mul", ["x", "p"], "px"), ("Add", ["qy", "px"], "raw")]
    nodes += [("Clip", ["raw", "low", "high"], "estimate"), ("Mul", ["x", "k"], "sum")]
    terms = []
    for estimate, share in zip(["estimate", *older], shares, strict=True):
        nodes.append(("Mul", [estimate, share], f"{share}e"))
        terms.append(f"{share}e")
    terms += ["f"] if fresh else []
    total = "sum"
    for number, term in enumerate(terms):
        made = "next" if number == len(terms) - 1 else f"sum{number}"
        nodes.append(("Add", [total, term], made))
        total = made
    body = b"".join(bytes_field(1, _node(*node)) for node in nodes) + text_field(2, "update")
    body += b"".join(bytes_field(11, _value(name, 4)) for name in arrays)
    body += b"".join(bytes_field(11, _value(name, 0)) for name in ("p", "q", "low", "high", "k", *shares))
    body += b"".join(bytes_field(12, _value(name, 4)) for name in ("next", "estimate"))
    opset = bytes_field(8, number_field(2, 17))
    return number_field(1, 8) + bytes_field(7, body) + opset


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(text_field(1, name) for name in inputs) + text_field(2, output) + text_field(4, kind)


def _value(name: str, axes: int) -> bytes:
    """A float32 input or output with so many axes of any size."""
    shape = b"".join(bytes_field(1, text_field(2, f"axis{index}")) for index in range(axes))
    tensor = number_field(1, FLOAT32) + bytes_field(2, shape)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor))
