"""The output size is exactly what was asked for, or one sentence says why not."""

import math
from typing import Any

import numpy as np
import pytest

from deploy.errors import SizeError
from deploy.images.sizes import Size, output_size


@pytest.mark.parametrize(
    ("lr", "way", "expected"),
    [
        ((16, 12), {"scale": 12.0}, (192, 144)),
        ((17, 5), {"scale": 3.7}, (63, 18)),  # 62.9 and 18.5, the half rounded to even as Python does
        ((1, 1), {"scale": 1}, (1, 1)),
        ((16, 12), {"size": (100, 12)}, (100, 12)),
        ((30, 20), {"long_edge": 100}, (100, 67)),
        ((20, 30), {"long_edge": 100}, (67, 100)),
        ((30_000, 600), {"scale": 4}, (120_000, 2_400)),
    ],
)
def test_the_size_is_exact(lr: tuple[int, int], way: dict[str, Any], expected: tuple[int, int]) -> None:
    assert output_size(Size.from_user(lr), **way).for_user == expected


def test_a_size_has_the_order_of_an_array_and_is_written_as_users_do() -> None:
    size = Size.of(np.zeros((3, 4, 1), np.uint8))
    assert (size.height, size.width) == size == Size.from_user((4, 3)) == (3, 4)
    assert size.for_user == (4, 3) and str(size) == f"{size}" == "4x3"


@pytest.mark.parametrize("scale", [0, -2.0, math.nan, math.inf, -math.inf, True, "4"])
def test_a_scale_must_be_a_number_above_zero(scale: Any) -> None:
    with pytest.raises(SizeError, match=r"scale must be a number of 1 or more, such as 4 or 2\.5; found"):
        output_size(Size.square(16), scale=scale)


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ({"scale": 0.5}, r"scale 0\.5 would shrink the picture"),
        ({"scale": 1e9}, r"scale 1e\+09 makes .* the limit is 1000000000 pixels.* raise the limit with `max_pixels`"),
        ({"scale": 1e5}, r"scale 100000 makes 1600000x1600000 pixels of 16x16"),
        ({"scale": 1e300}, r"the limit is 1000000000 pixels"),
        ({"scale": 2000.0}, r"output 32000x32000 has 1024000000 pixels, the limit is 1000000000.*`max_pixels`"),
        ({"size": (8, 200)}, r"output 8x200 is smaller than the input 16x16"),
        ({"size": (0, 200)}, r"\(width, height\) in whole pixels above 0, found \(0, 200\)"),
        ({"size": (1.5, 200)}, r"whole pixels above 0"),
        ({"long_edge": 0}, r"long edge must be a whole number of pixels, found 0"),
        ({"long_edge": 10}, r"output 10x10 is smaller"),
        ({}, r"exactly one of scale, size, long edge, fit and megapixels; none of them was given"),
        ({"scale": 2.0, "long_edge": 64}, r"exactly one .*; scale and long edge were given"),
    ],
)
def test_what_cannot_be_honoured_is_refused(way: dict[str, Any], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        output_size(Size.square(16), **way)


def test_the_limit_can_be_raised() -> None:
    assert output_size(Size.square(16), scale=2000.0, max_pixels=2_000_000_000) == (32_000, 32_000)
