"""A folder of diffusers -> the tensors of its parts and what their configurations say, without diffusers.

Nothing that `model_index.json` names is imported: the class of the pipeline is compared with those that families
declare, and the configurations are data. Weights are read as checkpoint files are, pickles among them by our own
unpickler.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deploy.checkpoint.stored_tensors import AssembledTensor, StoredTensor, Tensor
from deploy.checkpoint.weights_files import Contents, open_weights
from deploy.errors import CheckpointError
from deploy.families.contract import Family
from deploy.families.detection import Settings
from deploy.families.folders import Part, PipelineFolder
from deploy.families.table import FAMILIES
from deploy.foreign.places import kind_of_folder

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
LARGEST_JSON = 32 << 20
"""Bytes of a configuration or of the index of shards; real ones have at most a few megabytes."""


@dataclass(frozen=True)
class WeightsName:
    """A name under which a part's weights may lie. `half`: of the variant in sixteen bits, taken if nothing else is."""

    name: str
    half: bool = False

    @property
    def sharded(self) -> bool:
        """Whether it is an index that names the files which hold the tensors."""
        return self.name.endswith(".json")


NAMES = (
    WeightsName(f"{WEIGHTS}.safetensors"),
    WeightsName(f"{WEIGHTS}.safetensors.index.json"),
    WeightsName(f"{WEIGHTS}.bin"),
    WeightsName(f"{WEIGHTS}.bin.index.json"),
    WeightsName(f"{WEIGHTS}.fp16.safetensors", half=True),
    WeightsName(f"{WEIGHTS}.safetensors.index.fp16.json", half=True),
    WeightsName(f"{WEIGHTS}.fp16.bin", half=True),
    WeightsName(f"{WEIGHTS}.bin.index.fp16.json", half=True),
)
"""In the order in which they are looked for."""


class _ShardIndex(msgspec.Struct):
    """Which file beside the index holds each tensor."""

    weight_map: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class OpenedFolder:
    """A pipeline's folder: its tensors under published names, the family they are of, and what its files say."""

    contents: Contents
    family: Family
    settings: Settings

    def tensors(self) -> dict[str, Tensor]:
        """Everything in the folder: assembled under its published name where it has one, else under its own."""
        layout = layout_of(self.family)
        stored: dict[str, StoredTensor] = self.contents.tensors(self.contents.root)
        assembled = layout.assembled({name: tensor.shape for name, tensor in stored.items()}, self.settings)
        taken = {piece for recipe in assembled.values() for piece in recipe.pieces}
        tensors: dict[str, Tensor] = {name: tensor for name, tensor in stored.items() if name not in taken}
        for name, recipe in assembled.items():
            pieces = tuple(stored[piece] for piece in recipe.pieces)
            tensors[name] = AssembledTensor(pieces=pieces, shape=recipe.shape, make=recipe.make)
        return tensors


def known_pipelines() -> tuple[str, ...]:
    """The pipelines whose folders some family reads, by their names in `model_index.json`."""
    return tuple(family.folder.pipeline for family in FAMILIES if family.folder is not None)


def holds_pipeline(path: Path) -> bool:
    """Whether this is a folder that claims to be a pipeline of diffusers."""
    return os.path.isdir(path) and os.path.isfile(path / INDEX)  # noqa: PTH112, PTH113  False of what cannot be looked at


def layout_of(family: Family) -> PipelineFolder:
    """How the family's networks lie in a folder; asked only of families that have one."""
    if family.folder is None:
        raise CheckpointError(f"Networks of the {family.name} family are read from files only; name the file.")
    return family.folder


def open_folder(path: Path) -> OpenedFolder:
    """The pipeline in a folder, refused by its name unless it is one that a family declares."""
    index = _mapping(path / INDEX)
    family = _family_of(path, index)
    layout = layout_of(family)
    configs: dict[str, Mapping[str, Any]] = {}
    root: dict[str, StoredTensor] = {}
    files, remarks = [path / INDEX], []
    for name, part in layout.parts.items():
        _check_class(path, name, part, index)
        config = path / name / part.config
        if not config.is_file():
            raise _missing(path, f"{name}/{part.config}", layout)
        configs[name] = _mapping(config)
        files.append(config)
        if part.weights:
            weights = _weights_of(path, name, layout)
            if weights.half:
                remarks.append(f"{name}: only weights in sixteen bits are there ({weights.name}), so these are taken")
            for file, tensors in _tensors_of(path / name, weights):
                files.append(file)
                root |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    contents = Contents(
        path=path,
        format="diffusers folder",
        size=sum(file.stat().st_size for file in files),
        root=root,
        files=tuple(dict.fromkeys(files)),
        remarks=tuple(remarks),
    )
    return OpenedFolder(contents=contents, family=family, settings=layout.settings(configs, str(path)))


def _family_of(path: Path, index: Mapping[str, Any]) -> Family:
    pipeline = index.get("_class_name")
    for family in FAMILIES:
        if family.folder is not None and family.folder.pipeline == pipeline:
            return family
    known = ", ".join(known_pipelines())
    raise CheckpointError(f"{path} is {kind_of_folder(path)}. Of such folders idm-deploy takes {known or 'none'}.")


def _check_class(path: Path, name: str, part: Part, index: Mapping[str, Any]) -> None:
    """A CheckpointError unless `model_index.json` lists the part as a class that it may be."""
    entry = index.get(name)
    listed = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if part.classes and listed not in part.classes:
        raise CheckpointError(
            f"{path / INDEX} says that {name} is {listed or 'nothing'}, expected {' or '.join(part.classes)}; this is "
            "a variant of the pipeline that idm-deploy does not run."
        )


def _missing(path: Path, what: str, layout: PipelineFolder) -> CheckpointError:
    return CheckpointError(
        f"{path} lacks {what}, which a folder of {layout.pipeline} needs; the download is incomplete, get the whole "
        "repository."
    )


def _weights_of(path: Path, part: str, layout: PipelineFolder) -> WeightsName:
    for candidate in NAMES:
        if (path / part / candidate.name).is_file():
            return candidate
    raise _missing(path, f"{part}/{NAMES[0].name} (or its .bin)", layout)


def _tensors_of(folder: Path, weights: WeightsName) -> Iterator[tuple[Path, dict[str, StoredTensor]]]:
    """Each file that belongs to the weights, with the tensors that are taken from it."""
    place = folder / weights.name
    if not weights.sharded:
        yield place, _tensors_in(place)
        return
    yield place, {}
    try:
        index = msgspec.convert(_mapping(place), _ShardIndex)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{place} is no index of shards: {error}. Download the folder again.") from error
    for shard in sorted(set(index.weight_map.values())):
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(f"{place} names the file {shard!r} outside its own folder; it was tampered with.")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{place} names {shard}, which is not there; the download is incomplete, repeat it.")
        tensors = _tensors_in(folder / shard)
        names = [name for name, file in index.weight_map.items() if file == shard]
        if lost := [name for name in names if name not in tensors]:
            raise CheckpointError(
                f"{folder / shard} lacks {lost[0]}, which {place.name} says it holds; repeat the download."
            )
        yield folder / shard, {name: tensors[name] for name in names}


def _tensors_in(file: Path) -> dict[str, StoredTensor]:
    contents = open_weights(file)
    if not isinstance(contents.root, Mapping):
        raise CheckpointError(f"{file} holds no dictionary of named tensors; download the folder again.")
    return contents.tensors(contents.root)


def _mapping(file: Path) -> dict[str, Any]:
    """The dictionary in a small JSON file of the folder."""
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{file} has more than {LARGEST_JSON >> 20} MiB, which no configuration has.")
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON ({error}); download the folder again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds {type(content).__name__}, expected an object; download the folder again.")
    return content
