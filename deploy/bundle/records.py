"""The objects that bundle.json consists of, declared: what each must hold, of which kind and in which range.

`deploy.bundle.quantization` declares what is said of int8 in the same way.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

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
Axis = Annotated[int, Meta(ge=0, le=LARGEST_AXIS)] | Name

VALUE_SOURCES = ("config", "metadata", "weights", "assumed")


class Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object that holds what is declared and nothing else."""


class Open(Struct, frozen=True, kw_only=True):
    """An object that may hold more than is declared, which nothing of this tool looks at."""


class Tool(Closed, frozen=True):
    """What wrote the bundle."""

    name: Name
    version: Name


class Source(Closed, frozen=True):
    """The checkpoint."""

    file: BareName
    sha256: Digest
    bytes: Count


class ListedFile(Closed, frozen=True):
    """A file of the bundle."""

    sha256: Digest
    bytes: Count


class ConfiguredValue(Closed, frozen=True):
    """A value of the configuration and where it comes from; what it may be, its family says."""

    value: Any
    source: Literal["config", "metadata", "weights", "assumed"]


class ScheduleOfKind(Closed, frozen=True):
    """A noise schedule by its rule, see deploy.sampling.beta_rules."""

    kind: Name
    timesteps: Timesteps
    start: Beta | None = None
    end: Beta | None = None


class ScheduleOfBetas(Closed, frozen=True):
    """A noise schedule that follows no rule."""

    betas: Annotated[tuple[Beta, ...], Meta(min_length=1, max_length=MOST_TIMESTEPS)]


class Scales(Open, frozen=True):
    """The magnifications of training, checked apart; null of a model that generates."""

    trained: Any


class Preset(Open, frozen=True):
    """A way to sample; what it holds besides was measured, or is for people."""

    equation: Name
    steps: Steps
    placement: Name | Annotated[tuple[Level, ...], Meta(min_length=1, max_length=MOST_STEPS)] | None = None
    start: Level | None = None
    eta: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    consistency: Level | None = None
    stages: Name | Annotated[tuple[Annotated[float, Meta(gt=0.0)], ...], Meta(max_length=MOST_AXES)] | None = None
    draws: Annotated[int, Meta(ge=1)] | None = None
    blend: Annotated[float, Meta(ge=0.0)] | None = None
    measured_on: Text | None = None


class SearchedPlacement(Open, frozen=True):
    """The noise levels that `schedule` found for an equation, a number of steps and a start."""

    noise_levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=MOST_STEPS)]
    distance: float | None = None
    consistency: Level | None = None


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
