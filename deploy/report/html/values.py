"""What a JSON file that anyone may have written says, taken with care: what is not as expected is absent, not wrong."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.errors import DeployError

Record = Mapping[str, Any]

LARGEST_BYTES = 64 << 20
"""Figures take kilobytes; all scales of the largest network a few megabytes."""


def read_record(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file that was named; `what` is what it should be, with the command that makes it."""
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise DeployError(f"reading {path}: it has {size} bytes, more than {what} needs. Check the name.")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DeployError(f"reading {path}: {error.strerror}; expected {what}.") from error
    except (ValueError, RecursionError) as error:
        raise DeployError(f"reading {path}: it is not JSON ({error}); expected {what}.") from error
    if not isinstance(content, dict):
        raise DeployError(f"reading {path}: it holds a {type(content).__name__}, not an object; expected {what}.")
    return content


def number(value: object) -> float | None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        figure = float(value)
    except OverflowError:
        return None
    return figure if math.isfinite(figure) else None


def text(value: object) -> str | None:
    """A string that says something."""
    return value if isinstance(value, str) and value.strip() else None


def record(value: object) -> Record:
    """An object, empty if it is none."""
    return value if isinstance(value, Mapping) else {}


def listed(value: object) -> list[Any]:
    """A list, empty if it is none."""
    return value if isinstance(value, list) else []


def records(value: object) -> list[Record]:
    """The objects in a list."""
    return [entry for entry in listed(value) if isinstance(entry, Mapping)]


def numbers(value: object) -> list[float]:
    """The numbers of a list; empty if one of them is none."""
    figures = [number(entry) for entry in listed(value)]
    return [entry for entry in figures if entry is not None] if None not in figures else []


def within(value: object, *keys: str) -> Any:
    """What stands under these keys, one below the other; None where one is missing."""
    for key in keys:
        value = record(value).get(key)
    return value
