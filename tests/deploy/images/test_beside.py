"""What stands in a file beside its pixels: tags, EXIF, XMP, IPTC; corrected, kept, not believed where it is hostile."""

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deploy.errors import ImageError
from deploy.images import exif, iptc, tags, xmp
from deploy.images.formats.contract import Outline
from deploy.images.formats.table import FORMATS
from deploy.images.reading import read_header, read_picture
from deploy.images.sizes import Size
from deploy.images.writing import write_picture
from tests.deploy.images.corpus import XMP, exif_block, image_of, provenance_of, samples

MAKERS_NOTE = bytes(range(40))


def block_by_hand(order: str) -> bytes:
    """Orientation 6, width, a makers' note that holds its own place, and a thumbnail, as cameras write them."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    camera, note, thumbs, picture = 8 + 2 + 3 * 12 + 4, 200, 300, 400

    def row(tag: int, kind: int, count: int, value: int) -> bytes:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        return struct.pack(f"{order}HHI", tag, kind, count) + packed

    first = struct.pack(f"{order}H", 3) + row(0x100, 4, 1, 36) + row(0x112, 3, 1, 6) + row(0x8769, 4, 1, camera)
    first += struct.pack(f"{order}I", thumbs)
    second = struct.pack(f"{order}H", 2) + row(0x927C, 7, 40, note) + row(0xA002, 3, 1, 36) + bytes(4)
    third = struct.pack(f"{order}H", 2) + row(0x201, 4, 1, picture) + row(0x202, 4, 1, 50) + bytes(4)
    block = bytearray(450)
    for place, data in ((0, head + struct.pack(f"{order}I", 8) + first), (camera, second), (note, MAKERS_NOTE)):
        block[place : place + len(data)] = data
    block[thumbs : thumbs + len(third)], block[picture:] = third, b"\xff\xd8" + b"THUMBNAIL" * 4 + bytes(12)
    return bytes(block)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_block_is_corrected_where_it_lies(order: str) -> None:
    block = block_by_hand(order)
    found = exif.exif_of(block)
    assert found is not None and found.orientation == 6
    made = found.corrected(Size(48, 70_000))  # more than a SHORT holds
    assert len(made) == len(block) and made[200:240] == MAKERS_NOTE
    again = exif.exif_of(made)
    assert again is not None and again.orientation == 1 and again.image[0x100].first() == 70_000
    assert again.camera[0xA002].first() == 70_000
    assert b"THUMB" not in made and b"THUMB" in block
    image = Image.Exif()
    image.load(b"Exif\0\0" + made)
    assert (image[0x112], image[0x100], image.get_ifd(0x8769)[0xA002]) == (1, 70_000, 70_000)
    assert image.get_ifd(0x8769)[0x927C] == MAKERS_NOTE


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"II+\0" + bytes(20), b"XX*\0" + bytes(20), b"II*\0\xff\xff\xff\xff" + bytes(9)]
)
def test_a_damaged_block_is_no_block(block: bytes) -> None:
    assert exif.exif_of(block) is None


def test_hostile_tags_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiff(*entries: tuple[int, int, int, int], link: int = 0) -> tags.TagFile:
        rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        body = b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", link)
        return tags.TagFile(io.BytesIO(body + bytes(1 << 20)))

    for entry, told in (
        ((270, 2, 1 << 30, 30), "a tag claims 1073741824 bytes"),
        ((270, 2, 2 << 20, 30), "beyond the end"),
        ((270, 2, 9, 2**32 - 5), "beyond the end"),
    ):
        with pytest.raises(tags.TagError, match=told):
            tiff(entry).directory(8)
    assert tiff((270, 99, 1, 0)).directory(8)[0] == {}  # a type from the future
    assert len(tiff((254, 4, 1, 0), link=8).directories(100)) == 1  # a loop
    monkeypatch.setattr(tags, "MOST_READ", 5 << 20)
    with pytest.raises(tags.TagError, match="claim more than"):
        tiff(*((270 + number, 2, 1 << 20, 8) for number in range(6))).directory(8)
    with pytest.raises(tags.TagError, match="a directory claims 65535 tags"):
        tags.TagFile(io.BytesIO(b"II*\0\x08\0\0\0\xff\xff" + bytes(1 << 20))).directory(8)


def test_xmp_is_corrected_in_both_of_its_forms_and_says_how_a_picture_was_made() -> None:
    within = b"<tiff:Orientation>8</tiff:Orientation><exif:PixelXDimension>36</exif:PixelXDimension>"
    within += b"<xmp:Thumbnails><rdf:li>AAAA</rdf:li></xmp:Thumbnails>"
    elements = XMP.replace(b'tiff:Orientation="6"', b"")
    elements = elements.replace(b'dc:source="a lake"/>', b">" + within + b"</rdf:Description>")
    made = xmp.corrected(elements, Size(96, 144))
    assert b"<tiff:Orientation>1<" in made and b"<exif:PixelXDimension>144<" in made and b"Thumbnails" not in made
    made = xmp.corrected(XMP, Size(96, 144))
    assert b'tiff:Orientation="1"' in made and b'tiff:ImageWidth="144"' in made
    facts = {"tool": 'a "tool" <1>', "seed": "5"}
    noted = xmp.with_provenance(made, facts)
    assert noted.count(b"rdf:Description") == made.count(b"rdf:Description") + 1 and b"a lake" in noted
    assert provenance_of(noted)["seed"] == "5" and provenance_of(made) == {}
    again = xmp.with_provenance(noted, {"seed": "6"})  # a result that is enlarged once more
    assert provenance_of(again) == {"seed": "6"} and len(again) < len(noted)
    for packet in (noted, again, xmp.with_provenance(None, facts), xmp.with_provenance(b"no packet", facts)):
        assert "seed" in provenance_of(packet)
    assert provenance_of(noted)["tool"] == facts["tool"]


def test_iptc_is_found_among_photoshops_blocks() -> None:
    records = b"\x1c\x02\x78\x00\x03abc"
    other = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"xyz\0"
    block = iptc.resources_from_iptc(records)
    assert iptc.iptc_from_resources(other + block) == records
    for damaged in (b"", other, block[:-4], b"8BIM", other + b"8BIM\x04\x04\0\0\xff\xff\xff\xff"):
        assert iptc.iptc_from_resources(damaged) is None


def test_avif_of_more_than_eight_bits_is_refused_and_not_read_as_eight(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    image_of(3).save(path, "AVIF", quality=90)
    content = bytearray(path.read_bytes())
    place = content.index(b"av1C") + 6
    for flags, bits in ((0x40, 10), (0x60, 12)):
        content[place] = content[place] & ~0x60 | flags
        path.write_bytes(content)
        with pytest.raises(ImageError, match=f"a.avif: AVIF of {bits} bits per channel cannot be read without loss"):
            read_picture(path)


def test_tiff_with_colours_that_are_multiplied_with_alpha(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("OpenImageIO")
    colour, alpha = samples(3, 16).astype(float), samples(4, 16)[:, :, 3:].astype(float)
    stored = np.dstack([np.rint(colour * alpha / 65535), alpha]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.alpha is not None
    # A rounding of 16 bits, divided by an alpha of a tenth at the least.
    np.testing.assert_allclose(picture.colour, colour, atol=6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"photometric": 8}, "TIFF with Lab cannot be read. Convert it to RGB"),
        ({"photometric": 77}, "colours of the unknown kind 77"),
    ],
)
def test_tiff_of_other_colours_is_refused(tmp_path: Path, options: dict[str, int], told: str) -> None:
    path = tmp_path / "a.tif"
    write_picture(path, FORMATS["tiff"], Outline(size=Size(24, 36)), [samples(3)])
    content = path.read_bytes()
    row = struct.pack("<HHIHH", 262, 3, 1, 2, 0)
    assert content.count(row) == 1
    path.write_bytes(content.replace(row, struct.pack("<HHIHH", 262, 3, 1, options["photometric"], 0)))
    with pytest.raises(ImageError, match=told):
        read_picture(path)


def test_values_that_are_no_numbers_and_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("OpenImageIO")
    light = samples(3, 32).copy()
    light[3, 4, 1] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", light, photometric="rgb")
    with pytest.raises(ImageError, match=r"nan.tif: some of its values are no numbers"):
        read_picture(tmp_path / "nan.tif")
    tifffile.imwrite(tmp_path / "long.tif", np.zeros((4, 4), np.uint32), photometric="minisblack")
    with pytest.raises(ImageError, match=r"long.tif: TIFF of integers of 32 bits cannot be read"):
        read_picture(tmp_path / "long.tif")


def test_a_tiff_above_4_gb_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.images.formats import tiff

    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(tiff, "_SMALLEST_BIG", 1000)  # bytes of pixels, in place of 4 GB
    from deploy.images.picture import Metadata

    metadata = Metadata(exif=exif_block().removeprefix(b"Exif\0\0"), xmp=XMP)
    write_picture(tmp_path / "a.tif", FORMATS["tiff"], Outline(size=Size(24, 36), metadata=metadata), [samples(3)])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff and file.pages[0].tags["ExifTag"].value["PixelXDimension"] == 36
        np.testing.assert_array_equal(file.asarray(), samples(3))
    assert read_header(tmp_path / "a.tif").size == Size(24, 36)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").colour, samples(3))


def test_pages_of_a_tiff_may_differ_in_everything(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("OpenImageIO")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(samples(3), photometric="rgb", metadata=None)
        writer.write(
            samples(1, 16)[:, :20, 0], photometric="minisblack", metadata=None, extratags=[(274, 3, 1, 6, True)]
        )
        writer.write(np.zeros((300, 300), np.uint8), photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", frame=0).colour, samples(3))
    second = read_picture(tmp_path / "a.tif", frame=1)
    np.testing.assert_array_equal(second.colour, np.rot90(samples(1, 16)[:, :20, 0], 3))
    assert second.bits == 16 and second.origin.orientation == 6
    with pytest.raises(ImageError, match="it has 300x300 = 90000 pixels, the limit is 5000"):
        read_picture(tmp_path / "a.tif", frame=2, max_pixels=5000)


def test_colours_that_are_described_without_a_profile_are_named(tmp_path: Path) -> None:
    def with_chunk(kind: bytes, data: bytes) -> tuple[str, ...]:
        image_of(3).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
        return read_picture(tmp_path / "a.png").changes

    assert with_chunk(b"gAMA", struct.pack(">I", 100_000)) == (
        "its gamma of 1 is not applied, and its colours are taken as sRGB",
    )
    assert with_chunk(b"gAMA", struct.pack(">I", 45_455)) == () == with_chunk(b"cICP", bytes([1, 13, 0, 1]))
    told = ("its colours (Display P3 without a profile) are taken as sRGB",)
    assert with_chunk(b"cICP", bytes([12, 13, 0, 1])) == told
    assert with_chunk(b"cICP", bytes([9, 16, 0, 1])) == (
        "its colours (BT.2020 HDR without a profile) are taken as sRGB",
    )
    assert with_chunk(b"tEXt", b"parameters\0a lake, sharp") == ("its comment is not kept",)
    assert with_chunk(b"tEXt", b"Software\0this") == ()
    image_of(3).save(tmp_path / "a.avif", "AVIF", quality=90)
    content = bytearray((tmp_path / "a.avif").read_bytes())
    place = content.index(b"colrnclx") + 8
    content[place : place + 4] = bytes([0, 12, 0, 13])
    (tmp_path / "a.avif").write_bytes(content)
    assert read_picture(tmp_path / "a.avif").changes == told


def test_channels_and_layers_that_are_passed_over_are_named(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    more = np.dstack([samples(4), samples(2)])
    layers = [(37724, 7, 4, b"8BPS", True)]
    extra = ["unassalpha", "unspecified", "unspecified"]
    tifffile.imwrite(
        tmp_path / "a.tif", more.astype(np.uint16) * 257, photometric="rgb", extrasamples=extra, extratags=layers
    )
    picture = read_picture(tmp_path / "a.tif")
    assert picture.changes == ("2 of its channels are not kept", "its layers are not kept")
    np.testing.assert_array_equal(picture.colour, samples(3).astype(np.uint16) * 257)
    assert picture.alpha is not None
    tifffile.imwrite(tmp_path / "b.tif", more, photometric="rgb", extrasamples=extra)
    assert read_picture(tmp_path / "b.tif").changes == ("2 of its channels are not kept",)
    np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").colour, samples(3))


def test_long_texts_and_profiles_do_not_keep_a_png_from_being_read(tmp_path: Path) -> None:
    """Pillow refuses texts of more than a megabyte with a name from its source; the pixels are as good as any."""
    info = PngInfo()
    info.add_text("Comment", "x" * 3_000_000, zip=True)
    frames = [image_of(3), Image.fromarray(255 - np.asarray(image_of(3)))]
    options = {"save_all": True, "append_images": frames[1:], "default_image": False}
    frames[0].save(tmp_path / "a.png", pnginfo=info, icc_profile=bytes(3_000_000), **options)
    first, second = (read_picture(tmp_path / "a.png", frame=number) for number in range(2))
    np.testing.assert_array_equal(first.colour, np.asarray(frames[0]))
    np.testing.assert_array_equal(second.colour, np.asarray(frames[1]))
    assert first.changes == (
        "its colour profile cannot be read, and its colours are taken as sRGB", "its comment is not kept",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a.tif", "a.jxl", "a.heic", "a.webp", "a.gif", "a.png"])
def test_a_damaged_file_is_told_without_the_words_of_a_library(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the library said is in the log, which -v shows."""
    if name.endswith(("tif", "jxl")):
        write_picture(
            tmp_path / name,
            FORMATS[{"tif": "tiff"}.get(name[2:], "jxl")],
            Outline(size=Size(24, 36), bits=16),
            [samples(3, 16)],
        )
    elif name.endswith("heic"):
        pytest.importorskip("pillow_heif").from_pillow(image_of(3)).save(tmp_path / name)
    else:
        image_of(3).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    caplog.set_level("INFO")
    told = r"a\.\w+: the file is damaged or cut short( \((its|it|the file|a tag) [a-z ]+\))?\. Get it again"
    with pytest.raises(ImageError, match=told):
        read_picture(tmp_path / name)
    assert "a." in caplog.text or "OpenImageIO" in caplog.text


@pytest.mark.parametrize(
    ("description", "changes"),
    [
        ('{"shape": [24, 36, 3]}', ()),
        ("ImageJ=1.11a\nimages=1\nmin=0.0", ("what ImageJ tells of its pixels is not kept",)),
        (
            '<?xml version="1.0"?><OME xmlns="x"><Pixels SizeX="36"/></OME>',
            ("what OME tells of its pixels is not kept",),
        ),
        ("a lake, sharp", ()),
    ],
)
def test_descriptions_of_how_pixels_lie_are_not_carried_over(
    tmp_path: Path, description: str, changes: tuple[str, ...]
) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", samples(3), photometric="rgb", metadata=None, description=description)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.changes == changes
    outline = Outline(size=Size(48, 36), metadata=picture.metadata)
    write_picture(tmp_path / "b.tif", FORMATS["tiff"], outline, [np.repeat(samples(3), 2, axis=0)])
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.asarray().shape == (48, 36, 3)
        assert file.pages[0].description == (description if "lake" in description else "")


def test_a_tiff_has_the_tags_that_are_required(tmp_path: Path) -> None:
    """TIFF 6.0, section 4: without a resolution, square pixels of no unit."""
    tifffile = pytest.importorskip("tifffile")
    from deploy.images.picture import Metadata

    for dpi, told in ((None, (1.0, 1)), ((300.0, 300.0), (300.0, 2))):
        outline = Outline(size=Size(24, 36), metadata=Metadata(dpi=dpi))
        write_picture(tmp_path / "a.tif", FORMATS["tiff"], outline, [samples(3)])
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            tags_of_page = file.pages[0].tags
            across, down = (tags_of_page[name].value for name in ("XResolution", "YResolution"))
            assert (across[0] / across[1], tags_of_page["ResolutionUnit"].value) == told and across == down
        assert read_picture(tmp_path / "a.tif").metadata.dpi == dpi
        if shutil.which("exiftool"):
            command = ["exiftool", "-validate", "-warning", "-a", str(tmp_path / "a.tif")]
            warnings = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert "Missing required" not in warnings
