"""Runs of one graph of which each makes the next one's input: a recurrence that an engine follows on its device.

Between two runs a second graph, the update, makes the next input of x, the last one, and y, an output of the run. What
it keeps beside that comes to later updates again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One run and the update after it.

    feeds: of the run, besides the input that is carried. update: an ONNX model in float32 with the outputs `next` and
    `kept`, both in the shape of x, and the inputs x, y, e1, e2, .. (what the last `earlier` updates kept, newest first)
    and those of `given`; `next` may be written where x lies, so its last node alone writes it.
    """

    feeds: Mapping[str, Array]
    update: bytes
    given: Mapping[str, Array] = field(default_factory=dict)
    earlier: int = 0
