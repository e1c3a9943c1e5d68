"""Files that appear under their name complete or not at all."""

import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from engines.errors import FileError
from engines.file_locks import lock

_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """The folder is there for the block to fill; what the block leaves empty after a failure is gone, if it was new."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # others may have put something there
                folder.rmdir()
        raise


def write_text(path: Path, text: str) -> Path:
    """`path`, which holds the text and a newline, complete or not at all."""
    with new_file(path) as file:
        file.write(f"{text}\n".encode())
    return path


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` once everything is on the disk, and vanishes after any failure.

    What a killed process left half written in that folder vanishes too, the first time that this process writes there.
    """
    partial: Path | None = None
    try:
        _remove_abandoned(path.parent)
        with _reserved(path.parent) as (partial, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":  # while it is locked, so that nobody takes it for abandoned
                partial.replace(path)
        if sys.platform == "win32":
            partial.replace(path)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(
                f"writing {path}: {error.strerror or error}; nothing was written. "
                "Make room or choose another folder, then run again."
            ) from error
        raise


@contextmanager
def _reserved(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file under a name of its own, locked until it is closed, however that happens."""
    while True:
        partial = folder / f".{secrets.token_hex(8)}.partial"
        with partial.open("x+b") as file:
            # Between the two steps another process may have taken the file for abandoned, and removed it.
            _lock(file, wait=True)
            if os.path.lexists(partial):
                yield partial, file
                return


@lru_cache(maxsize=256)
def _remove_abandoned(folder: Path) -> None:
    """Half-written files whose writers are dead go; where locks are not to be had, all stay."""
    try:
        names = [entry.name for entry in os.scandir(folder) if _PARTIAL.fullmatch(entry.name)]
    except OSError:  # which writing there will tell
        return
    for name in names:
        with suppress(OSError), (folder / name).open("r+b") as file:
            if _lock(file, wait=False):
                (folder / name).unlink()


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Whether the file is this process's alone now; False where another has it, or there are no such locks."""
    if sys.platform == "win32":  # a file that is locked cannot be removed there
        return False
    try:
        lock(file.fileno(), wait=wait)
    except OSError:
        return False
    return True
