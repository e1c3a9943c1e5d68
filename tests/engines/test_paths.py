"""What lies at a path: nothing, a file, a folder, or what the system does not let anybody see."""

import sys
from pathlib import Path

import pytest

from deploy.bundle.writing import BundleWriter
from deploy.errors import BundleError, FolderError, ImageError
from deploy.folders.record import Known
from deploy.images.files import check_output
from engines.paths import is_file_there, is_folder_there, status_there


def test_nothing_a_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    told = {
        name: (is_file_there(tmp_path / name), is_folder_there(tmp_path / name))
        for name in (".", "file", "none", "file/below", "a\0b")
    }
    assert told == {
        ".": (False, True),
        "file": (True, False),
        "none": (False, False),
        "file/below": (False, False),
        "a\0b": (False, False),
    }
    status = status_there(tmp_path / "file")
    assert status is not None and status.st_size == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other words for it")
def test_where_nobody_may_look_that_is_said(tmp_path: Path) -> None:
    """A name too long stands for a folder without rights, which root may see all the same."""
    folder = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="File name too long"):
        status_there(folder)
    with pytest.raises(ImageError, match=r"cannot be written to \(File name too long\)"):
        check_output(folder / "a.png")
    with pytest.raises(BundleError, match="failed: File name too long"):
        BundleWriter.create(folder / "a.bundle")
    with pytest.raises(FolderError, match=r"keeping the record of .*: File name too long"):
        Known(folder)
