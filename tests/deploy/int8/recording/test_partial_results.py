"""What partial results depend on has a folder of its own, in which calibrations take turns."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle import Bundle
from deploy.bundle.locking import DirectoryLock
from deploy.bundle.records import Scales
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.recording import partial_results
from deploy.int8.recording.partial_results import alone_in, folder_for, hash_of_code, what_is_recorded
from deploy.int8.recording.pictures import calibration_pictures
from deploy.int8.recording.trajectories import CalibrationPlans, Group, calibration_plans, groups_of_pictures
from deploy.int8.settings import Places, QuantizeSettings
from deploy.picture.upscaler import Upscaler
from tests.deploy.int8.made_up import quantized_without_calibration

OTHER = """
import sys, time
from pathlib import Path
from deploy.int8.recording.partial_results import alone_in
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
        assert doing.startswith("recording")
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


def groups_at(photographs: Path, scale: float, crop: int, most_lr: int | None = None) -> list[Group]:
    settings = QuantizeSettings(scales=(scale,), crop=crop, pictures=2)
    return groups_of_pictures(calibration_pictures(photographs, settings, lambda _: None, most_lr))


def plans_of(bundle: Bundle) -> CalibrationPlans:
    with Upscaler(bundle, "onnxruntime-cpu", "fp32", 1) as upscaler:
        return calibration_plans(upscaler.session)


def test_every_other_input_has_another_folder(
    micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, plans = groups_at(photographs, 2.0, 16), plans_of(micro)
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    fewer_steps = plans_of(micro)

    def with_manifest(**changed: Any) -> Bundle:
        return Bundle(micro.path, replace(micro.manifest, **changed))

    described = [
        what_is_recorded(micro, groups, plans, 0),
        what_is_recorded(micro, groups, plans, 1),
        what_is_recorded(micro, groups, fewer_steps, 0),
        what_is_recorded(micro, groups * 2, plans, 0),
        what_is_recorded(micro, groups_at(photographs, 4.0, 16), plans, 0),
        what_is_recorded(micro, groups_at(photographs, 2.0, 24), plans, 0),
        what_is_recorded(micro, groups_at(photographs, 2.0, 16, most_lr=6), plans, 0),
        what_is_recorded(micro, [replace(one, size=(17, 16)) for one in groups], plans, 0),
        what_is_recorded(micro, [replace(one, sample=1) for one in groups], plans, 0),
        what_is_recorded(with_manifest(scale_range=Scales(trained=(1, 3))), groups, plans, 0),
        what_is_recorded(with_manifest(tables={"levels": next(iter(micro.manifest.files))}), groups, plans, 0),
    ]
    folders = [folder_for(one, tmp_path) for one in described]
    assert len(set(folders)) == len(folders)


def test_what_does_not_matter_has_the_same_folder(micro: Bundle, photographs: Path, tmp_path: Path) -> None:
    """Other names of the same pictures, int8 graphs in the bundle, and where functions lie in this process."""
    groups, plans = groups_at(photographs, 2.0, 16), plans_of(micro)
    assert " at 0x" not in str(what_is_recorded(micro, groups, plans, 0))
    renamed = [replace(one, names=("other",) * len(one.names)) for one in groups]
    in_int8 = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "ort", 1)
    assert what_is_recorded(in_int8, renamed, plans, 0) == what_is_recorded(micro, groups, plans, 0)


def test_an_edit_of_the_code_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edited_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    seen = [hash_of_code(["edited_package"])]
    for name, text in (("one.py", "POSITIONS = 128"), ("one.py", "POSITIONS = 256"), ("two.py", "EVERY = 6")):
        (package / name).write_text(text)
        seen.append(hash_of_code(["edited_package"]))
    assert len(set(seen)) == len(seen)
    (package / "noted.txt").write_text("no code")
    assert hash_of_code(["edited_package"]) == seen[-1]


def test_this_code_is_found() -> None:
    """Each package has modules: an installation without sources would notice no edit."""
    assert all(partial_results.sources_of(package) for package in partial_results.PACKAGES)


@pytest.mark.slow
def test_trajectories_serve_other_roundings_and_memory(
    micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rounded otherwise is gathered again, and no more than that."""
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    monkeypatch.setattr("calibration.passes.equalising.EVERY", 2)

    def gathered(max_memory: int, **settings: Any) -> list[str]:
        done: list[str] = []

        def interrupt(doing: str, _fraction: float) -> None:
            if doing.startswith("choosing"):
                raise KeyboardInterrupt
            done.append(doing.split()[0])

        places = Places(calibration=photographs, cache=tmp_path, max_memory=max_memory, threads=1)
        chosen = QuantizeSettings(scales=(2.0,), crop=16, pictures=1, **settings)
        with pytest.raises(KeyboardInterrupt):
            quantize_bundle(micro, chosen, places, say=lambda _: None, progress=interrupt)
        return list(dict.fromkeys(done))

    assert gathered(1 << 30) == ["recording", "comparing", "looking", "rounding"]
    assert gathered(1 << 30, clipping="minmax", ranges=2) == []
    assert gathered(1 << 30, rounding="nearest") == ["looking", "rounding"]
    assert gathered(1 << 30, rounding="nearest", equalise=False) == ["looking", "rounding"]
    assert gathered(4 << 20) == ["looking", "rounding"]  # in several passes
    assert gathered(1 << 30) == gathered(4 << 20) == []
    assert len(list((tmp_path / "calibrations").iterdir())) == 1
