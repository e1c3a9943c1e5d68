"""A note in a picture file: read back, passed over by others, and gone with any change of the rest."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.images.files import encode_image, write_image
from deploy.images.formats.contract import Outline
from deploy.images.formats.png import PNG
from deploy.images.formats.table import WRITTEN_SUFFIXES
from deploy.images.notes import note_of, with_note
from deploy.images.reading import read_picture
from deploy.images.sizes import Size
from deploy.images.writing import write_picture

PIXELS = np.random.default_rng(1).integers(0, 256, (11, 7, 3), dtype=np.uint8)
NOTE = b'{"seed": "5"}'
SUFFIXES = (".png", ".jpg", ".webp", ".tiff", ".bmp", ".avif", ".jxl")
PILLOW = SUFFIXES[:-1]
"""Those that Pillow reads, which must pass over the note."""


FORMATS_OF = {suffix: record.name for suffix, record in WRITTEN_SUFFIXES.items()}


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def written(folder: Path, suffix: str, note: bytes | None = NOTE) -> Path:
    path = folder / f"a{suffix}"
    write_image(PIXELS, path, note=note)
    return path


@pytest.mark.parametrize("note", [NOTE, NOTE + b"x", b""], ids=["odd", "even", "empty"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_read_back_and_the_picture_is_the_same(tmp_path: Path, suffix: str, note: bytes) -> None:
    path = written(tmp_path, suffix, note)
    assert note_of(path) == note
    found = read_picture(path).colour
    plain = encode_image(PIXELS, FORMATS_OF[suffix])
    if suffix in PILLOW:
        assert (decoded(path.read_bytes()) == decoded(plain)).all()
        with Image.open(path) as image:
            image.verify()  # of a PNG, the check sum of every chunk
    path.write_bytes(plain)
    assert (read_picture(path).colour == found).all()
    assert note_of(path) is None


def test_a_png_written_row_by_row_has_it_too(tmp_path: Path) -> None:
    for name, note in (("plain", None), ("noted", NOTE)):
        outline = Outline(size=Size(11, 7), note=note)
        write_picture(tmp_path / f"{name}.png", PNG, outline, [PIXELS[:5], PIXELS[5:]])
    plain, noted = ((tmp_path / f"{name}.png").read_bytes() for name in ("plain", "noted"))
    assert note_of(tmp_path / "noted.png") == NOTE and note_of(tmp_path / "plain.png") is None
    assert noted == with_note(plain, NOTE) and (decoded(noted) == PIXELS).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_change_of_the_file_leaves_it(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    content = path.read_bytes()
    note_starts = content.index(b"idm-deploy\0")
    note_ends = content.index(NOTE) + len(NOTE)
    for position in [*range(0, note_starts, 3), *range(note_ends + 4, len(content))]:  # 4: the check sum, or what pads
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert note_of(path) is None, position
    for changed in (content[:-1], content[:note_starts], content + b"x", b"", content[8:]):
        path.write_bytes(changed)
        assert note_of(path) is None


def test_a_program_that_carries_it_to_another_picture_carries_nothing(tmp_path: Path) -> None:
    noted = written(tmp_path, ".png").read_bytes()
    start = noted.index(b"idMK") - 4
    other = encode_image(255 - PIXELS, "PNG")
    (tmp_path / "other.png").write_bytes(other[:-12] + noted[start:-12] + other[-12:])
    assert (decoded((tmp_path / "other.png").read_bytes()) == 255 - PIXELS).all()
    assert note_of(tmp_path / "other.png") is None


@pytest.mark.parametrize(
    "content", [b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe9\x00\x00", b"RIFF\0\0\0\0WEBPIDMK\xff\xff"]
)
def test_what_is_no_picture_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert note_of(tmp_path / "a.png") is None
    assert note_of(tmp_path / "missing.png") is None
    assert note_of(tmp_path) is None


def test_a_lossless_webp_with_alpha_or_metadata_stays_whole(tmp_path: Path) -> None:
    clear = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 9, np.uint8)])
    for name, options in (("alpha", {}), ("both", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"})):
        buffer = io.BytesIO()
        Image.fromarray(clear).save(buffer, "WEBP", lossless=True, exact=True, **options)  # type: ignore[arg-type]
        path = tmp_path / f"{name}.webp"
        path.write_bytes(with_note(buffer.getvalue(), NOTE))
        assert note_of(path) == NOTE
        with Image.open(path) as image:
            assert image.mode == "RGBA" and (np.asarray(image) == clear).all()
            assert ("exif" in image.info) == bool(options)


def test_the_png_chunk_is_one_that_others_drop_when_they_change_the_picture(tmp_path: Path) -> None:
    """PNG, third edition, 5.4: the case of each letter says ancillary, private, reserved, not safe to copy."""
    content = written(tmp_path, ".png").read_bytes()
    start = content.index(b"idMK")
    kind = content[start : start + 4].decode()
    assert [letter.islower() for letter in kind] == [True, True, False, False]
    (size,) = struct.unpack(">I", content[start - 4 : start])
    data, check = content[start : start + 4 + size], content[start + 4 + size : start + 8 + size]
    assert struct.unpack(">I", check) == (zlib.crc32(data),)


def test_a_note_has_to_fit_a_jpeg_segment() -> None:
    with pytest.raises(ValueError, match="a note of 70000 bytes is too long"):
        with_note(encode_image(PIXELS, "JPEG"), bytes(70_000))
