"""Files and folders that appear whole or not at all, and what a killed writer leaves."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import FileError
from engines.new_files import _remove_abandoned, new_file, new_folder, write_text


def test_a_full_disk_leaves_the_old_text_and_no_new_folder(tmp_path: Path) -> None:
    old = write_text(tmp_path / "old.txt", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # no file may grow beyond: the same failing write
    try:
        with pytest.raises(FileError, match="nothing was written"):
            write_text(old, "x" * 10_000)
        with pytest.raises(FileError, match="nothing was written"), new_folder(tmp_path / "a" / "b"):
            write_text(tmp_path / "a" / "b" / "new.txt", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_that_was_there_or_is_not_empty_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyError), new_folder(tmp_path / "there"):
        raise KeyError
    with pytest.raises(FileError), new_folder(tmp_path / "new"):
        write_text(write_text(tmp_path / "new" / "a.txt", "a") / "b.txt", "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]


WRITER = """
import sys, time
from pathlib import Path
from engines.new_files import new_file
with new_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as file:
        file.write(b"whole")
        assert "a" not in names_in(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"whole"
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "b") as file:
        raise KeyboardInterrupt
    with pytest.raises(FileError, match=r"writing .*: Is a directory; nothing was written"), new_file(tmp_path):
        pass
    with pytest.raises(FileError, match="No such file or directory; nothing was written"), new_file(tmp_path / "c/d"):
        pass
    assert names_in(tmp_path) == ["a"] and not [n for n in names_in(tmp_path.parent) if n.endswith(".partial")]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_what_a_killed_writer_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".notes.partial").write_text("somebody else's")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("killed", "alive")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
    writers[0].kill()
    writers[0].communicate()
    assert len(names_in(tmp_path)) == 3
    _remove_abandoned.cache_clear()  # as in a process of its own
    with new_file(tmp_path / "mine") as file:
        file.write(b"mine")
    left = names_in(tmp_path)
    assert len(left) == 3 and {".notes.partial", "mine"} < set(left)
    writers[1].communicate()
    assert names_in(tmp_path) == [".notes.partial", "alive", "mine"]
