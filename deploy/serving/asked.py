"""What a request asks of one picture: the fields of a form or of JSON, checked, and as `infer` is told them."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deploy.errors import nearest_name
from deploy.images.formats.table import WRITTEN
from deploy.images.writing import Saving
from deploy.sampling.choices import Choices
from deploy.sampling.equations import EQUATIONS
from deploy.serving.problems import Problem

if TYPE_CHECKING:
    from deploy.folders.request import Request

LONGEST = 2000
"""Characters of a field."""

MOST = 1 << 53
"""Largest whole number that JSON keeps."""

Read = Callable[[str, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a request: how it is read, what it is in a schema, and words for people."""

    read: Read
    schema: Mapping[str, Any]
    words: str


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise Problem(422, f"{name} is a number such as 4 or 2.5, found {_shown(value)}.")
    return number


def _whole(name: str, value: Any) -> int:
    is_text = isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,20}\s*", value) is not None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not (is_text or is_whole) or abs(int(value)) > MOST:
        raise Problem(422, f"{name} is a whole number, found {_shown(value)}.")
    return int(value)


def _flag(name: str, value: Any) -> bool:
    words = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() not in words:
        raise Problem(422, f"{name} is true or false, found {_shown(value)}.")
    return words[str(value).strip().lower()]


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Problem(422, f"{name} is a word, found {_shown(value)}.")
    return value.strip()


def _size(name: str, value: Any) -> tuple[int, int]:
    parts = re.fullmatch(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", value) if isinstance(value, str) else None
    pair = list(parts.groups()) if parts else value
    if not isinstance(pair, list) or len(pair) != 2:
        raise Problem(422, f"{name} is WIDTHxHEIGHT in pixels, such as 1920x1080, found {_shown(value)}.")
    return _whole(name, pair[0]), _whole(name, pair[1])


def _crop(name: str, value: Any) -> tuple[int, int, int, int]:
    numbers = value.split(",") if isinstance(value, str) else value
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise Problem(422, f"{name} is X,Y,WIDTH,HEIGHT in pixels of the input, such as 100,50,64,64.")
    left, top, width, height = (_whole(name, number) for number in numbers)
    return left, top, width, height


def _numbers_or_word(name: str, value: Any) -> str | tuple[float, ...]:
    if isinstance(value, str) and not re.match(r"\s*[\d.]", value):
        return value.strip()
    numbers = value.split(",") if isinstance(value, str) else value
    if not isinstance(numbers, list):
        raise Problem(422, f"{name} is a word or numbers with commas between them, found {_shown(value)}.")
    return tuple(_number(name, number) for number in numbers)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_TEXT = {"type": "string"}


def _between(least: float | None = None, most: float | None = None, kind: str = "number") -> dict[str, Any]:
    limits = {"minimum": least, "maximum": most}
    return {"type": kind} | {name: limit for name, limit in limits.items() if limit is not None}


FIELDS: dict[str, Field] = {
    "model": Field(
        read=_word, schema=_TEXT, words="Name of the bundle, as /v1/models lists them; the first if left out."
    ),
    "scale": Field(read=_number, schema=_between(1), words="Enlarge each side this many times, such as 4 or 2.5."),
    "size": Field(read=_size, schema=_TEXT | {"example": "1920x1080"}, words="Output size, WIDTHxHEIGHT in pixels."),
    "long_edge": Field(read=_whole, schema=_between(1, None, "integer"), words="Pixels of the output's longer side."),
    "fit": Field(read=_size, schema=_TEXT, words="Largest output within WIDTHxHEIGHT that keeps the proportions."),
    "megapixels": Field(read=_number, schema=_between(0), words="Output size in millions of pixels."),
    "crop": Field(read=_crop, schema=_TEXT, words="Only this part of the input, X,Y,WIDTH,HEIGHT in its pixels."),
    "preset": Field(read=_word, schema=_TEXT, words="How much work to spend: draft, balanced or best."),
    "equation": Field(read=_word, schema=_TEXT | {"enum": [*EQUATIONS]}, words="Solver that takes the steps."),
    "steps": Field(read=_whole, schema=_between(1, None, "integer"), words="How often the network is run."),
    "start": Field(read=_number, schema=_between(0, 1), words="Noise level that the enlarged input begins with."),
    "consistency": Field(
        read=_number, schema=_between(0, 1), words="How strongly the result must shrink to the input."
    ),
    "eta": Field(read=_number, schema=_between(0, 1), words="Fresh noise in each ddim step."),
    "placement": Field(read=_numbers_or_word, schema=_TEXT, words="At which noise levels the steps lie."),
    "stages": Field(read=_numbers_or_word, schema=_TEXT, words="Magnifications made one after the other, such as 4,3."),
    "draws": Field(read=_whole, schema=_between(1, 64, "integer"), words="The result is the mean of so many runs."),
    "blend": Field(read=_number, schema=_between(0), words="Times the scaling factor that an IDM network is told."),
    "published": Field(read=_flag, schema={"type": "boolean"}, words="Sample exactly as the authors' code does."),
    "seed": Field(read=_whole, schema=_between(0, None, "integer"), words="Which random noise to begin with."),
    "format": Field(read=_word, schema=_TEXT | {"enum": [*WRITTEN]}, words="Format of the result."),
    "quality": Field(read=_whole, schema=_between(1, 100, "integer"), words="For formats that lose something."),
    "strip_metadata": Field(read=_flag, schema={"type": "boolean"}, words="Leave out what the input says of itself."),
    "color_fix": Field(read=_word, schema=_TEXT, words="Draw drifted colours back: none, lowfreq or wavelet."),
    "background": Field(read=_word, schema=_TEXT, words="Lay transparent pictures over this colour."),
}
"""Every field that a request may have besides the picture, with `infer`'s meanings and defaults."""

_OF_CHOICES = tuple(each.name for each in fields(Choices))
_OF_SAVING = tuple(each.name for each in fields(Saving))
_OF_SIZE = ("scale", "size", "long_edge", "fit", "megapixels", "crop")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The fields that were given, by name, each of its type; those that were left out are not there."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Of a form or a JSON object; empty fields of forms count as left out. Problem where one cannot be read."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in FIELDS:
                raise Problem(422, f"There is no field {_shown(name)}; the nearest is {nearest_name(name, FIELDS)!r}.")
            if value is None or value == "":
                continue
            if isinstance(value, str) and len(value) > LONGEST:
                raise Problem(422, f"{name} has {len(value)} characters; at most {LONGEST} are read.")
            values[name] = FIELDS[name].read(name, value)
        return cls(values=values)

    def without(self, name: str) -> Self:
        """The same but for a field."""
        return type(self)(values={key: value for key, value in self.values.items() if key != name})

    @property
    def model(self) -> str | None:
        """The bundle's name, if one was given."""
        name = self.values.get("model")
        return None if name is None else str(name)

    def request(self, image: Path, max_pixels: int) -> "Request":
        """The same for `infer`'s own code. DeployError where it makes no sense."""
        from deploy.folders.request import Request  # which workers alone need: without it a service starts sooner

        choices = {name: self.values[name] for name in _OF_CHOICES if name in self.values}
        saving = {name: self.values[name] for name in _OF_SAVING if name in self.values}
        size = {name: self.values[name] for name in _OF_SIZE if name in self.values}
        return Request(
            images=(image,),
            **size,
            seed=self.values.get("seed", 0),
            max_pixels=max_pixels,
            choices=Choices(**choices),
            saving=Saving(**saving),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `of` reads again."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.values.items()}


def properties_of_schema() -> dict[str, Any]:
    """The fields as JSON Schema, for the OpenAPI page."""
    return {name: {**field.schema, "description": field.words} for name, field in FIELDS.items()}
