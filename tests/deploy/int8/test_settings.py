"""What is refused before anything is computed."""

import json

import pytest

from calibration.choose.partition import FixedRanges, MarginalGain
from deploy.errors import PlanError
from deploy.int8.settings import Places, QuantizeSettings


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(PlanError, match=r"crop must be at least 16, found 3; the clipping 'mze' is unknown.*'mse'"):
        QuantizeSettings(crop=3, clipping="mze")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": ()}, "scales of 1 or more are needed"),
        ({"scales": (0.5,)}, r"scales of 1 or more are needed, found \[0.5\]"),
        ({"ranges": 0}, "ranges must be at least 1, found 0"),
        ({"seed": -1}, r"seed must be from 0 to 2\^64 - 1, found -1"),
        ({"seed": 1 << 64}, "seed must be from 0"),
        ({"max_psnr_drop": -1.0}, "max_psnr_drop must be 0 or more"),
        ({"min_fidelity": float("nan")}, "min_fidelity must be a number"),
        ({"float_share": 0.6}, r"float_share must be from 0 to 0\.5, found 0\.6"),
        ({"rounding": "secnd"}, "did you mean 'second-order'"),
        ({"targets": ()}, "at least one target is needed"),
        ({"targets": ("openvno",)}, r"the target 'openvno' is unknown \(did you mean 'openvino'\?\)\.$"),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        QuantizeSettings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: int) -> None:
    with pytest.raises(PlanError, match=f"Quantizing cannot run on {threads} threads; give 1 or more"):
        Places(threads=threads)


def test_the_number_of_ranges_is_given_or_follows_from_the_gain() -> None:
    assert QuantizeSettings(ranges=3).range_count == FixedRanges(count=3)
    assert QuantizeSettings().range_count == MarginalGain()


def test_the_record_is_json() -> None:
    assert json.loads(json.dumps(QuantizeSettings().as_dict()))["targets"] == ["ort", "openvino", "tensorrt"]
