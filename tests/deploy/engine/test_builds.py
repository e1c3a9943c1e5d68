"""TensorRT plans of a bundle: which are planned, and that both families really build for every target, in fp16.

The builds need TensorRT-RTX, which builds without a GPU; they are slow and skipped where it is missing.
"""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploy.bundle import Bundle
from deploy.engine import builds as engine_plans
from deploy.engine.builds import (
    PlanOptions,
    all_planned_builds,
    build_plans,
    packages_to_build_for,
    planned_builds,
    precisions_to_build,
    seconds_to_build,
    weights_bytes,
)
from deploy.engine.profiles import default_sizes
from deploy.errors import BundleError
from deploy.families.sizes import EngineSizes
from deploy.images.sizes import Size
from engines.cache import Cache
from engines.errors import EngineError
from engines.machine.cuda import Device
from engines.plans.built_forms import Source
from engines.plans.tensorrt_names import TENSORRT, TENSORRT_RTX
from tests.deploy.exported import exported, exported_latent

CARD = Device(name="RTX 4090", capability=(8, 9), memory=24 << 30, driver=(13, 0))

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'idm-deploy[tensorrt-rtx]'",
)


def silent(_doing: str, _fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def idm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    return exported_latent("latent_sr_tiny", tmp_path_factory.mktemp("latent"), sizes)


def ahead(bundle: Bundle, capability: str = "8.9") -> PlanOptions:
    return PlanOptions(sizes=default_sizes(bundle), capability=capability)


def test_every_graph_has_a_plan_and_what_runs_once_is_float(idm: Bundle) -> None:
    planned = planned_builds(idm, TENSORRT_RTX, "fp16", ahead(idm))
    kinds = {plan.source.label.split()[-1]: plan.settings.precision for plan in planned}
    assert kinds == {"denoise": "fp16", "encode": "fp32", "tabulate": "fp32"}
    assert all(plan.settings.capability == "8.9" and plan.settings.device is None for plan in planned)
    in_float = planned_builds(idm, TENSORRT_RTX, "fp32", ahead(idm))
    assert {plan.settings.precision for plan in in_float} == {"fp32"}


def test_the_key_is_what_opening_the_graph_will_look_for(idm: Bundle) -> None:
    for plan in planned_builds(idm, TENSORRT_RTX, "fp16", ahead(idm)):
        assert Source.of(plan.source.graph).fingerprint == plan.source.fingerprint


def test_for_the_gpu_that_is_here(idm: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(ahead(idm), capability=None)
    monkeypatch.setattr(engine_plans, "find_device", lambda _number=0: CARD)
    assert {plan.settings.device for plan in planned_builds(idm, TENSORRT, "fp16", options)} == {CARD}
    monkeypatch.setattr(engine_plans, "find_device", lambda _number=0: "there is none")
    with pytest.raises(EngineError, match=r"tensorrt has no GPU to build for\. Name one's compute capability"):
        planned_builds(idm, TENSORRT, "fp16", options)


def test_for_another_gpu_that_is_here(idm: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(CARD, number=1)
    monkeypatch.setattr(engine_plans, "find_device", {0: CARD, 1: other}.__getitem__)
    options = dataclasses.replace(ahead(idm), capability=None, device=1)
    assert [plan.settings.device for plan in planned_builds(idm, TENSORRT, "fp16", options)] == [other] * 3


@pytest.mark.parametrize(
    ("engine", "capability", "problem"),
    [
        ("auto", "8.9", r"A plan for GPUs of compute capability 8\.9 is built on none, and device 99 was given too"),
        ("auto", None, r"Device 99 cannot be used"),
        ("openvino-cpu", None, r"The engine openvino-cpu runs on the processor and knows no device 99"),
    ],
)
def test_plans_for_a_gpu_that_cannot_be(idm: Bundle, engine: str, capability: str | None, problem: str) -> None:
    options = dataclasses.replace(ahead(idm), capability=capability, device=99)
    with pytest.raises(EngineError, match=problem):
        all_planned_builds(idm, engine, "auto", options)


def test_int8_needs_int8_graphs(idm: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graphs for tensorrt-rtx\. Make them with `idm-deploy quantize"):
        planned_builds(idm, TENSORRT_RTX, "int8", ahead(idm))


def test_which_packages_and_precisions(idm: Bundle) -> None:
    assert packages_to_build_for("tensorrt", None) == [TENSORRT]
    assert packages_to_build_for("openvino-cpu", None) == []
    with pytest.raises(EngineError, match=r"openvino-cpu builds nothing for a compute capability\. Leave"):
        packages_to_build_for("openvino-cpu", "8.9")
    with pytest.raises(EngineError, match=r"There is no engine called 'tensorflow'"):
        packages_to_build_for("tensorflow", None)
    assert packages_to_build_for("auto", "8.9") == [TENSORRT_RTX]
    assert precisions_to_build(idm, TENSORRT, "tensorrt", "auto") == ["fp16"]
    assert precisions_to_build(idm, TENSORRT, "auto", "bf16") == []
    with pytest.raises(EngineError, match=r"tensorrt has no precision 'bf16'\. It has fp16, fp32, int8"):
        precisions_to_build(idm, TENSORRT, "tensorrt", "bf16")


def test_sizes_and_times_are_told_before(idm: Bundle) -> None:
    graph = idm.graph("denoise", "group")
    parameters = weights_bytes(graph)
    assert parameters == sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(graph).graph.initializer)
    plan = next(p for p in planned_builds(idm, TENSORRT_RTX, "fp16", ahead(idm)) if p.settings.precision == "fp16")
    assert plan.weights_bytes == weights_bytes(graph, half=True)
    assert parameters // 2 <= plan.weights_bytes < parameters * 0.51  # shapes and indices stay as they are
    assert 2 < seconds_to_build(plan) < 10


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["8.0", "8.9", "12.0"])
@pytest.mark.parametrize("family", ["idm", "latent"])
def test_both_families_build_in_fp16_without_a_float_convolution(
    family: str, capability: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Bundle = request.getfixturevalue(family)
    cache = Cache(tmp_path)
    planned = planned_builds(bundle, TENSORRT_RTX, "fp16", ahead(bundle, capability))
    built = build_plans(planned, cache, ahead(bundle, capability), silent)
    in_half = [made for plan, made in zip(planned, built, strict=True) if plan.settings.precision == "fp16"]
    convolutions = [made.formats["convolution"] for made in in_half if "convolution" in made.formats]
    assert convolutions and all(set(formats) == {"Half"} for formats in convolutions)
    for made in in_half:
        assert all("Float" not in formats for kind, formats in made.formats.items() if kind != "other")
    again = build_plans(planned, cache, ahead(bundle, capability), silent)
    assert [made.reason for made in again] == [""] * len(planned)


@needs_rtx
@pytest.mark.slow
def test_odd_sizes_of_idm_build(idm: Bundle, tmp_path: Path) -> None:
    sizes = EngineSizes(sizes=(Size(17, 19), Size(33, 21), Size(77, 97)), scales=(1.0, 4.0, 8.0), batch=(1, 1, 2))
    options = PlanOptions(sizes=sizes, capability="8.9")
    built = build_plans(planned_builds(idm, TENSORRT_RTX, "fp16", options), Cache(tmp_path), options, silent)
    assert built[0].formats["convolution"]["Half"] > 10


def test_int8_has_a_plan_per_range_with_or_without_the_float_denoiser(quantized_idm: Bundle) -> None:
    options = PlanOptions(sizes=default_sizes(quantized_idm), capability="8.9")
    planned = planned_builds(quantized_idm, TENSORRT_RTX, "int8", options)
    labels = ["encode", "tabulate", "denoise int8 0", "denoise int8 1"]
    assert sorted(plan.source.label for plan in planned) == sorted(f"idm_micro.bundle {label}" for label in labels)
    first, second = (plan for plan in planned if "int8" in plan.source.label)
    assert first.source.fingerprint != second.source.fingerprint
    assert first.settings.profile == second.settings.profile
    stored = [numpy_helper.to_array(one) for one in onnx.load(first.source.graph).graph.initializer]
    assert first.weights_bytes == sum(one.nbytes // (2 if one.dtype == np.float32 else 1) for one in stored)
    assert any(one.dtype == np.int8 and one.nbytes > 1000 for one in stored)
    assert first.settings.profile.axes["height"] == (8, 16, 64) and "range_numbers" not in first.settings.profile.axes
    graphs = {name: graph for name, graph in quantized_idm.manifest.graphs.items() if name != "denoise"}
    manifest = dataclasses.replace(quantized_idm.manifest, graphs=graphs)
    again = planned_builds(dataclasses.replace(quantized_idm, manifest=manifest), TENSORRT_RTX, "int8", options)
    assert [(plan.source.fingerprint, plan.settings) for plan in again] == [
        (plan.source.fingerprint, plan.settings) for plan in planned
    ]


def layers_meant_to_be_int8(graph: Path) -> int:
    """Convolutions and matrix products whose weights are int8 codes."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    decoded = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    return sum(node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in decoded for node in nodes)


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["8.0", "8.9", "12.0"])
def test_every_layer_that_quantize_put_into_int8_is_in_every_range(
    quantized_idm: Bundle, capability: str, tmp_path: Path
) -> None:
    options = ahead(quantized_idm, capability)
    planned = [p for p in planned_builds(quantized_idm, TENSORRT_RTX, "int8", options) if "int8" in p.source.label]
    meant = layers_meant_to_be_int8(planned[0].source.graph)
    assert meant > 10
    for built in build_plans(planned, Cache(tmp_path), options, silent):
        found = sum(built.formats.get(kind, {}).get("Int8", 0) for kind in ("convolution", "matmul"))
        assert found == meant, built.formats
        assert not any("Float" in kinds for kind, kinds in built.formats.items() if kind != "other")
