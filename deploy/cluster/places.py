"""Folders that every machine of a cluster sees: on a shared disk, or in a bucket (s3://, gs://, or what fsspec has).

Files come and go through pyarrow's file systems, with the credentials of the machine that asks, which are never sent.
A file appears under its name complete or not at all: object stores do that by themselves, elsewhere it is moved there.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.errors import FolderError, ImageError
from deploy.folders.search import OWN_FOLDER
from deploy.foreign.places import address_in

OBJECT_STORES = frozenset({"s3", "gcs", "abfs"})
"""Types of file systems, as pyarrow names them, in which an object appears when it is complete."""

PARTS = f"{OWN_FOLDER}/parts"
"""Folder of an output in which files lie that are being written."""

LONGEST = 300
"""Letters of what a file system says that are repeated."""

_NOT_THERE = ("NO_SUCH_KEY", "NO_SUCH_BUCKET", "NOT_FOUND")

_GIVES_UP = "retry_limit_seconds"
"""Of Google's store, which is otherwise asked for a quarter of an hour when it does not answer."""

_BLOCK = 16 << 20
"""Bytes that are asked for at once: each time costs a bucket's delay."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as a listing shows it: its name from the place that was listed, bytes, and when it was changed (ns)."""

    name: str
    bytes: int
    modified: int


@dataclass(frozen=True)
class Place:
    """A folder, or a prefix of a bucket, by the path or address that was typed. Opened anew by every process."""

    address: str

    @classmethod
    def of(cls, path: Path) -> "Place":
        """The place that a path means, which may be an address of which one of two slashes is left."""
        return cls(address_in(path) or str(path.absolute()))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, which others may share."""
        return "://" not in self.address

    def shown(self, name: str = "") -> str:
        """The address of a file in it, for people."""
        base = self.address.partition("?")[0].rstrip("/")
        return f"{base}/{name}" if name else base

    def inside(self, name: str) -> str:
        """The path of a file in it, as its file system has it."""
        return f"{self._root}/{name}" if name else self._root

    def parent(self) -> tuple["Place", str]:
        """The folder that it lies in, and its name there."""
        base, mark, query = self.address.partition("?")
        folder, _, name = base.rstrip("/").rpartition("/")
        return Place(f"{folder}{mark}{query}"), name

    def kind(self) -> str:
        """ "file", "folder" or "nothing"; an object store has no empty folders."""
        with self._told("looking at"):
            info = self.files.get_file_info(self._root)
        return {"File": "file", "Directory": "folder"}.get(info.type.name, "nothing")

    def listing(self) -> Iterator[Listed]:
        """Every file in it, hidden ones (.name) and what lies below hidden folders left out."""
        from pyarrow.fs import FileSelector, FileType

        with self._told("listing"):
            found = self.files.get_file_info(FileSelector(self._root, recursive=True, allow_not_found=True))
        skip = len(self._root) + 1
        for info in found:
            name = info.path[skip:]
            if info.type == FileType.File and not any(part.startswith(".") for part in name.split("/")):
                yield Listed(name, info.size, info.mtime_ns or 0)

    def names_in(self, folder: str) -> list[str]:
        """Names of the files in one folder of it, from the place; none where there is no such folder."""
        from pyarrow.fs import FileSelector, FileType

        with self._told("listing", folder):
            found = self.files.get_file_info(FileSelector(self.inside(folder), allow_not_found=True))
        return sorted(f"{folder}/{info.base_name}" for info in found if info.type == FileType.File)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return bool(self.files.get_file_info(self.inside(name)).is_file)

    def fetch(self, name: str, target: Path) -> None:
        """`target` is a copy of a file, or a link to it on this machine's disks. OSError where it cannot be read."""
        if self.is_local:
            source = Path(self.inside(name))
            source.stat()
            target.symlink_to(source)
            return
        with self.files.open_input_file(self.inside(name)) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, _BLOCK)

    def copy(self, name: str, target: Path) -> None:
        """`target` is a copy of a file, to be written to."""
        with self.files.open_input_file(self.inside(name)) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, _BLOCK)

    def read(self, name: str) -> bytes:
        """What a file holds."""
        with self._told("reading", name), self.files.open_input_file(self.inside(name)) as stream:
            content: bytes = stream.read()
            return content

    def store(self, source: Path, name: str) -> None:
        """The file at `source` is there under its name, at once. OSError where it cannot be written."""
        with source.open("rb") as file:
            self._written(name, lambda stream: shutil.copyfileobj(file, stream, _BLOCK))

    def write(self, name: str, content: bytes) -> None:
        """The same for what is in memory."""
        with self._told("writing", name):
            self._written(name, lambda stream: stream.write(content))

    def remove(self, name: str) -> None:
        """The file is gone, if it was there."""
        if self.has(name):
            self.files.delete_file(self.inside(name))

    def clear(self, name: str) -> None:
        """The folder is gone with all that is in it, if it was there."""
        from pyarrow.fs import FileType

        with self._told("tidying", name):
            if self.files.get_file_info(self.inside(name)).type == FileType.Directory:
                self.files.delete_dir(self.inside(name))

    def _written(self, name: str, write: Any) -> None:
        if self.files.type_name in OBJECT_STORES:
            with self.files.open_output_stream(self.inside(name)) as stream:
                write(stream)
            return
        part = self.inside(f"{PARTS}/{os.getpid()}-{secrets.token_hex(8)}")
        for path in (part, self.inside(name)):
            self.files.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            with self.files.open_output_stream(part) as stream:
                write(stream)
            self.files.move(part, self.inside(name))
        except BaseException:
            if self.files.get_file_info(part).is_file:
                self.files.delete_file(part)
            raise

    @cached_property
    def files(self) -> Any:
        """The file system."""
        return _opened(self.address)[0]

    @cached_property
    def _root(self) -> str:
        return _opened(self.address)[1]

    @contextmanager
    def _told(self, doing: str, name: str = "") -> Iterator[None]:
        """What a file system refuses, as a sentence."""
        try:
            yield
        except OSError as error:
            raise FolderError(f"{doing} {self.shown(name)}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Why a file system refused something, in a sentence, with what to do."""
    lines = (error.strerror or str(error)).strip().splitlines()
    told = lines[0][:LONGEST].rstrip(".: ") if lines else type(error).__name__
    text = told.upper()
    if isinstance(error, FileNotFoundError) or any(word in text for word in _NOT_THERE):
        return "it is not there, or not any more."
    if "CREDENTIAL" in text or "ACCESS_DENIED" in text or "FORBIDDEN" in text or isinstance(error, PermissionError):
        return (
            f"{told}. Every machine of the cluster uses its own credentials: check that they are there and allow this."
        )
    return f"{told}."


def failure(doing: str, error: OSError) -> ImageError:
    """The same as what became of a picture."""
    return ImageError(f"{doing}: {reason(error)}")


@lru_cache(maxsize=64)
def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    from pyarrow import ArrowInvalid, fs

    if "://" not in address:
        return fs.LocalFileSystem(), address.rstrip("/") or "/"
    if address.startswith(("gs://", "gcs://")) and _GIVES_UP not in address:
        address = f"{address}{'&' if '?' in address else '?'}{_GIVES_UP}=30"
    try:
        files, path = fs.FileSystem.from_uri(quote(address, safe=":/?&=%@+,;~!*'()[]$"))
    except (ArrowInvalid, ValueError):
        return _opened_by_fsspec(address)
    except OSError as error:
        raise FolderError(f"opening {address.partition('?')[0]}: {reason(error)}") from error
    return files, path.rstrip("/")


def _opened_by_fsspec(address: str) -> tuple[Any, str]:
    import fsspec
    from pyarrow import fs

    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        told = str(error).strip().partition("\n")[0].rstrip(".")
        raise FolderError(f"opening {address}: {told}. It must be a folder, or an address such as s3://.") from error
    return fs.PyFileSystem(fs.FSSpecHandler(files)), str(path).rstrip("/")
