"""What was recorded from the official implementations: tensors, state-dict contents, hyper-parameters."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE = Path(__file__).resolve().parent / "reference"


@cache
def recording(name: str) -> dict[str, NDArray[Any]]:
    """All arrays of `golden/name.npz`, by `case/array`."""
    with np.load(REFERENCE / "golden" / f"{name}.npz") as archive:
        return dict(archive)


def recorded_case(name: str, case: str) -> dict[str, NDArray[Any]]:
    """The arrays `case/...` of a recording, without the case in their names."""
    prefix = f"{case}/"
    arrays = {key.removeprefix(prefix): value for key, value in recording(name).items() if key.startswith(prefix)}
    if not arrays:
        raise KeyError(f"{name}.npz has no case {case}")
    return arrays


@cache
def manifest(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor that the official training code saves, in its order."""
    rows = json.loads((REFERENCE / "manifests" / f"{name}.json").read_text())
    return {tensor: (tuple(shape), dtype) for tensor, shape, dtype in rows}


@cache
def recorded_json(path: str) -> Any:
    """A JSON file below tests/reference, such as `configs.json` or `manifests/buffers.json`."""
    return json.loads((REFERENCE / path).read_text())
