"""The row-by-row PNG writer, read back by Pillow."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deploy.errors import ImageError
from deploy.images.png import write_png_rows


def _pixels(height: int, width: int) -> np.ndarray:
    """Gradients, a few edges and noise, so that every filter is chosen somewhere."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(height).integers(0, 256, (height, width))
    mixed = np.where(rows % 7 == 3, noise, 3 * columns + rows)
    return np.stack([mixed, 255 - mixed, np.where(columns > rows, 200, 10)], axis=-1).astype(np.uint8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.lists(st.integers(0, 150), min_size=1, max_size=5), st.booleans())
def test_any_division_reads_back_and_gives_the_same_bytes(
    tmp_path: Path, width: int, heights: list[int], grey: bool
) -> None:
    height = sum(heights) + 1
    pixels = _pixels(height, width)
    pixels = pixels[:, :, 0] if grey else pixels
    blocks = np.split(pixels, np.cumsum(heights))
    write_png_rows(tmp_path / "blocks.png", width, height, blocks, grey=grey)
    with Image.open(tmp_path / "blocks.png") as image:
        image.load()
        assert image.mode == ("L" if grey else "RGB")
        np.testing.assert_array_equal(np.asarray(image), pixels)
    write_png_rows(tmp_path / "whole.png", width, height, iter([pixels]), grey=grey)
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "blocks.png").read_bytes()


def test_filters_pay(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:200, :200]
    smooth = np.stack([rows + columns // 3, 2 * columns // 3, 255 - rows], axis=-1).astype(np.uint8)
    write_png_rows(tmp_path / "a.png", 200, 200, [smooth])
    Image.fromarray(smooth).save(tmp_path / "pillow.png")
    assert (tmp_path / "a.png").stat().st_size < 1.1 * (tmp_path / "pillow.png").stat().st_size


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    def peak(height: int) -> int:
        block = _pixels(16, 300)
        tracemalloc.start()
        write_png_rows(tmp_path / "a.png", 300, height, (block for _ in range(height // 16)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(64)  # what is imported and cached on first use is not counted
    assert peak(1600) < 1.2 * peak(160)


@pytest.mark.parametrize(("count", "found"), [(3, "found 6"), (0, "found 0"), (6, "found more than 10")])
def test_a_wrong_number_of_rows_is_refused_and_leaves_nothing(tmp_path: Path, count: int, found: str) -> None:
    with pytest.raises(ImageError, match=f"expected 10 rows, {found}"):
        write_png_rows(tmp_path / "a.png", 5, 10, [np.zeros((2, 5, 3), np.uint8)] * count)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_of_rows_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[np.ndarray]:
        yield np.zeros((2, 5, 3), np.uint8)
        raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="the network failed"):
        write_png_rows(tmp_path / "a.png", 5, 10, rows())
    assert list(tmp_path.iterdir()) == []


def test_wrong_rows_sizes_and_names_are_refused(tmp_path: Path) -> None:
    row = np.zeros((2, 5, 3), np.uint8)
    with pytest.raises(ImageError, match=r"\(rows, 5, 3\), found float64 of shape \(2, 5, 3\) after row 2"):
        write_png_rows(tmp_path / "a.png", 5, 10, [row, row.astype(np.float64)])  # type: ignore[list-item]
    with pytest.raises(ImageError, match=r"found uint8 of shape \(2, 5, 3\) after row 0"):
        write_png_rows(tmp_path / "a.png", 6, 10, [row])
    with pytest.raises(ImageError, match="only PNG can be written row by row"):
        write_png_rows(tmp_path / "a.jpg", 5, 2, [row])
    with pytest.raises(ImageError, match="the size is 0x2, expected at least one pixel"):
        write_png_rows(tmp_path / "a.png", 0, 2, [row])
    assert list(tmp_path.iterdir()) == []
