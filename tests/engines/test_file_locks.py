"""Locks on files, on this system and as they are on Windows; and no import that Windows lacks."""

import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.folders.alive import AliveLock, is_alive
from engines.file_locks import lock

ROOT = Path(__file__).resolve().parent.parent.parent
POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


class Windows:
    """What msvcrt's locking does to bytes of files: held until the file is closed, refused with EACCES."""

    LK_LOCK, LK_NBLCK = 1, 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert mode in (self.LK_LOCK, self.LK_NBLCK) and count == 1
        status = os.fstat(descriptor)
        holder = self.held.setdefault((status.st_dev, status.st_ino), descriptor)
        if holder != descriptor:
            raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("system", ["here", "windows"])
def test_a_file_has_one_holder(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, windows = tmp_path / "alive", Windows()
    if system == "windows":
        monkeypatch.setitem(sys.modules, "msvcrt", windows)
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setattr("engines.file_locks.sys", SimpleNamespace(platform="win32"))
    first = AliveLock(path)
    with path.open("r+b") as file, pytest.raises((BlockingIOError, PermissionError)):
        lock(file.fileno(), wait=False)
    with pytest.raises(BlockingIOError):
        AliveLock(path)
    assert first.is_certain and is_alive(path)
    first.release()
    windows.held.clear()  # the system does it
    assert not is_alive(path)


def test_nothing_is_imported_at_once_that_windows_lacks() -> None:
    """Such imports stand inside functions that ask for the system first."""
    wrong = [
        f"{path.relative_to(ROOT)}: {node.names[0].name if isinstance(node, ast.Import) else node.module}"
        for package in ("deploy", "calibration", "engines")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and POSIX & ({alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module})
    ]
    assert wrong == []
