"""Files and folders are there complete or not at all."""

import resource
from pathlib import Path

import pytest

from engines.errors import FileError
from engines.new_files import new_folder, write_text


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
    with pytest.raises(KeyError), new_folder(tmp_path / "new"):
        write_text(tmp_path / "new" / "a.txt", "a")
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]
