"""What users type -> values: wrong usage, exit code 2, if it cannot be read."""

import re

import typer

OPTIONS_OF_PARAMETERS = (
    "batch",
    "color_fix",
    "consistency",
    "device",
    "engine",
    "equation",
    "eta",
    "format",
    "frames",
    "long_edge",
    "max_memory",
    "max_pixels",
    "megapixels",
    "name",
    "placement",
    "precision",
    "preset",
    "quality",
    "samples",
    "scale",
    "seed",
    "size",
    "start",
    "steps",
    "strip_metadata",
    "temporal_noise",
    "threads",
    "tile",
)
"""Parameters of the Python API whose options have the same name with dashes. Messages put parameters in backticks."""


def size_from_text(text: str) -> tuple[int, int]:
    """(width, height) from WIDTHxHEIGHT, e.g. 1920x1080."""
    found = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no size; write WIDTHxHEIGHT in pixels, such as 1920x1080.")
    return int(found[1]), int(found[2])


def crop_from_text(text: str) -> tuple[int, int, int, int]:
    """(left, top, width, height) from X,Y,W,H, e.g. 100,50,64,64."""
    found = re.fullmatch(r"(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no crop; write X,Y,WIDTH,HEIGHT in pixels, such as 100,50,64,64.")
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])


def batch_from_text(text: str) -> int | None:
    """A number of pictures; None for auto."""
    if text.strip() == "auto":
        return None
    if not text.strip().isdecimal():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of pictures.")
    return int(text)


def text_with_options(text: str) -> str:
    """A message of the library for someone who types: `max_memory`, the parameter, becomes --max-memory, the option."""
    return re.sub(r"`([a-z]+(?:_[a-z]+)*)`", lambda name: _option(name[1]) or name[0], text)


def _option(parameter: str) -> str | None:
    """The option that stands for a parameter of the Python API; None where there is none."""
    return f"--{parameter.replace('_', '-')}" if parameter in OPTIONS_OF_PARAMETERS else None


def placement_from_text(text: str) -> str | tuple[float, ...]:
    """A placement's name, or the noise levels that stand there."""
    if not text[:1].isdecimal() and not text.startswith("."):
        return text
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a placement nor noise levels; write them like 0.05,0.3,0.8.",
            param_hint="--placement",
        ) from None
