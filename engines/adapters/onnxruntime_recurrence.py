"""The update between two runs on ONNX Runtime's device: the state is never copied to the CPU in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engines.recurrence import Step, update_graph

Open = Callable[[bytes], Any]
"""A model in memory -> a session on the device."""


class DeviceUpdate:
    """Advances a value on the device. One for each sequence of runs: it holds their estimates."""

    def __init__(self, onnxruntime: Any, open_session: Open, device: str, device_id: int = 0) -> None:
        self._value = onnxruntime.OrtValue
        self._open = open_session
        self._device = device, device_id
        self._sessions: dict[tuple[int, bool], tuple[Any, Any]] = {}
        self._estimates: list[Any] = []

    def advance(self, step: Step, x: Any, y: Any) -> None:
        """`x`, a value on the device, becomes the next input; `y` is the output of the run, there too."""
        session, binding = self._session(len(step.estimate_shares), fresh=step.fresh is not None)
        estimate = self._value.ortvalue_from_shape_and_type(x.shape(), np.float32, *self._device)
        inputs = {"x": x, "y": y, **{f"e{at}": older for at, older in enumerate(self._older(step), start=1)}}
        inputs |= {name: self._value.ortvalue_from_numpy(np.asarray(v)) for name, v in step.scalars.items()}
        if step.fresh is not None:
            inputs["f"] = self._value.ortvalue_from_numpy(np.ascontiguousarray(step.fresh), *self._device)
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("next", x)  # may lie where x lies, see update_graph
        binding.bind_ortvalue_output("estimate", estimate)
        session.run_with_iobinding(binding)
        self._estimates = [estimate, *self._older(step)]

    def _older(self, step: Step) -> list[Any]:
        return self._estimates[: len(step.estimate_shares) - 1]

    def _session(self, estimates: int, *, fresh: bool) -> tuple[Any, Any]:
        key = (estimates, fresh)
        if key not in self._sessions:
            session = self._open(update_graph(estimates, fresh=fresh))
            self._sessions[key] = (session, session.io_binding())
        return self._sessions[key]
