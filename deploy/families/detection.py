"""From names and shapes to a configuration, each value with its source: what every family's detection shares.

A value is taken from the configuration file, then the file's own metadata, then the weights, then the authors'
default, which is marked as assumed. What the weights prove cannot be overruled: a configuration or metadata
that says otherwise is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.records import ValueSource
from deploy.errors import CheckpointError, ConfigError, nearest_name
from deploy.sampling.schedule import NoiseSchedule

Shape = tuple[int, ...]
LONGEST_SHOWN = 200
"""Characters of a configuration's value in a message."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a checkpoint's state dict holds, as far as detection looks: shapes, and the betas if there are any."""

    path: Path
    shapes: Mapping[str, Shape]
    betas: NDArray[np.float32] | None = None

    def shape(self, name: str, dimensions: int) -> Shape:
        """The shape of a tensor that the family cannot be without."""
        if name not in self.shapes:
            raise CheckpointError(
                f"{self.path} lacks {name}, from which the configuration is read; the file is incomplete, "
                "copy it again or save the whole state_dict."
            )
        shape = self.shapes[name]
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(
                f"{self.path}: {name} has shape {list(shape)}, expected {dimensions} dimensions, none of them 0; "
                "this is not the network it is named after."
            )
        return shape

    def numbers_after(self, prefix: str) -> list[int]:
        """The numbers n for which a name starts with `prefix` and then n and a dot, rising."""
        tails = (name.removeprefix(prefix) for name in self.shapes if name.startswith(prefix))
        return sorted(
            {int(number) for tail in tails if (number := tail.partition(".")[0]).isdecimal() and len(number) < 10}
        )

    def common_count(self, what: str, counts: Sequence[int]) -> int:
        """The number of blocks, which every level must share."""
        if len(set(counts)) != 1 or counts[0] < 1:
            raise CheckpointError(
                f"{self.path}: the levels of {what} have {', '.join(map(str, counts)) or 'no'} blocks, expected one "
                "number for all; the file is incomplete or of another network."
            )
        return counts[0]

    def levels_of(
        self, blocks: str, *, halving: str, width: str, attention: str
    ) -> tuple[int, list[int], tuple[int, ...]]:
        """The levels of a U-Net's way down: residual blocks of each, channels of each, and which have attention.

        blocks: what stands before the numbers of its entries, of which the first is a convolution. The others are names
        within an entry: of one that halves the size, and of a residual block's weight with and without attention.
        """
        counts, widths, attended = [0], dict[int, int](), set[int]()
        for number in self.numbers_after(blocks)[1:]:
            block, level = f"{blocks}{number}.", len(counts) - 1
            if f"{block}{halving}" in self.shapes:  # the next level begins
                counts.append(0)
                continue
            widths[level] = self.shape(f"{block}{width}", 4)[0]
            counts[level] += 1
            if f"{block}{attention}" in self.shapes:
                attended.add(level)
        return self.common_count("the U-Net", counts), list(widths.values()), tuple(sorted(attended))

    def refuse_contradictions(self, problems: Sequence[str]) -> None:
        """A ConfigError with all the problems, if there are any."""
        if problems:
            raise ConfigError(
                f"The configuration contradicts {self.path}: {'; '.join(problems)}. "
                "Use the configuration that this checkpoint was trained with, or none."
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a configuration file or the metadata says: fields of the configuration, and schedules by their use.

    `schedules` maps "train" and "val" (IDM keeps two) or "schedule" to what was given.
    """

    source: ValueSource
    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    schedules: Mapping[str, NoiseSchedule] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A family's reading of a checkpoint."""

    config: Any
    sources: dict[str, ValueSource]
    schedule: NoiseSchedule
    notes: tuple[str, ...] = ()
    """What a person should know of assumed values, a sentence each: where they come from, what a wrong one does."""


@dataclass(frozen=True)
class Resolved:
    """One value per field and where it came from."""

    stored: Stored
    settings: Sequence[Settings]
    values: dict[str, Any]
    sources: dict[str, ValueSource]

    def add_attention(self, name: str, at_level: Sequence[int], levels: tuple[int, ...]) -> None:
        """Adds the field `name`: configurations list sizes or rates, the weights show levels; the two must agree.

        `at_level` has the size or rate of each level, `levels` those with attention. A configuration may list
        others beside them, which published ones do.
        """
        read = tuple(at_level[level] for level in levels)
        self.values[name], self.sources[name] = read, "weights"
        for setting in reversed(self.settings):
            if name not in setting.values:
                continue
            sizes = typed(setting, name, setting.values[name], read)
            if tuple(level for level, entry in enumerate(at_level) if entry in sizes) != levels:
                problem = (
                    f"{setting.label} says {name} is {plain(sizes)}, the weights have attention at {plain(read)} "
                    f"of the levels' {plain(tuple(at_level))}"
                )
                self.stored.refuse_contradictions([problem])
            self.values[name], self.sources[name] = sizes, setting.source


def resolve(
    stored: Stored, read: Mapping[str, Any], settings: Sequence[Settings], assumed: Mapping[str, Any]
) -> Resolved:
    """Every field's value from the first of: settings in their order, the weights (`read`), the defaults.

    All contradictions between settings and weights are reported at once.
    """
    values: dict[str, Any] = {}
    sources: dict[str, ValueSource] = {}
    problems: list[str] = []
    for name in dict.fromkeys((*assumed, *read)):
        example = read.get(name, assumed.get(name))
        for setting in settings:
            if name not in setting.values:
                continue
            value = typed(setting, name, setting.values[name], example)
            if name in read and value != read[name]:
                problems.append(f"{setting.label} says {name} is {plain(value)}, the weights have {plain(read[name])}")
            values.setdefault(name, value)
            sources.setdefault(name, setting.source)
        values.setdefault(name, example)
        sources.setdefault(name, "weights" if name in read else "assumed")
    stored.refuse_contradictions(problems)
    return Resolved(stored, settings, values, sources)


def typed(setting: Settings, name: str, value: Any, example: Any) -> Any:
    """The value in the type of `example`; lists become tuples, and YAML's "1e-6", which it takes for text, a number."""
    wrong = ConfigError(f"{setting.label}: {name} is {plain(value)}, expected a value like {plain(example)}.")
    if isinstance(example, tuple):
        if not isinstance(value, list | tuple):
            raise wrong
        return tuple(typed(setting, name, entry, 1) for entry in value)
    if isinstance(example, float) and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise wrong from None
    if example is not None and type(value) is not type(example):
        raise wrong
    return value


def plain(value: Any) -> str:
    """A value as a configuration file would show it, the beginning of a long one."""
    try:
        text = str(list(value)) if isinstance(value, tuple) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested without end
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def refuse_unknown(label: str, keys: Iterable[Any], known: Iterable[str]) -> None:
    """A ConfigError for the first key that is not known, with the nearest that is."""
    names = list(known)
    for key in keys:
        if key not in names:
            nearest = nearest_name(key, names)
            raise ConfigError(f"{label}: the key {key!r} is unknown; the nearest known is {nearest!r}.")


def section(label: str, mapping: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The nested dictionary under `keys`, empty where there is none."""
    inside: Any = mapping
    for key in keys:
        inside = inside.get(key)
        if inside is None:
            return {}
        if not isinstance(inside, Mapping):
            raise ConfigError(f"{label}: {'.'.join(keys)} is {plain(inside)}, expected a mapping of names to values.")
    return dict(inside)


def divisor(preferred: int, channels: Iterable[int]) -> int:
    """`preferred` where it divides all the numbers of channels, else the largest of its divisors that does."""
    return int(np.gcd.reduce([preferred, *channels]))
