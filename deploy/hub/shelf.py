"""Where fetched models lie, by commit: each under its final name only once it is whole and its hashes are right.

    <assets>/idm-deploy/OWNER--NAME/revisions.json        which commit a branch or tag was when it was fetched
    <assets>/idm-deploy/OWNER--NAME/COMMIT/whole/NAME/    a bundle or a pipeline
    <assets>/idm-deploy/OWNER--NAME/COMMIT/part/FILE      a checkpoint, or a folder within the repository

The files are those of the library's cache, by hard links where the file system has them.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deploy.errors import HubError
from deploy.hub.address import MAIN, Address
from deploy.hub.client import assets_folder

REVISIONS = "revisions.json"
_UNFINISHED = ".unfinished-"


class Pin(msgspec.Struct, frozen=True):
    """Which commit a revision was, the day it was fetched, and where in the commit's folder its model lies."""

    commit: str
    day: str
    model: str | None = None
    """None where only files that were named have been fetched."""


@dataclass(frozen=True)
class Shelf:
    """What is kept of one repository."""

    repository: str
    path: Path

    @classmethod
    def of(cls, address: Address) -> "Shelf":
        """The shelf of the address's repository, which may not exist yet."""
        return cls(address.repository, assets_folder() / address.repository.replace("/", "--"))

    def pin(self, revision: str | None) -> Pin | None:
        """What was recorded of a revision; None if it was never fetched, or the record is damaged."""
        return self._pins().get(revision or MAIN)

    def record(self, revision: str | None, pin: Pin) -> None:
        """From now on this is what the revision stands for."""
        content = msgspec.json.format(msgspec.json.encode({**self._pins(), (revision or MAIN): pin}), indent=1)
        draft = self.path / f"{_UNFINISHED}{secrets.token_hex(6)}"
        draft.write_bytes(content + b"\n")
        draft.replace(self.path / REVISIONS)

    def _pins(self) -> Mapping[str, Pin]:
        try:
            return msgspec.json.decode((self.path / REVISIONS).read_bytes(), type=dict[str, Pin])
        except (OSError, msgspec.DecodeError):
            return {}

    def place(self, commit: str, name: str, *, whole: bool) -> Path:
        """Where a model of that commit lies, or would."""
        return self.path / commit / ("whole" if whole else "part") / name

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """While the block runs, no other process puts anything here; what a killed one left half made goes."""
        from filelock import FileLock

        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            for leftover in self.path.glob(f"{_UNFINISHED}*"):
                _remove(leftover)
            yield

    def put(self, files: Mapping[str, Path], place: Path) -> None:
        """The files, by their names within it, are the folder at `place`; with the one name "" they are that file."""
        draft = self.path / f"{_UNFINISHED}{secrets.token_hex(6)}"
        try:
            for name, source in files.items():
                target = draft / name if name else draft
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(source.resolve(), target)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(place)
        finally:
            _remove(draft)


def refuse_taken(place: Path) -> None:
    """A HubError if something is at `place` already."""
    if os.path.lexists(place):
        raise HubError(f"{place} is there already; choose another place with -o, or move it away.")


def copy_out(source: Path, place: Path) -> None:
    """A copy of a fetched model is at `place`, which is free; nothing is there before the copy is whole."""
    refuse_taken(place)
    draft = place.with_name(f".{place.name}{_UNFINISHED}{secrets.token_hex(6)}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, draft)
        else:
            shutil.copyfile(source, draft)
        draft.rename(place)
    except OSError as error:
        raise HubError(
            f"copying to {place} failed: {error.strerror or error}. Make room, or choose another place."
        ) from error
    finally:
        _remove(draft)


def _remove(draft: Path) -> None:
    """What was made in vain goes, if it was made."""
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        with suppress(OSError):
            draft.unlink()


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or a file system without them
        shutil.copyfile(source, target)
