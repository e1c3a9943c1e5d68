"""Picture files as people have them, made by other libraries than the one under test, and what is in each."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from deploy.images.xmp import NAMESPACE
from tests.deploy.images.profiles import cmyk_of_grey_inks, display_p3, grey_gamma

Array = NDArray[Any]
HEIGHT, WIDTH = 24, 36
MAKE, ARTIST = "Camera & Sons", "Ada"
GPS = (51.0, 30.0, 26.0)
IPTC = b"\x1c\x02\x78\x00\x07caption"
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" '
    b'tiff:ImageWidth="36" dc:source="a lake"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
DPI = (300.0, 150.0)
NO_PROFILE = ("CMYK without a profile becomes RGB",)
FIRST = ("it has 2 frames, of which the first is taken",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file: how it is made, and the samples that are in it, upright, (H, W, C). tolerance: of a lossy format."""

    name: str
    make: Callable[[Path], None]
    samples: Array
    bits: int = 8
    profile: bytes | None = None
    metadata: bool = False
    tolerance: float = 0.0
    changes: tuple[str, ...] = ()


@cache
def samples(channels: int, bits: int = 8) -> Array:
    """Smooth, with every channel different, so that lossy formats come close and a swap is seen; alpha varies too."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT - 1, WIDTH - 1]).reshape(2, 1, 1)
    planes = [columns, 0.2 + 0.6 * rows, 1.0 - 0.7 * columns * rows, 0.1 + 0.9 * rows * columns]
    chosen = {1: planes[:1], 2: [planes[0], planes[3]], 3: planes[:3], 4: planes}[channels]
    values = np.stack(chosen, axis=-1)
    if bits == 32:
        return values.astype(np.float32)
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def image_of(channels: int) -> Image.Image:
    pixels = samples(channels)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def exif_block(orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x013B], exif[0x0112] = MAKE, ARTIST, orientation
    exif.get_ifd(0x8769).update({0x829A: IFDRational(1, 250), 0xA002: size[0], 0xA003: size[1]})
    exif.get_ifd(0x8825).update({1: "N", 2: GPS})
    return exif.tobytes()


def cases() -> list[Case]:
    """More than sixty files."""
    return [*_pngs(), *_jpegs(), *_webps(), *_tiffs(), *_others(), *_from_the_extra()]


def _case(name: str, channels: int | Array, save: Callable[[Path], Any], **more: Any) -> Case:
    found = samples(channels, more.get("bits", 8)) if isinstance(channels, int) else channels

    def make(path: Path) -> None:
        save(path)

    return Case(name=name, make=make, samples=found, **more)


def _pillow(image: Image.Image, format: str, **options: Any) -> Callable[[Path], Any]:
    return lambda path: image.save(path, format, **options)


def _pngs() -> list[Case]:
    p3, grey = display_p3(), grey_gamma(1.8)
    steps = Image.fromarray(samples(1)[:, :, 0] // 64, "L").convert("P")
    colours = [250, 0, 10, 20, 240, 30, 40, 50, 230, 90, 120, 60]
    steps.putpalette(colours)
    table = np.array(colours, np.uint8).reshape(4, 3)[samples(1)[:, :, 0] // 64]
    keyed = image_of(3)
    key = tuple(samples(3)[3, 5].tolist())
    with_key = np.dstack([samples(3), np.where((samples(3) == key).all(axis=2), 0, 255)]).astype(np.uint8)
    hole = np.dstack([table, np.where(samples(1)[:, :, 0] // 64 == 2, 0, 255)]).astype(np.uint8)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    everything = {"exif": exif_block(), "pnginfo": info, "dpi": DPI, "icc_profile": p3}
    opaque = image_of(3).convert("RGBA")
    dark_or_light = np.where(samples(1) > 99, np.uint8(255), np.uint8(0))
    return [
        _case("bilevel.png", dark_or_light, _pillow(Image.fromarray(dark_or_light[:, :, 0] > 0), "PNG")),
        _case("palette.png", table, _pillow(steps, "PNG")),
        _case("palette-hole.png", hole, _pillow(steps, "PNG", transparency=2)),
        _case("key.png", with_key, _pillow(keyed, "PNG", transparency=key)),
        _case("grey-p.png", 1, _pillow(image_of(1), "PNG", icc_profile=grey), profile=grey),
        _case("p3.png", 3, _pillow(image_of(3), "PNG", icc_profile=p3), profile=p3),
        _case("p3-alpha.png", 4, _pillow(image_of(4), "PNG", icc_profile=p3), profile=p3),
        _case("everything.png", 3, _pillow(image_of(3), "PNG", **everything), profile=p3, metadata=True),
        _case("turned.png", np.rot90(samples(3), 3), _pillow(image_of(3), "PNG", exif=exif_block(6))),
        _case("opaque.png", 3, _pillow(opaque, "PNG"), changes=("its alpha is opaque everywhere and is left out",)),
        _case("grey16.png", samples(1, 16), _pillow(Image.fromarray(samples(1, 16)[:, :, 0]), "PNG"), bits=16),
        *(_case(f"{mode}.png", n, _pillow(image_of(n), "PNG")) for n, mode in enumerate(("l", "la", "rgb", "rgba"), 1)),
    ]  # fmt: skip


def _jpegs() -> list[Case]:
    turns = [(0, 0), (0, 1), (2, 0), (2, 1), (3, 1), (3, 0), (1, 1), (1, 0)]
    close = {"tolerance": 6.0}
    high: dict[str, Any] = {"quality": 98, "subsampling": 0}
    p3 = display_p3()

    def everything(path: Path) -> None:
        image_of(3).save(path, "JPEG", exif=exif_block(), xmp=XMP, dpi=DPI, icc_profile=p3, **high)
        encoded = path.read_bytes()
        block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(IPTC).to_bytes(4, "big") + IPTC
        path.write_bytes(encoded[:2] + b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block + encoded[2:])

    def turned(number: int, k: int, mirrored: int) -> Case:
        upright = np.rot90(samples(3), k)
        upright = upright[:, ::-1] if mirrored else upright
        save = _pillow(image_of(3), "JPEG", exif=exif_block(number), **high)
        return _case(f"orientation-{number}.jpg", np.ascontiguousarray(upright), save, **close)

    inks = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    inks[:, :, 0] = 255
    flat = Image.fromarray(inks, "CMYK")
    # L* = 50 in sRGB.
    middle = np.full((HEIGHT, WIDTH, 3), 119, np.uint8)
    cyan = np.broadcast_to(np.uint8([0, 255, 255]), (HEIGHT, WIDTH, 3))
    return [
        _case("l.jpg", 1, _pillow(image_of(1), "JPEG", **high), **close),
        _case("rgb.jpg", 3, _pillow(image_of(3), "JPEG", **high), **close),
        _case("p3.jpg", 3, _pillow(image_of(3), "JPEG", icc_profile=p3, **high), profile=p3, **close),
        _case("everything.jpg", 3, everything, profile=p3, metadata=True, **close),
        _case("cmyk.jpg", cyan, _pillow(flat, "JPEG", **high), changes=NO_PROFILE, **close),
        _case(
            "cmyk-profile.jpg", middle, _pillow(flat, "JPEG", icc_profile=cmyk_of_grey_inks(), **high),
            changes=("colours are converted from Inks to sRGB",), **close,
        ),
        *(turned(number, *turn) for number, turn in enumerate(turns, 1)),
    ]  # fmt: skip


def _webps() -> list[Case]:
    exact: dict[str, Any] = {"lossless": True, "exact": True}
    p3 = display_p3()
    everything = {"exif": exif_block(), "xmp": XMP, "icc_profile": p3}
    return [
        _case("rgb.webp", 3, _pillow(image_of(3), "WEBP", **exact)),
        _case("rgba.webp", 4, _pillow(image_of(4), "WEBP", **exact)),
        _case("lossy.webp", 3, _pillow(image_of(3), "WEBP", quality=95), tolerance=16.0),
        _case("p3.webp", 3, _pillow(image_of(3), "WEBP", icc_profile=p3, **exact), profile=p3),
        _case("everything.webp", 3, _pillow(image_of(3), "WEBP", **everything, **exact), profile=p3, metadata=True),
    ]


def _tiffs() -> list[Case]:
    import tifffile

    p3 = display_p3()

    def save(channels: int, bits: int, **options: Any) -> Callable[[Path], Any]:
        pixels = samples(channels, bits)
        shown = pixels[:, :, 0] if channels == 1 else pixels
        options.setdefault("photometric", "minisblack" if channels < 3 else "rgb")
        if channels in (2, 4):
            options.setdefault("extrasamples", ["unassalpha"])
        return lambda path: tifffile.imwrite(path, shown, metadata=None, **options)

    def everything(path: Path) -> None:
        tags = [(315, 2, 0, ARTIST, True), (700, 1, len(XMP), XMP, True), (33723, 7, len(IPTC), IPTC, True)]
        pixels = samples(3, 16)
        tifffile.imwrite(
            path, pixels, photometric="rgb", iccprofile=p3, resolution=DPI, resolutionunit=2, software=None,
            metadata=None, extratags=[(271, 2, 0, MAKE, True), *tags],
        )  # fmt: skip

    def planes(path: Path) -> None:
        tifffile.imwrite(
            path, samples(3, 16).transpose(2, 0, 1), photometric="rgb", planarconfig="separate", metadata=None
        )

    cmyk = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    cmyk[:, :, 1] = 255
    magenta = np.broadcast_to(np.uint8([255, 0, 255]), (HEIGHT, WIDTH, 3))
    inverted = 65535 - samples(1, 16)
    turned = [(274, 3, 1, 6, True)]
    several = np.stack([samples(3), 255 - samples(3)])
    palette = Image.fromarray(samples(3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    return [
        _case("l.tif", 1, save(1, 8)),
        _case("la.tif", 2, save(2, 8)),
        _case("rgb.tif", 3, save(3, 8)),
        _case("rgba.tif", 4, save(4, 8)),
        _case("palette.tif", np.asarray(palette.convert("RGB")), _pillow(palette, "TIFF")),
        _case("lzw.tif", 3, _pillow(image_of(3), "TIFF", compression="tiff_lzw")),
        _case("cmyk.tif", magenta, _pillow(Image.fromarray(cmyk, "CMYK"), "TIFF"), changes=NO_PROFILE),
        _case("l16.tif", 1, save(1, 16), bits=16),
        _case("la16.tif", 2, save(2, 16), bits=16),
        _case("rgb16.tif", 3, save(3, 16), bits=16),
        _case("rgba16.tif", 4, save(4, 16), bits=16),
        _case("rgb16-big-endian.tif", 3, save(3, 16, byteorder=">"), bits=16),
        _case("rgb16-bigtiff.tif", 3, save(3, 16, bigtiff=True), bits=16),
        _case("rgb16-tiles.tif", 3, save(3, 16, tile=(16, 16)), bits=16),
        _case("rgb16-deflate.tif", 3, save(3, 16, compression="zlib", predictor=2), bits=16),
        _case("rgb16-planes.tif", 3, planes, bits=16),
        _case("rgb16-p3.tif", 3, save(3, 16, iccprofile=p3), bits=16, profile=p3),
        _case("everything.tif", 3, everything, bits=16, profile=p3, metadata=True),
        _case("white-is-zero.tif", inverted, save(1, 16, photometric="miniswhite"), bits=16),
        _case("turned16.tif", np.rot90(samples(3, 16), 3), save(3, 16, extratags=turned), bits=16),
        _case("l-float.tif", 1, save(1, 32), bits=32),
        _case("rgb-float.tif", 3, save(3, 32), bits=32),
        _case("rgba-float.tif", 4, save(4, 32), bits=32),
        _case(
            "pages.tif", 3, lambda path: tifffile.imwrite(path, several, photometric="rgb", metadata=None),
            changes=FIRST,
        ),
    ]  # fmt: skip


def _others() -> list[Case]:
    few = image_of(3).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    shown = np.asarray(few.convert("RGB"))
    hole = np.dstack([shown, np.where(np.asarray(few) == 3, 0, 255)]).astype(np.uint8)
    avif: dict[str, Any] = {"quality": 95, "subsampling": "4:4:4", "max_threads": 1}
    p3 = display_p3()
    film = {"save_all": True, "append_images": [few.rotate(180)]}
    return [
        _case("l.bmp", 1, _pillow(image_of(1), "BMP")),
        _case("rgb.bmp", 3, _pillow(image_of(3), "BMP", dpi=DPI)),
        _case("few.gif", shown, _pillow(few, "GIF")),
        _case("hole.gif", hole, _pillow(few, "GIF", transparency=3)),
        _case("film.gif", shown, _pillow(few, "GIF", **film), changes=FIRST),
        _case("rgb.avif", 3, _pillow(image_of(3), "AVIF", **avif), tolerance=8.0),
        _case("rgba.avif", 4, _pillow(image_of(4), "AVIF", **avif), tolerance=8.0),
        _case(
            "everything.avif", 3, _pillow(image_of(3), "AVIF", exif=exif_block(), xmp=XMP, icc_profile=p3, **avif),
            profile=p3, metadata=True, tolerance=8.0,
        ),
        _case(
            "turned.avif", np.ascontiguousarray(np.rot90(samples(3), 3)),
            _pillow(image_of(3), "AVIF", exif=exif_block(6), **avif), tolerance=8.0,
        ),
    ]  # fmt: skip


def _from_the_extra() -> list[Case]:
    """Of OpenImageIO and pillow-heif: what nothing else writes."""

    def oiio(channels: int, bits: int, suffix: str) -> Case:
        def save(path: Path) -> None:
            write_by_openimageio(path, samples(channels, bits))

        # It writes a few tags of its own in the compressed form.
        told = ("its compressed Exif metadata are not kept",) if suffix == "jxl" else ()
        return _case(f"openimageio-{channels}x{bits}.{suffix}", channels, save, bits=bits, changes=told)

    def heic(channels: int, **options: Any) -> Callable[[Path], Any]:
        def save(path: Path) -> None:
            import pillow_heif

            pillow_heif.from_pillow(image_of(channels)).save(path, quality=95, chroma=444, **options)

        return save

    def heic10(path: Path) -> None:
        import pillow_heif

        pixels = samples(3, 16)
        pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), pixels.tobytes()).save(path, quality=95, chroma=444)

    return [
        *(oiio(channels, 16, "png") for channels in (2, 3, 4)),
        *(
            oiio(channels, bits, "jxl")
            for channels, bits in ((1, 8), (3, 8), (4, 8), (1, 16), (3, 16), (4, 16), (3, 32))
        ),
        _case("rgb.heic", 3, heic(3), tolerance=8.0),
        _case("rgba.heic", 4, heic(4), tolerance=8.0),
        # The library turns the picture as the XMP says.
        _case(
            "everything.heic",
            np.rot90(samples(3), 3),
            heic(3, exif=exif_block(), xmp=XMP),
            metadata=True,
            tolerance=8.0,
        ),
        _case("ten.heic", 3, heic10, bits=16, tolerance=8.0 * 257),
    ]


def write_by_openimageio(path: Path, pixels: Array) -> None:
    import OpenImageIO

    kind = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}[pixels.dtype.name]
    spec = OpenImageIO.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    spec.attribute("oiio:UnassociatedAlpha", 1)
    spec.attribute("jpegxl:distance", 0.0)
    writer = OpenImageIO.ImageOutput.create(str(path))
    assert writer.open(str(path), spec) and writer.write_image(pixels) and writer.close(), writer.geterror()


def read_by_another(path: Path) -> Array:
    """(H, W, C) of a result by a library that did not write it, in all its bits."""
    import OpenImageIO

    if path.suffix in (".tif", ".tiff"):
        import tifffile

        pixels = tifffile.imread(path)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels
    if path.suffix == ".avif":
        return np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    hints = OpenImageIO.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)
    reader = OpenImageIO.ImageInput.open(str(path), hints)
    assert reader is not None, OpenImageIO.geterror()
    spec = reader.spec()
    pixels = np.asarray(reader.read_image(0, 0, 0, spec.nchannels, str(spec.format)))
    reader.close()
    return pixels.reshape(spec.height, spec.width, spec.nchannels)


def provenance_of(packet: bytes) -> dict[str, str]:
    """The facts on how a picture was made, by a parser of XML."""
    root = ElementTree.fromstring(packet.decode().split("?>", 1)[1].rsplit("<?", 1)[0])
    mark = f"{{{NAMESPACE}}}"
    found = [(name, value) for element in root.iter() for name, value in element.attrib.items()]
    return {name.removeprefix(mark): value for name, value in found if name.startswith(mark)}
