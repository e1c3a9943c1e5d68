"""What users type -> values: wrong usage, exit code 2, if it cannot be read."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from calibration.errors import CalibrationError
from deploy.errors import DeployError, MissingPackage, nearest_name, readable

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.families.sizes import EngineSizes
    from deploy.images.sizes import Size
    from deploy.measure.evaluation.ways import Way


OPTIONS_OF_PARAMETERS = (
    "around",
    "background",
    "batch",
    "blend",
    "color_fix",
    "consistency",
    "cpus",
    "device",
    "draws",
    "engine",
    "equation",
    "eta",
    "format",
    "frames",
    "gpus",
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
    "stages",
    "start",
    "steps",
    "strip_metadata",
    "temporal_noise",
    "threads",
    "tile",
)
"""Parameters of the Python API whose options have the same name with dashes. Messages put parameters in backticks."""


@contextmanager
def checked_usage() -> Iterator[None]:
    """What is refused inside the block is wrong usage: a value that no file, bundle or machine would make right."""
    try:
        yield
    except MissingPackage:
        raise
    except (DeployError, CalibrationError) as error:  # what an engine refuses depends on the machine
        raise typer.BadParameter(text_with_options(str(error))) from error


def named_path(text: str) -> Path:
    """A path that was typed; an empty one, as of a variable that is not set, is not the current folder."""
    if not text:
        raise typer.BadParameter("a path is empty; . is the current folder.")
    return Path(text)


def size_from_text(text: str) -> tuple[int, int]:
    """(width, height) from WIDTHxHEIGHT, e.g. 1920x1080."""
    match = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if match is None or 0 in map(int, match.groups()):
        raise typer.BadParameter(f"{text!r} is no size; write WIDTHxHEIGHT in pixels, such as 1920x1080.")
    return int(match[1]), int(match[2])


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


def tile_from_options(tile: int | None, *, no_tile: bool) -> int | None:
    """The side of the tiles, 0 for none; None where neither --tile nor --no-tile was given."""
    if tile is not None and no_tile:
        raise typer.BadParameter("--tile and --no-tile exclude each other.")
    return 0 if no_tile else tile


def text_with_options(text: str) -> str:
    """A message of the library for someone who types: `max_memory`, the parameter, becomes --max-memory, the option."""
    return re.sub(r"`([a-z]+(?:_[a-z]+)*)`", lambda name: _option(name[1]) or name[0], text)


LONGEST_LINE = 300
"""Letters of an error as the terminal shows it: of a longer one, the middle is left out, as its end says what to do."""
LONGEST_WORD = 120
"""Letters without a space, a path or a name: of a longer one, the middle is left out."""


def text_of_error(text: str) -> str:
    """A refusal for someone who types: with options, on one line, nothing hidden, and not longer than can be read."""
    told = readable(text_with_options(text)).replace("\n", "\\n")
    words = " ".join(_shortened(word, LONGEST_WORD) for word in told.split(" "))
    return _shortened(words, LONGEST_LINE)


def _shortened(text: str, limit: int) -> str:
    """The text with so many letters at most, its middle left out where there are more."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def _option(parameter: str) -> str | None:
    """The option that stands for a parameter of the Python API; None where there is none."""
    return f"--{parameter.replace('_', '-')}" if parameter in OPTIONS_OF_PARAMETERS else None


def placement_from_text(text: str) -> str | tuple[float, ...]:
    """A placement's name, or the noise levels that stand there."""
    if not text[:1].isdecimal() and not text.startswith("."):
        from deploy.sampling.choices import SEARCHED
        from deploy.sampling.placement import PLACEMENTS

        _refuse_unknown("placement", text, [*PLACEMENTS, SEARCHED])
        return text
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a placement nor noise levels; write them like 0.05,0.3,0.8.",
            param_hint="--placement",
        ) from None


def stages_from_text(text: str) -> str | tuple[float, ...]:
    """auto or once, or the magnifications that stand there."""
    if text in ("auto", "once"):
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of stages; write auto, once, or magnifications such as 4,3.", param_hint="--stages"
        ) from None


def checked_equation(name: str) -> None:
    """There is an equation of that name."""
    from deploy.sampling.equations import EQUATIONS
    from deploy.sampling.fitted import is_fitted

    if is_fitted(name):
        return  # the bundle says which it has
    _refuse_unknown("equation", name, EQUATIONS)


def checked_engine(name: str) -> None:
    """There is an engine of that name, whether it can run here or not."""
    from engines.backends import BACKENDS

    _refuse_unknown("engine", name, ["auto", *BACKENDS])


def checked_around(name: str) -> None:
    """It is a precision that may surround int8 layers."""
    _refuse_unknown("precision around int8", name, ["auto", "fp32", "bf16"])


def checked_precision(name: str) -> None:
    """Some engine has that precision."""
    from deploy.engine.graphs import INT8
    from engines.backends import BACKENDS

    every = dict.fromkeys(precision for backend in BACKENDS.values() for precision in backend.precisions)
    _refuse_unknown("precision", name, ["auto", *every, INT8])


def _refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        nearest = nearest_name(name, known)
        raise typer.BadParameter(f"the {what} {name!r} is unknown, the nearest is {nearest!r} of {', '.join(known)}.")


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


def _shape_from_text(text: str) -> "Size":
    from deploy.images.sizes import Size

    return Size.from_user(size_from_text(text))


def cells_of_candidates(candidates: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Heading and rows of what `build-engine` measured; the last columns only where a bundle was quantized."""
    quantized = any(candidate.get("fidelity_db") is not None for candidate in candidates)
    reorders = any(candidate.get("reorders") is not None for candidate in candidates)
    headings = ["picture dB", "dB lost"] if quantized else []
    cells = [["", "ms per step", "dB from float32", *headings, *(["reorders"] if reorders else [])]]
    for candidate in candidates:
        name = name_of_candidate(candidate)
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
        left = candidate.get("reorders")
        texts += ["-" if left is None else str(left)] if reorders else []
        cells.append([name, f"{candidate['step_ms']:.1f}", *texts])
    return cells


def name_of_candidate(candidate: Mapping[str, Any]) -> str:
    """Engine and precision of what `build-engine` measured, with what is not usual."""
    from deploy.engine.graphs import name_of_way

    return name_of_way(
        candidate["backend"], candidate["precision"], candidate.get("around"), candidate.get("normalisation")
    )


def _three(text: str, read: Callable[[str], Value], option: str, example: str) -> tuple[Value, Value, Value]:
    """One value three times, two with the larger as the usual one, or three."""
    try:
        values = [read(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r} cannot be read; write {example}.") from None
    if len(values) > 3:
        raise typer.BadParameter(f"{option} {text!r} has {len(values)} values; write {example}.")
    return values[0], values[min(1, len(values) - 1)], values[-1]


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
    "stages": stages_from_text,
    "draws": int,
    "blend": float,
}
PUBLISHED = "published"
OF_THE_PLACE = ("bundle", "engine", "precision")


def way_from_text(text: str, default: "Way") -> "Way":
    """E.g. "preset=best steps=20 precision=int8"; what is not said is that of `default`."""
    from deploy.sampling.choices import Choices

    values: dict[str, Any] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        values[key] = True if word == PUBLISHED else _value(text, word, key, value)
    place = {key: values.pop(key) for key in OF_THE_PLACE if key in values}
    return replace(default, choices=Choices(**values).before(default.choices), **place)


def _value(text: str, word: str, key: str, value: str) -> Any:
    if key not in READERS:
        nearest = nearest_name(key, [*READERS, PUBLISHED])
        raise typer.BadParameter(
            f"{text!r} says {word!r}, the nearest is {nearest!r}; write words such as steps=20, with "
            f"{', '.join(READERS)} or {PUBLISHED}.",
            param_hint="--setting",
        )
    try:
        return READERS[key](value)
    except ValueError:
        raise typer.BadParameter(f"{text!r} says {word!r}, which is no number.", param_hint="--setting") from None
