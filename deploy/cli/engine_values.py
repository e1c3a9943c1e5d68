"""What users type about engines -> values: wrong usage, exit code 2, if it cannot be read."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from deploy.cli.values import size_from_text

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.families.sizes import EngineSizes
    from deploy.images.sizes import Size

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
Value = TypeVar("Value")


def bytes_from_text(text: str) -> int:
    """Bytes from 500MB, 2GB, 1.5GiB or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not an amount of memory; write 500MB, 2GB or 1.5GiB.")
    unit = UNITS[found[2].upper()]
    power = round(len(str(unit)) // 3)
    return int(float(found[1]) * (1024**power if found[3] else unit))


def _size(text: str) -> "Size":
    from deploy.images.sizes import Size

    return Size.from_user(size_from_text(text))


def engine_sizes_from_text(bundle: "Bundle", sizes: str | None, scale: str | None, batch: int) -> "EngineSizes":
    """The sizes to build for: what was given, and the bundle's defaults for the rest."""
    from deploy.engine.profiles import default_sizes
    from deploy.families.sizes import EngineSizes

    usual = default_sizes(bundle)
    return EngineSizes(
        sizes=usual.sizes if sizes is None else _three(sizes, _size, "--sizes", "64x64,128x128,512x512"),
        scales=usual.scales if scale is None else _three(scale, float, "--scale", "2,8,12"),
        batch=(1, 1, max(batch, 1)),
    )


def cells_of_candidates(candidates: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Heading and rows of what `build-engine` measured; the last columns only where a bundle was quantized."""
    quantized = any(found.get("fidelity_db") is not None for found in candidates)
    cells = [["", "ms per step", "dB from float32", *(["picture dB", "dB lost"] if quantized else [])]]
    for found in candidates:
        name = f"{found['backend']} {found['precision']}"
        if found["failure"]:
            cells.append([name, found["failure"], *[""] * (len(cells[0]) - 2)])
            continue
        figures = [found["sqnr_db"]] + ([found.get("fidelity_db"), found.get("psnr_drop")] if quantized else [])
        texts = [
            "-" if figure is None else f"{figure:.{digits}f}"
            for figure, digits in zip(figures, (1, 1, 3), strict=False)
        ]
        cells.append([name, f"{found['step_ms']:.1f}", *texts])
    return cells


def _three(text: str, read: Callable[[str], Value], option: str, example: str) -> tuple[Value, Value, Value]:
    """One value three times, two with the larger as the usual one, or three."""
    try:
        found = [read(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r} cannot be read; write {example}.") from None
    if len(found) == 1:
        return found[0], found[0], found[0]
    if len(found) == 2:
        return found[0], found[1], found[1]
    if len(found) != 3:
        raise typer.BadParameter(f"{option} {text!r} has {len(found)} values; write {example}.")
    return found[0], found[1], found[2]
