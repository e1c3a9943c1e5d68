"""Figures from files that anyone may have written."""

import math
from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.report.html import values
from deploy.report.html.values import listed, number, numbers, read_record, record, records, text, within


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", r"it is not JSON \(.*\); expected figures"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1]", "it holds a list, not an object; expected figures"),
        (b"[" * 200_000, "it is not JSON"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DeployError, match=rf"reading .*x\.json: {told}"):
        read_record(path, "figures")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"reading .*no\.json: No such file or directory; expected figures"):
        read_record(tmp_path / "no.json", "figures")


def test_a_file_that_is_far_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "LARGEST_BYTES", 4)
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    with pytest.raises(DeployError, match=r"it has 8 bytes, more than figures needs"):
        read_record(path, "figures")


def test_a_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": {"b": [1, 2.5]}}')
    assert numbers(within(read_record(path, "figures"), "a", "b")) == [1.0, 2.5]


@pytest.mark.parametrize("value", [None, "1", True, math.nan, math.inf, 10**400, [1], {}])
def test_what_is_no_finite_number_is_absent(value: object) -> None:
    assert number(value) is None
    assert numbers([1.0, value]) == []


def test_what_is_of_another_kind_is_absent() -> None:
    assert (record([]), listed({}), text(3), text("  "), text("x")) == ({}, [], None, None, "x")
    assert records([{"a": 1}, 2, None]) == [{"a": 1}]
    assert within({"a": [1]}, "a", "b") is None
