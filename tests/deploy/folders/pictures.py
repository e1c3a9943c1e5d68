"""Small pictures in folders, and runs on them that take a moment each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy import Outcome, Upscaler, enlarge


def make_pictures(folder: Path, *names: str, size: tuple[int, int] = (9, 6)) -> None:
    """A file of each name, with folders above it, of (width, height) pixels that depend on the name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = list(name.encode("utf-8", "surrogateescape"))
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        with path.open("wb") as file:
            Image.fromarray(pixels).save(file, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")


def enlarged(upscaler: Upscaler, pictures: Any, out: Path, **options: Any) -> dict[str, Outcome]:
    """What came of each picture, by the name of its result from `out`; twice as large in one step, if not said."""
    return {place_in(out, each): each for each in outcomes(upscaler, pictures, out, **options)}


def outcomes(upscaler: Upscaler, pictures: Any, out: Path, **options: Any) -> Iterator[Outcome]:
    """The same one by one."""
    ways = {"scale", "size", "long_edge", "fit", "megapixels"} & options.keys()
    return enlarge(pictures, out, upscaler=upscaler, steps=1, **({} if ways else {"scale": 2}), **options)


def place_in(out: Path, outcome: Outcome) -> str:
    """Where a result lies from the folder of results."""
    return outcome.output.relative_to(out).as_posix() if outcome.output.is_relative_to(out) else str(outcome.output)


def states(found: dict[str, Outcome]) -> dict[str, str]:
    """What came of each picture, in a word."""
    return {name: outcome.state for name, outcome in found.items()}


def files_in(folder: Path) -> dict[str, bytes]:
    """What each visible file below a folder holds, by its path from there, and what is not under its final name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parts[len(folder.parts)] != ".idm-deploy"
    }


def unfinished(out: Path) -> list[Path]:
    """What runs have left that is no result and no record."""
    return [*out.rglob("*.partial"), *(out / ".idm-deploy" / "runs").glob("*")]
