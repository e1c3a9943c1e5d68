"""A run that is killed at any moment costs the pictures it was at, and nothing else."""

import sys
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from tests.deploy.folders.killed_run import check_kills


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_three_kills_lose_nothing(tmp_path: Path, idm_micro: Bundle) -> None:
    check_kills(idm_micro.path, tmp_path, kills=3, pictures=30)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_twenty_kills_lose_nothing(tmp_path: Path, idm_micro: Bundle) -> None:
    check_kills(idm_micro.path, tmp_path, kills=20, pictures=60)
