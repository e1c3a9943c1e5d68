"""Files that appear under their name complete or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engines.errors import FileError


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
    """A file to write to, which becomes `path` once everything is on the disk, and vanishes after any failure."""
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(
                f"writing {path}: {error.strerror or error}; nothing was written. "
                "Make room or choose another folder, then run again."
            ) from error
        raise
