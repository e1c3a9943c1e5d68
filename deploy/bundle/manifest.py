"""bundle.json: what a bundle says about itself, as a validated value and as deterministic bytes.

No time, user name or absolute path belongs in it: the same inputs give the same bytes.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

import deploy
from deploy.bundle.checks import CHECKS, plain_json
from deploy.bundle.fitted import FittedEquation, fitted_from_json
from deploy.bundle.quantization import Quantization, quantization_from_json
from deploy.errors import BundleError

SCHEMA = 1
"""The version of bundle.json that this tool writes, and the newest that it reads."""

USUAL_SCALE = 4.0
"""Of what is shown and searched where nobody says another."""

QUANTIZATION = "quantization"
FITTED = "fitted"
MOST_TOLD = 5
"""Problems that one message lists."""
OPTIONAL = (QUANTIZATION, FITTED, "calibration_images")
"""Keys that bundle.json lacks until a command has something to say there."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What bundle.json records of one file: the SHA-256 of its content in hexadecimal and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of bundle.json, checked when made; all problems are reported in one BundleError.

    Nested values are plain JSON (tuples become lists) and copies, so what is written is what is read. Change
    one with `dataclasses.replace`; `files` is filled in by BundleWriter.commit. Any string that equals the name
    of a file of the bundle, wherever it stands, keeps that file in the bundle.
    """

    family: str
    weights: str
    """"raw" or "ema"."""
    configuration: Mapping[str, Any]
    """{name: {"value": JSON, "source": "config" | "metadata" | "weights" | "assumed"}}."""
    value_range: Any
    """[low, high] of the pictures the networks see, or {name: [low, high]} where inputs differ."""
    scale_range: Mapping[str, Any]
    """{"trained": [1, s_max] or null, ...}."""
    schedule: Mapping[str, Any]
    rewrites: Sequence[str]
    opset: int
    graphs: Mapping[str, Any]
    """{name: {"forms": {form: file}, "inputs": [{name, dtype, shape}], "outputs": [...], "weights": [file], ...}}."""
    tables: Mapping[str, str]
    """{name: .npy file}."""
    presets: Mapping[str, Any]
    """{name: {"equation": ..., "steps": ..., ...}}."""
    default_preset: str
    source: Mapping[str, Any]
    """The checkpoint: {"file": name without its folder, "sha256", "bytes"}."""
    placements: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[str] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    """{package: version} of what wrote the graphs."""
    tool: Mapping[str, str] = field(default_factory=lambda: {"name": "idm-deploy", "version": deploy.__version__})
    quantization: Quantization | None = None
    fitted: Mapping[str, FittedEquation] | None = None
    """{"fitted-3": rows found for this bundle}."""
    calibration_images: Mapping[str, str] | None = None
    """{file name: SHA-256}."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, value in self._parts().items():
            object.__setattr__(self, name, plain_json(name, value, problems))
        object.__setattr__(self, "files", dict(self.files))
        if not problems:
            problems = list(_problems(self))
        if problems:
            raise _invalid(problems)
        if self.quantization is not None:
            object.__setattr__(self, QUANTIZATION, quantization_from_json(self.quantization))
        if self.fitted is not None:
            object.__setattr__(self, FITTED, fitted_from_json(self.fitted))

    @property
    def usual_scale(self) -> float:
        """4, or what is nearest to it of the scales that training saw."""
        trained = self.scale_range["trained"]
        return USUAL_SCALE if trained is None else min(max(USUAL_SCALE, float(trained[0])), float(trained[1]))

    @property
    def only_scale(self) -> float | None:
        """The one magnification of training, if it was one."""
        trained = self.scale_range["trained"]
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
        problems = list(_key_problems(data)) + list(CHECKS["files"]("files", data.get("files", {})))
        if problems:
            raise _invalid(problems)
        return cls(**{**data, "files": {name: FileRecord(**record) for name, record in data["files"].items()}})

    def as_json(self) -> dict[str, Any]:
        """Plain JSON of everything; the optional keys are absent while they are None."""
        data = {name: value for name, value in self._parts().items() if name not in OPTIONAL or value is not None}
        return data | {"files": {name: asdict(record) for name, record in self.files.items()}}

    def as_bytes(self) -> bytes:
        """The bytes of bundle.json: sorted keys, ASCII, a newline at the end; equal manifests give equal bytes."""
        return (json.dumps(self.as_json(), sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")

    def mentioned(self, names: Mapping[str, FileRecord]) -> dict[str, FileRecord]:
        """The files among `names` that this manifest mentions anywhere but in its list of files."""
        strings = set(_strings(self._parts()))
        return {name: record for name, record in names.items() if name in strings}

    def require_files(self) -> None:
        """Every file that a graph, table or sample needs is in `files`; otherwise a BundleError names them."""
        missing = [f"{where} names {name}" for where, name in self._needed() if name not in self.files]
        if missing:
            raise BundleError(f"bundle.json is not valid: {'; '.join(missing)}, which its files do not list.")

    def _parts(self) -> dict[str, Any]:
        """The JSON of everything but the list of files."""
        parts = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "files"}
        if isinstance(self.quantization, Quantization):
            parts[QUANTIZATION] = self.quantization.as_json()
        if isinstance(self.fitted, Mapping):
            parts[FITTED] = {
                name: msgspec.to_builtins(equation) if isinstance(equation, FittedEquation) else equation
                for name, equation in self.fitted.items()
            }
        return parts

    def _needed(self) -> Iterator[tuple[str, str]]:
        for name, graph in self.graphs.items():
            yield from ((f"graph {name}", file) for file in [*graph["forms"].values(), *graph["weights"]])
        yield from ((f"table {name}", file) for name, file in self.tables.items())
        yield from (("samples", file) for file in self.samples)
        yield from self.quantization.files if self.quantization is not None else ()


def _invalid(problems: Sequence[str]) -> BundleError:
    """The first few of them; a file that is wrong in a thousand places is not better known by all."""
    more = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
    return BundleError(f"bundle.json is not valid: {'; '.join(problems[:MOST_TOLD])}{more}.")


def _problems(manifest: Manifest) -> Iterator[str]:
    data = manifest.as_json()
    for name, value in data.items():
        yield from CHECKS[name](name, value)
    presets, default = manifest.presets, manifest.default_preset
    if isinstance(presets, dict) and isinstance(default, str) and default not in presets:
        yield f"default_preset {default!r} is none of the presets ({', '.join(presets) or 'there are none'})"


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


def _key_problems(data: dict[str, Any]) -> Iterator[str]:
    names = [entry.name for entry in fields(Manifest)]
    for key in sorted(data.keys() - set(names)):
        nearest = difflib.get_close_matches(key, names, n=1)
        yield f"unknown key {key!r}" + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
    for key in sorted(set(names) - data.keys() - set(OPTIONAL)):
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
