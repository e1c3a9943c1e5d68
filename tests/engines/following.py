"""What `Engine.follow` promises, by an engine's own runs and ONNX Runtime on the CPU for the update in between."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from engines.adapters.onnxruntime_engine import import_onnxruntime
from engines.contract import NOTHING_HELD, Engine, Held, Step

Array = np.ndarray[Any, Any]


def updated(step: Step, x: Array, y: Array, kept: list[Array]) -> Array:
    """The next input; `kept`, newest first, gains what this update keeps."""
    session = import_onnxruntime().InferenceSession(step.update, providers=["CPUExecutionProvider"])
    earlier = {f"e{at}": value for at, value in enumerate(kept[: step.earlier], start=1)}
    following, newest = session.run(["next", "kept"], {"x": x, "y": y, **earlier, **step.given})
    kept.insert(0, newest)
    return following  # type: ignore[no-any-return]


def follow(
    engine: Engine, name: str, output: str, start: Array, steps: Iterable[Step], held: Held = NOTHING_HELD
) -> Array:
    value, kept = np.array(start), list[Array]()
    for step in steps:
        value = updated(step, value, engine.run({**step.feeds, name: value}, held)[output], kept)
    return value
