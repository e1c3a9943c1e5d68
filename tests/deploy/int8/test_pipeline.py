"""A tiny network quantized end to end: what is written, resumed, refused."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import ChoiceError
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.fitted import FittedEquation, FittedStep, FittedTo
from deploy.bundle.records import Preset
from deploy.engine.int8 import Int8Denoiser
from deploy.errors import BundleError
from deploy.images.files import read_image
from deploy.int8.pipeline import Calibrated, quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from deploy.int8.storing.only_int8 import without_float_denoiser
from deploy.int8.telling.records import text_of_record
from deploy.picture.upscaler import Upscaler
from engines.saturation import is_refused

SETTINGS = QuantizeSettings(scales=(2.0, 4.0), crop=16, pictures=4, ranges=2, max_psnr_drop=3.0, float_share=0.0)


@pytest.fixture
def short(micro: Bundle) -> Bundle:
    """The tiny bundle with a preset of three steps."""
    presets = {"quick": Preset(equation="ddim", steps=3)}
    with BundleWriter.update(micro) as writer:
        return writer.commit(replace(micro.manifest, presets=presets, default_preset="quick"))


@pytest.fixture(autouse=True)
def few_plain_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain trajectory takes as few steps as the preset."""
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)


def calibrated(
    bundle: Bundle,
    photographs: Path,
    cache: Path,
    settings: QuantizeSettings = SETTINGS,
    *,
    force: bool = False,
    max_memory: int = 1 << 30,
    progress: Callable[[str, float], None] = lambda _doing, _fraction: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Calibrated:
    places = Places(calibration=photographs, cache=cache, max_memory=max_memory, threads=1)
    return quantize_bundle(bundle, settings, places, force=force, say=say, progress=progress)


def enlarged(bundle: Bundle, picture: Path, engine: str, precision: str) -> np.ndarray:
    with Upscaler(bundle, engine, precision, 1) as upscaler:
        made: np.ndarray = upscaler.upscale(read_image(picture).pixels[:8, :8], scale=2.0)
    return made


@pytest.mark.slow
def test_a_bundle_gains_int8_graphs_that_resume_and_run(short: Bundle, photographs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    reached: list[float] = []
    found = calibrated(
        short, photographs, tmp_path / "cache", say=said.append, progress=lambda _, fraction: reached.append(fraction)
    )
    assert reached == sorted(reached) and reached[-1] == pytest.approx(1.0)
    assert said[-1].startswith(f"partial results stay in {tmp_path / 'cache' / 'calibrations'}")
    quantization = found.bundle.manifest.quantization
    assert quantization is not None
    assert {name: bool(target.constants) for name, target in quantization.targets.items()} == {
        "ort": False,
        "openvino": False,
        "tensorrt": True,
    }
    assert [Int8Denoiser(found.bundle, target).engines for target in ("ort", "openvino", "tensorrt")] == [1, 1, 2]
    assert found.bundle.manifest.calibration_images is not None
    assert sorted(found.bundle.manifest.calibration_images) == ["0.png", "1.png", "2.png", "3.png"]
    # One copy of the weights: all int8 graphs of all targets point into the same file.
    assert len({target.weights for target in quantization.targets.values()}) == 1
    record = json.loads(text_of_record(found.record), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert quantization.calibration_sha256 == hashlib.sha256(text_of_record(found.record).encode()).hexdigest()
    assert [set(row) for row in record["targets"]["ort"]["noise_corrections"]] == [
        {"noise_level", "gain", "offset", "estimate_variance"}
    ] * len(record["noise_levels"])
    assert record["noise_levels"] == list(quantization.noise_levels) == sorted(record["noise_levels"])
    assert all(len(layer["inputs"]) == 2 for layer in record["targets"]["ort"]["layers"].values())

    # Int8 changes the picture a little, and only a little.
    exact = enlarged(found.bundle, photographs / "4.png", "onnxruntime-cpu", "fp32")
    for engine in [name for name in ("onnxruntime-cpu", "openvino-cpu") if not is_refused(name)]:
        coded = enlarged(found.bundle, photographs / "4.png", engine, "int8")
        assert 0 < np.abs(coded.astype(int) - exact).mean() < 8

    # Everything is there already: the same bytes, and nothing is recorded again.
    done: list[str] = []
    before = found.bundle.manifest.as_bytes()
    again = calibrated(found.bundle, photographs, tmp_path / "cache", force=True, progress=lambda d, _: done.append(d))
    assert again.bundle.manifest.as_bytes() == before
    assert not [doing for doing in done if doing.startswith(("recording", "looking"))]
    with pytest.raises(BundleError, match=r"is quantized already\. Use --force"):
        calibrated(found.bundle, photographs, tmp_path / "cache")


@pytest.mark.parametrize("passes", [1, 2])
def test_an_interrupted_calibration_resumes_to_the_same_bytes(
    short: Bundle, photographs: Path, tmp_path: Path, passes: int
) -> None:
    """Interrupted while the last pass rounds weights; what the ones before it found is not gathered again."""
    max_memory = {1: 1 << 30, 2: 16 << 20}[passes]
    begun: list[str] = []

    def interrupt(doing: str, _fraction: float) -> None:
        if doing.startswith("looking inside the network, step 1 of"):
            begun.append(doing)
        if doing.startswith("rounding") and len(begun) == passes:
            raise KeyboardInterrupt

    settings = replace(SETTINGS, targets=("ort",))
    plain = short.manifest.as_bytes()
    with pytest.raises(KeyboardInterrupt):
        calibrated(short, photographs, tmp_path / "cache", settings, max_memory=max_memory, progress=interrupt)
    assert Bundle.open(short.path).manifest.as_bytes() == plain

    done: list[str] = []
    resumed = calibrated(
        short, photographs, tmp_path / "cache", settings, max_memory=max_memory, progress=lambda d, _: done.append(d)
    )
    assert not [doing for doing in done if doing.startswith("recording")]
    assert len([doing for doing in done if doing.startswith("looking inside the network, step 1 of")]) == 1
    whole = calibrated(resumed.bundle, photographs, tmp_path / "other", settings, force=True, max_memory=max_memory)
    assert whole.bundle.manifest.as_bytes() == resumed.bundle.manifest.as_bytes()


@pytest.mark.slow
def test_a_bundle_may_hold_int8_alone(short: Bundle, photographs: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, targets=("ort", "openvino"), float_share=0.02)
    found = calibrated(short, photographs, tmp_path / "cache", settings)
    # The share of the arithmetic that the settings give away goes to the same layers for both, some at least.
    kept = {choice.in_float for choice in found.choices.values()}
    assert len(kept) == 1 and kept != {frozenset()}
    given = sum(found.multiplications[node] for node in next(iter(kept))) / sum(found.multiplications.values())
    assert 0 < given <= 0.02
    before = enlarged(found.bundle, photographs / "4.png", "onnxruntime-cpu", "int8")
    size = sum(record.bytes for record in found.bundle.manifest.files.values())
    alone = without_float_denoiser(found.bundle)
    assert "denoise" not in alone.manifest.graphs
    assert sum(record.bytes for record in alone.manifest.files.values()) < size
    assert np.array_equal(enlarged(alone, photographs / "4.png", "onnxruntime-cpu", "int8"), before)
    with pytest.raises(BundleError, match=r"has no float denoiser to quantize, only int8 graphs"):
        calibrated(alone, photographs, tmp_path / "cache", force=True)


@pytest.mark.slow
def test_means_are_corrected_in_every_layer_and_range(short: Bundle, photographs: Path, tmp_path: Path) -> None:
    """That a layer then has the float mean is tested beside `bias_correction`; here, that it comes into the graphs."""

    def error(bundle: Bundle) -> float:
        exact = enlarged(bundle, photographs / "4.png", "onnxruntime-cpu", "fp32")
        coded = enlarged(bundle, photographs / "4.png", "onnxruntime-cpu", "int8")
        return float(np.square(coded.astype(float) - exact).mean())

    coarse = replace(SETTINGS, targets=("ort",), equalise=False, rounding="nearest")
    plain = calibrated(short, photographs, tmp_path / "cache", coarse)
    before = error(plain.bundle)
    corrected = calibrated(
        plain.bundle, photographs, tmp_path / "cache", replace(coarse, correct_bias=True), force=True
    )
    assert all(layer.corrections is None for layer in plain.recipes["ort"].layers)
    for layer in corrected.recipes["ort"].layers:
        assert layer.corrections is not None and layer.corrections.shape == (2, layer.outputs)
        assert np.abs(layer.corrections).max() > 0
    assert error(corrected.bundle) != before
    assert error(corrected.bundle) < 1.3 * before


def test_int8_alone_needs_int8_first(short: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graphs to keep instead of the float ones"):
        without_float_denoiser(short)


def test_more_ranges_than_steps_are_refused(short: Bundle, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ChoiceError, match=r"7 ranges were asked for, but the plan has 3 steps"):
        calibrated(short, photographs, tmp_path / "cache", replace(SETTINGS, ranges=7))


def test_rows_fitted_to_the_int8_graphs_that_are_replaced_go_at_once(
    short: Bundle, photographs: Path, tmp_path: Path
) -> None:
    to = FittedTo(
        family="idm", engine="onnxruntime-cpu", precision="int8", pictures=2, scales=(4.0,), seed=0,
        int8_target="ort", int8_sha256="0" * 64,
    )  # fmt: skip
    step = FittedStep(noise_level=0.5, x=0.0, x0=(1.0,))
    equation = FittedEquation(steps=(step,), from_guess=True, consistency=1.0, fitted_to=to)
    quick = Preset(equation="fitted-1", steps=1, start=0.5).with_measured("ssimulacra2", 50.0)
    with BundleWriter.update(short) as writer:
        presets = {"quick": quick}
        short = writer.commit(replace(short.manifest, presets=presets, fitted={"fitted-1": equation}))
    told: list[str] = []
    with pytest.raises(ChoiceError, match="99 ranges were asked for"):
        calibrated(short, photographs, tmp_path, replace(SETTINGS, ranges=99), say=told.append)
    assert told[0].startswith("fitted-1: fitted to the int8 graphs that are replaced, and taken out with them")
    left = Bundle.open(short.path).manifest
    assert left.fitted is None and left.presets == {"quick": Preset(equation="ddim", steps=1, start=0.5)}


def test_a_cache_that_cannot_be_made_is_named(short: Bundle, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BundleError, match=r"keeping partial results in .*taken.*--cache-dir"):
        calibrated(short, photographs, tmp_path / "taken")
