"""The GPU benchmark as far as a CPU goes: preparation, parity, timing, table and JSON, on ONNX Runtime's CPU engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, gpu_times
from deploy.bundle import Bundle
from deploy.engine import builds as engine_plans
from engines.backends import BACKENDS
from engines.errors import EngineError
from engines.machine.cuda import Device, find_device
from tests.backends import carry_state
from tests.deploy.exported import exported, exported_latent
from tests.deploy.quantized import quantized_micro


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


QUICK = ["--size", "16x16", "--batches", "1,2", "--rounds", "1", "--steps", "2", "--engines", "onnxruntime-cpu"]


def test_everything_but_cuda_runs_on_the_cpu(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([str(bundle.path), *QUICK, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert [(row["engine"], row["batch"]) for row in report["rows"]] == [("onnxruntime-cpu", 1), ("onnxruntime-cpu", 2)]
    for row in report["rows"]:
        assert row["failure"] is None
        assert row["sqnr_db"] > 100  # the same engine, opened for fixed sizes
        assert row["picture_db"] > 100
        assert row["step_ms"] > 0 and row["images_per_second"] > 0
        assert row["device_ms"] is None
    printed = capsys.readouterr().out
    assert printed.startswith("idm_micro.bundle, 16x16, 2 steps, ")
    assert printed.count("| onnxruntime-cpu fp32 |") == 2


def test_a_state_that_stays_on_the_device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that CUDA goes, on an engine for CPUs."""
    carry_state(monkeypatch, "openvino-cpu")
    settings = gpu_times.Settings(size=(16, 16), batches=(2,), rounds=1, steps=3)
    row = gpu.measure(bundle, settings, ["openvino-cpu"])["rows"][0]
    assert row["precision"] == "fp32" and row["picture_db"] > 80 and row["images_per_second"] > 0


def test_the_latent_family_too(tmp_path: Path) -> None:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    latent = exported_latent("latent_sr_tiny", tmp_path, sizes)
    report = gpu.measure(
        latent, gpu_times.Settings(size=(32, 32), batches=(2,), rounds=1, steps=2), ["onnxruntime-cpu"]
    )
    assert report["rows"][0]["failure"] is None
    assert report["rows"][0]["sqnr_db"] > 100
    assert report["rows"][0]["picture_db"] is None


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return quantized_micro(tmp_path_factory.mktemp("quantized"))


@pytest.mark.slow
@pytest.mark.runs_openvino
def test_int8_has_rows_where_the_bundle_has_graphs(quantized: Bundle) -> None:
    """By what a CPU runs in int8. Both ranges are met: plain ddim goes over all noise levels."""
    settings = gpu_times.Settings(size=(16, 16), batches=(2,), rounds=1, steps=3)
    rows = gpu.measure(quantized, settings, ["onnxruntime-cpu", "openvino-cpu"])["rows"]
    found = {(row["engine"], row["precision"]): row for row in rows}
    assert {("onnxruntime-cpu", "int8"), ("openvino-cpu", "int8")} <= set(found)
    for (_, precision), row in found.items():
        assert row["failure"] is None
        assert (10 < row["sqnr_db"] < 60) if precision == "int8" else row["sqnr_db"] > 30
        assert row["picture_db"] > 15


@pytest.mark.slow
def test_tensorrt_builds_one_plan_for_all_batches_and_in_int8_one_per_range(
    quantized: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Device(name="H200", capability=(9, 0), memory=1 << 37, driver=(13, 0))
    monkeypatch.setattr(engine_plans, "find_device", lambda _number=0: card)
    settings = gpu_times.Settings(size=(16, 24), batches=(1, 4, 16))
    assert gpu.precisions(quantized, "tensorrt") == ["fp16", "fp32", "int8"]
    (half,) = gpu.plans_to_build(quantized, "tensorrt", "fp16", settings)
    assert half.settings.profile.axes["batch"] == (1, 4, 16)
    assert (half.settings.profile.axes["height"], half.settings.profile.axes["width"]) == ((16,) * 3, (24,) * 3)
    first, second = gpu.plans_to_build(quantized, "tensorrt", "int8", settings)
    assert (first.source.label, second.source.label) == tuple(
        f"idm_micro.bundle denoise int8 {index}" for index in (0, 1)
    )
    assert first.source.fingerprint != second.source.fingerprint
    assert first.settings.profile == half.settings.profile and first.settings.device == card
    assert gpu.plans_to_build(quantized, "onnxruntime-cuda", "fp16", settings) == []


def test_without_a_gpu_tensorrt_cannot_be_measured(quantized: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_plans, "find_device", lambda _number=0: "no NVIDIA driver found")
    with pytest.raises(EngineError, match=r"tensorrt has no GPU to build for\. Name one's compute capability"):
        gpu.plans_to_build(quantized, "tensorrt", "int8", gpu_times.Settings())


def test_without_a_gpu_it_says_why(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    if any(BACKENDS[name].probe().available for name in gpu_times.GPU_ENGINES):
        pytest.skip("an engine for GPUs can run here")
    assert gpu.main([str(bundle.path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("gpu: Nothing to measure here: onnxruntime-cuda: ")
    assert "tensorrt-rtx: " in told


def test_an_unknown_engine(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(bundle.path), "--engines", "cuda"]) == 1
    assert "There is no engine called 'cuda'" in capsys.readouterr().err


def test_an_engine_that_fails_is_a_row_and_exit_code_1(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("no room")

    monkeypatch.setattr(gpu_times, "_figures", refuse)
    assert gpu.main([str(bundle.path), *QUICK]) == 1
    assert "| onnxruntime-cpu fp32 | 1 | no room |" in capsys.readouterr().out


def test_only_what_has_a_batch_is_repeated() -> None:
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(1, 3, 2), "index": np.arange(2)}
    made = gpu_times.repeated(feeds, {"x": 0}, 4)
    assert made["x"].shape == (4, 3, 2)
    np.testing.assert_array_equal(made["x"][3], feeds["x"][0])
    assert made["index"] is feeds["index"]


def test_decibels_between_pictures_by_hand() -> None:
    """Pictures in [-1, 1]: an error of 0.2 everywhere is 20 log10(2 / 0.2) = 20 dB; beyond the range nothing counts."""
    picture = np.zeros((1, 3, 2, 2), np.float32)
    assert gpu_times.picture_db(picture, picture + np.float32(0.2)) == pytest.approx(20.0)
    assert gpu_times.picture_db(picture + 1, picture + 5) == 200.0


@pytest.mark.skipif(isinstance(find_device(), str), reason=f"{find_device()}")
def test_on_a_gpu(bundle: Bundle, tmp_path: Path) -> None:
    settings = gpu_times.Settings(size=(16, 16), batches=(1, 2), rounds=2, steps=2, cache_dir=tmp_path)
    names = [name for name in gpu_times.GPU_ENGINES if BACKENDS[name].probe().available]
    if not names:
        pytest.skip("no engine for GPUs is installed")
    for row in gpu.measure(bundle, settings, names)["rows"]:
        assert row["failure"] is None
        assert row["sqnr_db"] > (80 if row["precision"] == "fp32" else 35)
        assert row["device_ms"] > 0
