"""HaarPSI against its definition written out with scipy's convolutions."""

import numpy as np
import pytest

from deploy.errors import SizeError
from deploy.measure.haarpsi import Pixels, haarpsi

RNG = np.random.default_rng(0)


def by_definition(picture: Pixels, original: Pixels) -> float:
    """Reisenhofer et al. 2018, section 3, with the border of MATLAB's conv2(.., 'same')."""
    signal = pytest.importorskip("scipy.signal", reason="needs scipy, which scikit-image brings")

    def conv(x, kernel):  # type: ignore[no-untyped-def]
        return signal.convolve2d(x[::-1, ::-1], kernel[::-1, ::-1], mode="same")[::-1, ::-1]

    def yiq(pixels):  # type: ignore[no-untyped-def]
        r, g, b = np.moveaxis(pixels.astype(float), -1, 0)
        planes = (
            0.299 * r + 0.587 * g + 0.114 * b,
            0.596 * r - 0.274 * g - 0.322 * b,
            0.211 * r - 0.523 * g + 0.312 * b,
        )
        return [conv(plane, np.full((2, 2), 0.25))[::2, ::2] for plane in planes]

    def like(a, b):  # type: ignore[no-untyped-def]
        return (2 * a * b + 30) / (a * a + b * b + 30)

    total = weights = 0.0
    a, b = yiq(picture), yiq(original)
    coarse = []
    for turn in (lambda kernel: kernel, np.transpose):
        kernels = []
        for level in (1, 2, 3):
            kernel = np.full((2**level, 2**level), 2.0**-level)
            kernel[: 2 ** (level - 1)] *= -1
            kernels.append(turn(kernel))
        one, other = ([np.abs(conv(x[0], kernel)) for kernel in kernels] for x in (a, b))
        weight = np.maximum(one[2], other[2])
        coarse.append(weight)
        total += (weight / (1 + np.exp(-4.2 * (like(one[0], other[0]) + like(one[1], other[1])) / 2))).sum()
        weights += weight.sum()
    mean = np.full((2, 2), 0.25)
    chroma = sum(like(np.abs(conv(a[k], mean)), np.abs(conv(b[k], mean))) for k in (1, 2)) / 2
    weight = (coarse[0] + coarse[1]) / 2
    share = (total + (weight / (1 + np.exp(-4.2 * chroma))).sum()) / (weights + weight.sum())
    return float((np.log(share / (1 - share)) / 4.2) ** 2)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (128, 96)])
def test_the_likeness_is_that_of_the_definition(size: tuple[int, int]) -> None:
    original = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    for reach in (3, 60):
        picture = np.clip(original + RNG.integers(-reach, reach + 1, original.shape), 0, 255).astype(np.uint8)
        assert haarpsi(picture, original) == pytest.approx(by_definition(picture, original), abs=1e-9)
        assert haarpsi(picture, original) == pytest.approx(haarpsi(original, picture), abs=1e-12)


def test_equal_pictures_are_alike_also_without_any_edge() -> None:
    original = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert haarpsi(original, original) == pytest.approx(1)
    black = np.zeros((20, 20, 3), np.uint8)
    assert haarpsi(black, black) == 1


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    small = np.zeros((15, 60, 3), np.uint8)
    with pytest.raises(SizeError, match="measuring HaarPSI: the pictures are 60x15, it needs 16 pixels a side"):
        haarpsi(small, small)
    with pytest.raises(SizeError, match=r"measuring HaarPSI: the pictures differ in shape, \(15, 60, 3\) and \(16"):
        haarpsi(small, np.zeros((16, 60, 3), np.uint8))
