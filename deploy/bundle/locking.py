"""One writer at a time in a directory, without lock files that outlive their owner."""

import os
import shutil
import sys
from pathlib import Path


class DirectoryLock:
    """The right to write in `path`, held until `release` or the end of this process, however it ends.

    BlockingIOError if another writer has it. `certain` is False where locks on directories do not exist
    (Windows, some network file systems): then writing goes on unprotected, and nobody may conclude that the
    owner of a leftover is dead.
    """

    def __init__(self, path: Path) -> None:
        self.certain = False
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._lock(path)

    def _lock(self, path: Path) -> None:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # the file system has no such locks
            os.close(descriptor)
            return
        self._descriptor = descriptor
        self.certain = True

    def release(self) -> None:
        """The right is given up; doing so twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def remove_if_dead(leftover: Path) -> None:
    """A half-made folder goes when no living process holds its lock; doubtful ones stay."""
    try:
        lock = DirectoryLock(leftover)
    except OSError:  # alive, gone meanwhile, or not ours to open
        return
    if lock.certain:
        shutil.rmtree(leftover, ignore_errors=True)
    lock.release()


def sync_directory(path: Path) -> None:
    """The names in `path` survive a power failure, where the system can promise that."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
