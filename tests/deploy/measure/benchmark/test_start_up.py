"""Starts of real processes, and the medians of several."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice
from deploy.images.sizes import Size
from deploy.measure.benchmark import start_up
from deploy.measure.benchmark.start_up import StartUp, device_bytes_used, peak_bytes, start_up_of, started

MiB = 1 << 20

CHOICE = EngineChoice(backend="onnxruntime-cpu", threads=1)


def test_a_new_process_tells_when_it_got_where_and_what_it_holds(idm_micro: Bundle) -> None:
    told = started(idm_micro.path, CHOICE, Size(16, 16))
    assert 0 < told["imported"] <= told["opened"] <= told["ready"] <= told["first_picture"] < 120
    # More than Python and NumPy alone, and not the memory of this process, which has torch.
    assert 20 * MiB < told["resident_bytes"] <= told["peak_bytes"] < 400 * MiB


def test_a_start_that_is_refused_has_the_sentence(idm_micro: Bundle, tmp_path: Path) -> None:
    assert "is not a bundle" in started(tmp_path, CHOICE, Size(16, 16))["failure"]
    told = started(idm_micro.path, replace(CHOICE, precision="bf16"), Size(16, 16))
    assert "has no precision 'bf16'" in told["failure"]


def test_a_start_that_takes_too_long_is_given_up(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_up, "LONGEST_SECONDS", 0.01)
    assert started(idm_micro.path, CHOICE, Size(16, 16)) == {"failure": "no picture after 0 s"}


def start(seconds: float, device: int | None = None) -> dict[str, float | int | None]:
    marks = {"imported": seconds, "opened": seconds + 1, "ready": seconds + 2, "first_picture": seconds + 3}
    return {**marks, "resident_bytes": int(seconds * 10), "peak_bytes": int(seconds * 20), "device_bytes": device}


def test_quoted_are_medians_of_the_starts() -> None:
    found = start_up_of("engine", [start(9.0, 5), start(1.0, 7), start(2.0, 6)])
    assert found == StartUp(
        name="engine", imported=2.0, opened=3.0, ready=4.0, first_picture=5.0, resident_bytes=20, peak_bytes=40,
        device_bytes=6,
    )  # fmt: skip
    assert start_up_of("engine", [start(1.0)]).device_bytes is None


def test_one_start_that_fails_is_the_reason_of_the_row() -> None:
    assert start_up_of("engine", [start(1.0), {"failure": "no room"}]) == StartUp(name="engine", failure="no room")


def test_the_peak_is_this_process_own() -> None:
    before = peak_bytes()
    assert before > 0
    filled = b"x" * (peak_bytes() + 64 * MiB)
    assert peak_bytes() >= before + 32 * MiB
    del filled


def test_memory_of_a_gpu_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_bytes_used() is None
    command.write_text("#!/bin/sh\necho 1234\n")
    command.chmod(0o755)
    assert device_bytes_used() == 1234 * MiB
    command.write_text("#!/bin/sh\necho '[N/A]'\n")
    assert device_bytes_used() is None
    command.write_text("#!/bin/sh\nexit 9\n")
    assert device_bytes_used() is None
