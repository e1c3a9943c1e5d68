"""What each key of bundle.json must look like: the declared records of each, and what sets them in relation."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deploy.bundle import limits
from deploy.bundle.fitted import fitted_from_json
from deploy.bundle.naming import digits_of_name
from deploy.bundle.quantization import quantization_from_json
from deploy.bundle.records import (
    DIGEST,
    VALUE_SOURCES,
    WITHOUT_FOLDER,
    ConfiguredValue,
    Digest,
    Graph,
    ListedFile,
    Name,
    Preset,
    Scales,
    ScheduleOfBetas,
    ScheduleOfKind,
    SearchedPlacement,
    Source,
    Tool,
)

Check = Callable[[str, Any], Iterator[str]]
"""Yields a sentence per problem; the first argument names the place, as in `graphs.denoise.forms`."""

NEWEST_OPSET = 21
"""The ONNX operator set of the graphs: the newest that ONNX Runtime, OpenVINO and TensorRT 10 all accept; it has
GroupNormalization with one scale per channel."""

WEIGHTS = ("raw", "ema")

_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "a text",
    "`object`": "an object",
    "`array`": "a list",
    f"a text matching regex {DIGEST!r}": "64 hexadecimal digits",
    f"a text matching regex {WITHOUT_FOLDER!r}": "a file name without its folder",
    "a text of length >= 1": "a name",
    "Number out of range": "a number that a computer can hold",
    "a whole number >= 1": "a whole number above 0",
    "a whole number >= 0": "a whole number, not negative",
    f"a text of length <= {limits.LONGEST_NAME}": f"a name of at most {limits.LONGEST_NAME} letters",
}
"""What msgspec says of kinds, and what we say, in the order in which one is put for the other."""


def plain_json(where: str, value: Any, problems: list[str], depth: int = 0) -> Any:
    """A copy of `value` made of JSON's own types, tuples as lists; what JSON cannot hold goes to `problems`.

    So does what is nested deeper than limits.DEEPEST: how deep Python itself can go differs from version to version.
    """
    if depth > limits.DEEPEST:
        problems.append(f"{re.split(r'[.[]', where)[0]} is nested too deeply")
        return None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(f"{where} is {value}, and JSON has no such number")
        return float(value)
    if isinstance(value, list | tuple):
        return [plain_json(f"{where}[{index}]", item, problems, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_json(f"{where}.{key}", item, problems, depth + 1) for key, item in value.items()}
    problems.append(f"{where} is {_short(value)} ({type(value).__name__}), which JSON cannot hold")
    return None


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) > 60:  # before it is written out: it may be megabytes
        value = value[:60]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def problem_of_kind(where: str, value: object, kind: Any) -> str | None:
    """What keeps a value from being of a declared kind, as a sentence with its place; None where it is."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return _sentence(where, value, *_parts_of_error(error))
    return None


def _parts_of_error(error: msgspec.ValidationError) -> tuple[str, str]:
    """What msgspec says, and the place below the value: `.shape[0]`."""
    problem, _, place = str(error).partition(" - at `")
    return problem, "" if place.startswith("key") else place.removeprefix("$").rstrip("`")


def _sentence(where: str, value: object, problem: str, place: str) -> str:
    field = problem.rpartition(" field ")[2].strip("`")
    if problem.startswith("Object missing"):
        return f"{where}{place} lacks {field!r}"
    if problem.startswith("Object contains unknown"):
        return f"{where}{place} has the unknown key {field!r}"
    expected = problem.removeprefix("Expected ").partition(", got ")[0]
    if problem.startswith("Invalid enum value"):
        expected = f"one of {', '.join(VALUE_SOURCES)}" if place.endswith("source") else "one that is known"
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"{where}{place} is {_short(_value_at(value, place))}, expected {expected}"


def _value_at(value: Any, place: str) -> Any:
    """What lies at a place that msgspec names; an object's keys it does not, then it is the object."""
    for name, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place):
        if index == "...":
            return value
        value = value[name] if name else value[int(index)]
    return value


def _is(kind: Any) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        problem = problem_of_kind(where, value, kind)
        if problem:
            yield problem

    return check


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= limits.LARGEST_NUMBER


def _pair(where: str, value: Any) -> Iterator[str]:
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]):
        yield f"{where} is {_short(value)}, expected [low, high]"


def _one_of(choices: tuple[str, ...]) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if value not in choices:
            yield f"{where} is {_short(value)}, expected one of {', '.join(choices)}"

    return check


def _each(item: Check, most: int = limits.MOST_ENTRIES) -> Check:
    """Every value of an object of so many at most, under names of ordinary length."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {_short(value)}, expected an object"
            return
        if len(value) > most:
            yield f"{where} has {len(value)} entries, expected at most {most}"
            return
        for name, entry in value.items():
            if not 1 <= len(name) <= limits.LONGEST_TEXT:
                yield f"{where} has the key {_short(name)}, expected a name"
            else:
                yield from item(f"{where}.{name}", entry)

    return check


def _configured(where: str, value: Any) -> Iterator[str]:
    """A value of a configuration: a number, a text, a flag, or a list of few of them; objects of these in between."""
    yield from _is(ConfiguredValue)(where, value)
    if isinstance(value, dict) and "value" in value:
        yield from _small(f"{where}.value", value["value"], 2)


def _small(where: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if not depth or len(value) > limits.MOST_IN_LIST:
            yield f"{where} is {_short(value)}, expected at most {limits.MOST_IN_LIST} values, {depth} lists deep"
            return
        for name, item in items:
            yield from _small(f"{where}[{name!r}]", item, depth - 1)
    elif isinstance(value, str) and len(value) > limits.LONGEST_NAME:
        yield f"{where} is {_short(value)}, expected at most {limits.LONGEST_NAME} letters"
    elif isinstance(value, int | float) and not isinstance(value, bool) and not _is_number(value):
        yield f"{where} is {_short_number(value)}, expected a number up to {limits.LARGEST_NUMBER:g}"


def _short_number(value: float) -> str:
    """Integers of very many digits cannot even be written out."""
    return f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"{value:g}"


def _value_range(where: str, value: Any) -> Iterator[str]:
    yield from (_each(_pair) if isinstance(value, dict) else _pair)(where, value)


def _scale_range(where: str, value: Any) -> Iterator[str]:
    yield from _is(Scales)(where, value)
    trained = value.get("trained") if isinstance(value, dict) else None
    if trained is not None and not _is_one_scale(trained):  # a model that generates has no trained scale
        yield from _pair(f"{where}.trained", trained)


def _is_one_scale(value: Any) -> bool:
    """Whether the two ends of a range are one positive number: a model that was trained for one scale."""
    return isinstance(value, list) and len(value) == 2 and _is_number(value[0]) and 0 < value[0] == value[1]


def _schedule(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is {_short(value)}, expected an object"
    else:
        yield from _is(ScheduleOfBetas if "betas" in value else ScheduleOfKind)(where, value)


def _preset(where: str, value: Any) -> Iterator[str]:
    yield from _is(Preset)(where, value)
    for name, entry in value.items() if isinstance(value, dict) else ():
        if name.startswith("measured_") and name != "measured_on" and entry is not None and not _is_number(entry):
            yield f"{where}.{name} is {_short(entry)}, expected a number"


def _files(where: str, value: Any) -> Iterator[str]:
    """Names of plain files in the bundle itself, each with the digits of its own hash."""
    yield from _each(_is(ListedFile), limits.MOST_FILES)(where, value)
    for name, record in value.items() if isinstance(value, dict) else ():
        digits = digits_of_name(name)
        if digits is None:
            yield f"{where} lists {_short(name)}, which is not the name of a file in the bundle"
        elif isinstance(record, dict) and str(record.get("sha256"))[:16] != digits:
            yield f"{where} lists {name!r} with a SHA-256 that does not begin with the digits in its name"


def _opset(where: str, value: Any) -> Iterator[str]:
    problem = problem_of_kind(where, value, Annotated[int, Meta(ge=1)])
    if problem:
        yield problem
    elif value > NEWEST_OPSET:
        yield (
            f"{where} is {_short_number(value) if value >> 64 else value}, this version of idm-deploy runs graphs "
            f"up to opset {NEWEST_OPSET}"
        )


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


_names = _is(Annotated[tuple[Name, ...], Meta(max_length=limits.MOST_ENTRIES)])

CHECKS: dict[str, Check] = {
    "schema": _is(Annotated[int, Meta(ge=1)]),
    "tool": _is(Tool),
    "libraries": _each(_is(Name)),
    "family": _is(Name),
    "weights": _one_of(WEIGHTS),
    "configuration": _each(_configured),
    "value_range": _value_range,
    "scale_range": _scale_range,
    "schedule": _schedule,
    "rewrites": _names,
    "opset": _opset,
    "graphs": _each(_is(Graph), limits.MOST_GRAPHS),
    "tables": _each(_is(Name)),
    "presets": _each(_preset),
    "default_preset": _is(Name),
    "placements": _each(_is(SearchedPlacement)),
    "samples": _names,
    "source": _is(Source),
    "quantization": _quantization,
    "fitted": _fitted,
    "calibration_images": _each(_is(Digest), limits.MOST_PICTURES),
    "files": _files,
}
"""One check per key of bundle.json; the optional ones are checked when they are there."""
