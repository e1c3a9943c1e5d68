"""Codes and the values they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.choose.quantizer import Asymmetric, Form, Quantizer, Shifted, Symmetric
from calibration.errors import ChoiceError

FORMS: list[Form] = [Symmetric(), Asymmetric(), Shifted()]


def test_codes_by_hand() -> None:
    quantizer = Quantizer(scale=0.5, lowest=-2, highest=3)
    values = np.array([-9, -0.75, -0.25, 0.25, 0.75, 0.8, 9], dtype=np.float32)
    assert quantizer.codes(values).tolist() == [-2, -2, 0, 0, 2, 2, 3]  # halves go to the even code
    assert quantizer.round_trip(values).tolist() == [-1, -1, 0, 0, 1, 1, 1.5]
    assert (quantizer.zero_point, quantizer.shift_steps, quantizer.shift) == (2, 0, 0.0)


def test_the_example_of_the_module() -> None:
    symmetric = Symmetric().covering(-0.28, 10.0)
    asymmetric = Asymmetric().covering(-0.28, 10.0)
    shifted = Shifted().covering(-0.28, 10.0)
    assert symmetric.scale == pytest.approx(10 / 127)
    assert (asymmetric.lowest, asymmetric.highest, asymmetric.zero_point) == (-7, 248, 7)
    assert asymmetric.scale == pytest.approx(10.28 / 255)
    assert (shifted.lowest, shifted.highest, shifted.shift_steps) == (-7, 247, 120)
    assert shifted.shift == pytest.approx(4.857, abs=1e-3)


def test_shifted_codes_fit_int8() -> None:
    quantizer = Shifted().covering(-0.28, 10.0)
    assert (quantizer.lowest - quantizer.shift_steps, quantizer.highest - quantizer.shift_steps) == (-127, 127)


@given(
    st.sampled_from(FORMS),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
)
def test_inside_the_covered_range_the_error_is_at_most_half_a_step(form: Form, values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    quantizer = form.covering(float(array.min()), float(array.max()))
    assert quantizer.lowest <= 0 <= quantizer.highest
    assert quantizer.highest - quantizer.lowest + 1 == form.levels
    # Half a step by rounding, up to half a step more at an end whose window was rounded to whole codes.
    limit = 0.5 if isinstance(form, Symmetric) else 1.0
    error = np.abs(array.astype(np.float64) - quantizer.round_trip(array))
    # float32 division and multiplication: one part in 2^23 of the value each
    assert (error <= limit * quantizer.scale + np.abs(array) * 2.0**-22).all()
    assert quantizer.codes(np.zeros(1)).tolist() == [0]


def test_a_tensor_of_zeros_gets_a_scale_all_the_same() -> None:
    assert [form.covering(0.0, 0.0).scale for form in FORMS] == [1.0] * 3


@pytest.mark.parametrize(
    ("scale", "lowest", "highest"), [(0.0, -1, 1), (-1.0, -1, 1), (1e-60, -1, 1), (np.nan, -1, 1), (1.0, 1, 5)]
)
def test_impossible_quantizers_are_refused(scale: float, lowest: int, highest: int) -> None:
    with pytest.raises(ChoiceError, match="must be a positive float32 and the codes must include 0"):
        Quantizer(scale=scale, lowest=lowest, highest=highest)
