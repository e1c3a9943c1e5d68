"""Making or updating a bundle so that a kill at any moment leaves the old one whole, or none.

A new bundle grows in a hidden folder beside its place and is renamed as a whole at the end. An existing one
gets its new files beside the old ones, which have other names because their content differs; then bundle.json
is replaced by rename; only then do the files that nobody lists any more go.
"""

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from deploy.bundle.discovery import holds_manifest
from deploy.bundle.known import WRITTEN, digest_of, known_of, remember
from deploy.bundle.locking import DirectoryLock, remove_if_dead, sync_directory
from deploy.bundle.manifest import Manifest
from deploy.bundle.naming import MANIFEST_DRAFT, MANIFEST_NAME, TEMPORARY_PREFIX, digits_of_name
from deploy.bundle.reading import Bundle, read_manifest
from deploy.bundle.records import FileRecord
from deploy.bundle.stream import BundleStream
from deploy.errors import BundleError
from engines.paths import is_folder_there


class BundleWriter:
    """A bundle in the making; a context manager that leaves nothing behind unless `commit` was reached.

        with BundleWriter.create(path) as writer:
            weights = writer.add_file("weights", "bin", built_weights)
            bundle = writer.commit(Manifest(..., samples=[...]))

    ONNX graphs name their external weights, so add the weights first, then the graphs.
    """

    def __init__(self, target: Path, *, in_place: bool, old: Manifest | None) -> None:
        self._target = target
        self._in_place = in_place
        self._old = old
        self._files: dict[str, FileRecord] = dict(old.files) if old else {}
        self._added: set[str] = set()
        self._folder: Path | None = None
        self._before: set[str] = set()
        self._lock: DirectoryLock | None = None
        self._listed: set[str] = set()
        self._written: bytes | None = None

    @classmethod
    def create(cls, path: str | Path, *, force: bool = False) -> Self:
        """A writer of a bundle at `path`; an existing bundle is replaced only with `force`, anything else never."""
        target = Path(path).absolute()
        with refused(f"writing {target}"):
            if not os.path.lexists(target) or (is_folder_there(target) and not _names_in(target)):
                if not is_folder_there(target.parent):
                    raise BundleError(f"cannot write {path}: the folder {target.parent} does not exist. Make it first.")
                return cls(target, in_place=False, old=None)
        if not holds_manifest(target):
            raise BundleError(f"cannot write {path}: something that is not a bundle is there. Choose another place.")
        if not force:
            raise BundleError(f"{path} already exists. Use --force to replace it, or choose another place with -o.")
        return cls(target, in_place=True, old=None)

    @classmethod
    def update(cls, bundle: Bundle) -> Self:
        """A writer that keeps the files of `bundle` which the new manifest still mentions."""
        return cls(bundle.path.absolute(), in_place=True, old=bundle.manifest)

    def __enter__(self) -> Self:
        try:
            with refused(f"writing {self._target}"):
                if self._in_place:
                    self._enter_existing()
                else:
                    self._enter_new()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def reserve_space(self, needed_bytes: int) -> None:
        """The disk has room for this many more bytes now; a BundleError otherwise, before anything is computed."""
        free_bytes = shutil.disk_usage(self._open_folder()).free
        if free_bytes < needed_bytes:
            raise BundleError(
                f"writing {self._target} needs {needed_bytes / 1e6:.1f} MB and the disk has {free_bytes / 1e6:.1f} MB "
                "free. Make room, or choose another place with -o."
            )

    def open_file(self, stem: str, suffix: str) -> BundleStream:
        """A context manager to write one file piece by piece; its `name` is known when it is left."""
        return BundleStream(self._open_folder(), stem, suffix, self._adopt, partial(refused, f"writing {self._target}"))

    def add_bytes(self, stem: str, suffix: str, content: bytes) -> str:
        """The name of a new file with this content."""
        with self.open_file(stem, suffix) as stream:
            stream.write(content)
        return stream.name

    def add_array(self, stem: str, array: npt.NDArray[Any]) -> str:
        """The name of a new .npy file: little-endian and in C order, so that equal arrays give equal bytes."""
        plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        content = io.BytesIO()
        np.lib.format.write_array(content, plain, version=(1, 0), allow_pickle=False)
        return self.add_bytes(stem, "npy", content.getvalue())

    def add_file(self, stem: str, suffix: str, path: str | Path) -> str:
        """The name of a new file with the content of `path`, copied in pieces."""
        copying = refused(f"copying {path} into {self._target}")
        with self.open_file(stem, suffix) as stream, copying, Path(path).open("rb") as origin:
            while piece := origin.read(1 << 20):
                stream.write(piece)
        return stream.name

    def commit(self, manifest: Manifest) -> Bundle:
        """The finished bundle, which lists the files that `manifest` mentions.

        The other files of an old bundle are removed when the `with` block is left. From now on the bundle is known
        here, unless it was made of a stranger's that never ran here.
        """
        folder = self._open_folder()
        if self._written is not None:
            raise ValueError("commit was already called; use BundleWriter.update for the next change")
        listed = manifest.mentioned(self._files)
        if forgotten := sorted(self._added - listed.keys()):
            raise ValueError(f"files were added that the manifest does not mention: {', '.join(forgotten)}")
        manifest = replace(manifest, files=listed)
        manifest.check()
        self._listed, self._written = set(listed), manifest.as_bytes()
        with refused(f"writing {self._target}"):
            _write_durably(folder / MANIFEST_DRAFT, self._written)
            (folder / MANIFEST_DRAFT).replace(folder / MANIFEST_NAME)
            sync_directory(folder)
            if not self._in_place:
                folder.rename(self._target)
                sync_directory(self._target.parent)
        bundle = Bundle.open(self._target, verify="sizes")
        if self._old is None or known_of(digest_of(self._old)):
            remember(digest_of(bundle.manifest), WRITTEN)
        return bundle

    def _enter_existing(self) -> None:
        self._lock = _lock(self._target)
        if self._old is not None and read_manifest(self._target) != self._old:
            raise BundleError(f"{self._target} was changed by another process since it was opened. Run again.")
        for name in _names_in(self._target):
            if name.startswith(TEMPORARY_PREFIX) or name == MANIFEST_DRAFT:  # its maker is dead: the lock is ours
                (self._target / name).unlink()
        self._before = set(_names_in(self._target))
        self._folder = self._target

    def _enter_new(self) -> None:
        beside = f".{self._target.name}{TEMPORARY_PREFIX}"
        for name in _names_in(self._target.parent):
            if name.startswith(beside):
                remove_if_dead(self._target.parent / name)
        self._folder = self._target.parent / f"{beside}{secrets.token_hex(6)}"
        self._folder.mkdir()
        self._lock = _lock(self._folder)

    def _leave(self) -> None:
        """The folder is as it was, or, if bundle.json is the one that `commit` wrote, without what that replaced."""
        folder, self._folder = self._folder, None
        try:
            if folder is not None and not self._in_place:
                shutil.rmtree(folder, ignore_errors=True)  # after a commit it no longer has this name
            elif folder is not None:
                for name in self._names_to_remove(folder):
                    (folder / name).unlink(missing_ok=True)
        except OSError:  # a bundle is whole either way, and `verify --clean` tries again
            pass
        finally:
            if self._lock is not None:
                self._lock.release()

    def _names_to_remove(self, folder: Path) -> list[str]:
        """What this writer added in vain, or what no bundle lists any more; never what a user put there."""
        names = _names_in(folder)
        if not self._is_committed(folder):
            return [name for name in names if name not in self._before]
        return [name for name in names if digits_of_name(name) is not None and name not in self._listed]

    def _is_committed(self, folder: Path) -> bool:
        path = folder / MANIFEST_NAME
        return self._written is not None and path.exists() and path.read_bytes() == self._written

    def _adopt(self, temporary: Path, name: str, record: FileRecord) -> None:
        temporary.replace(self._open_folder() / name)
        self._files[name] = record
        self._added.add(name)

    def _open_folder(self) -> Path:
        if self._folder is None:
            raise ValueError("a BundleWriter works inside its `with` block only")
        return self._folder


@contextmanager
def refused(doing: str) -> Iterator[None]:
    """What the system refuses inside becomes a BundleError that says what was being done and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        place_is_taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
        cure = (
            "Make room, or choose another place with -o"
            if full
            else "Another process has made it meanwhile; use --force to replace it"
            if place_is_taken
            else "Check the path and its permissions, or choose another place with -o"
        )
        raise BundleError(f"{doing} failed: {error.strerror}. {cure}; what was there before is unchanged.") from error


def _lock(folder: Path) -> DirectoryLock:
    try:
        return DirectoryLock(folder)
    except BlockingIOError as error:
        raise BundleError(f"another process is writing to {folder}. Wait until it has finished.") from error


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
