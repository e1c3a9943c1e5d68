"""Reading and writing pictures: every kind of file, every refusal, and nothing left behind."""

import io
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from deploy.errors import ImageError
from deploy.images.files import check_output, encode_image, read_image, write_image
from deploy.images.reading import read_header, read_picture
from deploy.images.sizes import Size
from engines.errors import FileError
from engines.new_files import new_file
from tests.deploy.images.corpus import cases

NOISE = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.arange(40)[:, None] * 5, np.arange(24) * 9, 128), -1).astype(np.uint8)


DAMAGED = re.compile("palette-hole.png|grey16.png|openimageio-4x16|everything|rgb16-tiles.tif|film.gif|rgb.bmp")


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def _png(path: Path, header: bytes, rows: bytes, *extra: tuple[bytes, bytes]) -> Path:
    """A PNG made by hand, for what Pillow does not write."""
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@contextmanager
def _bound_by_permissions() -> Iterator[None]:
    """What runs inside meets permissions as an ordinary user does, also where pytest was started by root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that can be searched but not written to, with a picture that cannot be read."""
    folder = Path(tempfile.mkdtemp())  # not tmp_path, which others than its owner cannot even enter
    (folder / "a.png").write_bytes(b"x")
    (folder / "a.png").chmod(0)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
def test_lossless_formats_bring_back_every_pixel(tmp_path: Path, suffix: str) -> None:
    write_image(NOISE, tmp_path / f"a{suffix}")
    picture = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(picture.pixels, NOISE)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.flags.writeable
    assert picture.size == Size(12, 9) and picture.path == tmp_path / f"a{suffix}"
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_jpeg_is_close_and_quality_matters(tmp_path: Path) -> None:
    errors = []
    for quality in (95, 30):
        write_image(SMOOTH, tmp_path / "a.jpg", quality=quality)
        errors.append(np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - SMOOTH).mean())
    assert errors[0] < 1.0 < errors[1]
    assert read_image(tmp_path / "a.jpg").origin.format == "jpeg"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_the_same_pixels_give_the_same_bytes(format: str) -> None:
    assert encode_image(NOISE, format) == encode_image(NOISE[:, ::-1][:, ::-1], format)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    write_image(NOISE, tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    picture = read_image(tmp_path / "a.jpg")
    assert picture.origin.format == "png"
    np.testing.assert_array_equal(picture.pixels, NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    rotate, flip = [(0, 0), (0, 0), (0, 1), (2, 0), (2, 1), (3, 1), (3, 0), (1, 1), (1, 0)][orientation]
    # What a viewer does, in NumPy: turn clockwise to the upright position (after EXIF 2.32, 4.6.5), then mirror.
    upright = np.rot90(NOISE, rotate)
    upright = upright[:, ::-1] if flip else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(tmp_path / "a.png", Image.fromarray(NOISE), exif=exif)
    picture = read_image(path)
    np.testing.assert_array_equal(picture.pixels, upright)
    assert picture.origin.orientation == orientation
    assert read_header(path).size == picture.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_page_of_a_tiff_is_turned_once(tmp_path: Path, orientation: int) -> None:
    """Pillow turns the pages of 8-bit TIFF files by itself, and no other format."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(NOISE).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    of_png, of_tiff = read_image(tmp_path / "a.png"), read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(of_tiff.pixels, of_png.pixels)
    assert of_tiff.origin.orientation == orientation
    assert read_header(tmp_path / "a.tif").size == of_png.size


def test_a_bad_tag_does_not_cost_the_others(tmp_path: Path) -> None:
    """The value of a tag that lies beyond the end of the block is passed over, as viewers do."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker of cameras", 6
    block = bytearray(exif.tobytes())
    order: Literal["little", "big"] = "little" if b"II*" in block else "big"
    at = block.index((0x010F).to_bytes(2, order))  # tag, type, count, place
    block[at + 8 : at + 12] = (1 << 20).to_bytes(4, order)
    path = _saved(tmp_path / "a.jpg", Image.fromarray(SMOOTH), exif=bytes(block))
    picture = read_image(path)
    assert picture.origin.orientation == 6
    assert picture.pixels.shape[:2] == SMOOTH.shape[1::-1]


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.jpg", Image.fromarray(SMOOTH), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(path).origin.orientation == 1


def test_grey_palette_bilevel_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(NOISE[..., 0])
    np.testing.assert_array_equal(read_image(_saved(tmp_path / "l.png", grey)).pixels, NOISE[..., :1].repeat(3, 2))
    bilevel = read_image(_saved(tmp_path / "1.png", Image.fromarray(NOISE[..., 0] > 99)))
    np.testing.assert_array_equal(bilevel.pixels, np.where(NOISE[..., :1] > 99, 255, 0).repeat(3, 2))
    palette = Image.fromarray(NOISE[..., 0] % 4, "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    colours = np.arange(10, 130, 10).reshape(4, 3)
    np.testing.assert_array_equal(read_image(_saved(tmp_path / "p.png", palette)).pixels, colours[NOISE[..., 0] % 4])
    flat = np.broadcast_to(np.uint8([0, 128, 255, 0]), (16, 16, 4)).copy()
    cmyk = read_image(_saved(tmp_path / "c.jpg", Image.fromarray(flat, "CMYK"), quality=100))
    assert cmyk.origin.mode == "CMYK"
    np.testing.assert_allclose(cmyk.pixels[8, 8].astype(int), [255, 127, 0], atol=3)


def test_opaque_alpha_is_accepted(tmp_path: Path) -> None:
    four = np.dstack([NOISE, np.full((12, 9), 255, np.uint8)])
    for name in ("a.png", "a.webp"):
        path = _saved(tmp_path / name, Image.fromarray(four), lossless=True)
        np.testing.assert_array_equal(read_image(path).pixels, NOISE)


def test_transparency_is_refused_in_every_form(tmp_path: Path) -> None:
    four = np.dstack([NOISE, np.full((12, 9), 255, np.uint8)])
    four[3, 3, 3] = 254
    paths = [_saved(tmp_path / name, Image.fromarray(four)) for name in ("a.png", "a.webp")]
    indices = Image.fromarray(NOISE[..., 0] % 4, "L").convert("P")
    paths.append(_saved(tmp_path / "p.png", indices, transparency=2))
    paths.append(_saved(tmp_path / "k.png", Image.fromarray(NOISE), transparency=tuple(NOISE[2, 2].tolist())))
    deep = Image.fromarray(np.full((4, 4), 513, np.uint16))
    paths.append(_saved(tmp_path / "d.png", deep, transparency=513))
    for path in paths:
        with pytest.raises(ImageError, match=r"reading .*: it has transparent pixels, .* Flatten"):
            read_image(path)


def test_sixteen_bits_are_rounded_to_eight_and_said(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 65535]], np.uint16)  # a level is 257
    grey = read_image(_saved(tmp_path / "grey.png", Image.fromarray(values)))
    assert grey.pixels[0, :, 0].tolist() == [0, 0, 1, 255] and grey.origin.bits == 16
    header = struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)
    rows = b"\x00" + values.repeat(3).astype(">u2").tobytes()
    colour = read_image(_png(tmp_path / "colour.png", header, rows))
    assert colour.pixels[0, :, 2].tolist() == [0, 0, 1, 255] and colour.origin.bits == 16
    assert colour.changes == grey.changes == ("16 bits per channel become 8",)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "a.tiff"])
def test_of_several_frames_the_first_is_taken_and_said_and_each_can_be_had(tmp_path: Path, name: str) -> None:
    four = NOISE[:, :, 0] // 64 * 64  # few colours, for GIF
    frames = [Image.fromarray(np.repeat(plane[:, :, None], 3, axis=2)) for plane in (four, 192 - four)]
    path = _saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], lossless=True)
    picture = read_picture(path)
    assert picture.changes == ("it has 2 frames, of which the first is taken",)
    np.testing.assert_array_equal(picture.colour, np.asarray(frames[0]))
    assert read_header(path).frames == 2
    for number, frame in enumerate(frames):
        one = read_picture(path, frame=number)
        np.testing.assert_array_equal(one.colour, np.asarray(frame))
        assert one.changes == ()
    with pytest.raises(ImageError, match="it has 2 frames, and no number 2 among them"):
        read_picture(path, frame=2)


def test_a_phone_jpeg_with_a_second_picture_inside_is_a_still_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1])]
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:], quality=100)
    assert np.abs(read_image(path).pixels.astype(int) - SMOOTH).max() < 12


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_files_cut_short_anywhere_are_refused(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    write_image(np.tile(NOISE, (8, 8, 1)), whole)
    content = whole.read_bytes()
    for length in (12, 20, 40, len(content) // 2, len(content) - 60):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(ImageError, match="cut: the file is damaged or cut short"):
            read_image(tmp_path / "cut")


@pytest.mark.parametrize("name", [case.name for case in cases() if DAMAGED.match(case.name)])
def test_a_damaged_file_is_read_or_refused_and_never_crashes(tmp_path: Path, name: str) -> None:
    next(case for case in cases() if case.name == name).make(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for number in range(60):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content) if number % 2 else 60, 3):  # the first bytes matter most
            damaged[position] = rng.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read_image(tmp_path / "damaged", max_pixels=10**6)
        except ImageError:
            refused += 1
    assert refused > 5


def test_an_animation_without_a_time_scale_is_damaged(tmp_path: Path) -> None:
    """Found by `benchmarks.hostile`: Pillow divides by it."""
    path = tmp_path / "a.avif"
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    content = bytearray(path.read_bytes())
    box = content.index(b"mdhd")
    assert content[box + 4] == 1  # with times of eight bytes each
    content[box + 24 : box + 28] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a.avif: the file is damaged or cut short"):
        read_image(path)


def test_a_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = _png(tmp_path / "bomb.png", header, bytes(1000))
    with pytest.raises(ImageError, match=r"60000x60000 = 3600000000 pixels, the limit is 250000000"):
        read_image(path)
    write_image(NOISE, tmp_path / "a.png")
    with pytest.raises(ImageError, match="9x12 = 108 pixels, the limit is 107"):
        read_image(tmp_path / "a.png", max_pixels=107)
    assert read_image(tmp_path / "a.png", max_pixels=108).size == Size(12, 9)


def _webp_of_one_chunk(width: int, height: int) -> bytes:
    """42 bytes: a picture without loss whose size is all that there is."""
    stream = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(17)
    return b"RIFF" + struct.pack("<I", 12 + len(stream)) + b"WEBPVP8L" + struct.pack("<I", len(stream)) + stream


@pytest.mark.parametrize(("side", "said"), [(14_000, "WebP is read up to 178956970"), (16_384, "limit is 250000000")])
def test_a_webp_of_42_bytes_is_refused_in_words_of_ours(tmp_path: Path, side: int, said: str) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(_webp_of_one_chunk(side, side))
    assert path.stat().st_size == 42
    for reads in (read_image, read_header):
        with pytest.raises(ImageError, match=f"a.webp: it has {side}x{side} = {side**2} pixels, .*{said}"):
            reads(path)


def test_what_does_not_fit_into_memory_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    # The data are damaged: whoever unfolded them would say so instead.
    damaged = (tmp_path / "a.png", struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0), b"rows")
    path = _png(*damaged)
    with pytest.raises(ImageError, match="9000x9000 pixels take about 541 MiB of memory, of which 400 MiB may be tak"):
        read_picture(path, room=400 << 20)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_picture(path, room=600 << 20)
    assert read_picture(_saved(tmp_path / "small.png", Image.fromarray(NOISE)), room=-1).size == Size(12, 9)


def test_the_memory_to_read_a_picture_is_not_more_than_is_said(tmp_path: Path) -> None:
    """Of every kind of file that Pillow unfolds; a strip that is converted and what libraries hold come on top."""
    rgba = Image.fromarray(np.arange(1200, dtype=np.uint8)[:, None, None].repeat(1200, axis=1).repeat(4, axis=2))
    rgb = rgba.convert("RGB")
    _saved(tmp_path / "rgb.png", rgb)
    _saved(tmp_path / "p.png", rgb.quantize(16))
    _saved(tmp_path / "rgba.png", rgba)
    _saved(tmp_path / "scans.jpg", rgb, progressive=True, subsampling=0)
    _saved(tmp_path / "rgb.webp", rgb)
    _saved(tmp_path / "rgb.tif", rgb)
    code = (
        "import sys; from pathlib import Path; from deploy.images import reading as r\n"
        "status = lambda key: int(Path('/proc/self/status').read_text().split(key + ':')[1].split()[0]) * 1024\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    with r._opened(path, 0, r.MAX_PIXELS, None) as (_, opened): said = r._bytes_to_read(opened)\n"
        "    Path('/proc/self/clear_refs').write_text('5'); before = status('VmRSS')\n"
        "    r.read_picture(path); print(path.name, status('VmHWM') - before, said)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True, check=True
    )
    for line in run.stdout.splitlines():
        name, taken, said = line.split()
        assert int(taken) < int(said) * 1.1 + (12 << 20), name


_GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"


def _gif(side: int, frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + (b"\x21\xf9\x04\x08\x01\0\0\0" + _GIF_FRAME) * frames + b";"


def test_frames_that_would_take_for_ever_are_refused_before_they_unfold(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(_gif(8, 10_001))
    with pytest.raises(ImageError, match=r"a.gif: it says that it has more than 10000 frames. Save the one"):
        read_header(path)
    path.write_bytes(_gif(8, 300))
    assert read_header(path).frames == 300 and read_picture(path, frame=299).origin.frames == 300
    path.write_bytes(_gif(15_000, 40))
    with pytest.raises(ImageError, match=r"a.gif: its frame 39 lies behind as many others of 15000x15000 pixels"):
        read_picture(path, frame=39)
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    content = bytearray((tmp_path / "a.png").read_bytes())
    at = content.index(b"acTL")
    content[at + 4 : at + 8] = struct.pack(">I", 2**31 - 1)
    content[at + 12 : at + 16] = struct.pack(">I", zlib.crc32(content[at : at + 12]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a.png: it says that it has more than 10000 frames"):
        read_header(tmp_path / "a.png")


def test_a_tile_far_larger_than_its_picture_is_not_unfolded(tmp_path: Path) -> None:
    """A megabyte of zeros becomes a tile of a gigabyte, of which one pixel would be shown."""
    values = {256: 1, 257: 1, 258: 8, 259: 8, 262: 1, 277: 1, 322: 1 << 15, 323: 1 << 15, 324: 8, 325: 8}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    directory = struct.pack("<H", len(values)) + tags + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 16) + zlib.compress(b"") + directory)
    with pytest.raises(ImageError, match=r"damaged or cut short \(it has 1x1 pixels in tiles of 32768x32768\)"):
        read_header(tmp_path / "a.tif")


def test_a_jpeg_of_very_many_scans_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.jpg", Image.fromarray(SMOOTH), progressive=True)
    whole = path.read_bytes()
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    path.write_bytes(whole[:-2] + 20 * scan + b"\xff\xd9")
    assert read_image(path).size == Size(40, 24)
    path.write_bytes(whole[:-2] + 200 * scan + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"a.jpg: it has 210 scans, expected at most 64: .* Save it again"):
        read_image(path)
    path.write_bytes(whole[:-2] + 2000 * scan + b"\xff\xd9")
    with pytest.raises(ImageError, match="it has more than 1000 scans"):
        read_header(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(b"<!doctype html><title>404</title>")
    (tmp_path / "empty.png").touch()
    _saved(tmp_path / "a.tga", Image.fromarray(NOISE)).rename(tmp_path / "tga.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("page.png", "tga.png"):
        with pytest.raises(ImageError, match=f"{name}: this is not a PNG, JPEG, .* or HEIC picture by its content"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"empty.png: the file is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="this is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"none.png: there is no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"pipe.png: this is not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_without_read_permission_is_refused(locked: Path) -> None:
    with _bound_by_permissions(), pytest.raises(ImageError, match=r"a\.png: Permission denied\. Check the perm"):
        read_image(locked / "a.png")


def test_an_output_that_cannot_work_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a.gif: the suffix '.gif' names no format .* \.png, \.jpg"):
        check_output(tmp_path / "a.gif")
    with pytest.raises(ImageError, match="the suffix '' names no format"):
        check_output(tmp_path / "a")
    with pytest.raises(ImageError, match=r"nowhere does not exist. Create it first"):
        check_output(tmp_path / "nowhere" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="there is a folder of that name"):
        check_output(tmp_path / "folder.png")
    check_output(tmp_path / "a.jpg", Size(1, 65_500))
    with pytest.raises(ImageError, match="the picture is 65501x1, but this format holds at most 65500"):
        check_output(tmp_path / "a.jpg", Size(1, 65_501))
    with pytest.raises(ImageError, match="1x16384, but this format holds at most 16383"):
        check_output(tmp_path / "a.webp", Size(16_384, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_read_only_folder_is_refused(locked: Path) -> None:
    with _bound_by_permissions(), pytest.raises(ImageError, match=r"cannot be written to \(Permission denied\)"):
        write_image(NOISE, locked / "b.png")


def test_a_folder_that_cannot_be_entered_is_refused(locked: Path) -> None:
    locked.chmod(0)
    with _bound_by_permissions():
        with pytest.raises(ImageError, match=r"cannot be written to \(Permission denied\)"):
            write_image(NOISE, locked / "b.png")
        with pytest.raises(ImageError, match=r"a\.png: Permission denied"):
            read_image(locked / "a.png")


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"expected 8-bit pixels .* found float32 of shape \(12, 9, 3\)"):
        write_image(NOISE.astype(np.float32), tmp_path / "a.png")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"found uint8 of shape \(3, 12, 9\)"):
        write_image(np.moveaxis(NOISE, -1, 0), tmp_path / "a.png")


def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    write_image(SMOOTH, target)
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond 4 KiB: the same failing write as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(FileError, match=r"a.png: File too large; nothing was written"):
            write_image(np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with new_file(tmp_path / "a.png") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_image(NOISE, tmp_path / "a.png")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_pillow_warnings_and_limits_stay_out_of_it(tmp_path: Path) -> None:
    # Image.open would warn above this limit of Pillow's and refuse above its double: 108 pixels are beyond both.
    write_image(NOISE, tmp_path / "a.png")
    code = (
        "import sys, PIL.Image; from deploy.images.files import read_image\n"
        "PIL.Image.MAX_IMAGE_PIXELS = 50\n"
        "print(read_image(sys.argv[1]).size)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("9x12\n", "")


def test_reading_imports_neither_torch_nor_scikit_image() -> None:
    code = (
        "import sys, deploy.images.files, deploy.measure.metrics, deploy.images.writing, deploy.measure.sheet\n"
        "print(sorted({'torch', 'skimage', 'scipy', 'onnx', 'OpenImageIO', 'pillow_heif'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_encoded_bytes_are_what_is_written(tmp_path: Path) -> None:
    write_image(NOISE, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == encode_image(NOISE, "PNG")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_image(NOISE, "PNG")))), NOISE)
