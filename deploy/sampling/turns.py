"""Turns of a picture that keep its size: the network's error differs from one to the other, and so averages out.

A step may look at the picture turned: state and input go to the network turned, the predicted noise is turned back.
For example the left-right turn of a row 1, 2, 3 is 3, 2, 1; turned again, it is as it was. So is every turn here.
"""

from typing import Literal, TypeVar

import numpy as np

Turn = Literal["as it is", "half", "left-right", "upside-down"]

AS_IT_IS: Turn = "as it is"

TURNS: tuple[Turn, ...] = (AS_IT_IS, "half", "left-right", "upside-down")
"""In the order in which the steps of a fitted equation take them, over and over."""

_STRIDES: dict[Turn, tuple[int, int]] = {
    AS_IT_IS: (1, 1),
    "half": (-1, -1),
    "left-right": (1, -1),
    "upside-down": (-1, 1),
}

Pixels = TypeVar("Pixels", bound=np.ndarray)


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """A view of an array (..., height, width), turned; a second time, and it is as it was."""
    down, across = _STRIDES[turn]
    return pixels[..., ::down, ::across]  # type: ignore[return-value]
