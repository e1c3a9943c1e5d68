"""The update between two runs on ONNX Runtime's device: the state is never copied to the CPU in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engines.recurrence import Array, Step

Open = Callable[[bytes], Any]
"""A model in memory -> a session on the device."""


class DeviceUpdate:
    """Advances a value on the device. One for each sequence of runs: it holds what their updates keep."""

    def __init__(self, onnxruntime: Any, open_session: Open, device: str, device_id: int = 0) -> None:
        self._value = onnxruntime.OrtValue
        self._open = open_session
        self._device = device, device_id
        self._sessions: dict[bytes, tuple[Any, Any]] = {}
        self._kept: list[Any] = []

    def advance(self, step: Step, x: Any, y: Any) -> None:
        """`x`, a value on the device, becomes the next input; `y` is the output of the run, there too."""
        session, binding = self._session(step.update)
        kept = self._value.ortvalue_from_shape_and_type(x.shape(), np.float32, *self._device)
        earlier = self._kept[: step.earlier]
        inputs = {"x": x, "y": y, **{f"e{at}": value for at, value in enumerate(earlier, start=1)}}
        inputs |= {name: self._given(array) for name, array in step.given.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("next", x)
        binding.bind_ortvalue_output("kept", kept)
        session.run_with_iobinding(binding)
        self._kept = [kept, *earlier]

    def _given(self, array: Array) -> Any:
        """On the device; a single number stays where it is."""
        return self._value.ortvalue_from_numpy(np.asarray(array, order="C"), *(self._device if array.ndim else ()))

    def _session(self, update: bytes) -> tuple[Any, Any]:
        if update not in self._sessions:
            session = self._open(update)
            self._sessions[update] = (session, session.io_binding())
        return self._sessions[update]
