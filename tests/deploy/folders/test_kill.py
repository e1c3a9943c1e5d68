"""A run that is killed at any moment costs the pictures it was at, and nothing else."""

import sys
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from tests.deploy.folders.killed_run import begun, check_kills, finished, go, killed_after
from tests.deploy.folders.pictures import files_in, make_pictures, unfinished


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_three_kills_lose_nothing(tmp_path: Path, idm_micro: Bundle) -> None:
    check_kills(idm_micro.path, tmp_path, kills=3, pictures=30)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_twenty_kills_lose_nothing(tmp_path: Path, idm_micro: Bundle) -> None:
    check_kills(idm_micro.path, tmp_path, kills=20, pictures=60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_run_takes_over_from_one_that_is_killed_beside_it(tmp_path: Path, idm_micro: Bundle) -> None:
    names = [f"{number}.png" for number in range(60)]
    make_pictures(tmp_path / "in", *names)
    one, other = (begun(idm_micro.path, tmp_path / "in", tmp_path / "out", waits=True) for _ in range(2))
    go(one)  # so that neither is done before the other begins
    go(other)
    assert killed_after(0.2, one)
    told = finished(other)
    assert len(told) == 60 and "failed" not in told
    assert len(files_in(tmp_path / "out")) == 60
    assert finished(begun(idm_micro.path, tmp_path / "in", tmp_path / "out")) == ["skipped"] * 60
    assert unfinished(tmp_path / "out") == []  # what was killed while it held nothing is cleared by the next run
