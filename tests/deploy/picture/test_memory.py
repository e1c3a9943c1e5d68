"""Amounts of memory, what is free, and arrays on disk."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploy.picture.memory as memory
from deploy.errors import SizeError
from deploy.picture.memory import StateArrays, bytes_from_text, default_budget, resident_bytes, text_from_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1GiB", 1 << 30), ("1.5 gib", 3 << 29), ("800M", 800_000_000), ("2GB", 2_000_000_000), ("512Ki", 512 << 10)],
)
def test_amounts_are_read(text: str, expected: int) -> None:
    assert bytes_from_text(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1G", "1.2.3G", "0", "5X"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(SizeError, match="no amount of memory; write it like 800M, 2GB or"):
        bytes_from_text(text)


def test_amounts_are_told_as_people_read_them() -> None:
    assert [text_from_bytes(count) for count in (3, 1536, 5 << 20, 3 << 29)] == ["3 B", "1.5 KiB", "5.0 MiB", "1.5 GiB"]


def test_the_least_of_machine_and_container_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("max", "1000000"), ("current", "700000"), ("stat", "anon 5\ninactive_file 100000\n")):
        (tmp_path / name).write_text(content)
    files = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(memory, "_CGROUP_FILES", ((*files, "inactive_file"), ("/no/such", "/no", "/no", "x")))
    assert memory.free_bytes() == 400_000
    (tmp_path / "max").write_text("max")  # no limit
    assert memory.free_bytes() > 1_000_000
    assert default_budget() >= resident_bytes() > 1_000_000


def test_arrays_on_disk_behave_like_arrays_and_leave_memory_when_trimmed(tmp_path: Path) -> None:
    with StateArrays(tmp_path) as arrays:
        made = arrays.empty((4, 1 << 20))
        before = resident_bytes()
        made[...] = 2.5
        assert resident_bytes() - before > 12 << 20
        arrays.trim()
        assert resident_bytes() - before < 4 << 20
        assert made.sum() == 2.5 * (4 << 20) and arrays.on_disk
        assert not list(tmp_path.iterdir())
    assert not StateArrays().on_disk


def test_a_full_disk_is_told_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        StateArrays(tmp_path) as arrays,
        pytest.raises(
            SizeError,
            match=r"needs 12\.0 MiB more in a temporary file in .*No space left.*allow more with `max_memory`",
        ),
    ):
        arrays.empty((3, 1 << 20))
    assert not list(tmp_path.iterdir())


def test_without_a_way_to_reserve_the_file_still_has_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with StateArrays(tmp_path) as arrays:
        np.testing.assert_array_equal(arrays.empty((5, 7)), np.zeros((5, 7)))
