"""Ratios that docs/speed.md promises: how they are measured, what was found, and how far a new measurement may fall."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.regression.processors import KINDS

FIGURES = Path(__file__).parent / "figures.json"

TABLES = ("step", "decode", "pictures")
"""The parts of a report of `idm-deploy bench` that have rows with medians to divide."""


class FigureError(Exception):
    """A figure that cannot be read or measured."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found, when and where; times in milliseconds."""

    row_ms: float
    over_ms: float
    hardware: str
    date: str
    versions: Mapping[str, str]

    @property
    def ratio(self) -> float:
        """How many times faster the row is."""
        return self.over_ms / self.row_ms


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How many times faster one row of a table is than another.

    command: what `idm-deploy` is told, with the bundle as {model}. tolerance: the part of the recorded ratio that noise
    and other days may take. bars: what the ratio must never fall below, by kind of processor; measured: what was found,
    by the same.
    """

    name: str
    model: str
    command: str
    table: str
    row: str
    over: str
    tolerance: float
    bars: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if self.table not in TABLES:
            problems.append(f"its table is {self.table!r}, expected one of {', '.join(TABLES)}")
        if not 0 < self.tolerance < 1:
            problems.append(f"its tolerance is {self.tolerance!r}, expected a part between 0 and 1")
        if "{model}" not in self.command.split():
            problems.append("its command does not say where the {model} stands")
        if unknown := sorted((self.bars.keys() | self.measured.keys()) - KINDS.keys()):
            problems.append(f"it names the kind of processor {unknown[0]!r}, expected one of {', '.join(KINDS)}")
        if problems:
            raise FigureError(f"The figure {self.name} is not valid: {'; '.join(problems)}.")

    def least(self, kind: str | None) -> float | None:
        """The ratio from which on a measurement is good enough; None if nothing was recorded or promised there."""
        if kind is None:
            return None
        known = [self.bars[kind]] if kind in self.bars else []
        if kind in self.measured:
            known.append(self.measured[kind].ratio * (1 - self.tolerance))
        return max(known, default=None)


def read_figures(path: Path = FIGURES) -> list[Figure]:
    """The figures of a file, checked; names are unique."""
    try:
        records = json.loads(path.read_text())["figures"]
        figures = [_figure(record) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigureError(f"{path} does not hold figures ({error!r}). Take it from the repository again.") from error
    names = [figure.name for figure in figures]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FigureError(f"{path} has two figures called {', '.join(sorted(twice))}. Rename one.")
    return figures


def write_figures(figures: Sequence[Figure], path: Path = FIGURES) -> None:
    """`path` holds these figures."""
    records = [{key: value for key, value in asdict(figure).items() if value != {}} for figure in figures]
    path.write_text(json.dumps({"figures": records}, indent=1) + "\n")


def _figure(record: Mapping[str, Any]) -> Figure:
    unknown = record.keys() - {field.name for field in fields(Figure)}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    measured = {kind: Measured(**found) for kind, found in record.get("measured", {}).items()}
    return Figure(**{**record, "measured": measured})
