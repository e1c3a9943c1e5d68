"""Protocol Buffers' wire format, read and written field by field: the run time has no onnx.

https://protobuf.dev/programming-guides/encoding/; which number means what, onnx/onnx.proto says.
"""

from collections.abc import Iterator

Message = bytes | memoryview
Field = tuple[int, int | memoryview, memoryview]
"""Number of a field, its value (integer, or the bytes of everything else) and all its bytes, key included."""


def fields(message: Message) -> Iterator[Field]:
    """All fields in file order; ValueError where the bytes are not a message."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        begin = at
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield number, value, view[begin:at]
            continue
        if kind == 2:
            length, at = _varint(view, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        if number == 0 or at + length > len(view):
            raise ValueError("it ends too early or is damaged")
        yield number, view[at : at + length], view[begin : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise ValueError("it ends too early")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def messages(message: Message, wanted: int) -> Iterator[memoryview]:
    """Every field of that number which is bytes: sub-messages, texts, arrays."""
    for number, value, _ in fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def last_message(message: Message, wanted: int) -> memoryview | None:
    """The last of them, which is the one that counts in Protocol Buffers."""
    values = list(messages(message, wanted))
    return values[-1] if values else None


def numbers(message: Message, wanted: int) -> list[int]:
    """Every integer of that field number; a packed field counts as its integers."""
    integers: list[int] = []
    for number, value, _ in fields(message):
        if number != wanted:
            continue
        if isinstance(value, int):
            integers.append(value)
            continue
        at = 0
        while at < len(value):
            integer, at = _varint(value, at)
            integers.append(integer)
    return integers


def last_number(message: Message | None, wanted: int) -> int:
    """The integer of that field number, 0 if it is absent."""
    values = [value for number, value, _ in fields(message or b"") if number == wanted and isinstance(value, int)]
    return values[-1] if values else 0


def last_text(message: Message, wanted: int) -> str:
    """The text of that field number, empty if it is absent."""
    value = last_message(message, wanted)
    return "" if value is None else bytes(value).decode()


def bytes_field(number: int, data: bytes | memoryview) -> bytes:
    """A field that is bytes: a sub-message, a text, an array."""
    return _bytes_of_varint(number << 3 | 2) + _bytes_of_varint(len(data)) + data


def text_field(number: int, text: str) -> bytes:
    """A field that is a text."""
    return bytes_field(number, text.encode())


def number_field(number: int, value: int) -> bytes:
    """A field that is an integer of 0 or more."""
    return _bytes_of_varint(number << 3) + _bytes_of_varint(value)


def _bytes_of_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
