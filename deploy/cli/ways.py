"""One way to sample, as users type it -> values: wrong usage, exit code 2, if it cannot be read."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.values import placement_from_text

if TYPE_CHECKING:
    from deploy.measure.evaluation.ways import Way

READERS: Mapping[str, Callable[[str], Any]] = {
    "bundle": Path,
    "engine": str,
    "precision": str,
    "preset": str,
    "equation": str,
    "steps": int,
    "start": float,
    "consistency": float,
    "eta": float,
    "placement": placement_from_text,
}
PUBLISHED = "published"
OF_THE_PLACE = ("bundle", "engine", "precision")


def way_from_text(text: str, default: "Way") -> "Way":
    """E.g. "preset=best steps=20 precision=int8"; what is not said is that of `default`."""
    from deploy.sampling.choices import Choices

    said: dict[str, Any] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        said[key] = True if word == PUBLISHED else _value(text, word, key, value)
    place = {key: said.pop(key) for key in OF_THE_PLACE if key in said}
    return replace(default, choices=Choices(**said).before(default.choices), **place)


def _value(text: str, word: str, key: str, value: str) -> Any:
    if key not in READERS:
        nearest = get_close_matches(key, [*READERS, PUBLISHED], n=1, cutoff=0.0)[0]
        raise typer.BadParameter(
            f"{text!r} says {word!r}, the nearest is {nearest!r}; write words such as steps=20, with "
            f"{', '.join(READERS)} or {PUBLISHED}.",
            param_hint="--setting",
        )
    try:
        return READERS[key](value)
    except ValueError:
        raise typer.BadParameter(f"{text!r} says {word!r}, which is no number.", param_hint="--setting") from None
