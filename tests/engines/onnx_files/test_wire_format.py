"""The wire format against onnx's own protobuf classes."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.onnx_files.wire_format import (
    bytes_field,
    fields,
    last_message,
    last_number,
    last_text,
    messages,
    number_field,
    numbers,
    text_field,
)


@given(number=st.integers(1, 1 << 28), value=st.integers(0, (1 << 63) - 1), data=st.binary(max_size=300))
def test_what_is_written_is_read(number: int, value: int, data: bytes) -> None:
    written = number_field(number, value) + bytes_field(number, data)
    found = list(fields(written))
    assert [(one[0], one[1] if isinstance(one[1], int) else bytes(one[1])) for one in found] == [
        (number, value),
        (number, data),
    ]
    assert b"".join(bytes(whole) for _, _, whole in found) == written


def test_onnx_reads_what_is_written() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="m/Conv")
    written = b"".join([text_field(1, "x"), text_field(1, "w"), text_field(2, "y"), text_field(3, "m/Conv")])
    assert onnx.NodeProto.FromString(written + text_field(4, "Conv")) == node


def test_what_onnx_wrote_is_read() -> None:
    tensor = numpy_helper.from_array(np.zeros((2, 300), dtype=np.float16), "w")
    data = tensor.SerializeToString()
    assert numbers(data, 1) == [2, 300]
    assert (last_number(data, 2), last_text(data, 8)) == (TensorProto.FLOAT16, "w")
    assert [len(raw) for raw in messages(data, 9)] == [1200]
    assert (last_number(data, 14), last_text(data, 12), last_message(data, 13)) == (0, "", None)


def test_packed_numbers_are_numbers() -> None:
    assert numbers(bytes_field(1, bytes([2, 0xAC, 0x02])) + number_field(1, 5), 1) == [2, 300, 5]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x0a\x05abc", "ends too early or is damaged"),
        (b"\x02\x00", "ends too early or is damaged"),  # a field number of 0
        (b"\x08", "ends too early"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x08" + b"\xff" * 11, "a number is too long"),
    ],
)
def test_what_is_no_message(message: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(fields(message))
