"""Which files of a repository are needed: one form of everything, and nothing that this tool does not read."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.errors import HubError
from deploy.hub.address import SCHEME, Address, is_plain_path

BUNDLE_INDEX = "bundle.json"
PIPELINE_INDEX = "model_index.json"
CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""The earlier one is taken where a repository has the same name with several."""

Kind = Literal["bundle", "pipeline", "checkpoint"]
ReadText = Callable[[str], bytes]
"""The content of a small file of the repository, by its name there."""

_ASK = "Ask its owner to upload it again."
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[A-Za-z0-9_]+))?"
    r"(?P<shard>-(?P<number>\d{5})-of-(?P<count>\d{5}))?(?:\.(?P<late>[A-Za-z0-9_]+))?\.(?P<suffix>safetensors|bin)"
)
_INDEX = re.compile(r"(?P<stem>[a-z_]+)\.(?P<suffix>safetensors|bin)\.index(?:\.(?P<variant>[A-Za-z0-9_]+))?\.json")
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to fetch: names in the repository, sorted; `root` is the folder there of which they are the whole."""

    kind: Kind
    files: tuple[str, ...]
    root: str = ""
    """Empty, or a folder's name with its slash. Of a checkpoint it is not asked."""
    sha256: Mapping[str, str]
    """What a bundle says of its own files."""
    notes: tuple[str, ...] = ()


def choose(
    address: Address, names: Collection[str], read: ReadText, pipelines: Collection[str] | None = None
) -> Choice:
    """What to fetch of a repository that lists these names, all plain paths; of pipelines only those that are given."""
    root = ""
    if address.file is not None:
        if address.file in names:
            return Choice(kind="checkpoint", files=(address.file,), sha256={})
        root = f"{address.file}/"
        if not any(name.startswith(root) for name in names):
            raise HubError(f"{address}: {address.repository} has no file {address.file}. It has {_shown(names)}.")
    inside = {name.removeprefix(root): name for name in names if name.startswith(root)}
    if BUNDLE_INDEX in inside:
        return _bundle(address, root, inside, read)
    if PIPELINE_INDEX in inside:
        return _pipeline(address, root, inside, read, pipelines)
    bundles = sorted(name for name in inside if name.endswith(f"/{BUNDLE_INDEX}"))
    checkpoints = _checkpoints(inside)
    if len(bundles) == 1 and not checkpoints:
        root += bundles[0].removesuffix(BUNDLE_INDEX)
        inside = {name.removeprefix(root): name for name in names if name.startswith(root)}
        return _bundle(address, root, inside, read)
    if len(checkpoints) == 1 and not bundles:
        return Choice(kind="checkpoint", files=(inside[checkpoints[0]],), sha256={})
    if not checkpoints and not bundles:
        raise HubError(
            f"{address} holds no bundle ({BUNDLE_INDEX}), no diffusers pipeline ({PIPELINE_INDEX}) and no checkpoint "
            f"({', '.join(CHECKPOINT_SUFFIXES)}). It has {_shown(names)}."
        )
    folders = (root + name.removesuffix(f"/{BUNDLE_INDEX}") for name in bundles)
    several = sorted([*folders, *(inside[name] for name in checkpoints)])
    revision = f"@{address.revision}" if address.revision else ""
    raise HubError(
        f"{address} holds {len(several)} models: {_shown(several)}. Name one of them, as in "
        f"{SCHEME}{address.repository}{revision}/{several[0]}."
    )


def _checkpoints(names: Collection[str]) -> list[str]:
    """The checkpoint files, of each stem the one whose suffix comes first."""
    best: dict[str, str] = {}
    for suffix in reversed(CHECKPOINT_SUFFIXES):
        best |= {name.removesuffix(suffix): name for name in names if name.endswith(suffix)}
    return sorted(best.values())


def _bundle(address: Address, root: str, inside: Mapping[str, str], read: ReadText) -> Choice:
    """bundle.json and the files that it lists."""
    listed = _mapping(address, inside[BUNDLE_INDEX], read(inside[BUNDLE_INDEX])).get("files")
    records = listed if isinstance(listed, dict) else {}
    hashes = {
        name: record["sha256"]
        for name, record in records.items()
        if isinstance(record, dict) and isinstance(record.get("sha256"), str)
    }
    if not records or len(hashes) != len(records):
        raise HubError(f"{address}: its {BUNDLE_INDEX} lists no files with their SHA-256; it is not whole. {_ASK}")
    odd = [name for name in records if "/" in name or not is_plain_path(name)]
    if odd:
        raise HubError(
            f"{address}: its {BUNDLE_INDEX} lists {odd[0][:60]!r}, which is no name of a file in a bundle. {_ASK}"
        )
    lost = sorted(name for name in records if name not in inside)
    if lost:
        raise HubError(f"{address}: its {BUNDLE_INDEX} lists {_shown(lost)}, which the repository lacks. {_ASK}")
    files = sorted([inside[BUNDLE_INDEX], *(inside[name] for name in records)])
    return Choice(
        kind="bundle", files=tuple(files), root=root, sha256={root + name: text for name, text in hashes.items()}
    )


def _pipeline(
    address: Address, root: str, inside: Mapping[str, str], read: ReadText, known: Collection[str] | None
) -> Choice:
    """model_index.json and, of each part that it names, settings and one form of weights."""
    index = _mapping(address, inside[PIPELINE_INDEX], read(inside[PIPELINE_INDEX]))
    if known is not None and index.get("_class_name") not in known:
        name = index.get("_class_name")
        title = name[:60] if isinstance(name, str) and name.isprintable() else "of no name"
        raise HubError(
            f"{address} is a diffusers folder ({title}); run it with diffusers. Of such folders idm-deploy takes "
            f"{', '.join(known) or 'none'}; no weights were fetched."
        )
    parts = [
        name for name, value in index.items() if isinstance(value, list) and all(isinstance(v, str) for v in value)
    ]
    odd = [part for part in parts if "/" in part or not is_plain_path(part)]
    if odd or not parts:
        what = f"names the part {odd[0][:60]!r}" if odd else "names no parts"
        raise HubError(f"{address}: its {PIPELINE_INDEX} {what}; it is no diffusers pipeline. {_ASK}")
    files, notes = [PIPELINE_INDEX], []
    for part in parts:
        own = [name.removeprefix(f"{part}/") for name in inside if name.startswith(f"{part}/")]
        own = [name for name in own if "/" not in name]
        if not own:
            raise HubError(f"{address}: its {PIPELINE_INDEX} names the part {part}, which the repository lacks. {_ASK}")
        weights, note = _weights(address, part, own)
        notes += [note] if note else []
        settings = [name for name in own if name.endswith(".json") and not _INDEX.fullmatch(name)]
        files += [f"{part}/{name}" for name in (*settings, *weights)]
    return Choice(
        kind="pipeline", files=tuple(sorted(inside[name] for name in files)), root=root, sha256={}, notes=tuple(notes)
    )


def _weights(address: Address, part: str, names: Collection[str]) -> tuple[list[str], str | None]:
    """One form of a part's weights: safetensors before .bin, full precision before a variant; a note on a variant."""
    forms: dict[tuple[str, str], list[re.Match[str]]] = {}
    for name in names:
        match = _WEIGHTS.fullmatch(name)
        if match is not None:
            forms.setdefault((match["variant"] or match["late"] or "", match["suffix"]), []).append(match)
    if not forms:
        return [], None
    variant, suffix = min(forms, key=lambda form: (form[0] != "", form[1] != "safetensors", form[0] != "fp16", form))
    found = forms[variant, suffix]
    whole = [match for match in found if match["shard"] is None]
    shards = sorted(match.group() for match in found if match["shard"] is not None)
    note = f"{part} has weights as {variant} only" if variant else None
    if whole:
        return [min(match.group() for match in whole)], note
    count = int(found[0]["count"])
    numbers = {int(match["number"]) for match in found}
    if lost := [number for number in range(1, count + 1) if number not in numbers]:
        raise HubError(
            f"{address}: the weights of {part} are in {count} pieces, of which number {lost[0]} is missing. {_ASK}"
        )
    index = [
        name
        for name in names
        if (match := _INDEX.fullmatch(name)) and (match["variant"] or "", match["suffix"]) == (variant, suffix)
    ]
    return [*shards, *index], note


def _mapping(address: Address, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{address}: {name} is not JSON ({str(error)[:80]}); the upload is damaged. {_ASK}") from error
    if not isinstance(value, dict):
        raise HubError(f"{address}: {name} is no JSON object; the upload is damaged. {_ASK}")
    return value


def _shown(names: Collection[str]) -> str:
    listed = sorted(names)
    rest = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return (", ".join(name[:80] for name in listed[:_SHOWN]) or "nothing") + rest
