"""What callers of the Python API hand over: each value is of the kind that its parameter takes, or is refused by name.

What values of the right kind may be (a scale of 1 or more, a preset that the bundle has) is checked where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from deploy.bundle import Bundle
from deploy.errors import ParameterError
from deploy.sampling.choices import Choices


@dataclass(frozen=True)
class Kind:
    """One sort of values, in words and as a question. needed: whether None is none of them."""

    words: str
    fits: Callable[[Any], bool]
    needed: bool = False


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_path(value: object) -> bool:
    return isinstance(value, str | PathLike)


def _are(count: int | None, fits: Callable[[object], bool]) -> Callable[[Any], bool]:
    """Whether a value is a list of such values, so many if that is said."""
    return lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and len(value) == (len(value) if count is None else count)
        and all(map(fits, value))
    )


_TEXT = Kind("text", lambda value: isinstance(value, str))
_WHOLE = Kind("a whole number", _is_whole)
_SWITCH = Kind("True or False", lambda value: isinstance(value, bool))
_CALLABLE = Kind("a function", callable)
_SIZE = Kind("(width, height) in whole pixels", _are(2, _is_whole))
_PATTERNS = Kind("a pattern such as '*.jpg', or a list of them", _are(None, _TEXT.fits), needed=True)

PARAMETERS: Mapping[str, Kind] = {
    "bundle": Kind(
        "a Bundle, such as Bundle.open('ckpt.bundle')", lambda value: isinstance(value, Bundle), needed=True
    ),
    "engine": _TEXT,
    "precision": _TEXT,
    "threads": _WHOLE,
    "max_memory": Kind("bytes, or text such as '1GiB'", lambda value: isinstance(value, str) or _is_number(value)),
    "pictures": Kind("a path, or a list of them", _are(None, _is_path), needed=True),
    "out": Kind("the path of a folder", _is_path, needed=True),
    "size": _SIZE,
    "fit": _SIZE,
    "include": _PATTERNS,
    "exclude": _PATTERNS,
    "name": _TEXT,
    "crop": Kind("(left, top, width, height) in whole pixels", _are(4, _is_whole)),
    "samples": Kind(_WHOLE.words, _is_whole, needed=True),
    "compare": _SWITCH,
    "format": _TEXT,
    "quality": _WHOLE,
    "strip_metadata": _SWITCH,
    "color_fix": Kind(_TEXT.words, _TEXT.fits, needed=True),
    "background": _TEXT,
    "tile": _WHOLE,
    "batch": Kind("a whole number of pictures, or None for as many as are fastest", _is_whole),
    "max_pixels": _WHOLE,
    "force": _SWITCH,
    "choices": Kind("a deploy.sampling.choices.Choices", lambda value: isinstance(value, Choices)),
    "preset": _TEXT,
    "equation": _TEXT,
    "placement": Kind("a name or noise levels", lambda value: isinstance(value, str) or _are(None, _is_number)(value)),
    "stages": Kind(
        "auto, once, or magnifications such as (4, 3)",
        lambda value: isinstance(value, str) or _are(None, _is_number)(value),
    ),
    "draws": _WHOLE,
    "published": _SWITCH,
    "noise": _CALLABLE,
    "progress": _CALLABLE,
    "notice": _CALLABLE,
}


def check_kinds(**given: object) -> None:
    """ParameterError for the first value that is of another kind than its parameter; None is one that was left out."""
    for name, value in given.items():
        kind = PARAMETERS[name]
        if not kind.fits(value) and (value is not None or kind.needed):
            raise wrong_kind(name, kind.words, value)


def listed(given: object) -> object:
    """A list of the values that come one by one; of a text or a path that stands alone too. What else it is stays."""
    if isinstance(given, str | PathLike):
        return [given]
    return list(given) if isinstance(given, Iterable) and not isinstance(given, bytes) else given


def wrong_kind(name: str, words: str, value: object) -> ParameterError:
    """To be raised for such a value."""
    found = repr(value)
    shown = found if len(found) <= _LONGEST_SHOWN else f"{found[:_LONGEST_SHOWN]}.."
    return ParameterError(f"`{name}` must be {words}, found {shown} ({type(value).__name__}).")


_LONGEST_SHOWN = 60
