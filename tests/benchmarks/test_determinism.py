"""What the table of equal pictures says of pictures that are known, and of two real ways."""

import math

import numpy as np
import pytest

from benchmarks.determinism import compared, line_of, measure, ways_of
from deploy.packaged.places import IDM_BUNDLE


def test_a_difference_is_told_in_bits_decibels_and_levels() -> None:
    plain = np.full((4, 4, 3), 0.5, np.float32)
    assert compared([plain], [plain.copy()]) == {"bits_equal": True, "bytes_equal": True, "db": math.inf, "levels": 0.0}
    near = compared([plain + np.float32(1e-6)], [plain])
    assert not near["bits_equal"] and near["bytes_equal"]
    far = compared([plain, plain + np.float32(10 / 255)], [plain, plain])
    assert far["levels"] == 10 and far["db"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert line_of({"engine": "a", "way": "b"} | far) == "| a | b | no | 28.1 | 10 |"
    assert line_of({"engine": "a", "way": "b", "failed": "ended with -11: no word"}).count("|") == 6


@pytest.mark.slow
def test_ways_that_must_not_matter_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("plain", "1 thread", "3 callers at once", "tiles of 64")
    few = [way for way in ways_of("onnxruntime-cpu", None, []) if way.name in names]
    monkeypatch.setattr("benchmarks.determinism.ways_of", lambda *_: few)
    rows = {row["way"]: row for row in measure(IDM_BUNDLE, ["onnxruntime-cpu"], [])}
    assert rows["1 thread"]["bits_equal"] and rows["3 callers at once"]["bits_equal"]
    assert 40 < rows["tiles of 64"]["db"] < math.inf
