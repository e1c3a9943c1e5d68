"""The eight ways in which rows and columns may lie in a file (EXIF 2.32, 4.6.5)."""

import numpy as np

from deploy.images.picture import Samples

TURNED = (5, 6, 7, 8)
"""Those whose rows are the columns of the upright picture."""

_QUARTER_TURNS = {6: 8, 8: 6}  # the others undo themselves


def upright(pixels: Samples, orientation: int) -> Samples:
    """Rows and columns (H, W, ...) as a viewer shows what a file says lies so."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def as_stored(pixels: Samples, orientation: int) -> Samples:
    """An upright picture as it lies in a file of that orientation."""
    return upright(pixels, _QUARTER_TURNS.get(orientation, orientation))
