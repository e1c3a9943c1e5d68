from dataclasses import replace

import numpy as np
import pytest

from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import LayerRecipe, OutputWindow, Recipe, output_window
from calibration.errors import GraphError

UNIT = Quantizer(scale=1.0, lowest=0, highest=255)


def layer(**changes: object) -> LayerRecipe:
    return replace(
        LayerRecipe(
            node="a/Conv",
            codes=np.ones((2, 3, 1, 1), dtype=np.int8),
            weight_scales=np.ones(2, dtype=np.float32),
            inputs=(UNIT, UNIT),
        ),
        **changes,  # type: ignore[arg-type]
    )


def test_the_window_of_the_docstring() -> None:
    """Accumulators -300..4800 and -150..2400 with unit scales and a bias of 7."""
    window = output_window(
        np.array([[-293.0], [-143.0]]),
        np.array([[4807.0], [2407.0]]),
        bias=np.array([7], dtype=np.float32),
        weight_scales=np.ones(1, dtype=np.float32),
        inputs=(UNIT, UNIT),
        headroom=1.0,
    )
    assert window.centres.tolist() == [2250]  # the middle of -300 and 4800
    assert window.steps == pytest.approx(2550 / 127)
    assert window.gains == pytest.approx([1.0, 2400 / 2550])


def test_a_window_counts_in_accumulator_units() -> None:
    """Twice the input scale halves the accumulators for the same outputs; channels follow their weight scales."""
    window = output_window(
        np.array([[-8.0, -8.0]]),
        np.array([[8.0, 8.0]]),
        bias=np.zeros(2, dtype=np.float32),
        weight_scales=np.array([0.25, 0.5], dtype=np.float32),
        inputs=(Quantizer(scale=2.0, lowest=0, highest=255),),
        headroom=1.25,
    )
    assert window.steps == pytest.approx([16 * 1.25 / 127, 8 * 1.25 / 127])


def test_a_constant_channel_gets_some_window() -> None:
    window = output_window(
        np.array([[3.0]]), np.array([[3.0]]), bias=np.full(1, 3, dtype=np.float32),
        weight_scales=np.ones(1, dtype=np.float32), inputs=(UNIT,),
    )  # fmt: skip
    assert window.centres.tolist() == [0] and window.steps[0] > 0


def test_the_centre_of_a_channel_with_next_to_no_weights_fits_32_bits() -> None:
    """Its outputs are its bias up to rounding, 6e-8 here: 6e12 units of the accumulator."""
    bias = np.full(1, 0.5, dtype=np.float32)
    low = np.array([[np.nextafter(np.float32(0.5), np.float32(1))]])
    window = output_window(
        low, low, bias=bias, weight_scales=np.full(1, 1e-20, dtype=np.float32), inputs=(UNIT,)
    )  # fmt: skip
    assert window.centres.tolist() == [2**30] and window.steps[0] > 0


def test_all_problems_are_named_at_once() -> None:
    bad = OutputWindow(
        centres=np.zeros(3, dtype=np.int32), steps=np.array([1, np.nan], dtype=np.float32), gains=np.ones(2, np.float32)
    )
    layers = (
        layer(inputs=(UNIT,), weight_scales=np.zeros(2, dtype=np.float32)),
        layer(codes=np.ones((2, 3)), corrections=np.zeros((1, 2), dtype=np.float32), factors=np.ones(2, np.float32)),
        layer(node="b/Conv", output=bad),
    )
    with pytest.raises(GraphError, match="making an int8 recipe") as caught:
        Recipe(ranges=2, layers=layers)
    for told in (
        "a/Conv: 1 input quantizers for 2 ranges",
        "a/Conv: weight_scales are not all finite and positive",
        "a/Conv: codes are float64 of shape (2, 3), not int8",
        "a/Conv: factors have shape (2,), not (3,)",
        "a/Conv: corrections have shape (1, 2), not (2, 2)",
        "b/Conv: output.centres have shape (3,), not (2,)",
        "b/Conv: output.steps are not all finite and positive",
        "a/Conv: named twice",
    ):
        assert told in str(caught.value)


def test_no_range_at_all_is_refused() -> None:
    with pytest.raises(GraphError, match="0 ranges"):
        Recipe(ranges=0, layers=())
