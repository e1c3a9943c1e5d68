"""What users type -> values: wrong usage, exit code 2, if it cannot be read."""

import re

import typer


def size_from_text(text: str) -> tuple[int, int]:
    """(width, height) from WIDTHxHEIGHT, e.g. 1920x1080."""
    found = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1920x1080.")
    return int(found[1]), int(found[2])
