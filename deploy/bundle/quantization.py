"""What bundle.json says of int8: declared records, written from them and checked whole when a bundle is opened.

Files are named, never described: what lies in them is read by `deploy.engine.int8`. A key that is not declared, a
value of another type and a number out of its range are refused. What is not known yet is left out of bundle.json.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from calibration.choose.ranges import TimestepRanges
from calibration.errors import RangeError
from deploy.bundle.limits import LARGEST_NUMBER, MOST_CHANNELS, MOST_ENTRIES, MOST_STEPS
from deploy.bundle.records import Closed, Digest, Level, Name

FileName = Name
Names = Annotated[tuple[Name, ...], Meta(max_length=MOST_ENTRIES)]
Levels = Annotated[tuple[Level, ...], Meta(max_length=MOST_STEPS)]
PerChannel = Annotated[tuple[float, ...], Meta(min_length=1, max_length=MOST_CHANNELS)]
Setting = None | bool | int | float | str | tuple[int | float | str, ...]


class RangeFiles(Closed, frozen=True):
    """The files of `calibration.targets.range_rows.RangeRows`: its arrays by name."""

    shape: FileName
    sizes: FileName
    factors: FileName
    slopes: FileName
    constants: FileName
    corrections: FileName | None = None

    @property
    def by_array(self) -> dict[str, str]:
        """Name of an array -> its file."""
        return {name: file for name in self.__struct_fields__ if (file := getattr(self, name)) is not None}


class ConstantFiles(Closed, frozen=True):
    """Initializers whose values differ between ranges, one for each segment of the rows."""

    names: Annotated[tuple[Name, ...], Meta(max_length=MOST_CHANNELS)]
    rows: RangeFiles


class LevelCorrection(Closed, frozen=True):
    """What the sampler makes of the int8 prediction at one noise level: gain and offset per channel.

    estimate_variance: of the difference between the pictures estimated in float and in int8, both limited as the
    family's sampler limits them; averaged over channels, each without its mean, which the offset takes away.
    """

    noise_level: Level
    gain: PerChannel
    offset: PerChannel
    estimate_variance: Annotated[float, Meta(ge=0.0, le=LARGEST_NUMBER)]


class Int8Decoder(Closed, frozen=True):
    """The graphs of the latent decoder that are in int8, `decode` and `query`; what is absent stays in float."""

    graphs: Annotated[Mapping[Name, FileName], Meta(max_length=MOST_ENTRIES)]
    weights: Names


class HeldOut(Closed, frozen=True):
    """What the pictures of a preset lost on held-out photographs, as many as `photographs` says where that was noted.

    psnr_drop: dB of mean PSNR against the originals, None without any; fidelity_db: mean dB from float. worst_db: of
    the worst picture, in plain sampling where that is not the preset.
    """

    preset: Name
    pictures: Annotated[int, Meta(ge=1)]
    psnr_drop: float | None
    fidelity_db: float
    worst_db: float
    photographs: Annotated[int, Meta(ge=1)] | None = None
    ssimulacra2_drop: float | None = None


class Int8Target(Closed, frozen=True):
    """The int8 graphs of one target.

    edges: of its timestep ranges. rows: what is fed per range, by the name of the graph's input. constants: what each
    range's engine is built with, by what would be the name of that input. noise_corrections: by rising noise level.
    """

    graph: FileName
    edges: Levels
    rows: Mapping[Name, RangeFiles]
    constants: Mapping[Name, ConstantFiles]
    weights: Names
    noise_corrections: Annotated[tuple[LevelCorrection, ...], Meta(max_length=MOST_STEPS)]
    decoder: Int8Decoder | None = None
    held_out: HeldOut | None = None

    def __post_init__(self) -> None:
        try:
            TimestepRanges(self.edges)
        except RangeError as error:
            raise ValueError(str(error)) from error
        levels = [row.noise_level for row in self.noise_corrections]
        if not all(low < high for low, high in pairwise(levels)):
            raise ValueError("the noise levels of noise_corrections do not rise")
        channels = {len(values) for row in self.noise_corrections for values in (row.gain, row.offset)}
        if len(channels) > 1:
            raise ValueError("gain and offset of noise_corrections differ in their number of channels")

    @property
    def graphs(self) -> list[str]:
        """The files of its graphs: the denoiser, then what of the decoder is in int8."""
        return [self.graph, *([] if self.decoder is None else self.decoder.graphs.values())]

    @property
    def digest(self) -> str:
        """The SHA-256 of all that decides what its graphs compute: files are named by their content."""
        computes = msgspec.structs.replace(self, held_out=None)
        return hashlib.sha256(msgspec.json.encode(computes, order="deterministic")).hexdigest()

    @property
    def files(self) -> list[str]:
        """Every file that this target needs, some more than once."""
        rows = [*self.rows.values(), *(constants.rows for constants in self.constants.values())]
        weights = [*self.weights, *([] if self.decoder is None else self.decoder.weights)]
        return [*self.graphs, *weights, *(file for files in rows for file in files.by_array.values())]


class Quantization(Closed, frozen=True):
    """The int8 forms of a bundle's networks, and how they were made.

    noise_levels: that were recorded. equations: of the sampling that was recorded. settings: what `quantize` was told,
    by name. calibration_sha256: of the calibration.json that lists every scale. A calibration's trials lack the last
    three.
    """

    targets: Annotated[Mapping[Name, Int8Target], Meta(max_length=MOST_ENTRIES)]
    noise_levels: Levels
    settings: Annotated[Mapping[Name, Setting], Meta(max_length=MOST_ENTRIES)] = {}
    calibration_sha256: Digest | None = None
    equations: Names = ()

    def __post_init__(self) -> None:
        for name in ("max_psnr_drop", "min_fidelity"):
            value = self.settings.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} of settings is a number of dB, found {value!r}")

    @property
    def max_psnr_drop(self) -> float | None:
        """dB of PSNR against originals that `quantize` was allowed to lose."""
        return self._decibels("max_psnr_drop")

    @property
    def min_fidelity(self) -> float | None:
        """dB that the worst picture was to keep to the float one; None: it was not asked for."""
        return self._decibels("min_fidelity")

    def _decibels(self, name: str) -> float | None:
        value = self.settings.get(name)
        return value if isinstance(value, int | float) else None

    def as_json(self) -> dict[str, Any]:
        """The record as bundle.json holds it, with tuples for lists."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record

    def with_targets(self, targets: Mapping[str, Int8Target]) -> "Quantization":
        """The record with other targets."""
        return msgspec.structs.replace(self, targets=targets)

    @property
    def files(self) -> Iterator[tuple[str, str]]:
        """Every file that int8 needs, with who needs it."""
        for name, target in self.targets.items():
            yield from ((f"int8 for {name}", file) for file in target.files)


def quantization_from_json(value: object) -> Quantization:
    """The record that JSON's types hold; a ValueError says at which place they hold something else."""
    targets = value.get("targets") if isinstance(value, Mapping) else None
    for name, target in targets.items() if isinstance(targets, Mapping) else ():
        # For its name: msgspec says which key of none.
        record_from_json(target, Int8Target, f"quantization.targets.{name}")
    return record_from_json(value, Quantization, "quantization")


Kind = TypeVar("Kind", bound=Closed)


def record_from_json(value: object, kind: type[Kind], place: str) -> Kind:
    """The record of that kind; a ValueError names the place in bundle.json that holds something else."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        raise ValueError(f"{place}{where.rstrip('`')}: {problem[0].lower()}{problem[1:]}") from error
