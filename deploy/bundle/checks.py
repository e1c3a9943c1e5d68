"""What each key of bundle.json must look like: one short check per shape, one table that assigns them."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deploy.bundle.fitted import fitted_from_json
from deploy.bundle.naming import digits_of_name
from deploy.bundle.quantization import quantization_from_json

Check = Callable[[str, Any], Iterator[str]]
"""Yields a sentence per problem; the first argument names the place, as in `graphs.denoise.forms`."""

NEWEST_OPSET = 21
"""The ONNX operator set of the graphs: the newest that ONNX Runtime, OpenVINO and TensorRT 10 all accept; it has
GroupNormalization with one scale per channel."""

WEIGHTS = ("raw", "ema")
VALUE_SOURCES = ("config", "metadata", "weights", "assumed")


def plain_json(where: str, value: Any, problems: list[str]) -> Any:
    """A copy of `value` made of JSON's own types, tuples as lists; what JSON cannot hold goes to `problems`."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(f"{where} is {value}, and JSON has no such number")
        return float(value)
    if isinstance(value, list | tuple):
        return [plain_json(f"{where}[{index}]", item, problems) for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_json(f"{where}.{key}", item, problems) for key, item in value.items()}
    problems.append(f"{where} is {_short(value)} ({type(value).__name__}), which JSON cannot hold")
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _expected(what: str, accepts: Callable[[Any], bool]) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not accepts(value):
            yield f"{where} is {_short(value)}, expected {what}"

    return check


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


_text = _expected("a name", lambda value: isinstance(value, str) and value != "")
_object = _expected("an object", lambda value: isinstance(value, dict))
_anything = _expected("anything", lambda _: True)
_count = _expected("a whole number, not negative", _is_count)
_positive = _expected("a whole number above 0", lambda value: _is_count(value) and value > 0)
_pair = _expected("[low, high]", _is_pair)
_digest = _expected("64 hexadecimal digits", lambda v: isinstance(v, str) and bool(re.fullmatch("[0-9a-f]{64}", v)))
_bare_name = _expected(
    "a file name without its folder", lambda v: isinstance(v, str) and v != "" and not set(v) & set("/\\")
)
_shape = _expected(
    "a list of sizes, numbers or names",
    lambda v: isinstance(v, list) and all(_is_count(size) or isinstance(size, str) for size in v),
)


def _one_of(choices: tuple[str, ...]) -> Check:
    return _expected(f"one of {', '.join(choices)}", lambda value: value in choices)


def _each(item: Check) -> Check:
    """Every value of an object."""

    def check(where: str, value: Any) -> Iterator[str]:
        yield from _object(where, value)
        for name, entry in value.items() if isinstance(value, dict) else ():
            yield from item(f"{where}.{name}", entry)

    return check


def _list_of(item: Check) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where} is {_short(value)}, expected a list"
            return
        for index, entry in enumerate(value):
            yield from item(f"{where}[{index}]", entry)

    return check


def _record(parts: dict[str, Check], *, open_ended: bool) -> Check:
    """An object with these keys; others are allowed only if it is `open_ended`."""

    def check(where: str, value: Any) -> Iterator[str]:
        yield from _object(where, value)
        if not isinstance(value, dict):
            return
        yield from (f"{where} lacks {key!r}" for key in parts if key not in value)
        if not open_ended:
            yield from (f"{where} has the unknown key {key!r}" for key in value if key not in parts)
        for key, part in parts.items():
            if key in value:
                yield from part(f"{where}.{key}", value[key])

    return check


def _value_range(where: str, value: Any) -> Iterator[str]:
    yield from (_each(_pair) if isinstance(value, dict) else _pair)(where, value)


def _trained_range(where: str, value: Any) -> Iterator[str]:
    if value is not None:  # a model that generates has no trained scale
        yield from _pair(where, value)


def _files(where: str, value: Any) -> Iterator[str]:
    """Names of plain files in the bundle itself, each with the digits of its own hash."""
    yield from _each(_record({"sha256": _digest, "bytes": _count}, open_ended=False))(where, value)
    for name, record in value.items() if isinstance(value, dict) else ():
        digits = digits_of_name(name)
        if digits is None:
            yield f"{where} lists {name!r}, which is not the name of a file in the bundle"
        elif isinstance(record, dict) and str(record.get("sha256"))[:16] != digits:
            yield f"{where} lists {name!r} with a SHA-256 that does not begin with the digits in its name"


_tensor = _record({"name": _text, "dtype": _text, "shape": _shape}, open_ended=True)
_graph = _record(
    {
        "forms": _each(_text),
        "inputs": _list_of(_tensor),
        "outputs": _list_of(_tensor),
        "weights": _list_of(_text),
    },
    open_ended=True,
)


def _opset(where: str, value: Any) -> Iterator[str]:
    yield from _positive(where, value)
    if _is_count(value) and value > NEWEST_OPSET:
        yield f"{where} is {value}, this version of idm-deploy runs graphs up to opset {NEWEST_OPSET}"


def _quantization(where: str, value: Any) -> Iterator[str]:
    del where
    try:
        quantization_from_json(value)
    except ValueError as error:
        yield str(error)


def _fitted(where: str, value: Any) -> Iterator[str]:
    del where
    try:
        fitted_from_json(value)
    except ValueError as error:
        yield str(error)


CHECKS: dict[str, Check] = {
    "schema": _positive,
    "tool": _record({"name": _text, "version": _text}, open_ended=False),
    "libraries": _each(_text),
    "family": _text,
    "weights": _one_of(WEIGHTS),
    "configuration": _each(_record({"value": _anything, "source": _one_of(VALUE_SOURCES)}, open_ended=False)),
    "value_range": _value_range,
    "scale_range": _record({"trained": _trained_range}, open_ended=True),
    "schedule": _object,
    "rewrites": _list_of(_text),
    "opset": _opset,
    "graphs": _each(_graph),
    "tables": _each(_text),
    "presets": _each(_record({"equation": _text, "steps": _positive}, open_ended=True)),
    "default_preset": _text,
    "placements": _object,
    "samples": _list_of(_text),
    "source": _record({"file": _bare_name, "sha256": _digest, "bytes": _count}, open_ended=False),
    "quantization": _quantization,
    "fitted": _fitted,
    "calibration_images": _each(_digest),
    "files": _files,
}
"""One check per key of bundle.json; the optional ones are checked when they are there."""
