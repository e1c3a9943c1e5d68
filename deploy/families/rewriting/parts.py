"""A part: one graph of a network, described over `Ops`, with its weights and its named inputs and outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.families.rewriting.ops import Array, Ops
from engines.contract import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Part:
    """One graph. `forward` takes the operations and the inputs by name and returns the outputs by name.

    `weights` holds everything `forward` may look up. `extra` names the weights that no operation uses and that are
    carried all the same (the rewrite `drop-unused` switched off).
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Mapping[str, Array]
    forward: Callable[[Ops[Any], Mapping[str, Any]], dict[str, Any]]
    extra: tuple[str, ...] = ()
