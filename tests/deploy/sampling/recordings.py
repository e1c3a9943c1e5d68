"""The recordings of the official implementations that the sampling tests are held against."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).resolve().parents[2] / "reference" / "golden"


@cache
def recording(name: str) -> dict[str, NDArray[Any]]:
    """All arrays of `name`.npz."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return dict(archive)


def tables(name: str, case: str) -> dict[str, NDArray[Any]]:
    """The arrays `case`/... of a recording, without the case in their names."""
    return {key.removeprefix(f"{case}/"): value for key, value in recording(name).items() if key.startswith(f"{case}/")}
