"""What users type about engines -> values: wrong usage, exit code 2, if it cannot be read."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from deploy.cli.values import size_from_text

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.families.sizes import EngineSizes

PREFIXES = ("", "K", "M", "G", "T")
Value = TypeVar("Value")


def bytes_from_text(text: str) -> int:
    """Bytes from 500MB, 2GB, 1.5GiB or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an amount of memory; write 500MB, 2GB or 1.5GiB.")
    power = PREFIXES.index(match[2].upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def engine_sizes_from_text(bundle: "Bundle", sizes: str | None, scale: str | None, batch: int) -> "EngineSizes":
    """The sizes to build for: what was given, and the bundle's defaults for the rest."""
    from deploy.engine.profiles import default_sizes
    from deploy.families.sizes import EngineSizes

    usual = default_sizes(bundle)
    return EngineSizes(
        sizes=usual.sizes if sizes is None else _three(sizes, _shape_from_text, "--sizes", "64x64,128x128,512x512"),
        scales=usual.scales if scale is None else _three(scale, float, "--scale", "2,8,12"),
        batch=(1, 1, max(batch, 1)),
    )


def _shape_from_text(text: str) -> tuple[int, int]:
    width, height = size_from_text(text)
    return height, width


def cells_of_candidates(candidates: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Heading and rows of what `build-engine` measured; the last columns only where a bundle was quantized."""
    quantized = any(candidate.get("fidelity_db") is not None for candidate in candidates)
    cells = [["", "ms per step", "dB from float32", *(["picture dB", "dB lost"] if quantized else [])]]
    for candidate in candidates:
        name = f"{candidate['backend']} {candidate['precision']}"
        if candidate["failure"]:
            cells.append([name, candidate["failure"], *[""] * (len(cells[0]) - 2)])
            continue
        figures = [candidate["sqnr_db"]] + (
            [candidate.get("fidelity_db"), candidate.get("psnr_drop")] if quantized else []
        )
        texts = [
            "-" if figure is None else f"{figure:.{digits}f}"
            for figure, digits in zip(figures, (1, 1, 3), strict=False)
        ]
        cells.append([name, f"{candidate['step_ms']:.1f}", *texts])
    return cells


def _three(text: str, read: Callable[[str], Value], option: str, example: str) -> tuple[Value, Value, Value]:
    """One value three times, two with the larger as the usual one, or three."""
    try:
        values = [read(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r} cannot be read; write {example}.") from None
    if len(values) > 3:
        raise typer.BadParameter(f"{option} {text!r} has {len(values)} values; write {example}.")
    return values[0], values[min(1, len(values) - 1)], values[-1]
