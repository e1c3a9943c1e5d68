"""Int8 rows of a bundle that was really quantized."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.engine.graphs import EngineChoice
from deploy.images.sizes import Size
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from deploy.measure.benchmark.bench import bench_bundle, failures_of
from deploy.measure.benchmark.settings import DISK, PICTURE, STEP, BenchSettings
from deploy.measure.benchmark.start_up import started
from engines.backends import BACKENDS
from engines.saturation import is_refused
from tests.deploy.int8.conftest import micro, micro_checkpoint, photographs
from tests.deploy.measure.benchmark.clock import silent

__all__ = ["micro", "micro_checkpoint", "photographs"]

TARGETS = {"ort": "onnxruntime-cpu", "openvino": "openvino-cpu"}


@pytest.fixture
def quantized(micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    with BundleWriter.update(micro) as writer:
        presets = {"quick": Preset(equation="ddim", steps=2)}
        short = writer.commit(replace(micro.manifest, presets=presets, default_preset="quick"))
    settings = QuantizeSettings(
        scales=(2.0,), crop=16, pictures=2, ranges=2, max_psnr_drop=9.0, float_share=0.0, targets=tuple(TARGETS)
    )
    places = Places(calibration=photographs, cache=tmp_path / "cache", max_memory=1 << 30, threads=1)
    return quantize_bundle(short, settings, places, force=False, say=lambda _: None, progress=silent).bundle


@pytest.mark.slow
def test_a_quantized_bundle_has_int8_rows(quantized: Bundle) -> None:
    if any(BACKENDS[name].probe().available and is_refused(name) for name in TARGETS.values()):
        pytest.skip("this CPU cuts sums of int8 products off")
    settings = BenchSettings(
        size=Size(16, 16), threads=1, rounds=1, parts=(STEP, PICTURE, DISK), precisions=("int8", "fp32")
    )
    report = bench_bundle(quantized, settings, None, silent)
    assert failures_of(report) == []
    here = {f"{name} int8" for name in TARGETS.values() if BACKENDS[name].probe().available}
    for rows in (report["timings"]["step"], report["pictures"]["rows"]):
        found = {row["name"]: row["median_ms"] for row in rows}
        assert here <= found.keys() and min(found.values()) > 0
    for target in TARGETS:
        assert 0 < report["disk"][f"besides, int8 for {target}"] < report["disk"]["float graphs and weights"]
    told = started(quantized.path, EngineChoice(backend="onnxruntime-cpu", precision="int8", threads=1), Size(16, 16))
    assert told["first_picture"] > 0
