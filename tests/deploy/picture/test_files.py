"""From file to file: depth, alpha and colours, with a stand-in network whose answer is known, and with a real one."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from benchmarks.files import cut_outs, measured_cut_outs
from deploy.bundle import Bundle
from deploy.errors import ImageError
from deploy.folders.request import Request
from deploy.folders.run import infer_pictures
from deploy.images.alpha import alpha_rows, flat_places, spread_colours
from deploy.images.formats.contract import Writer
from deploy.images.formats.table import FORMATS, WRITTEN
from deploy.images.notes import note_of
from deploy.images.reading import read_picture
from deploy.images.resize import resize
from deploy.images.sizes import Size
from deploy.images.writing import Saving, check_format
from deploy.packaged.places import EVALUATION_IMAGES, IDM_BUNDLE
from deploy.picture import layout
from deploy.picture.files import open_source, result_of
from deploy.picture.run import Progress
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.deploy.images.corpus import read_by_another, write_by_openimageio
from tests.deploy.images.profiles import display_p3, grey_gamma, linear_from_srgb, srgb_from_linear
from tests.deploy.picture.stub_model import Float32, StubModel, StubSubject

RNG = np.random.default_rng(11)
# From P3's primaries to XYZ under D65 (SMPTE EG 432-1), and XYZ to sRGB (IEC 61966-2-1).
XYZ_FROM_P3 = np.array(
    [[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0.0, 0.0451134, 1.0439444]]
)
SRGB_FROM_XYZ = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


class EnlargingModel(StubModel):
    """A network whose result is its input, enlarged by bicubic."""

    def subject(self, lr: Float32, size: Size, posterior: Any) -> "EnlargingSubject":
        del posterior
        return EnlargingSubject(lr, size)


class EnlargingSubject(StubSubject):
    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        del state, room, consistency
        whole = np.clip(resize(self._lr, self._size), -1.0, 1.0)
        for top in range(0, self._size[0], 7):
            yield whole[:, :, top : top + 7]


@pytest.fixture
def stand_in(idm_micro: Bundle) -> Iterator[Upscaler]:
    with Upscaler(idm_micro, threads=1) as upscaler:
        upscaler.session.model = EnlargingModel()  # type: ignore[assignment]
        yield upscaler


def made(up: Upscaler, *images: Path, code: int = 0, **request: Any) -> dict[str, Any]:
    told: list[str] = []
    asked = {"scale": 1.0, "choices": Choices(steps=1), **request}
    report = infer_pictures(up, Request(images=images, **asked), say=told.append, progress=lambda *_: None)
    assert len(report["failed"]) == code, report["failed"]
    json.dumps(report)
    return report | {"told": told}


@pytest.mark.parametrize("suffix", ["png", "tiff", "jxl"])
def test_every_value_of_sixteen_bits_comes_back(tmp_path: Path, stand_in: Upscaler, suffix: str) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.stack([every, every.T, every[::-1, ::-1]], axis=-1)
    write_by_openimageio(tmp_path / "a.png", pixels)
    report = made(stand_in, tmp_path / "a.png", output=tmp_path / f"b.{suffix}")
    np.testing.assert_array_equal(read_by_another(tmp_path / f"b.{suffix}"), pixels)
    assert report["pictures"][0]["changes"] == []


def test_grey_of_sixteen_bits_and_floats_beyond_full_light_come_back(tmp_path: Path, stand_in: Upscaler) -> None:
    import tifffile

    grey = RNG.integers(0, 65536, (9, 12), np.uint16)
    light = RNG.random((9, 12, 3), np.float32) * 3 - 1
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="minisblack")
    tifffile.imwrite(tmp_path / "light.tif", light, photometric="rgb")
    made(stand_in, tmp_path / "grey.tif", tmp_path / "light.tif", output=tmp_path / "out", output_is_folder=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "grey_x1.tif"), grey)
    # From [-1, 1] of the network and back: three roundings of float32.
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "light_x1.tif"), light, atol=3e-7)


def test_a_file_of_sixteen_bits_is_the_float_result_rounded(tmp_path: Path, idm_micro: Bundle) -> None:
    write_by_openimageio(tmp_path / "a.png", RNG.integers(0, 65536, (8, 10, 3), np.uint16))
    with Upscaler(idm_micro, threads=1) as up:
        choices = Choices(steps=2, start=0.2, consistency=1.0)  # near the input, so that little ends at a border
        made(up, tmp_path / "a.png", scale=3, output=tmp_path / "b.png", choices=choices)
        source = open_source(tmp_path / "a.png")
        with up.sampled(source.pixels, Size(24, 30), up.sampling(choices)) as sampled:
            unit = np.concatenate([block[0] for block in sampled.unit_rows()])
    expected = np.rint(unit.astype(np.float64) * 65535)
    np.testing.assert_array_equal(read_by_another(tmp_path / "b.png"), expected)
    assert len(np.unique(expected)) > 256 and (expected % 257 != 0).any()  # more than eight bits are in it


def disc(side: int, under: tuple[int, int, int]) -> np.ndarray:
    """A white disc with a soft edge; `under` is the colour where nothing is seen."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side / 3 - np.hypot(rows, columns) + 0.5, 0, 1)
    pixels = np.full((side, side, 4), 255, np.uint8)
    pixels[:, :, 3] = np.rint(255 * alpha)
    pixels[pixels[:, :, 3] == 0, :3] = under
    return pixels


@pytest.mark.parametrize("under", [(0, 0, 0), (255, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("scale", [1.0, 2.5, 4.0])
def test_a_white_disc_stays_white_on_any_ground(
    tmp_path: Path, stand_in: Upscaler, under: tuple[int, int, int], scale: float
) -> None:
    Image.fromarray(disc(24, under)).save(tmp_path / "disc.png")
    made(stand_in, tmp_path / "disc.png", scale=scale, output=tmp_path / "large.png")
    found = np.asarray(Image.open(tmp_path / "large.png")).astype(float)
    assert found.shape[2] == 4
    seen = found[:, :, 3] > 0
    assert found[seen][:, :3].min() >= 255 - 2
    share = found[:, :, 3:] / 255
    for ground in (0.0, 128.0, 255.0):
        laid = share * found[:, :, :3] + (1 - share) * ground
        exact = share * 255 + (1 - share) * ground
        assert np.abs(laid - exact).max() <= 2
    # Far inside it is opaque, far outside nothing is left: no haze.
    side = found.shape[0]
    assert found[side // 2, side // 2, 3] == 255 and found[0].max() == 0
    area = (disc(24, under)[:, :, 3] / 255.0).sum() * scale**2
    assert abs(share.sum() / area - 1) < 0.02


def test_colours_spread_under_what_is_transparent_as_light() -> None:
    rng = np.random.default_rng(2)
    colours = rng.random((16, 16, 3), np.float32)
    alpha = np.ones((16, 16), np.float32)
    np.testing.assert_allclose(spread_colours(colours, alpha), colours, atol=1e-6)
    alpha[:, 8:] = 0
    colours[:, :8], colours[:, 8:] = (0.25, 0.5, 0.75), (1.0, 0.0, 1.0)
    # One colour is all that is seen, so it is everywhere, whatever was below.
    np.testing.assert_allclose(
        spread_colours(colours, alpha), np.broadcast_to((0.25, 0.5, 0.75), (16, 16, 3)), atol=1e-5
    )
    assert (spread_colours(colours, np.zeros((16, 16), np.float32)) == 0).all()
    # Black beside white, both half seen, meet in the middle of their light: 0.735 encoded, not 0.5.
    pair = np.zeros((2, 4, 3), np.float32)
    pair[:, :1], share = 1.0, np.array([[1, 0, 0, 1]] * 2, np.float32)
    filled = spread_colours(pair, share)[:, 1:3]
    assert linear_from_srgb(filled).mean() == pytest.approx(0.5, abs=0.01)


def test_alpha_neither_rings_nor_leaves_a_haze() -> None:
    alpha = (RNG.random((12, 10)) > 0.5).astype(np.float32)
    whole = alpha_rows(alpha, Size(60, 45), (0, 60))
    assert whole.min() >= 0 and whole.max() <= 1
    parts = [alpha_rows(alpha, Size(60, 45), span) for span in ((0, 7), (7, 31), (31, 60))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    half = np.zeros((12, 10), np.float32)
    half[:, 5:] = 1
    large = alpha_rows(half, Size(48, 40), (0, 48))
    assert (large[:, :12] == 0).all() and (large[:, 28:] == 1).all()


def test_flat_colours_of_a_cut_out_stay_flat(tmp_path: Path) -> None:
    """The packaged model makes a texture of 4 levels on flat white at the preset draft, as on opaque white."""
    Image.fromarray(disc(32, (0, 255, 0))).save(tmp_path / "disc.png")
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as up:
        made(up, tmp_path / "disc.png", scale=4, output=tmp_path / "large.png", choices=Choices(preset="draft"))
    large = read_by_another(tmp_path / "large.png")
    assert (large[:, :, :3][large[:, :, 3] > 0] == 255).all()


def test_what_is_flat_is_the_same_two_pixels_around() -> None:
    colours = np.full((9, 12, 3), 0.3, np.float32)
    colours[:, :, 1] = 0.7
    colours[:, 8:] = 0.5
    colours[2, 3, 2] += np.float32(1 / 65535)  # a step of 16 bits is one
    flat = flat_places(colours)
    expected = np.zeros((9, 12), np.bool_)
    expected[:, :6], expected[:, 10:], expected[:5, 1:6] = True, True, False
    np.testing.assert_array_equal(flat, expected)
    assert flat_places(colours + RNG.uniform(0, 1e-6, colours.shape).astype(np.float32)).sum() == expected.sum()


class NearestModel(StubModel):
    """A network whose result is its input, each pixel repeated."""

    def subject(self, lr: Float32, size: Size, posterior: Any) -> "NearestSubject":
        del posterior
        return NearestSubject(lr, size)


class NearestSubject(StubSubject):
    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        del state, room, consistency
        times = self._size[0] // self._lr.shape[2]
        yield self._lr.repeat(times, axis=2).repeat(times, axis=3)


@pytest.mark.parametrize("memory", [None, "on disk"])
def test_the_network_makes_transparency_too(
    idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch, memory: str | None
) -> None:
    """As a grey picture of its own, before the colours; progress counts both."""
    if memory == "on disk":
        layout_for = layout.layout_for
        monkeypatch.setattr(layout, "layout_for", lambda *given: replace(layout_for(*given), state_on_disk=True))
    pixels = RNG.integers(16, 255, (5, 6, 4), np.uint8)  # of less alpha, colours are taken from around
    fractions: list[float] = []
    with Upscaler(idm_micro, threads=1) as up:
        up.session.model = NearestModel()  # type: ignore[assignment]
        large = up.upscale(
            [pixels, pixels.copy()], 3, steps=2, start=0.0, progress=lambda done: fractions.append(done.fraction)
        )
    for one in large:
        np.testing.assert_array_equal(one, pixels.repeat(3, axis=0).repeat(3, axis=1))
    assert fractions == [0.25, 0.5, 0.75, 1.0]


def test_transparency_that_is_the_same_everywhere_costs_nothing(idm_micro: Bundle) -> None:
    pixels = RNG.integers(0, 256, (5, 6, 4), np.uint8)
    pixels[:, :, 3] = 100
    told: list[Progress] = []
    with Upscaler(idm_micro, threads=1) as up:
        large = up.upscale(pixels, 3, steps=2, progress=told.append)
    assert (large[:, :, 3] == 100).all() and [done.parts for done in told] == [1, 1]


def test_a_cut_out_is_sharper_than_bicubic_makes_it() -> None:
    """A star of which the packaged model has 32x32 pixels: 5 dB nearer to the one that was cut (docs/pictures.md)."""
    masks = {name: alpha for name, alpha in cut_outs(128).items() if name == "star"}
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as up:
        (rows,) = measured_cut_outs(up, "balanced", masks, EVALUATION_IMAGES / "chelsea-crop1.png").values()
    bicubic, network = rows
    assert network.alpha_db > bicubic.alpha_db + 4 and network.on_white_db > bicubic.on_white_db + 1


PATCHES = np.uint8(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [230, 20, 200], [128, 128, 128], [40, 200, 90]]
)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_saturated_patches_of_display_p3_come_back(tmp_path: Path, stand_in: Upscaler, suffix: str) -> None:
    pixels = np.repeat(np.repeat(PATCHES[None], 6, axis=0), 6, axis=1)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=display_p3())
    made(stand_in, tmp_path / "a.png", scale=4, output=tmp_path / f"b.{suffix}")
    picture = read_picture(tmp_path / f"b.{suffix}")
    assert picture.profile == display_p3()
    middles = picture.colour[12, 12::24]
    difference = deltaE_ciede2000(lab_of_p3(middles), lab_of_p3(PATCHES))
    assert difference.max() < 1.0, difference
    # It is seen as sRGB meanwhile: greyish colours are what the two matrices say, the others end at its border.
    seen = open_source(tmp_path / "a.png").pixels
    light = linear_from_srgb(PATCHES[5:] / 255) @ (SRGB_FROM_XYZ @ XYZ_FROM_P3).T
    np.testing.assert_allclose(linear_from_srgb(seen[3, [33, 39]]), np.clip(light, 0, 1), atol=2e-3)
    assert seen.min() >= 0 and seen.max() <= 1


def lab_of_p3(values: np.ndarray) -> np.ndarray:
    srgb = linear_from_srgb(values / 255.0) @ (SRGB_FROM_XYZ @ XYZ_FROM_P3).T
    coded = np.copysign(
        np.where(np.abs(srgb) > 0.0031308, 1.055 * np.abs(srgb) ** (1 / 2.4) - 0.055, 12.92 * np.abs(srgb)), srgb
    )
    lab: np.ndarray = rgb2lab(coded)  # values beyond 0 and 1 go through
    return lab


@pytest.mark.parametrize("name", WRITTEN)
def test_what_exists_already_is_known_in_every_format(tmp_path: Path, stand_in: Upscaler, name: str) -> None:
    Image.fromarray(RNG.integers(0, 256, (6, 9, 3), np.uint8)).save(tmp_path / "a.png")
    saving = Saving(format=name)
    again = {"saving": saving, "output": tmp_path, "output_is_folder": True}
    (row,) = made(stand_in, tmp_path / "a.png", **again)["pictures"]
    target = Path(row["output"])
    assert target.suffix == FORMATS[name].suffixes[0] and note_of(target)
    assert made(stand_in, tmp_path / "a.png", **again)["skipped"] == [str(target)]
    other = made(stand_in, tmp_path / "a.png", **again, seed=1)
    assert any("with seed 0 instead of 1" in line for line in other["told"])
    # Stripped, it says nothing, and is known all the same.
    stripped = again | {"saving": Saving(format=name, strip_metadata=True)}
    assert len(made(stand_in, tmp_path / "a.png", **stripped)["pictures"]) == 1
    assert b"seed" not in (note_of(target) or b"")
    assert made(stand_in, tmp_path / "a.png", **stripped)["skipped"] == [str(target)]
    assert len(made(stand_in, tmp_path / "a.png", **stripped, seed=1)["pictures"]) == 1


def test_frames_are_made_one_by_one_or_the_first_is(tmp_path: Path, stand_in: Upscaler) -> None:
    frames = [Image.new("P", (9, 6)) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.putpalette([0, 0, 0, 250, 10, 10, 10, 250, 10, 10, 10, 250])
        frame.paste(number + 1, (0, 0, 9, 6))
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    first = made(stand_in, tmp_path / "film.gif", output=tmp_path / "first.png")["pictures"]
    assert first[0]["changes"] == ["it has 3 frames, of which the first is taken"]
    every = made(stand_in, tmp_path / "film.gif", output=tmp_path, output_is_folder=True, all_frames=True)["pictures"]
    names = sorted(Path(row["output"]).name for row in every)  # as they are finished
    assert names == ["film_0001_x1.png", "film_0002_x1.png", "film_0003_x1.png"]
    colours = [np.asarray(Image.open(tmp_path / name))[0, 0].tolist() for name in names]
    assert colours == [[250, 10, 10], [10, 250, 10], [10, 10, 250]]


@pytest.mark.parametrize(
    ("name", "package"), [("deep.tif", "OpenImageIO"), ("a.jxl", "OpenImageIO"), ("a.heic", "pillow-heif")]
)
def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(
    tmp_path: Path, stand_in: Upscaler, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    import sys

    import pillow_heif
    import tifffile

    deep = RNG.integers(0, 65536, (6, 9, 3), np.uint16)
    if name == "deep.tif":
        tifffile.imwrite(tmp_path / name, deep, photometric="rgb")
    elif name == "a.jxl":
        write_by_openimageio(tmp_path / name, deep)
    else:
        pillow_heif.from_pillow(Image.fromarray((deep >> 8).astype(np.uint8))).save(tmp_path / name)
    for module in ("OpenImageIO", "pillow_heif"):
        monkeypatch.setitem(sys.modules, module, None)
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "good.png")
    report = made(stand_in, tmp_path / name, tmp_path / "good.png", output=tmp_path, output_is_folder=True, code=1)
    told = report["failed"][0]["error"]
    assert told.startswith(f"reading {tmp_path / name}: ")
    assert f"needs {package}: pip install 'idm-deploy[images]'" in told
    assert len(report["pictures"]) == 1


def test_what_a_format_cannot_hold_is_refused_or_said(tmp_path: Path) -> None:
    Image.fromarray(disc(9, (0, 0, 0))).save(tmp_path / "disc.png")
    source = open_source(tmp_path / "disc.png")
    with pytest.raises(
        ImageError, match=r"reading .*disc\.png: it has transparency, which JPEG does not hold\. .* or write PNG, WebP,"
    ):
        result_of(source, Size(9, 9), Saving(), tmp_path / "x.jpg")
    with pytest.raises(ImageError, match=r"the picture is 16384x9, but this format holds at most 16383 pixels a side"):
        check_format(tmp_path / "x.webp", Size(9, 16_384))
    write_by_openimageio(tmp_path / "deep.png", np.zeros((4, 4, 3), np.uint16))
    result = result_of(open_source(tmp_path / "deep.png"), Size(4, 4), Saving(format="jpeg"))
    assert result.changes == ("16 bits per channel become 8 bits in JPEG",) and not result.is_streamed
    assert all(isinstance(FORMATS[name].writer, Writer) for name in WRITTEN)


def test_a_transparent_picture_becomes_jpeg_on_a_background(tmp_path: Path, stand_in: Upscaler) -> None:
    Image.fromarray(disc(33, (255, 0, 0))).save(tmp_path / "disc.png")
    saving = Saving(format="jpeg", quality=100, background="#0000ff")
    (row,) = made(stand_in, tmp_path / "disc.png", output=tmp_path / "out", output_is_folder=True, saving=saving)[
        "pictures"
    ]
    assert Path(row["output"]).name == "disc_x1.jpg" and row["changes"] == []
    pixels = read_by_another(tmp_path / "out" / "disc_x1.jpg").astype(int)
    corner, middle = pixels[:3, :3], pixels[14:19, 14:19]
    assert (
        np.abs(corner - [0, 0, 255]).max() <= 2 and (middle >= 253).all()
    )  # what JPEG at its best loses of flat colour
    saving = Saving(background="white")
    made(stand_in, tmp_path / "disc.png", scale=3, output=tmp_path / "white.png", saving=saving)
    assert (read_by_another(tmp_path / "white.png") == 255).all()  # white on white, without alpha: red lay below


def test_a_background_is_flat_and_of_its_colour_under_any_profile(tmp_path: Path) -> None:
    """With the packaged model, whose texture on flat colours would show there; beside bicubic too."""
    cut = np.dstack([RNG.integers(0, 256, (24, 24, 3), np.uint8), disc(24, (0, 0, 0))[:, :, 3]])
    Image.fromarray(cut).save(tmp_path / "a.png", icc_profile=display_p3())
    Image.fromarray(cut[:, :, [0, 3]]).save(tmp_path / "grey.png")
    saving = Saving(background="#ff8000")
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as up:
        for name in ("a", "grey"):
            made(
                up,
                tmp_path / f"{name}.png",
                scale=4,
                output=tmp_path / f"{name}_large.png",
                saving=saving,
                compare=True,
            )
    large, grey = (read_picture(tmp_path / f"{name}_large.png") for name in ("a", "grey"))
    assert large.profile == display_p3() and grey.profile is None and large.alpha is grey.alpha is None
    # sRGB's orange in P3, by the published matrices; a level for the profile's four decimals.
    orange = srgb_from_linear(
        linear_from_srgb(np.array([255, 128, 0]) / 255) @ np.linalg.inv(SRGB_FROM_XYZ @ XYZ_FROM_P3).T
    )
    for left in (0, 96):  # bicubic, and the network
        assert np.abs(large.colour[:12, left : left + 12] - 255 * orange).max() <= 1
        assert (grey.colour[:12, left : left + 12] == [255, 128, 0]).all()
    assert np.ptp(large.colour[40:56, 40:56].astype(int)) > 50  # the picture itself is there


def test_a_format_without_profiles_gets_srgb(tmp_path: Path, stand_in: Upscaler) -> None:
    colours = np.uint8([[[200, 120, 60], [60, 120, 200], [128, 128, 128]]]).repeat(2, axis=0)
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=display_p3())
    (row,) = made(stand_in, tmp_path / "a.png", output=tmp_path / "b.bmp")["pictures"]
    assert row["changes"] == ["colours are converted from Display P3 to sRGB"]
    light = linear_from_srgb(colours / 255) @ (SRGB_FROM_XYZ @ XYZ_FROM_P3).T
    found = np.asarray(Image.open(tmp_path / "b.bmp"))
    np.testing.assert_allclose(linear_from_srgb(found / 255), light, atol=4e-3)  # half a level where it is steepest
    assert np.abs(found.astype(int) - colours).max() > 10


@pytest.mark.parametrize(("suffix", "keeps"), [("tif", True), ("webp", False), ("avif", False)])
def test_a_profile_for_grey_stays_only_beside_one_channel(
    tmp_path: Path, stand_in: Upscaler, suffix: str, keeps: bool
) -> None:
    ramp = np.arange(0, 250, 10, dtype=np.uint8)[None].repeat(4, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=grey_gamma(1.0))
    (row,) = made(stand_in, tmp_path / "a.png", output=tmp_path / f"b.{suffix}")["pictures"]
    picture = read_picture(tmp_path / f"b.{suffix}")
    assert picture.profile == (grey_gamma(1.0) if keeps else None)
    assert row["changes"] == ([] if keeps else ["colours are converted from Grey gamma to sRGB"])
    found = picture.colour if keeps else picture.colour[:, :, 1]
    light = found / 255 if keeps else linear_from_srgb(found / 255)
    np.testing.assert_allclose(light, ramp / 255, atol=0.02 if suffix == "avif" else 0.005)
