"""What each key of bundle.json is read as: its declared records, or a sentence for each thing that is wrong with it."""

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
    MEASURED,
    VALUE_SOURCES,
    WITHOUT_FOLDER,
    ConfiguredValue,
    Digest,
    FileRecord,
    Graph,
    Name,
    Open,
    Preset,
    Scales,
    ScheduleOfBetas,
    ScheduleOfKind,
    SearchedPlacement,
    Source,
    Tool,
)

Reading = Callable[[str, Any, list[str]], Any]
"""(place, JSON, problems) -> the records that the JSON describes, once there is no problem with it.

The place is named as in `graphs.denoise.forms`; a sentence for each problem goes to the list."""

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
    "`null`": "null",
    f"a text matching regex {DIGEST!r}": "64 hexadecimal digits",
    f"a text matching regex {WITHOUT_FOLDER!r}": "a file name without its folder",
    "a text of length >= 1": "a name",
    "Number out of range": "a number that a computer can hold",
    "a whole number >= 1": "a whole number above 0",
    "a whole number >= 0": "a whole number, not negative",
    f"a text of length <= {limits.LONGEST_NAME}": f"a name of at most {limits.LONGEST_NAME} letters",
}
"""What msgspec says of kinds, and what we say, in the order in which one is put for the other."""


def plain_json(where: str, value: Any, problems: list[str], depth: int = limits.DEEPEST) -> Any:
    """A copy of `value` made of JSON's own types, tuples as lists; what JSON cannot hold goes to `problems`."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(f"{where} is {value}, and JSON has no such number")
        return float(value)
    if isinstance(value, list | tuple | Mapping) and not depth:
        problems.append(f"{where[:100]}... is nested too deeply, expected at most {limits.DEEPEST} levels")
        return None
    if isinstance(value, list | tuple):
        return [plain_json(f"{where}[{index}]", item, problems, depth - 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_json(f"{where}.{key}", item, problems, depth - 1) for key, item in value.items()}
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
    if re.fullmatch(r"`\w+( \| \w+)+`", expected):
        expected = " or ".join(f"`{kind}`" for kind in expected.strip("`").split(" | "))
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


def _of(kind: Any) -> Reading:
    """What msgspec makes of the JSON."""

    def read(where: str, value: Any, problems: list[str]) -> Any:
        try:
            record = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(_sentence(where, value, *_parts_of_error(error)))
            return None
        return record.with_besides(value) if isinstance(record, Open) else record

    return read


def _each(item: Reading, most: int = limits.MOST_ENTRIES) -> Reading:
    """Every value of an object of so many at most, under names of ordinary length."""

    def read(where: str, value: Any, problems: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            problems.append(f"{where} is {_short(value)}, expected an object")
            return {}
        if len(value) > most:
            problems.append(f"{where} has {len(value)} entries, expected at most {most}")
            return {}
        records = {}
        for name, entry in value.items():
            if 1 <= len(name) <= limits.LONGEST_TEXT:
                records[name] = item(f"{where}.{name}", entry, problems)
            else:
                problems.append(f"{where} has the key {_short(name)}, expected a name")
        return records

    return read


def _parsed(parse: Callable[[object], Any]) -> Reading:
    """What a function makes of the JSON, whose ValueError names the place itself."""

    def read(where: str, value: Any, problems: list[str]) -> Any:
        del where
        try:
            return parse(value)
        except ValueError as error:
            problems.append(str(error))
            return None

    return read


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= limits.LARGEST_NUMBER


def _pair(where: str, value: Any, problems: list[str]) -> tuple[float, float] | None:
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]):
        problems.append(f"{where} is {_short(value)}, expected [low, high]")
        return None
    return value[0], value[1]


def _weights(where: str, value: Any, problems: list[str]) -> Any:
    if value not in WEIGHTS:
        problems.append(f"{where} is {_short(value)}, expected one of {', '.join(WEIGHTS)}")
    return value


def _configured(where: str, value: Any, problems: list[str]) -> Any:
    """A value of a configuration: a number, a text, a flag, or a list of few of them; objects of these in between."""
    if isinstance(value, dict) and "value" in value:
        problems += _problems_of_small(f"{where}.value", value["value"], 2)
    return _of(ConfiguredValue)(where, value, problems)


def _problems_of_small(where: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        if not depth or len(value) > limits.MOST_IN_LIST:
            yield f"{where} is {_short(value)}, expected at most {limits.MOST_IN_LIST} values, {depth} lists deep"
            return
        for name, item in items:
            yield from _problems_of_small(f"{where}[{name!r}]", item, depth - 1)
    elif isinstance(value, str) and len(value) > limits.LONGEST_NAME:
        yield f"{where} is {_short(value)}, expected at most {limits.LONGEST_NAME} letters"
    elif isinstance(value, int | float) and not isinstance(value, bool) and not _is_number(value):
        yield f"{where} is {_short_number(value)}, expected a number up to {limits.LARGEST_NUMBER:g}"


def _short_number(value: float) -> str:
    """Integers of very many digits cannot even be written out."""
    return f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"{value:g}"


def _value_range(where: str, value: Any, problems: list[str]) -> Any:
    return (_each(_pair) if isinstance(value, dict) else _pair)(where, value, problems)


def _scale_range(where: str, value: Any, problems: list[str]) -> Any:
    trained = value.get("trained") if isinstance(value, dict) else None
    if trained is not None and not _is_one_scale(trained):  # a model that generates has no trained scale
        count = len(problems)
        _pair(f"{where}.trained", trained, problems)
        if len(problems) > count:
            return None
    return _of(Scales)(where, value, problems)


def _is_one_scale(value: Any) -> bool:
    """Whether the two ends of a range are one positive number: a model that was trained for one scale."""
    return isinstance(value, list) and len(value) == 2 and _is_number(value[0]) and 0 < value[0] == value[1]


def _schedule(where: str, value: Any, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{where} is {_short(value)}, expected an object")
        return None
    return _of(ScheduleOfBetas if "betas" in value else ScheduleOfKind)(where, value, problems)


def _preset(where: str, value: Any, problems: list[str]) -> Any:
    for name, entry in value.items() if isinstance(value, dict) else ():
        if name.startswith(MEASURED) and name != "measured_on" and entry is not None and not _is_number(entry):
            problems.append(f"{where}.{name} is {_short(entry)}, expected a number")
    return _of(Preset)(where, value, problems)


def _files(where: str, value: Any, problems: list[str]) -> Any:
    """Names of plain files in the bundle itself, each with the digits of its own hash."""
    records = _each(_of(FileRecord), limits.MOST_FILES)(where, value, problems)
    for name, record in records.items():
        digits = digits_of_name(name)
        if digits is None:
            problems.append(f"{where} lists {_short(name)}, which is not the name of a file in the bundle")
        elif record is not None and record.sha256[:16] != digits:
            problems.append(f"{where} lists {name!r} with a SHA-256 that does not begin with the digits in its name")
    return records


def _opset(where: str, value: Any, problems: list[str]) -> Any:
    opset = _of(Annotated[int, Meta(ge=1)])(where, value, problems)
    if opset is not None and opset > NEWEST_OPSET:
        problems.append(
            f"{where} is {_short_number(value) if value >> 64 else value}, this version of idm-deploy runs graphs "
            f"up to opset {NEWEST_OPSET}"
        )
    return opset


_names = _of(Annotated[tuple[Name, ...], Meta(max_length=limits.MOST_ENTRIES)])

READINGS: dict[str, Reading] = {
    "schema": _of(Annotated[int, Meta(ge=1)]),
    "tool": _of(Tool),
    "libraries": _each(_of(Name)),
    "family": _of(Name),
    "weights": _weights,
    "configuration": _each(_configured),
    "value_range": _value_range,
    "scale_range": _scale_range,
    "schedule": _schedule,
    "rewrites": _names,
    "opset": _opset,
    "graphs": _each(_of(Graph), limits.MOST_GRAPHS),
    "tables": _each(_of(Name)),
    "presets": _each(_preset),
    "default_preset": _of(Name),
    "placements": _each(_of(SearchedPlacement)),
    "samples": _names,
    "source": _of(Source),
    "quantization": _parsed(quantization_from_json),
    "fitted": _parsed(fitted_from_json),
    "calibration_images": _each(_of(Digest), limits.MOST_PICTURES),
    "files": _files,
}
"""One reading per key of bundle.json."""
