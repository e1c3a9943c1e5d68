"""Locks on open files that a system gives up when their process ends, on POSIX and on Windows."""

import sys


def lock(descriptor: int, *, wait: bool) -> None:
    """The file is this process's alone until the descriptor is closed.

    BlockingIOError or PermissionError where another has it and nobody waits; other OSErrors where the file system has
    no such locks. On Windows waiting ends after ten seconds, with an OSError.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
