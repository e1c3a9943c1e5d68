"""Numbers as people read them."""

import pytest

from deploy.report.html.wording import (
    count_of,
    listing,
    plain_value,
    signed,
    text_from_bytes,
    text_from_ratio,
    text_from_seconds,
    with_interval,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12 bytes"), (8749, "8.75 kB"), (11_900_000, "11.9 MB"), (466_000_000, "466 MB"), (4.2e9, "4.2 GB")],
)
def test_bytes(count: float, text: str) -> None:
    assert text_from_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0242, "24.2 ms"), (0.2, "200 ms"), (3.24, "3.2 s"), (849.0, "14 min")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert text_from_seconds(seconds) == text


def test_ratios() -> None:
    assert [text_from_ratio(one) for one in (3.357, 36.04, 1179.2)] == ["3.36×", "36.0×", "1,179×"]


def test_changes_have_a_true_minus_and_no_negative_zero() -> None:
    assert [signed(one, 2) for one in (-0.026, 0.5, -0.001)] == ["−0.03", "+0.50", "±0.00"]


def test_intervals() -> None:
    assert with_interval(27.314, 0.8, 2) == "27.31 ±0.80"
    assert with_interval(-1.0, None, 1) == "−1.0"
    assert with_interval(0.5, 0.25, 2, sign=True) == "+0.50 ±0.25"


def test_words() -> None:
    assert (count_of(1, "step"), count_of(2000, "step")) == ("1 step", "2,000 steps")
    assert (listing([]), listing(["a"]), listing(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (plain_value("x"), plain_value([1, 2]), plain_value(None)) == ("x", "[1, 2]", "null")
