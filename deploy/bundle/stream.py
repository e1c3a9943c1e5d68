"""One file of a bundle while it is written: hashed on the way, named by its content at the end."""

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from deploy.bundle.naming import TEMPORARY_PREFIX, check_name_parts, content_name
from deploy.bundle.records import FileRecord

Adopt = Callable[[Path, str, FileRecord], None]
"""Takes the finished temporary file, its name in the bundle and its record."""


class BundleStream:
    """A file that is written once from front to back, whatever its size; memory stays flat."""

    def __init__(
        self, folder: Path, stem: str, suffix: str, adopt: Adopt, refusing: Callable[[], AbstractContextManager[None]]
    ) -> None:
        check_name_parts(stem, suffix)
        self._path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}"
        self._stem, self._suffix = stem, suffix
        self._adopt = adopt
        self._refusing = refusing
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._stream: BinaryIO | None = None
        self._name: str | None = None

    def __enter__(self) -> Self:
        with self._refusing():
            self._stream = self._path.open("xb")
        return self

    def write(self, content: bytes | bytearray | memoryview) -> int:
        """The number of bytes that were appended."""
        if self._stream is None:
            raise ValueError("a BundleStream is written inside its `with` block only")
        piece = memoryview(content).cast("B")
        with self._refusing():
            self._stream.write(piece)
        self._digest.update(piece)
        self._bytes += piece.nbytes
        return piece.nbytes

    def tell(self) -> int:
        """The number of bytes written so far: the offset of what comes next."""
        return self._bytes

    @property
    def name(self) -> str:
        """The file's name in the bundle; known once the `with` block is left."""
        if self._name is None:
            raise ValueError("the name of a bundle's file follows from its content: leave the `with` block first")
        return self._name

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        try:
            if stream is not None and kind is None:
                self._finish(stream)
        finally:
            if stream is not None:
                with suppress(OSError):  # a full disk fails again here, and has been reported
                    stream.close()
            if self._name is None:
                self._path.unlink(missing_ok=True)

    def _finish(self, stream: BinaryIO) -> None:
        sha256 = self._digest.hexdigest()
        name = content_name(self._stem, self._suffix, sha256)
        with self._refusing():
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            self._adopt(self._path, name, FileRecord(sha256=sha256, bytes=self._bytes))
        self._name = name
