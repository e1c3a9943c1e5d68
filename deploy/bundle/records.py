"""The objects that bundle.json consists of, declared: what each must hold, of which kind and in which range.

`deploy.bundle.quantization` declares what is said of int8 in the same way. A record that was made of JSON is valid;
one that code makes is checked when it is written, see `Manifest.check`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

from msgspec import Meta, Struct, field, to_builtins
from msgspec.structs import fields
from msgspec.structs import replace as changed

from deploy.bundle.limits import (
    LARGEST_AXIS,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_AXES,
    MOST_BYTES,
    MOST_ENTRIES,
    MOST_GRAPHS,
    MOST_STEPS,
    MOST_TENSORS,
    MOST_TIMESTEPS,
)

DIGEST = "^[0-9a-f]{64}$"
WITHOUT_FOLDER = r"^[^/\\]+$"

Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
BareName = Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT, pattern=WITHOUT_FOLDER)]
Digest = Annotated[str, Meta(pattern=DIGEST)]
Count = Annotated[int, Meta(ge=0, le=MOST_BYTES)]
Level = Annotated[float, Meta(ge=0.0, le=1.0)]
Beta = Annotated[float, Meta(gt=0.0, le=1.0)]
Steps = Annotated[int, Meta(ge=1, le=MOST_STEPS)]
Timesteps = Annotated[int, Meta(ge=1, le=MOST_TIMESTEPS)]
Range = tuple[int | float, int | float]
"""The lower and the higher end."""
Axis = Annotated[int, Meta(ge=0, le=LARGEST_AXIS)] | Name

ValueSource = Literal["config", "metadata", "weights", "assumed"]
VALUE_SOURCES = get_args(ValueSource)

BESIDES = "besides"
MEASURED = "measured_"
"""Before the name of a measure, in the key of a preset's figure."""


class Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object that holds what is declared and nothing else; its heirs inherit that, and repeat `frozen` for mypy."""


class Open(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object that may hold more than is declared, which another version of this tool wrote.

    besides: what that is, as JSON has it; nothing but `Preset` looks at it, and it is kept when a bundle is changed.
    """

    besides: Mapping[str, Any] = field(default_factory=dict, name="(besides)")  # as no key of JSON is called

    def with_besides(self, value: Mapping[str, Any]) -> Self:
        """The record with what `value`, the JSON it was made of, holds besides; also of open records in its lists."""
        declared = _declared(type(self))
        below = {
            name: tuple(item.with_besides(part) for item, part in zip(items, value[name], strict=True))
            for name in declared
            if isinstance(items := getattr(self, name), tuple) and items and isinstance(items[0], Open)
        }
        besides = {key: item for key, item in value.items() if key not in declared}
        return changed(self, **below, besides=besides)


class Tool(Closed, frozen=True):
    """What wrote the bundle."""

    name: Name
    version: Name


class Source(Closed, frozen=True):
    """The checkpoint: the name of its file without the folder, its SHA-256 and its size."""

    file: BareName
    sha256: Digest
    bytes: Count


class FileRecord(Closed, frozen=True):
    """A file of the bundle: the SHA-256 of its content in hexadecimal and its size in bytes."""

    sha256: Digest
    bytes: Count


class ConfiguredValue(Closed, frozen=True):
    """A value of the configuration, as JSON has it, and where it comes from; what it may be, its family says."""

    value: Any
    source: ValueSource


class ScheduleOfKind(Closed, frozen=True):
    """A noise schedule by its rule, see deploy.sampling.beta_rules."""

    kind: Name
    timesteps: Timesteps
    start: Beta | None = None
    end: Beta | None = None


class ScheduleOfBetas(Closed, frozen=True):
    """A noise schedule that follows no rule."""

    betas: Annotated[tuple[Beta, ...], Meta(min_length=1, max_length=MOST_TIMESTEPS)]


ScheduleRecord = ScheduleOfKind | ScheduleOfBetas


class Scales(Open, frozen=True):
    """The least and the largest magnification of training; None of a model that generates."""

    trained: Range | None


class Preset(Open, frozen=True):
    """A way to sample, where None is as usual. What was measured of it, whatever it is called, it has besides."""

    equation: Name
    steps: Steps
    placement: Name | Annotated[tuple[Level, ...], Meta(min_length=1, max_length=MOST_STEPS)] | None = None
    start: Level | None = None
    eta: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    consistency: Level | None = None
    stages: Annotated[tuple[Annotated[float, Meta(gt=0.0)], ...], Meta(max_length=MOST_AXES)] | None = None
    draws: Annotated[int, Meta(ge=1)] | None = None
    blend: Annotated[float, Meta(ge=0.0)] | None = None
    measured_on: Text | None = None

    def measured(self, measure: str) -> float | None:
        """The figure of that measure, as `ssimulacra2`; None if there is none."""
        figure = self.besides.get(f"{MEASURED}{measure}")
        return None if figure is None else float(figure)

    def with_measured(self, measure: str, figure: float) -> Self:
        """The preset with that figure among those it has."""
        return changed(self, besides={**self.besides, f"{MEASURED}{measure}": figure})

    def without_measured(self) -> Self:
        """The preset without any figure and without what they were measured on."""
        besides = {key: value for key, value in self.besides.items() if not key.startswith(MEASURED)}
        return changed(self, besides=besides, measured_on=None)


class SearchedPlacement(Open, frozen=True):
    """The noise levels that `schedule` found for an equation, a number of steps and a start, and how.

    distance: to the run of many steps. rules: that of each rule, by its name. origin: "search", or the rule that was
    not bettered. scale, samples, seed: of the search.
    """

    noise_levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=MOST_STEPS)]
    distance: float | None = None
    origin: Name | None = None
    rules: Annotated[Mapping[Name, float], Meta(max_length=MOST_ENTRIES)] | None = None
    consistency: Level | None = None
    scale: float | None = None
    samples: int | None = None
    seed: int | None = None


class Tensor(Open, frozen=True):
    """An input or output of a graph; axes are sizes, or the names of those that vary."""

    name: Name
    dtype: Name
    shape: Annotated[tuple[Axis, ...], Meta(max_length=MOST_AXES)]


class Graph(Open, frozen=True):
    """A graph: its files by form, what it takes and makes, the weights files that it may use."""

    forms: Annotated[Mapping[Name, Name], Meta(max_length=MOST_GRAPHS)]
    inputs: Annotated[tuple[Tensor, ...], Meta(max_length=MOST_TENSORS)]
    outputs: Annotated[tuple[Tensor, ...], Meta(max_length=MOST_TENSORS)]
    weights: Annotated[tuple[Name, ...], Meta(max_length=MOST_ENTRIES)]

    @property
    def files(self) -> list[str]:
        """Every file that it needs in some form."""
        return [*self.forms.values(), *self.weights]


@cache
def _declared(kind: type[Open]) -> dict[str, bool]:
    """Name of each declared field -> whether it stands in JSON even where it is None."""
    return {each.name: each.required for each in fields(kind) if each.name != BESIDES}


def json_from_records(value: Any) -> Any:
    """JSON of records, and of mappings and sequences of them, with tuples for some lists; what may be left out is."""
    if isinstance(value, Open):
        own = {name: getattr(value, name) for name in _declared(type(value))}
        told = {name: item for name, item in own.items() if item is not None or _declared(type(value))[name]}
        return json_from_records(dict(sorted({**value.besides, **told}.items())))
    if isinstance(value, Struct):
        return to_builtins(value)  # nothing below a closed record is open
    if isinstance(value, Mapping):
        return {key: json_from_records(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_from_records(item) for item in value]
    return value
