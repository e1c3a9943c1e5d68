"""What lies at a path, or that nobody may look: there `Path.exists`, `is_file` and `is_dir` say no from Python 3.14."""

import errno
import os
import stat
from pathlib import Path

_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}


def status_there(path: Path) -> os.stat_result | None:
    """What the system tells of a file or folder; None where there is none, OSError where that cannot be seen."""
    try:
        return path.stat()
    except ValueError:  # a name that no file can have
        return None
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise


def is_file_there(path: Path) -> bool:
    """Whether it is a file, links followed; OSError where that cannot be seen."""
    status = status_there(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder_there(path: Path) -> bool:
    """Whether it is a folder, links followed; OSError where that cannot be seen."""
    status = status_there(path)
    return status is not None and stat.S_ISDIR(status.st_mode)
