"""A picture of a few pixels does not spoil those that come after it on the same engine."""

import numpy as np
import pytest

from deploy import Bundle, Upscaler
from deploy.packaged.places import IDM_BUNDLE
from engines.adapters import openvino_engine


@pytest.mark.runs_openvino
@pytest.mark.skipif(not openvino_engine.probe().available, reason="openvino is not installed")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_is_the_same_after_a_tiny_one(precision: str) -> None:
    if precision == "bf16" and not openvino_engine.has_bf16():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    rng = np.random.default_rng(0)
    tiny, usual = (rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((2, 3), (20, 32)))
    results = []
    for before in ([], [tiny]):
        with Upscaler(Bundle.open(IDM_BUNDLE), "openvino-cpu", precision, threads=1) as upscaler:
            for picture in before:
                assert upscaler.upscale(picture, scale=2.0, preset="draft").shape == (4, 6, 3)
            results.append(upscaler.upscale(usual, scale=2.0, preset="draft"))
    np.testing.assert_array_equal(*results)
