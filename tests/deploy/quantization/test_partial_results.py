"""Calibrations that would write the same partial results take turns."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.bundle.locking import DirectoryLock
from deploy.quantization import partial_results
from deploy.quantization.partial_results import alone_in
from deploy.quantization.pipeline import quantize_bundle
from deploy.quantization.settings import Places, QuantizeSettings

OTHER = """
import sys, time
from pathlib import Path
from deploy.quantization.partial_results import alone_in
folder = Path(sys.argv[1])
with alone_in(folder, print):
    (folder / "inside").touch()
    while not (folder / "leave").exists():
        time.sleep(0.01)
    (folder / "left").touch()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks on directories")


def test_the_second_waits_for_the_first_and_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_results, "LOOK_EVERY_S", 0.02)
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)]) as other:
        while not (tmp_path / "inside").exists():
            assert other.poll() is None
            time.sleep(0.01)
        threading.Timer(0.2, (tmp_path / "leave").touch).start()
        with alone_in(tmp_path, said.append):
            assert (tmp_path / "left").exists()
    assert said == [f"waiting for another calibration with the same settings, which works in {tmp_path}"]


def test_whoever_is_killed_gives_way(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)]) as other:
        while not (tmp_path / "inside").exists():
            assert other.poll() is None
            time.sleep(0.01)
        other.kill()
    with alone_in(tmp_path, lambda line: pytest.fail(line)):
        pass


def test_an_error_gives_way_too(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), alone_in(tmp_path, lambda line: pytest.fail(line)):
            raise KeyboardInterrupt


def test_quantize_waits(micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is locked while it works; the second time, whoever is told to wait lets it go on."""
    monkeypatch.setattr(partial_results, "LOOK_EVERY_S", 0.02)
    settings = QuantizeSettings(scales=(2.0,), crop=16, pictures=1)
    places = Places(calibration=photographs, cache=tmp_path, threads=1)
    held: list[DirectoryLock] = []

    def interrupt(doing: str, _fraction: float) -> None:
        assert doing.startswith("trajectory")
        with pytest.raises(BlockingIOError):
            DirectoryLock(folder())
        raise KeyboardInterrupt

    def folder() -> Path:
        return next((tmp_path / "calibrations").iterdir())

    def let_go(line: str) -> None:
        if line.startswith("waiting for another calibration"):
            held.pop().release()

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quantize_bundle(micro, settings, places, say=let_go, progress=interrupt)
        assert not held
        held.append(DirectoryLock(folder()))
