"""A model on a hub -> its files on this machine: fetched once, pinned to the commit, found again without a network."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.errors import HubError
from deploy.hub.address import MAIN, Address, hub_address
from deploy.hub.choice import Choice, Kind, choose
from deploy.hub.client import (
    SMALL_FILE_BYTES,
    Listing,
    UnreachableHub,
    fetch,
    list_files,
    refusals,
    refuse_small_disk,
)
from deploy.hub.shelf import Pin, Shelf
from engines.progress import Progress, Say, silent


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A model on this machine. `path` is the folder of a bundle or a pipeline, or a checkpoint file."""

    address: Address
    path: Path
    kind: Kind
    commit: str
    files: int
    bytes: int
    fetched: int
    """Bytes that came now; 0 where all of it was here."""
    moved_from: str | None = None
    """The commit that this revision was when it was fetched the last time, if another."""
    notes: tuple[str, ...] = ()


def local_path(
    path: str | Path, progress: Progress = silent, say: Say | None = None, pipelines: Collection[str] | None = None
) -> Path:
    """The path itself, or of an hf:// address where its model lies, which is fetched the first time.

    A revision stands for the commit that it was when it was fetched first; `pull` asks for a newer one. `pipelines`:
    the only ones that are worth fetching, by their names in `model_index.json`.
    """
    address = None if os.path.lexists(path) else hub_address(path)  # a folder may have such a name
    if address is None:
        return Path(path)
    kept = kept_model(address)
    if kept is not None:
        return kept
    pulled = pull(address, progress, pipelines)
    for line in lines_about(pulled):
        if say is not None:
            say(line)
    return pulled.path


def kept_model(address: Address) -> Path | None:
    """Where the model lies that was fetched before; None if it was not. No network is used."""
    shelf = Shelf.of(address)
    pin = shelf.pin(address.revision)
    commit = address.commit or (pin.commit if pin else None)
    if commit is None:
        return None
    if address.file is not None:
        place = shelf.place(commit, address.file, whole=False)
    else:
        pin = pin or shelf.pin(commit)
        if pin is None or pin.model is None:
            return None
        place = shelf.path / commit / pin.model
    return place if os.path.lexists(place) else None


def pull(address: Address, progress: Progress = silent, pipelines: Collection[str] | None = None) -> Pulled:
    """The model as the hub has it now, fetched as far as it is not here.

    Where the hub cannot be reached, what was fetched before; an UnreachableHub if that is nothing.
    """
    try:
        listing = list_files(address)
    except UnreachableHub as error:
        kept = kept_model(address)
        if kept is None:
            raise
        return _kept(address, kept, str(error))
    shelf = Shelf.of(address)
    before = shelf.pin(address.revision)
    moved = before.commit if before and before.commit != listing.commit else None
    with refusals(address), shelf.reserved():
        pulled = _fetched(address, listing, shelf, progress, pipelines)
    return replace(pulled, moved_from=moved)


def lines_about(pulled: Pulled) -> list[str]:
    """What a person is told of a model that was fetched, before where it lies."""
    short = pulled.commit[:12]
    lines = []
    if pulled.moved_from is not None:
        revision = f"{pulled.address.revision or MAIN} of {pulled.address.repository}"
        lines.append(
            f"{revision} has moved from {pulled.moved_from[:12]} to {short} since it was fetched; the earlier one is "
            f"{replace(pulled.address, revision=pulled.moved_from)}"
        )
    lines.extend(pulled.notes)
    return lines


def _kept(address: Address, path: Path, why: str) -> Pulled:
    """What was fetched before, since the hub cannot be asked."""
    shelf = Shelf.of(address)
    pin = shelf.pin(address.revision)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    day = f" of {pin.day}" if pin else ""
    reason = why.partition("(")[2].rpartition(")")[0] or why
    return Pulled(
        address=address,
        path=path,
        kind="checkpoint" if path.is_file() else "bundle" if (path / "bundle.json").exists() else "pipeline",
        commit=path.relative_to(shelf.path).parts[0],
        files=len(files),
        bytes=sum(file.stat().st_size for file in files),
        fetched=0,
        notes=(f"the hub cannot be asked ({reason}); this is the download{day}",),
    )


def _fetched(
    address: Address, listing: Listing, shelf: Shelf, progress: Progress, pipelines: Collection[str] | None
) -> Pulled:
    choice = choose(address, listing.files, lambda name: _small(address, listing, name), pipelines)
    whole = address.file is None and choice.kind != "checkpoint" and choice.root == ""
    folder = address.name if whole else choice.root.rstrip("/")
    name = choice.files[0] if choice.kind == "checkpoint" else folder
    place = shelf.place(listing.commit, name, whole=whole)
    sizes = {file: listing.files[file].size or 0 for file in choice.files}
    came = 0
    if not place.exists():
        came = _download(address, listing, choice, shelf, place, sizes, progress)
    day = datetime.now(UTC).date().isoformat()
    for revision in dict.fromkeys((address.revision, listing.commit)):
        known = shelf.pin(revision)
        model = str(place.relative_to(shelf.path / listing.commit)) if address.file is None else None
        if model is None and known is not None and known.commit == listing.commit:
            model = known.model
        shelf.record(revision, Pin(commit=listing.commit, day=day, model=model))
    found = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return Pulled(
        address=address,
        path=place,
        kind=choice.kind,
        commit=listing.commit,
        files=len(found),
        bytes=sum(file.stat().st_size for file in found),
        fetched=came,
        notes=(*choice.notes, *_unsaid(listing, choice)),
    )


def _unsaid(listing: Listing, choice: Choice) -> list[str]:
    """A note where the hub's list has no hash of some files, as those of some mirrors."""
    known = [listing.files[name] for name in choice.files if name not in choice.sha256]
    count = sum(remote.sha256 is None and remote.git_sha1 is None for remote in known)
    return [f"the hub lists no hash of {count} of {len(choice.files)} files"] if count else []


def _small(address: Address, listing: Listing, name: str) -> bytes:
    """The content of a file that says which others are needed."""
    size = listing.files[name].size
    if size is not None and size > SMALL_FILE_BYTES:
        raise HubError(f"{address}: {name} has {size} bytes, more than any list of files needs.")
    return fetch(address, listing.commit, name, listing.files[name], lambda _: None).read_bytes()


def _download(
    address: Address,
    listing: Listing,
    choice: Choice,
    shelf: Shelf,
    place: Path,
    sizes: Mapping[str, int],
    progress: Progress,
) -> int:
    """The number of bytes that are at `place` now, each file with its hash."""
    total = sum(sizes.values())
    refuse_small_disk(total)
    done = 0
    files: dict[str, Path] = {}
    for number, name in enumerate(choice.files):

        def counted(count: int, name: str = name, number: int = number) -> None:
            nonlocal done
            done += count
            share = done / total if total else number / len(choice.files)
            progress(f"{name} ({done / 1e6:.1f} of {total / 1e6:.1f} MB)", min(share, 1.0))

        files[name] = fetch(address, listing.commit, name, listing.files[name], counted)
        _refuse_other_hash(address, name, files[name], choice)
    if choice.kind == "checkpoint":
        shelf.put({"": files[choice.files[0]]}, place)
    else:
        shelf.put({name.removeprefix(choice.root): path for name, path in files.items()}, place)
    return done


def _refuse_other_hash(address: Address, name: str, path: Path, choice: Choice) -> None:
    """A HubError if a bundle's own list says another hash: its upload mixes two bundles."""
    from hashlib import file_digest

    expected = choice.sha256.get(name)
    if expected is None:
        return
    with path.open("rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise HubError(
            f"{address}: {name} has SHA-256 {found[:16]}..., and its bundle.json says {expected[:16]}...; the upload "
            "is damaged. Ask its owner to push it again."
        )
