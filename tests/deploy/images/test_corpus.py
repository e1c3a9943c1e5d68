"""Files as people have them go in and come out: what should survive survives, by a reader other than the writer."""

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.images.exif import exif_of
from deploy.images.formats.table import FORMATS, WRITTEN
from deploy.images.picture import HIGHEST
from deploy.images.reading import read_header, read_picture
from deploy.images.sizes import Size
from deploy.images.writing import Saving
from deploy.picture.files import Result, Source, open_source, result_of, result_suffix
from tests.deploy.images.corpus import (
    ARTIST,
    DPI,
    GPS,
    HEIGHT,
    IPTC,
    MAKE,
    WIDTH,
    Case,
    cases,
    provenance_of,
    read_by_another,
)

pytest.importorskip("OpenImageIO")
pytest.importorskip("pillow_heif")
CASES = cases()
EVERYTHING = [case for case in CASES if case.metadata]
FACTS = {"tool": 'idm-deploy <"9.9">', "seed": "7"}
TWICE = 2


def repeated(source: Source, bits: int, times: int) -> list[np.ndarray]:
    """What a network would give that repeats each pixel, as rows of the result."""
    if source.view.is_plain and bits == 8:
        whole = np.repeat(np.repeat(source.pixels, times, axis=0), times, axis=1)
        return [whole[:, :, :1] if source.is_grey else whole]
    unit = source.pixels if source.pixels.dtype == np.float32 else source.pixels / np.float32(255)
    whole = np.repeat(np.repeat(unit, times, axis=0), times, axis=1)
    return list(source.view.samples(iter([whole[:20], whole[20:]]), Size.of(whole), bits))


def written(folder: Path, case: Case, saving: Saving, times: int = TWICE, **how: Any) -> tuple[Source, Result, Path]:
    path = folder / case.name
    case.make(path)
    source = open_source(path, saving)
    result = result_of(source, Size(times * source.size.height, times * source.size.width), saving)
    target = folder / f"made{result_suffix(path, saving)}"
    result.write(target, repeated(source, result.bits, times), **how)
    return source, result, target


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 60 and len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_file_is_read_as_it_is(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    case.make(path)
    picture = read_picture(path)
    found = picture.colour.reshape(*picture.colour.shape[:2], -1)
    found = found if picture.alpha is None else np.dstack([found, picture.alpha])
    assert (found.shape, found.dtype) == (case.samples.shape, case.samples.dtype)
    np.testing.assert_allclose(found.astype(float), case.samples, atol=case.tolerance, rtol=0)
    assert picture.changes == case.changes
    assert picture.profile == case.profile or path.suffix == ".jxl"  # there the library makes one of few numbers
    assert read_header(path).size == picture.size


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_file_comes_out_with_its_depth_channels_and_colours(tmp_path: Path, case: Case) -> None:
    # At the same size: enlarging alpha and colours beyond sRGB by bicubic changes nothing then.
    source, result, target = written(tmp_path, case, Saving(), times=1)
    assert (result.bits, result.format.writer.is_lossless) == (case.bits, True)  # type: ignore[union-attr]
    lossy_before = not source.picture.origin.is_lossless
    assert result.format.name == ("png" if lossy_before else source.picture.origin.format)
    found = read_by_another(target)
    expected = case.samples
    if found.shape[2] > expected.shape[2]:  # WebP and JPEG XL have no grey, or none with alpha
        expected = expected[:, :, [0, 0, 0, 1][: found.shape[2]]]
    assert found.dtype == case.samples.dtype
    highest = HIGHEST[found.dtype]
    # Into sRGB and back in floats: P3's numbers in the profile have four decimals, of 16 bits that is less than one.
    tolerance = case.tolerance + (2e-7 * highest if case.profile is None else 1.5e-5 * highest)
    if source.picture.alpha is not None:
        np.testing.assert_allclose(found[:, :, -1].astype(float), expected[:, :, -1], atol=case.tolerance, rtol=0)
        # Below a sixteenth of alpha colours come from around.
        clear = expected[:, :, -1] > highest / 15
        found, expected = found[clear][:, :-1], expected[clear][:, :-1]
    np.testing.assert_allclose(found.astype(float), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("case", EVERYTHING, ids=lambda case: case.name)
def test_what_a_format_holds_of_the_metadata_is_there_and_what_it_does_not_is_said(
    tmp_path: Path, case: Case, name: str
) -> None:
    source, result, target = written(tmp_path, case, Saving(format=name), provenance=FACTS)
    keeps = FORMATS[name].writer.keeps  # type: ignore[union-attr]
    said = " ".join(result.changes)
    before = source.picture.metadata
    for key, value, word in (
        ("exif", before.exif, "EXIF"),
        ("xmp", before.xmp, "XMP"),
        ("iptc", before.iptc, "IPTC"),
        ("profile", source.picture.profile, "colours are converted"),
    ):
        assert (word in said) == (value is not None and key not in keeps), said
    found = by_another(target)
    turned = case.name.endswith("heic")
    size = (TWICE * HEIGHT, TWICE * WIDTH) if turned else (TWICE * WIDTH, TWICE * HEIGHT)
    if "profile" in keeps and before is not None:
        # Of JPEG XL without a profile the library makes one.
        assert found["profile"] == source.picture.profile or (name == "jxl" and not source.picture.profile)
    if "exif" in keeps and before.exif:
        assert found["exif"][0x010F] == MAKE and found["exif"][0x013B] == ARTIST
        assert found["exif"].get(0x0112, 1) == 1
        if not case.name.endswith("tif"):
            assert found["gps"][2] == GPS and found["gps"][1] == "N"
            assert (found["camera"][0xA002], found["camera"][0xA003]) == size
            assert float(found["camera"][0x829A]) == 1 / 250
    if "dpi" in keeps and before.dpi:
        np.testing.assert_allclose(found["dpi"], DPI, rtol=1e-3)
    if "xmp" in keeps and before.xmp:
        assert b'dc:source="a lake"' in found["xmp"] and b'tiff:Orientation="1"' in found["xmp"]
        assert f'tiff:ImageWidth="{size[0]}"'.encode() in found["xmp"]
    if "xmp" in keeps:
        assert b'seed="7"' in found["xmp"] and provenance_of(found["xmp"])["seed"] == "7"
        assert b"&lt;" in found["xmp"]
    if "iptc" in keeps and before.iptc:
        assert IPTC in (tmp_path / target).read_bytes() or found["iptc"] == IPTC


@pytest.mark.parametrize("name", WRITTEN)
def test_stripped_files_say_nothing_but_their_colours(tmp_path: Path, name: str) -> None:
    case = next(case for case in EVERYTHING if case.name == "everything.jpg")
    _, result, target = written(tmp_path, case, Saving(format=name, strip_metadata=True), provenance=FACTS)
    content = target.read_bytes()
    for word in (MAKE.encode(), ARTIST.encode(), b"a lake", b"caption", b"idm-deploy", b"xmpmeta", b"seed"):
        assert word not in content
    found = by_another(target)
    # The tags of a TIFF that say how its pixels lie; a BMP cannot but state some resolution: Pillow's 96.
    assert set(found["exif"]) <= ({*range(254, 340), 34675} if name == "tiff" else set())
    assert not found["gps"] and (found["dpi"] in (None, (1.0, 1.0)) or name == "bmp")
    holds = "profile" in FORMATS[name].writer.keeps  # type: ignore[union-attr]
    assert (found["profile"] is not None) == holds and "not kept" not in " ".join(result.changes)


def by_another(path: Path) -> dict[str, Any]:
    """What Pillow, OpenImageIO or tifffile find in a file beside its pixels."""
    if path.suffix == ".jxl":
        return _in_jxl(path)
    with Image.open(path) as image:
        image.load()
        exif = image.getexif()
        dpi = image.info.get("dpi")
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        photoshop = image.info.get("photoshop")
        if path.suffix == ".png" and "Raw profile type iptc" in image.info:
            text = image.info["Raw profile type iptc"]
            photoshop = {0x0404: bytes.fromhex("".join(text.split("\n")[3:]))[12 : 12 + len(IPTC)]}
        return {
            "profile": image.info.get("icc_profile"),
            "exif": dict(exif),
            "gps": dict(exif.get_ifd(0x8825)),
            "camera": dict(exif.get_ifd(0x8769)),
            "dpi": tuple(map(float, dpi)) if dpi and path.suffix != ".webp" else None,
            "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
            "iptc": photoshop.get(0x0404) if isinstance(photoshop, dict) else None,
        }


def _in_jxl(path: Path) -> dict[str, Any]:
    """Boxes found by their names, and the profile that OpenImageIO reads."""
    import OpenImageIO

    content = path.read_bytes()
    exif, xmp = Image.Exif(), re.search(rb"xml (.*?end=\"w\"\?>)", content, re.DOTALL)
    start = content.find(b"Exif")
    if start >= 0:
        (size,) = struct.unpack(">I", content[start - 4 : start])
        exif.load(b"Exif\0\0" + content[start + 8 : start - 4 + size])
    profile = OpenImageIO.ImageInput.open(str(path)).spec().getattribute("ICCProfile")
    return {
        "profile": None if profile is None else bytes(np.asarray(profile, np.uint8)),
        "exif": dict(exif),
        "gps": dict(exif.get_ifd(0x8825)) if start >= 0 else {},
        "camera": dict(exif.get_ifd(0x8769)) if start >= 0 else {},
        "dpi": None,
        "xmp": xmp[1] if xmp else None,
        "iptc": None,
    }


def test_a_resolution_goes_into_exif_where_a_format_has_no_other_place(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "rgb.bmp")
    for name in ("webp", "avif", "jxl"):
        _, result, target = written(tmp_path, case, Saving(format=name))
        assert result.changes == ()
        exif = exif_of(read_picture(target).metadata.exif)
        assert exif is not None and exif.dpi is not None
        np.testing.assert_allclose(exif.dpi, DPI, rtol=1e-2)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", WRITTEN)
def test_exiftool_reads_the_same(tmp_path: Path, name: str) -> None:
    case = next(case for case in EVERYTHING if case.name == "everything.jpg")
    _, _, target = written(tmp_path, case, Saving(format=name), provenance=FACTS, note=b"{}")
    command = ["exiftool", "-j", "-n", "-a", "-G1", str(target)]
    (found,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    keeps = FORMATS[name].writer.keeps  # type: ignore[union-attr]
    expected: dict[str, Any] = {}
    if "exif" in keeps:
        expected |= {"IFD0:Make": MAKE, "IFD0:Artist": ARTIST, "ExifIFD:ExposureTime": 1 / 250}
        expected |= {"ExifIFD:ExifImageWidth": TWICE * WIDTH, "GPS:GPSLatitudeRef": "N"}
        assert found["GPS:GPSLatitude"] == pytest.approx(51 + 30 / 60 + 26 / 3600)
    if "xmp" in keeps:
        expected |= {"XMP-tiff:Orientation": 1, "XMP-dc:Source": "a lake", "XMP-made:Seed": 7}
    if "iptc" in keeps:
        expected["IPTC:Caption-Abstract"] = "caption"
    if "profile" in keeps and name != "jxl":  # there it stands among the pixels, where exiftool does not look
        expected["ICC_Profile:ProfileDescription"] = "Display P3"
    assert {key: found.get(key) for key in expected} == expected
    assert "ExifTool:Error" not in found
