"""A bundle with made-up int8 entries, and figures in the shape that the commands write them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed

from deploy.bundle import Bundle
from deploy.bundle.quantization import Int8Target, Quantization
from deploy.engine.chosen import Candidate, DecisionFigures, Trial
from deploy.packaged.places import IDM_BUNDLE
from deploy.report.facts import Facts, Figures
from tests.deploy.quantizations import HELD_OUT, correction, int8_target

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"

LEVELS = [0.1, 0.5, 0.9]
EDGES = [0.0, 0.3, 1.0]


def packaged_bundle(**changes: Any) -> Bundle:
    """The packaged bundle, its manifest changed in memory."""
    bundle = Bundle.open(IDM_BUNDLE, verify="sizes")
    return replace(bundle, manifest=replace(bundle.manifest, **changes))


def quantization_entry(
    targets: Mapping[str, Int8Target] | None = None, settings: Mapping[str, Any] | None = None
) -> Quantization:
    """What bundle.json says of a quantization."""
    target = int8_target(edges=tuple(EDGES), noise_corrections=(correction(0.1, 1.001),))
    return Quantization(
        targets=targets or {"tensorrt": target, "ort": changed(target, held_out=HELD_OUT)},
        noise_levels=tuple(LEVELS),
        settings={"max_psnr_drop": 0.05, "clipping": "mse"} if settings is None else settings,
    )


def calibration_record() -> dict[str, Any]:
    """What calibration.json says."""
    layer = {"inputs": [{"scale": 0.02, "lowest": 0, "highest": 255}, {"scale": 0.04, "lowest": 0, "highest": 255}]}
    entry = {
        "form": "asymmetric",
        "edges": EDGES,
        "partition_costs": [2.0, 1.5],
        "layers": {"denoise_fn.downs.2.conv/Conv": layer},
        "noise_corrections": [{"noise_level": 0.1, "gain": [1.001], "offset": [0.0]}],
    }
    return {"noise_levels": LEVELS, "targets": {"ort": entry, "tensorrt": {**entry, "form": "shifted"}}}


def quantization_record() -> dict[str, Any]:
    """What quantization.json says."""
    found = {"mean": 52.8, "worst": 51.3, "values": [51.3, 54.3], "psnr_change": -0.0314, "ssim_change": -0.0025}
    found["ssimulacra2_change"] = -0.12
    measured = {
        "ranges": 2,
        "layers": 60,
        "in_float": ["denoise_fn.mid.0.attn.qkv/Conv"],
        "bytes": 3_930_000,
        "share_of_float_bytes": 0.2557,
        "seconds_per_step": {"float": 0.3, "int8": 0.2},
        "preset": found,
        "plain": {**found, "mean": 44.0},
    }
    return {
        "preset": "balanced",
        "pictures": ["a.png", "b.png"],
        "photographs": 2,
        "targets": {"ort": measured, "tensorrt": {**measured, "in_float": [], "seconds_per_step": {}}},
        "movement": {"median_ratio": 1.63, "largest_ratio": 5.03, "tensors": {"denoise_fn.downs.0/Add.out": [1, 2, 4]}},
        "weights_sqnr_db": {"a/Conv": 51.25, "b/Conv": 60.0, "c/Conv": None},
        "frontier": {"ort": [{"in_float": 0, "psnr_drop": 0.2}, {"in_float": 1, "psnr_drop": 0.02}]},
    }


def bench_record() -> dict[str, Any]:
    """What `bench --json` prints."""
    published = {"name": "PyTorch, as published", "median_ms": 400.0, "times_ms": [390.0, 400.0, 430.0], "ratio": 1.0}
    engine = {"name": "openvino-cpu bf16", "median_ms": 100.0, "times_ms": [99.0, 100.0, 101.0], "ratio": 4.0}
    whole = {"name": "PyTorch, DDPM", "median_ms": 800_000.0, "times_ms": [8e5], "evaluations": 2000}
    return {
        "cpu": "a processor",
        "size": "128x128",
        "lr_size": "16x16",
        "batch": 1,
        "threads": 2,
        "versions": {"torch": "2.13.0"},
        "timings": {"step": [published, engine, {"name": "broken", "failure": "it fell over"}]},
        "pictures": {
            "rows": [
                {**whole, "extrapolated_from_steps": 4},
                {**engine, "median_ms": 500.0, "evaluations": 5, "times_faster": {"DDPM-2000": 1600.0}},
            ]
        },
        "start_up": {"rows": [{"name": "x", "opened": 0.5, "ready": 1.5, "peak_bytes": 153_000_000}]},
        "disk": {"bundle": 11_900_000, "sample pictures": 26_400},
    }


def evaluation_record() -> dict[str, Any]:
    """What `evaluate --json` prints."""
    figures = {"psnr": {"mean": 29.26, "half_width": 1.85}, "novel_measure": {"mean": 0.123456, "half_width": None}}
    row = {"scale": 4.0, "description": "x", "seconds": 0.5, "psnr_over_back_projection": None, "fidelity": None}
    gain = {"mean": 0.53, "half_width": 0.48}
    return {
        "scales": [4.0],
        "measures": {"novel_measure": "what is new"},
        "rule": "the fastest that is good",
        "protocol": "protocol plain: as it is",
        "originals": [
            {"scale": 4.0, "name": "a", "photograph": "hill"},
            {"scale": 4.0, "name": "b", "photograph": "hill"},
        ],
        "rows": [
            {**row, "name": "bicubic", "figures": figures},
            {**row, "name": "balanced", "figures": figures, "psnr_over_back_projection": gain},
            {"scale": 4.0, "name": "broken", "failure": "it fell over"},
        ],
        "recommended": [{"scale": 4.0, "name": "balanced", "baseline": "long"}],
    }


def figures(data: dict[str, Any], origin: str = "a file") -> Figures:
    """As if read from a file."""
    return Figures(data=data, origin=origin)


FASTEST = Candidate(backend="openvino-cpu", precision="bf16", step_ms=12.5, sqnr_db=40.0)


def full_facts(**changes: Any) -> Facts:
    """Facts with every report but no pictures."""
    known: dict[str, Any] = {
        "bundle": packaged_bundle(quantization=quantization_entry(), calibration_images={"a.png": "0" * 64}),
        "bench": figures(bench_record(), "bench.json"),
        "evaluation": figures(evaluation_record(), "evaluation.json"),
        "quantization": figures(quantization_record()),
        "calibration": figures(calibration_record()),
        "engine": DecisionFigures(
            candidates=(
                Candidate(backend="onnxruntime-cpu", precision="fp32", step_ms=25.0),
                FASTEST,
                Candidate(backend="tensorrt", precision="fp16", failure="no GPU"),
            ),
            chosen=FASTEST,
            why="it is faster",
            trial=Trial(size=(128, 64), batch=1, threads=None, rounds=5),
        ),
    }
    return Facts(**{**known, **changes})
