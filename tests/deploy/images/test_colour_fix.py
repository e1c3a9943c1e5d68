"""Colours that drifted come back, whatever the division into rows, and nothing else changes."""

from collections.abc import Iterator

import numpy as np
import pytest

from deploy.errors import ImageError
from deploy.images.colour_fix import WAYS, check_way, fixed_rows
from deploy.images.resize import resize
from deploy.images.sizes import Size
from deploy.images.transfer import linear_from_srgb, srgb_from_linear

RNG = np.random.default_rng(5)
LR = RNG.random((23, 17, 3), np.float32) * 0.6 + 0.2
FIXES = [way for way in WAYS if way != "none"]


def enlarged(size: Size) -> np.ndarray:
    light = resize(linear_from_srgb(LR).transpose(2, 0, 1), size).transpose(1, 2, 0)
    return srgb_from_linear(np.clip(light, 0, 1))


def in_blocks(whole: np.ndarray, heights: list[int]) -> Iterator[np.ndarray]:
    top = 0
    for height in heights:
        yield whole[top : top + height]
        top += height
    yield whole[top:]


@pytest.mark.parametrize("way", FIXES)
@pytest.mark.parametrize("size", [Size(23, 17), Size(92, 68), Size(120, 170), Size(299, 40)])
def test_any_division_into_rows_gives_the_same(way: str, size: Size) -> None:
    made = RNG.random((*size, 3), np.float32)
    whole = np.concatenate(list(fixed_rows(way, iter([made]), LR, size)))
    assert whole.shape == made.shape
    for heights in ([1] * (size.height - 1), [size.height // 3, 2], [7] * (size.height // 8)):
        parts = np.concatenate(list(fixed_rows(way, in_blocks(made, heights), LR, size)))
        np.testing.assert_allclose(parts, whole, atol=2e-5)


@pytest.mark.parametrize("way", FIXES)
def test_a_drift_of_colour_goes_and_detail_stays(way: str) -> None:
    size = Size(184, 136)
    right = enlarged(size)
    detail = RNG.normal(0, 0.01, (*size, 3)).astype(np.float32)
    drifted = srgb_from_linear(linear_from_srgb(right) + np.float32([0.05, 0.0, -0.04]) + detail)
    fixed = np.concatenate(list(fixed_rows(way, iter([drifted]), LR, size)))
    left = (linear_from_srgb(fixed) - linear_from_srgb(right)).mean(axis=(0, 1))
    assert np.abs(left).max() < 0.002
    # The pattern of the detail is as it was: what was taken away of it has low frequencies.
    found = (linear_from_srgb(fixed) - linear_from_srgb(right)).ravel()
    assert np.corrcoef(found, detail.ravel())[0, 1] > 0.85


def test_none_hands_the_rows_on_and_other_words_are_refused() -> None:
    rows = iter([LR])
    assert fixed_rows("none", rows, LR, Size(23, 17)) is rows
    with pytest.raises(ImageError, match="`color_fix` is one of none, lowfreq, wavelet, found 'adain'"):
        check_way("adain")
