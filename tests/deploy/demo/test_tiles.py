"""Tiles of a network that was really trained: what normalisation makes of them, at the default preset."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy import Bundle, Upscaler
from deploy.images.files import read_image
from deploy.images.tiles import Tiling
from deploy.measure.metrics import psnr
from deploy.packaged.places import IDM_BUNDLE, SAMPLE_ORIGINALS, packaged_pictures
from deploy.picture.layout import WHOLE

Pixels = NDArray[np.uint8]
TILE = 64
AROUND = 12
"""Rows or columns on either side of a border that count as its surroundings."""


@pytest.fixture(scope="module")
def upscaler() -> Iterator[Upscaler]:
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as opened:
        yield opened


@pytest.mark.slow
def test_tiles_of_the_demo_model_join_without_a_seam(upscaler: Upscaler) -> None:
    """Above 45 dB to the whole picture, and no border steeper than 1.1 times what lies there without tiles."""
    lr = read_image(packaged_pictures()[0]).pixels
    whole = upscaler.upscale(lr, 4.0)
    tiled = upscaler.upscale(lr, 4.0, tile=TILE)
    assert psnr(tiled, whole) > 45
    tiling = Tiling(size=whole.shape[:2], tile=TILE, stride=upscaler.session.model.stride)
    assert len(tiling) == 25
    for axis, spans in enumerate((tiling.row_spans, tiling.column_spans)):
        for start, _ in spans[1:]:
            border = start + tiling.overlap // 2
            assert steepness(tiled, axis, border) < 1.1 * steepness(whole, axis, border)


@pytest.mark.slow
def test_tiles_that_are_taken_to_be_faster_are_near_the_whole(upscaler: Upscaler) -> None:
    """176x176 to 704x704 in 4 tiles of 384, above 45 dB."""
    original = read_image(SAMPLE_ORIGINALS / packaged_pictures()[0].name).pixels[:176, :176]
    told: set[int] = set()
    tiled = upscaler.upscale(original, 4.0, progress=lambda done: told.add(done.tiles))
    assert told == {4}
    assert psnr(tiled, upscaler.upscale(original, 4.0, tile=WHOLE)) > 45


def steepness(picture: Pixels, axis: int, border: int) -> float:
    """The mean gradient across a border, as a multiple of that of its surroundings."""
    other = (1 - axis, 2)
    gradients = np.abs(np.diff(picture.astype(np.float64), axis=axis)).mean(axis=other)
    return float(gradients[border - 1] / gradients[border - AROUND : border + AROUND].mean())
