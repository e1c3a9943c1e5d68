"""A checkpoint as training code saved it, or a folder of diffusers -> a network that computes what the authors' does.

Nothing in it is run. The family and its configuration are recognised from names and shapes; every value
is marked with where it comes from. The weights are mapped from the file, not copied, where its format allows.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.records import ConfiguredValue, ValueSource
from deploy.checkpoint.folders import holds_pipeline, known_pipelines, open_folder
from deploy.checkpoint.settings import METADATA_KEY, settings_of
from deploy.checkpoint.state_dicts import QUANTIZER_BUFFERS, State, state_from_contents
from deploy.checkpoint.stored_tensors import FLOATS, Tensor
from deploy.checkpoint.weights_files import Contents, open_weights
from deploy.errors import CheckpointError, ConfigError, MissingPackage
from deploy.families.contract import Family
from deploy.families.detection import Detection, Settings, Shape, Stored
from deploy.families.table import FAMILIES, family_named, titles
from deploy.foreign.networks import refuse_foreign_network
from deploy.hub import local_path
from deploy.sampling.schedule import NoiseSchedule

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)

Weights = Literal["raw", "ema"]
NAMES_SHOWN = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A network with its weights, and what is known of it.

    `network` is in evaluation mode without gradients. Its weights may be mapped from the file, which must
    not be overwritten in place meanwhile.
    """

    path: Path
    format: str
    size: int
    family: str
    title: str
    config: Any
    sources: Mapping[str, ValueSource]
    notes: tuple[str, ...]
    schedule: NoiseSchedule
    network: Any
    unused: Mapping[str, Shape]
    stored: Mapping[str, Tensor]
    weights: Weights
    value_range: tuple[float, float]
    scale_range: tuple[float, float] | None
    files: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, computed on first use.

        Of a folder: of the list that `sha256sum` prints of its files that were read, in the order of their names.
        """
        if not self.files:
            return _sha256(self.path)
        names = sorted(file.relative_to(self.path).as_posix() for file in self.files)
        lines = (f"{_sha256(self.path / name)}  {name}\n" for name in names)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def configuration(self) -> dict[str, ConfiguredValue]:
        """Each field's value, in JSON's types, with its source; fields of parts are named `unet.model_channels`."""
        family = family_named(self.family)
        values = family.settings_from_record(family.as_mapping(self.config))
        return {
            name: ConfiguredValue(value=values[name], source=self.sources[name])
            for name in values
            if name in self.sources
        }

    def unused_tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of `unused` in their stored types, mapped from the file."""
        return {name: self.stored[name].read() for name in self.unused}

    @property
    def parameters_by_part(self) -> dict[str, dict[str, int]]:
        """How many stored numbers each part of the network uses, and how many no output depends on."""
        parts = family_named(self.family).parts
        counts: dict[str, dict[str, int]] = {}
        live_shapes = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        for use, shapes in (("used", live_shapes), ("unused", self.unused)):
            for name, shape in shapes.items():
                part = next((part for prefix, part in parts.items() if name.startswith(prefix)), "tables")
                part = "quantizers" if name.endswith(QUANTIZER_BUFFERS) else part
                counts.setdefault(part, {"used": 0, "unused": 0})[use] += prod(shape)
        return counts


def load_checkpoint(
    path: str | Path, config: str | Path | Mapping[str, Any] | None = None, weights: Weights = "raw"
) -> Checkpoint:
    """The network in a .pt, .pth, .ckpt or .safetensors file or in a folder of diffusers, ready to run in float32.

    `path` may be hf://OWNER/NAME[@REVISION][/FILE], which is fetched the first time.
    `config`: the authors' JSON or YAML file, or a mapping of the same layout or of configuration fields.
    `weights`: "raw" as published inference uses them, or their moving average "ema" where the file has it.
    """
    weights_named(weights)
    torch = _torch()
    contents, state, family, of_folder = _opened(local_path(path, pipelines=known_pipelines()), weights)
    if weights == "raw" and state.averaged:  # only now: of another network it would be the wrong advice
        raise CheckpointError(f"{contents.path} holds only the moving average of the weights; use weights 'ema'.")
    tensors = (
        _averaged(contents.path, family, state.tensors) if weights == "ema" and not state.averaged else state.tensors
    )
    stored = Stored(path=contents.path, shapes=state.shapes, betas=_betas(contents.path, state.tensors))
    settings = [*settings_of(family, config, contents.path, contents.metadata), *of_folder]
    detection = _detected(family, stored, settings)
    with torch.device("meta"):
        network: nn.Module = family.build(detection.config)
    expected = network.state_dict()
    computed = {name for name, value in expected.items() if not value.is_meta}
    _refuse_other_shapes(
        family, stored, detection, {name: tuple(value.shape) for name, value in expected.items()}, computed
    )
    arrays = {name: _read_finite(stored.path, name, tensors[name]) for name in expected if name in tensors}
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False, assign=True
    )
    _LOG.info("read %s: %s, %s, %s weights", contents.path, contents.format, family.name, weights)
    for name, source in detection.sources.items():
        _LOG.debug("%s: from %s", name, source)
    return Checkpoint(
        path=contents.path,
        format=contents.format,
        size=contents.size,
        family=family.name,
        title=family.title,
        config=detection.config,
        sources=detection.sources,
        notes=detection.notes,
        schedule=detection.schedule,
        network=network.eval().requires_grad_(False),
        unused={name: shape for name, shape in state.shapes.items() if name not in expected},
        stored=state.tensors,
        weights=weights,
        value_range=family.value_range,
        scale_range=family.scale_range(detection.config),
        files=contents.files,
        remarks=contents.remarks,
    )


def _opened(path: Path, weights: Weights) -> tuple[Contents, State, Family, list[Settings]]:
    """What is there, its tensors under their published names, its family, and what a folder says of itself."""
    if holds_pipeline(path):
        folder = open_folder(path)
        return folder.contents, State(folder.tensors(), averaged=False), folder.family, [folder.settings]
    contents = open_weights(path)
    state = state_from_contents(contents, weights)
    return contents, state, recognise(contents.path, state.shapes), []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def weights_named(name: str) -> Weights:
    """The choice of weights that a user typed."""
    if name == "raw":
        return "raw"
    if name == "ema":
        return "ema"
    raise ConfigError(f"The weights to load are {name!r}, expected 'raw' or 'ema'.")


def metadata_for(config: Any, schedule: NoiseSchedule) -> dict[str, str]:
    """The safetensors metadata from which `load_checkpoint` reads everything that weights do not reveal."""
    family = next(family for family in FAMILIES if isinstance(config, family.config))
    record = {"family": family.name, "config": family.as_mapping(config), "schedule": schedule.as_dict()}
    return {METADATA_KEY: json.dumps(record, sort_keys=True)}


def recognise(path: Path, shapes: Mapping[str, Shape]) -> Family:
    """The first family whose marks are all there; a well-known network of others is refused by its name."""
    missing = {family.name: [m for m in family.marks_of(shapes) if m not in shapes] for family in FAMILIES}
    for family in FAMILIES:
        if not missing[family.name]:
            return family
    refuse_foreign_network(path, shapes, titles())
    nearest = min(FAMILIES, key=lambda family: len(missing[family.name]) / len(family.marks_of(shapes)))
    lacking = missing[nearest.name]
    raise CheckpointError(
        f"{path} holds another network (tensors: {len(shapes)}); the nearest known family is {nearest.title}, of "
        f"which it lacks {_some(lacking)}. Known families: {', '.join(family.name for family in FAMILIES)}."
    )


def refuse_foreign(path: Path, shapes: Mapping[str, Shape]) -> None:
    """A CheckpointError that names a well-known network of others; nothing for what a family takes or nobody knows."""
    if not any(all(mark in shapes for mark in family.marks_of(shapes)) for family in FAMILIES):
        refuse_foreign_network(path, shapes, titles())


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingPackage("Reading a checkpoint needs PyTorch: pip install 'idm-deploy[export]'.") from error
    return torch


def _detected(family: Family, stored: Stored, settings: list[Settings]) -> Detection:
    try:
        return family.detect(stored, settings)
    except ConfigError as error:
        if str(stored.path) in str(error) or any(source.label in str(error) for source in settings):
            raise
        raise ConfigError(f"{stored.path}: {error}") from error


def _betas(path: Path, tensors: Mapping[str, Tensor]) -> NDArray[np.float32] | None:
    return _read_finite(path, "betas", tensors["betas"]) if "betas" in tensors else None


def _averaged(path: Path, family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with every live name standing for its moving average."""
    names = family.averaged_names({name: tensor.shape for name, tensor in tensors.items()})
    lost = [average for average in names.values() if average not in tensors]
    if not names or lost:
        what = f"lacks {_some(lost)}" if names else "holds none"
        raise CheckpointError(
            f"{path}: the moving average of the weights was asked for, but the file {what}. Use weights 'raw'."
        )
    return {**tensors, **{name: tensors[average] for name, average in names.items()}}


def _refuse_other_shapes(
    family: Family, stored: Stored, found: Detection, expected: Mapping[str, Shape], computed: set[str]
) -> None:
    """A CheckpointError if the file lacks what the network needs, or holds what it has no place for."""
    shapes = stored.shapes
    missing = [name for name in expected if name not in shapes and name not in computed]
    if missing:
        raise CheckpointError(
            f"{stored.path} is {family.title} but lacks {_some(missing)}; the file is incomplete or of another "
            "version. Save the whole state_dict."
        )
    wrong = [
        f"{name} has shape {list(shapes[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if wrong:
        raise CheckpointError(
            f"{stored.path} contradicts itself: by its other tensors' shapes, {_some(wrong)}. "
            "The file mixes two networks or is of another version."
        )
    known_names = {*expected, *family.unused_shapes(found.config)}
    other = [
        name
        for name in shapes
        if name.startswith(family.live_prefixes) and name not in known_names and not name.endswith(QUANTIZER_BUFFERS)
    ]
    if other:
        raise CheckpointError(
            f"{stored.path} is {family.title} but also holds {_some(other)}, which that network does not have; "
            "it is a variant whose result would differ."
        )


def _read_finite(path: Path, name: str, tensor: Tensor) -> NDArray[np.float32]:
    """The weights of one tensor in float32."""
    if tensor.dtype not in FLOATS:
        raise CheckpointError(
            f"{path}: {name} holds {tensor.dtype} numbers, expected one of {', '.join(FLOATS)}; "
            "quantized checkpoints are not read. Pass the one they were made from."
        )
    with np.errstate(all="ignore"):
        array = tensor.read().astype(np.float32, copy=False)
        flat = array.reshape(-1)
        # The sum of squares is not finite if any number is not, and takes one quick pass without a copy. It may
        # overflow as well, hence the second look.
        if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(flat).all():
            count = prod(array.shape) - int(np.isfinite(array).sum())
            raise CheckpointError(
                f"{path}: {name} holds NaN or infinite values ({count} of {prod(array.shape)}); "
                "the training diverged or the file is damaged. Use an earlier checkpoint."
            )
    return array


def _some(items: list[str]) -> str:
    """The first few of the items, and how many more there are."""
    rest = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
