"""Whether the process that began something still lives, told by a lock that the system frees when a process ends.

On network disks too, where numbers of processes mean nothing to another machine and clocks differ.
"""

import errno
import os
from pathlib import Path

from engines.file_locks import lock

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class AliveLock:
    """A locked file `path`, made if it is not there: locked until `release` or the end of this process.

    BlockingIOError if another process has it. `is_certain` is False on file systems without locks.
    """

    def __init__(self, path: Path) -> None:
        self.is_certain = True
        # Open for writing: network disks turn these locks into ones on ranges, which need that.
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(self._descriptor, wait=False)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                self.is_certain = False
                return
            self.release()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                raise BlockingIOError(error.errno, error.strerror) from error
            raise

    def release(self) -> None:
        """Whoever looks finds nobody alive; doing so twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def is_alive(path: Path) -> bool:
    """Whether the process that locked the file lives; False where the file is gone or there are no locks."""
    if not path.exists():
        return False
    try:
        AliveLock(path).release()
    except OSError:  # held, or not ours to open: then nobody may say that it is dead
        return True
    return False
