"""What "auto" means: the measured choice where there is one, otherwise the first engine in float32."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs, to_builtins
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.cli.main import app
from deploy.engine import choice as module
from deploy.engine.choice import choices_here, engine_choice
from deploy.engine.chosen import AUTO, CHOICE_LABEL, chosen_engine, machine_key
from deploy.engine.graphs import EngineChoice
from deploy.engine.trials import Candidate
from deploy.errors import BundleError, DeployError, MissingPackage
from deploy.export.export import export_bundle
from deploy.picture.upscaler import Upscaler
from engines.backends import BACKENDS, DEFAULT_BACKEND, probe_all
from engines.cache import Cache
from engines.errors import EngineError
from engines.machine.cuda import Device
from tests.backends import change_backend
from tests.checkpoints import save_idm


@pytest.mark.slow
def test_auto_follows_what_build_engine_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = export_bundle(load_checkpoint(save_idm(tmp_path)), tmp_path / "micro.bundle")
    assert engine_choice(bundle).backend == DEFAULT_BACKEND
    assert engine_choice(bundle).precision == "fp32"
    result = CliRunner().invoke(app, ["build-engine", str(bundle.path), "--sizes", "16x16"])
    assert result.exit_code == 0, result.output
    chosen = chosen_engine(bundle, threads=1)
    assert chosen is not None
    with Upscaler(bundle, threads=1) as upscaler:
        assert upscaler.choice == chosen


def test_a_cache_that_cannot_be_read_holds_no_choice(idm_tiny: Bundle, tmp_path: Path) -> None:
    """A name of 300 characters stands for a home without permission, which the superuser would not notice."""
    assert chosen_engine(idm_tiny, cache_dir=tmp_path / ("x" * 300)) is None


def test_a_gpu_is_chosen_by_its_number(idm_tiny: Bundle, own_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_cache
    card = Device(name="L4", capability=(8, 9), memory=1 << 34, driver=(13, 0), number=1)
    monkeypatch.setattr("engines.backends.find_device", lambda _: card)
    if not any(probe.available for probe in probe_all() if BACKENDS[probe.name].on_gpu):
        with pytest.raises(
            MissingPackage, match=r"Device 1 was asked for, and no engine that runs on GPUs is here\. Type"
        ):
            engine_choice(idm_tiny, device=1)
    cuda = replace(BACKENDS["onnxruntime-cuda"].probe(), available=True)
    monkeypatch.setattr(module, "probe_all", lambda: (BACKENDS[DEFAULT_BACKEND].probe(), cuda))
    change_backend(monkeypatch, "onnxruntime-cuda", probe=lambda: cuda)
    chosen = engine_choice(idm_tiny, device=1)
    assert (chosen.backend, chosen.device) == ("onnxruntime-cuda", 1)
    assert engine_choice(idm_tiny).device is None
    with pytest.raises(EngineError, match=r"onnxruntime-cpu runs on the processor and knows no device 1"):
        engine_choice(idm_tiny, DEFAULT_BACKEND, device=1)


def test_what_was_measured_for_a_gpu_is_not_what_was_measured_for_all_engines(
    idm_tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [Device(name=name, capability=(8, 9), memory=1, driver=(13, 0)) for name in ("L4", "H200")]
    monkeypatch.setattr("deploy.engine.chosen.find_device", cards.__getitem__)
    keys = [machine_key(idm_tiny, device)["device"] for device in (None, 0, 1)]
    assert [key.partition(" cores, ")[2] for key in keys] == [
        "L4, CUDA 13.0",
        "L4, CUDA 13.0, GPU 0 alone",
        "H200, CUDA 13.0, GPU 1 alone",
    ]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty engine cache in the place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Cache()


def test_a_named_precision_finds_an_engine_that_has_it(quantized_idm: Bundle, own_cache: Cache) -> None:
    assert not own_cache.root.exists()
    assert engine_choice(quantized_idm, precision="bf16").backend == "openvino-cpu"
    assert engine_choice(quantized_idm, precision="fp32").backend == DEFAULT_BACKEND
    assert engine_choice(quantized_idm, precision="int8").backend == DEFAULT_BACKEND
    known = quantized_idm.manifest.quantization
    assert known is not None
    quantization = known.with_targets({"openvino": known.targets["openvino"]})
    other = replace(quantized_idm, manifest=replace(quantized_idm.manifest, quantization=quantization))
    assert engine_choice(other, precision="int8").backend == "openvino-cpu"


def test_of_several_engines_with_a_precision_the_fastest_measured_is_taken(
    quantized_idm: Bundle, own_cache: Cache
) -> None:
    """Measured by hand: OpenVINO's int8 in half the time of ONNX Runtime's, its float32 in twice."""
    times = {
        ("onnxruntime-cpu", "fp32"): 10.0,
        ("onnxruntime-cpu", "int8"): 8.0,
        ("openvino-cpu", "fp32"): 20.0,
        ("openvino-cpu", "int8"): 4.0,
    }
    found = [Candidate(backend=backend, precision=kind, step_ms=ms) for (backend, kind), ms in times.items()]
    figures = {"candidates": [to_builtins(one) for one in found], "chosen": to_builtins(found[0]), "why": "by hand"}
    key = machine_key(quantized_idm) | {"asked": "auto auto"}
    own_cache.obtain(f"{CHOICE_LABEL} it", key, lambda _: figures)
    assert engine_choice(quantized_idm, precision="int8").backend == "openvino-cpu"
    assert engine_choice(quantized_idm, precision="fp32").backend == "onnxruntime-cpu"
    assert engine_choice(quantized_idm).backend == "onnxruntime-cpu"


def test_a_bundle_without_a_float_denoiser_runs_in_int8(quantized_idm: Bundle, own_cache: Cache) -> None:
    del own_cache
    graphs = {name: graph for name, graph in quantized_idm.manifest.graphs.items() if name != "denoise"}
    only_int8 = replace(quantized_idm, manifest=replace(quantized_idm.manifest, graphs=graphs))
    assert engine_choice(only_int8).precision == "int8"
    for engine in ("auto", "onnxruntime-cpu"):
        with pytest.raises(BundleError, match=r"holds its denoiser in int8 only, not in fp32\. Leave `precision` out"):
            engine_choice(only_int8, engine, "fp32")


def test_what_cannot_run_is_refused_before_any_picture_is_read(idm_tiny: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graphs\. Make them with `idm-deploy quantize`"):
        engine_choice(idm_tiny, precision="int8")
    if BACKENDS["tensorrt"].probe().available:
        pytest.skip("TensorRT is here")
    with pytest.raises(MissingPackage, match=r"tensorrt cannot run here: tensorrt is not installed\. Type pip install"):
        engine_choice(idm_tiny, "tensorrt", "fp16")


def test_without_any_engine_the_pip_lines_are_told(idm_tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = tuple(replace(probe, available=False) for probe in probe_all())
    monkeypatch.setattr(module, "probe_all", lambda: absent)
    with pytest.raises(MissingPackage, match=r"No engine is installed .* Type pip install 'idm-deploy\[cpu\]' or pip"):
        engine_choice(idm_tiny, precision="fp32")


def test_a_named_engine_is_taken_at_its_word(idm_tiny: Bundle) -> None:
    choice = engine_choice(idm_tiny, "openvino-cpu", "bf16", 1)
    assert (choice.backend, choice.precision, choice.threads) == ("openvino-cpu", "bf16", 1)


def test_what_surrounds_int8_is_named_or_measured_or_refused(
    quantized_idm: Bundle, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_backend(monkeypatch, "openvino-cpu", lacks=dict, around_int8_here=lambda: "bf16")

    def chosen(around: str = AUTO) -> EngineChoice:
        return engine_choice(quantized_idm, "openvino-cpu", "int8", around=around)

    assert [chosen(around).around for around in (AUTO, "bf16", "fp32")] == [None, None, "fp32"]
    assert [chosen(around).precision_of_engines for around in (AUTO, "fp32")] == ["bf16", "fp32"]
    assert chosen("fp32").name == "openvino-cpu int8, fp32 around"
    ways = [way.name for way in choices_here(quantized_idm, None) if way.backend == "openvino-cpu"]
    assert ways[-2:] == ["openvino-cpu int8", "openvino-cpu int8, fp32 around"]
    with pytest.raises(EngineError, match=r"has no bf16 around int8 on this machine\. It has fp32\."):
        engine_choice(quantized_idm, DEFAULT_BACKEND, "int8", around="bf16")
    with pytest.raises(DeployError, match=r"`around` bf16 says what surrounds int8 layers, and openvino-cpu fp32 has"):
        engine_choice(quantized_idm, "openvino-cpu", "fp32", around="bf16")
    # Where fp32 was measured to be faster around int8, it is taken, although bf16 is usual for the processor.
    slow = Candidate(backend="openvino-cpu", precision="int8", step_ms=9.0)
    fast = structs.replace(slow, step_ms=7.0, around="fp32", normalisation="planar")
    figures = {"candidates": [to_builtins(slow), to_builtins(fast)], "chosen": to_builtins(fast), "why": ""}
    key = machine_key(quantized_idm) | {"asked": "auto auto"}
    own_cache.obtain(f"{CHOICE_LABEL} it", key, lambda _: figures)
    for choice in (chosen(), engine_choice(quantized_idm)):
        assert (choice.around, choice.normalisation) == ("fp32", "planar")
    assert engine_choice(quantized_idm, around="bf16").around is None
