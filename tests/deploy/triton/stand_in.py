"""As much of the module that Triton gives its Python backend as a model sees of it, to call models without Triton."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt


class TritonModelException(Exception):  # noqa: N818  Triton's name
    """A model cannot start."""


class TritonError:
    """A request failed. The codes are as Triton's own."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self.message, self.code = message, code


class Tensor:
    """A named array."""

    def __init__(self, name: str, values: npt.NDArray[Any]) -> None:
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> npt.NDArray[Any]:
        return self._values


class InferenceRequest:
    """What a client sent. leaves_after: so many questions whether it is there still before it has gone."""

    def __init__(
        self, inputs: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, Any], leaves_after: int | None = None
    ) -> None:
        self._inputs = [Tensor(name, values) for name, values in inputs.items()]
        self._parameters = dict(parameters)
        self._left = leaves_after

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def parameters(self) -> str:
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


class InferenceResponse:
    """What a client gets."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self.tensors, self.error = [*output_tensors], error
