"""PNG: the row-by-row writer read back by Pillow and OpenImageIO, the 16-bit reader on files made by hand."""

import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deploy.errors import ImageError
from deploy.images.formats.contract import Outline
from deploy.images.formats.filters import filtered, unfiltered
from deploy.images.formats.png import PNG
from deploy.images.formats.table import FORMATS
from deploy.images.reading import read_picture
from deploy.images.sizes import Size
from deploy.images.writing import write_picture

RNG = np.random.default_rng(7)
STARTS_AND_STEPS = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _pixels(height: int, width: int) -> np.ndarray:
    """Gradients, a few edges and noise, so that every filter is chosen somewhere."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(height).integers(0, 256, (height, width))
    mixed = np.where(rows % 7 == 3, noise, 3 * columns + rows)
    return np.stack([mixed, 255 - mixed, np.where(columns > rows, 200, 10)], axis=-1).astype(np.uint8)


def _write(path: Path, pixels: np.ndarray, blocks: list[np.ndarray] | None = None, **outline: Any) -> None:
    height, width, channels = pixels.shape
    write_picture(
        path,
        PNG,
        Outline(
            size=Size(height, width),
            grey=channels < 3,
            alpha=channels in (2, 4),
            bits=8 * pixels.dtype.itemsize,
            **outline,
        ),
        [pixels] if blocks is None else blocks,
    )


def _by_hand(path: Path, header: tuple[int, ...], data: bytes, *extra: tuple[bytes, bytes]) -> Path:
    """A PNG of these parts; of the header width, height, bits, colour type, interlacing."""
    width, height, bits, colour, interlaced = header
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)), *extra]
    half = len(data) // 2
    chunks += [(b"IDAT", data[:half]), (b"IDAT", data[half:]), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    return path


def _stored(rows: np.ndarray, filters: list[int]) -> bytes:
    """Rows of bytes under the named filters, each byte by itself as the standard defines it (9.2)."""
    unit = rows.shape[2]
    flat = rows.reshape(rows.shape[0], -1).astype(int)
    out = b""
    for r, number in enumerate(filters):
        residuals = []
        for i, x in enumerate(flat[r]):
            a = flat[r, i - unit] if i >= unit else 0
            b = flat[r - 1, i] if r else 0
            c = flat[r - 1, i - unit] if r and i >= unit else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            residuals.append((x - [0, a, b, (a + b) // 2, nearest][number]) % 256)
        out += bytes([number, *residuals])
    return out


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.lists(st.integers(0, 150), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_any_division_reads_back_and_gives_the_same_bytes(
    tmp_path: Path, width: int, heights: list[int], grey: bool, deep: bool
) -> None:
    height = sum(heights) + 1
    pixels = _pixels(height, width)
    pixels = pixels[:, :, :1] if grey else pixels
    if deep:
        pixels = pixels.astype(np.uint16) * 257 ^ 3
    _write(tmp_path / "blocks.png", pixels, np.split(pixels, np.cumsum(heights)))
    with Image.open(tmp_path / "blocks.png") as image:
        image.load()
        if not deep:
            assert image.mode == ("L" if grey else "RGB")
            np.testing.assert_array_equal(np.asarray(image), pixels[:, :, 0] if grey else pixels)
    np.testing.assert_array_equal(read_picture(tmp_path / "blocks.png").colour, pixels[:, :, 0] if grey else pixels)
    _write(tmp_path / "whole.png", pixels)
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "blocks.png").read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_written_as_another_library_reads_them(tmp_path: Path, channels: int) -> None:
    oiio = pytest.importorskip("OpenImageIO")
    pixels = RNG.integers(0, 65536, (70, 31, channels), np.uint16)
    _write(tmp_path / "a.png", pixels)
    hints = oiio.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)
    reader = oiio.ImageInput.open(str(tmp_path / "a.png"), hints)
    assert str(reader.spec().format) == "uint16"
    np.testing.assert_array_equal(np.asarray(reader.read_image("uint16")).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_sixteen_bits_under_every_filter_are_read(tmp_path: Path, colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    pixels = RNG.integers(0, 65536, (15, 6, channels), np.uint16)
    rows = pixels.astype(">u2").view(np.uint8).reshape(15, 6, 2 * channels)
    filters = [3, 4, 0, 1, 2, 4, 4, 3, 3, 1, 2, 0, 4, 3, 2]
    path = _by_hand(tmp_path / "a.png", (6, 15, 16, colour, 0), zlib.compress(_stored(rows, filters)))
    picture = read_picture(path)
    found = picture.colour.reshape(15, 6, -1)
    found = found if picture.alpha is None else np.dstack([found, picture.alpha])
    np.testing.assert_array_equal(found, pixels)
    assert (picture.bits, picture.origin.bits) == (16, 16)


@pytest.mark.parametrize("size", [(9, 11), (1, 1), (2, 5), (33, 3)])
def test_interlaced_sixteen_bits_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    pixels = RNG.integers(0, 65536, (height, width, 3), np.uint16)
    data = b""
    for left, top, across, down in STARTS_AND_STEPS:
        part = pixels[top::down, left::across]
        if part.size:
            rows = np.ascontiguousarray(part).astype(">u2").view(np.uint8).reshape(part.shape[0], part.shape[1], 6)
            data += _stored(rows, [(4, 3, 1, 2)[row % 4] for row in range(len(rows))])
    path = _by_hand(tmp_path / "a.png", (width, height, 16, 2, 1), zlib.compress(data))
    np.testing.assert_array_equal(read_picture(path).colour, pixels)


def test_a_colour_that_marks_transparency_in_sixteen_bits(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (4, 5, 3), np.uint16)
    rows = pixels.astype(">u2").view(np.uint8).reshape(4, 5, 6)
    key = (b"tRNS", pixels[2, 3].astype(">u2").tobytes())
    path = _by_hand(tmp_path / "a.png", (5, 4, 16, 2, 0), zlib.compress(_stored(rows, [0] * 4)), key)
    picture = read_picture(path)
    assert picture.alpha is not None and picture.alpha[2, 3] == 0 and (picture.alpha == 0).sum() == 1
    np.testing.assert_array_equal(picture.colour, pixels)


def test_filtering_and_undoing_it_is_identity_for_any_block(tmp_path: Path) -> None:
    del tmp_path
    for unit, width, count in ((1, 1, 1), (3, 40, 17), (8, 5, 300), (6, 1, 4)):
        rows = RNG.integers(0, 256, (count, width * unit), np.uint8)
        previous = RNG.integers(0, 256, width * unit, np.uint8)
        stored = np.frombuffer(filtered(rows, previous, unit), np.uint8).reshape(count, -1)
        np.testing.assert_array_equal(unfiltered(stored, previous, unit), rows)


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    row = b"\0" + bytes(6 * 6)
    good = zlib.compress(row * 4)
    cases = {
        "fewer rows": ((6, 4, 16, 2, 0), zlib.compress(row * 3)),
        "unknown filter": ((6, 4, 16, 2, 0), zlib.compress(b"\x09" + row[1:] + row * 3)),
        "cannot be unfolded": ((6, 4, 16, 2, 0), b"nonsense" * 9),
        "colour type 3": ((6, 4, 16, 3, 0), good),
        "its header says 0x4": ((0, 4, 16, 2, 0), good),
    }
    for words, (header, data) in cases.items():
        path = _by_hand(tmp_path / "a.png", header, data)
        with pytest.raises(ImageError, match=f"damaged or cut short.*{words}"):
            read_picture(path)
    # 12 000 x 12 000 of 16 bits would be 864 MB; its data end after four rows.
    path = _by_hand(tmp_path / "large.png", (12_000, 12_000, 16, 2, 0), good)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_picture(path)
    bomb = zlib.compress(bytes(90 << 20), 1)  # a profile that unfolds to 90 MB
    path = _by_hand(tmp_path / "profile.png", (6, 4, 16, 2, 0), good, (b"iCCP", b"x\0\0" + bomb))
    tracemalloc.start()
    assert read_picture(path).profile is None
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()
    damaged = bytearray(_by_hand(tmp_path / "a.png", (6, 4, 16, 2, 0), good).read_bytes())
    damaged[-20] ^= 1
    (tmp_path / "a.png").write_bytes(damaged)
    with pytest.raises(ImageError, match="do not match their checksum"):
        read_picture(tmp_path / "a.png")


def test_filters_pay(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:200, :200]
    smooth = np.stack([rows + columns // 3, 2 * columns // 3, 255 - rows], axis=-1).astype(np.uint8)
    _write(tmp_path / "a.png", smooth)
    Image.fromarray(smooth).save(tmp_path / "pillow.png")
    assert (tmp_path / "a.png").stat().st_size < 1.1 * (tmp_path / "pillow.png").stat().st_size


@pytest.mark.parametrize("name", ["png", "tiff"])
def test_memory_does_not_grow_with_the_height(tmp_path: Path, name: str) -> None:
    def peak(height: int) -> int:
        block = _pixels(16, 300)
        tracemalloc.start()
        outline = Outline(size=Size(height, 300))
        write_picture(tmp_path / f"a.{name}", FORMATS[name], outline, (block for _ in range(height // 16)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1600)  # what is imported and cached on first use is not counted
    assert peak(16_000) < 1.2 * peak(1600)


@pytest.mark.parametrize(("count", "found"), [(3, "found 6"), (0, "found 0"), (6, "found more than 10")])
def test_a_wrong_number_of_rows_is_refused_and_leaves_nothing(tmp_path: Path, count: int, found: str) -> None:
    with pytest.raises(ImageError, match=f"expected 10 rows, {found}"):
        write_picture(tmp_path / "a.png", PNG, Outline(size=Size(10, 5)), [np.zeros((2, 5, 3), np.uint8)] * count)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_of_rows_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[np.ndarray]:
        yield np.zeros((2, 5, 3), np.uint8)
        raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="the network failed"):
        write_picture(tmp_path / "a.png", PNG, Outline(size=Size(10, 5)), rows())
    assert list(tmp_path.iterdir()) == []


def test_wrong_rows_and_sizes_are_refused(tmp_path: Path) -> None:
    row = np.zeros((2, 5, 3), np.uint8)
    with pytest.raises(ImageError, match=r"\(rows, 5, 3\), found float64 of shape \(2, 5, 3\) after row 2"):
        write_picture(tmp_path / "a.png", PNG, Outline(size=Size(10, 5)), [row, row.astype(np.float64)])
    with pytest.raises(ImageError, match=r"found uint8 of shape \(2, 5, 3\) after row 0"):
        write_picture(tmp_path / "a.png", PNG, Outline(size=Size(10, 6)), [row])
    with pytest.raises(ImageError, match="the size is 0x2, expected at least one pixel"):
        write_picture(tmp_path / "a.png", PNG, Outline(size=Size(2, 0)), [row])
    assert list(tmp_path.iterdir()) == []
