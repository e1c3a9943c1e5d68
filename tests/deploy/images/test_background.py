"""Transparent pictures laid over a colour: mixed as light, in their own depth and colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.errors import ImageError
from deploy.images.background import Colour, colour_from_text, on_background
from deploy.images.picture import BITS, HIGHEST, Origin, Picture
from deploy.images.reading import read_picture
from tests.deploy.images.profiles import display_p3, grey_gamma, linear_from_srgb, srgb_from_linear

ORIGIN = Origin(format="png", mode="RGBA", bits=8)
RNG = np.random.default_rng(7)


def mixed(unit: np.ndarray, alpha: np.ndarray, background: tuple[float, ...]) -> np.ndarray:
    """Encoded values (H, W, 3) of light over light."""
    share = alpha[:, :, None]
    return srgb_from_linear(linear_from_srgb(unit) * share + linear_from_srgb(np.array(background)) * (1 - share))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (255, 224, 32)])
def test_light_is_mixed_and_what_is_opaque_stays(dtype: type, background: Colour) -> None:
    highest = HIGHEST[np.dtype(dtype)]
    unit, alpha = RNG.random((70, 9, 3)), RNG.random((70, 9))
    alpha[:, :3], alpha[:, 3:5] = 1, 0
    colour, share = ((values * highest).astype(dtype) for values in (unit, alpha))
    made = on_background(Picture(colour=colour, alpha=share, origin=ORIGIN), background)
    expected = highest * mixed(colour / highest, share / highest, tuple(value / 255 for value in background))
    assert made.alpha is None and made.colour.dtype == dtype and made.changes == ()
    # Half a step, and what float32 makes of the two curves.
    np.testing.assert_allclose(made.colour, expected, atol=2e-6 if BITS[np.dtype(dtype)] == 32 else 0.55)
    np.testing.assert_array_equal(made.colour[:, :3], colour[:, :3])


def test_grey_stays_grey_on_grey() -> None:
    grey, alpha = RNG.integers(0, 256, (2, 5, 6), np.uint8)
    picture = Picture(colour=grey, alpha=alpha, origin=ORIGIN)
    made, other = on_background(picture, (90, 90, 90)), on_background(picture, (90, 90, 91))
    assert made.colour.shape == (5, 6) and other.colour.shape == (5, 6, 3)
    assert np.abs(other.colour.astype(int) - made.colour[:, :, None]).max() <= 1


def test_the_background_is_the_same_colour_under_any_profile() -> None:
    unit, alpha = RNG.random((6, 8, 3)), RNG.random((6, 8))
    colour, share = (np.rint(values * 65535).astype(np.uint16) for values in (unit, alpha))
    made = on_background(Picture(colour=colour, alpha=share, profile=display_p3(), origin=ORIGIN), (255, 255, 255))
    assert made.profile == display_p3()
    # White is white in P3 too, and light is mixed alike in any primaries. Two levels of 65535: the profile's decimals.
    np.testing.assert_allclose(made.colour, 65535 * mixed(colour / 65535, share / 65535, (1.0, 1.0, 1.0)), atol=2)
    # A profile for grey cannot describe what grey becomes on a colour.
    picture = Picture(colour=colour[:, :, 0], alpha=np.zeros_like(share), profile=grey_gamma(1.8), origin=ORIGIN)
    red = on_background(picture, (255, 0, 0))
    assert red.profile is None and (red.colour == [65535, 0, 0]).all()
    assert len(red.changes) == 1 and red.changes[0].startswith("colours are converted from ")
    assert on_background(picture, (0, 0, 0)).profile == picture.profile


def test_an_opaque_picture_is_left_alone(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert on_background(picture, (0, 0, 0)) is picture


def test_a_colour_is_named_or_written_in_hexadecimal() -> None:
    assert [colour_from_text(text) for text in ("white", "BLACK", "#fe0a10", "#FFFFFF")] == [
        (255, 255, 255), (0, 0, 0), (254, 10, 16), (255, 255, 255),
    ]  # fmt: skip
    for wrong in ("#fff", "red", "", "fe0a10", "#fe0a1g", 7):
        with pytest.raises(ImageError, match=r"`background` is white, black or a colour such as #ffe0c0, found "):
            colour_from_text(wrong)  # type: ignore[arg-type]
