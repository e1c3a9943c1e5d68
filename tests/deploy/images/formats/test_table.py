"""A format that the product has never seen is one record: read, written, and known again, by the same commands."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.errors import ImageError
from deploy.images.formats import table
from deploy.images.formats.contract import Format, Opened, Outline, Writer
from deploy.images.notes import trailer_from_note
from deploy.images.reading import read_picture
from deploy.images.sizes import Size
from deploy.images.writing import Saving
from deploy.picture.upscaler import Upscaler
from tests.deploy.picture.test_files import EnlargingModel, made


def open_portable(file: BinaryIO, frame: int) -> Opened:
    """NetPBM's P5 and P6: a line each for the kind, the size and the highest value, then the samples."""
    del frame
    kind = file.readline().strip()
    width, height = map(int, file.readline().split())
    bits = 16 if int(file.readline()) > 255 else 8
    channels, place = {b"P5": 1, b"P6": 3}[kind], file.tell()

    def decode() -> Any:
        file.seek(place)
        data = file.read(width * height * channels * bits // 8)
        return (
            np.frombuffer(data, ">u2" if bits == 16 else "u1").reshape(height, width, channels).astype(f"u{bits // 8}")
        )

    return Opened(
        size=Size(height, width), mode="L" if channels == 1 else "RGB", bits=bits, decode=decode, is_lossless=True
    )


def write_portable(file: BinaryIO, outline: Outline, rows: Iterator[Any]) -> None:
    kind = "P5" if outline.grey else "P6"
    file.write(f"{kind}\n{outline.size.width} {outline.size.height}\n{(1 << outline.bits) - 1}\n".encode())
    for block in rows:
        file.write(block.astype(">u2" if outline.bits == 16 else "u1").tobytes())
    if outline.note is not None:
        end = file.tell()
        file.seek(0)
        digest = hashlib.sha256(file.read()).digest()
        file.seek(end)
        file.write(trailer_from_note(digest, outline.note))


PORTABLE = Format(
    name="ppm",
    title="NetPBM",
    suffixes=(".ppm", ".pgm"),
    begins=lambda start: start.startswith((b"P5\n", b"P6\n")),
    open=open_portable,
    writer=Writer(
        write=write_portable, bits=(8, 16), keeps=frozenset(), longest_side=1 << 20, is_streamed=True
    ),
)  # fmt: skip


@pytest.fixture
def portable() -> Iterator[None]:
    table.register(PORTABLE)
    yield
    del table.FORMATS["ppm"]
    table.WRITTEN.remove("ppm")
    for suffix in PORTABLE.suffixes:
        del table.SUFFIXES[suffix], table.WRITTEN_SUFFIXES[suffix]


@pytest.mark.usefixtures("portable")
def test_a_new_format_goes_in_and_out(tmp_path: Path, idm_micro: Bundle) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 9, 3), np.uint16)
    (tmp_path / "a.ppm").write_bytes(b"P6\n9 6\n65535\n" + pixels.astype(">u2").tobytes())
    with Upscaler(idm_micro, threads=1) as up:
        up.session.model = EnlargingModel()  # type: ignore[assignment]
        again: dict[str, Any] = {"output": tmp_path, "output_is_folder": True}
        (row,) = made(up, tmp_path / "a.ppm", **again)["pictures"]
        assert Path(row["output"]).name == "a_x1.ppm"
        np.testing.assert_array_equal(read_picture(tmp_path / "a_x1.ppm").colour, pixels)
        assert made(up, tmp_path / "a.ppm", **again)["skipped"] == [row["output"]]
        made(up, tmp_path / "a.ppm", output=tmp_path / "b.png")
        made(up, tmp_path / "b.png", saving=Saving(format="ppm"), output=tmp_path / "c.ppm")
    np.testing.assert_array_equal(read_picture(tmp_path / "c.ppm").colour, pixels)
    with pytest.raises(ImageError, match="There is a format called 'ppm' already"):
        table.register(PORTABLE)
