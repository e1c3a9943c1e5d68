"""What mypy makes of the Python API: `make check` checks this file, nobody runs it."""

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy import Bundle, Outcome, Progress, Upscaler, enlarge
from deploy.images.pictures import AnyPicture

Array = NDArray[np.uint8]


def results_are_of_the_kind_that_was_given(image: Image.Image, array: Array, file: Path) -> None:
    with Upscaler(Bundle.open(file), threads=2, max_memory="1GiB", device=None) as up:
        assert_type(up.upscale(image, scale=4.0), Image.Image)
        assert_type(up.upscale(Image.open(file), 2.5), Image.Image)
        assert_type(up.upscale(array, size=(640, 480)), Array)
        assert_type(up.upscale([image, image], long_edge=1000), list[Image.Image])
        assert_type(up.upscale([Image.open(name) for name in (file, file)], 2.0), list[Image.Image])
        assert_type(up.upscale([array], 4.0, seed=3), list[Array])
        assert_type(up.upscale((array, array), 4.0), list[Array])
        mixed: list[AnyPicture] = [image, array]
        assert_type(up.upscale(mixed, 4.0), list[AnyPicture])
        deep, light = array.astype(np.uint16), array.astype(np.float32)
        assert_type(up.upscale(deep, 4.0), NDArray[np.uint16])
        assert_type(up.upscale([light], 4.0), list[NDArray[np.float32]])


def no_picture_is_an_error(up: Upscaler) -> None:
    up.upscale("picture.png", scale=4.0)  # type: ignore[type-var]


def progress_is_told(up: Upscaler, array: Array) -> None:
    def show(done: Progress) -> None:
        assert_type(done.fraction, float)
        assert_type(done.seconds_left, float)
        assert_type((done.step, done.steps, done.tile, done.tiles), tuple[int, int, int, int])

    up.upscale(array, 2.0, progress=show, notice=print)


def folders_come_one_outcome_at_a_time(up: Upscaler, folder: Path) -> None:
    for outcome in enlarge([folder, "photo.png"], "larger", scale=4, upscaler=up, crop=(0, 0, 64, 64)):
        assert_type(outcome, Outcome)
        assert_type(outcome.output, Path)
        assert_type(outcome.size, tuple[int, int] | None)
    enlarge(folder, folder, scales=4)  # type: ignore[call-arg]
