"""What int8 changed, beside measures taken by hand."""

import numpy as np
import pytest

from deploy.int8.trying.comparison import compare
from deploy.measure.evaluation.originals import original_from_pixels
from deploy.measure.ssimulacra2 import ssimulacra2

RANDOM = np.random.default_rng(4)


def test_looks_are_measured_where_they_are_asked_for() -> None:
    original = original_from_pixels("a.png", RANDOM.integers(0, 256, (32, 32, 3), np.uint8), 2.0)
    in_float, in_int8 = (
        np.clip(original.pixels + RANDOM.normal(0, spread, original.pixels.shape), 0, 255).astype(np.uint8)
        for spread in (5, 20)
    )
    lost = ssimulacra2(in_float, original.pixels) - ssimulacra2(in_int8, original.pixels)
    assert compare([in_float], [in_int8], [original], looks=True).ssimulacra2_drop == pytest.approx(lost) != 0
    assert compare([in_float], [in_int8], [original]).ssimulacra2_drop is None
    assert compare([in_float], [in_int8], looks=True).ssimulacra2_drop is None  # no original
