"""bundle.json: what a bundle says about itself, as a validated value and as deterministic bytes.

No time, user name or absolute path belongs in it: the same inputs give the same bytes.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import deploy
from deploy.bundle.checks import READINGS, plain_json
from deploy.bundle.fitted import FittedEquation
from deploy.bundle.quantization import Quantization
from deploy.bundle.records import (
    ConfiguredValue,
    FileRecord,
    Graph,
    Preset,
    Range,
    Scales,
    ScheduleRecord,
    SearchedPlacement,
    Source,
    Tool,
    json_from_records,
)
from deploy.errors import BundleError

SCHEMA = 1
"""The version of bundle.json that this tool writes, and the newest that it reads."""

USUAL_SCALE = 4.0
"""Of what is shown and searched where nobody says another."""

MOST_TOLD = 5
"""Problems that one message lists."""
OPTIONAL = ("quantization", "fitted", "calibration_images")
"""Keys that bundle.json lacks until a command has something to say there."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What bundle.json says, in records; `from_json` makes them, or one BundleError that lists all problems.

    Change one with `dataclasses.replace`; what is made by code is checked when a bundle is written. `files` is filled
    in by BundleWriter.commit. Any string that equals the name of a file of the bundle, wherever it stands, keeps that
    file in the bundle.
    """

    family: str
    weights: str
    """"raw" or "ema"."""
    configuration: Mapping[str, ConfiguredValue]
    value_range: Range | Mapping[str, Range]
    """(low, high) of the pictures the networks see, or that by name where inputs differ."""
    scale_range: Scales
    schedule: ScheduleRecord
    rewrites: tuple[str, ...]
    opset: int
    graphs: Mapping[str, Graph]
    tables: Mapping[str, str]
    """{name: .npy file}."""
    presets: Mapping[str, Preset]
    default_preset: str
    source: Source
    placements: Mapping[str, SearchedPlacement] = field(default_factory=dict)
    """By `deploy.sampling.choices.placement_key`."""
    samples: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    """{package: version} of what wrote the graphs."""
    tool: Tool = field(default_factory=lambda: Tool(name="idm-deploy", version=deploy.__version__))
    quantization: Quantization | None = None
    fitted: Mapping[str, FittedEquation] | None = None
    """{"fitted-3": rows found for this bundle}."""
    calibration_images: Mapping[str, str] | None = None
    """{file name: SHA-256}."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.default_preset not in self.presets:
            there = ", ".join(self.presets) or "there are none"
            raise _invalid([f"default_preset {self.default_preset!r} is none of the presets ({there})"])

    @property
    def configured(self) -> dict[str, Any]:
        """The values of the configuration, as JSON has them, without their sources."""
        return {name: each.value for name, each in self.configuration.items()}

    @property
    def usual_scale(self) -> float:
        """4, or what is nearest to it of the scales that training saw."""
        trained = self.scale_range.trained
        return USUAL_SCALE if trained is None else min(max(USUAL_SCALE, float(trained[0])), float(trained[1]))

    @property
    def only_scale(self) -> float | None:
        """The one magnification of training, if it was one."""
        trained = self.scale_range.trained
        return float(trained[0]) if trained is not None and trained[0] == trained[1] else None

    @classmethod
    def from_json(cls, data: object) -> "Manifest":
        """The manifest that parsed JSON describes; a newer schema is refused before anything else is looked at."""
        if not isinstance(data, dict):
            raise BundleError(f"bundle.json is not valid: expected an object, found {type(data).__name__}.")
        refuse_newer_schema(data)
        schema = data.get("schema")
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise BundleError(f"bundle.json is not valid: schema is {schema!r}, expected a number from 1 to {SCHEMA}.")
        problems = list(_key_problems(data))
        if problems:
            raise _invalid(problems)
        return cls(**records_from_json(data))

    def check(self) -> None:
        """What code has made can be read again and has every file that it needs; otherwise a BundleError lists why."""
        Manifest.from_json(self.as_json()).require_files()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON of everything; the optional keys are absent while they are None."""
        values = {name: getattr(self, name) for name in NAMES}
        told = {name: value for name, value in values.items() if name not in OPTIONAL or value is not None}
        return {name: json_from_records(value) for name, value in told.items()}

    def as_bytes(self) -> bytes:
        """The bytes of bundle.json: sorted keys, ASCII, a newline at the end; equal manifests give equal bytes."""
        return (json.dumps(self.as_json(), sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")

    def mentioned(self, names: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """The files among `names` that this manifest mentions anywhere but in its list of files."""
        strings = set(_strings({name: value for name, value in self.as_json().items() if name != "files"}))
        return {name: record for name, record in names.items() if name in strings}

    def require_files(self) -> None:
        """Every file that a graph, table or sample needs is in `files`; otherwise a BundleError names them."""
        missing = [f"{where} names {name}" for where, name in self._needed() if name not in self.files]
        if missing:
            raise BundleError(f"bundle.json is not valid: {'; '.join(missing)}, which its files do not list.")

    def _needed(self) -> Iterator[tuple[str, str]]:
        for name, graph in self.graphs.items():
            yield from ((f"graph {name}", file) for file in graph.files)
        yield from ((f"table {name}", file) for name, file in self.tables.items())
        yield from (("samples", file) for file in self.samples)
        yield from self.quantization.files if self.quantization is not None else ()


NAMES = tuple(entry.name for entry in fields(Manifest))
"""The keys of bundle.json, in the order in which problems with them are told."""


def _invalid(problems: Sequence[str]) -> BundleError:
    """The first few of them; a file that is wrong in a thousand places is not better known by all."""
    more = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
    return BundleError(f"bundle.json is not valid: {'; '.join(problems[:MOST_TOLD])}{more}.")


def refuse_newer_schema(data: object) -> None:
    """A BundleError with the versions if parsed JSON is a manifest of a schema that this version does not know."""
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(schema, int) and schema > SCHEMA:
        tool = data.get("tool")
        writer = tool.get("version", "?") if isinstance(tool, dict) else "?"
        raise BundleError(
            f"it has bundle schema {schema}, written by idm-deploy {writer}; idm-deploy {deploy.__version__} reads "
            f"up to schema {SCHEMA}. Update idm-deploy, or export the checkpoint again with this version."
        )


def records_from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of bundle.json and their records; a BundleError lists all problems."""
    problems: list[str] = []
    plain = {name: plain_json(name, value, problems) for name, value in data.items()}
    if problems:
        raise _invalid(problems)
    told = [name for name in NAMES if plain.get(name) is not None or (name in plain and name not in OPTIONAL)]
    records = {name: READINGS[name](name, plain[name], problems) for name in told}
    if problems:
        raise _invalid(problems)
    return records


def _key_problems(data: dict[str, Any]) -> Iterator[str]:
    for key in sorted(data.keys() - set(NAMES)):
        nearest = difflib.get_close_matches(key, NAMES, n=1)
        yield f"unknown key {key!r}" + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
    for key in sorted(set(NAMES) - data.keys() - set(OPTIONAL)):
        yield f"missing key {key!r}"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
