"""fp16 graphs and TensorRT plans in the cache: made once, found again, and what to build when there is none.

The plans here are built with TensorRT-RTX ahead of time, without a GPU; those tests are slow.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.adapters.tensorrt_engine import TENSORRT_BACKEND, TENSORRT_RTX_BACKEND, TensorRtEngine
from engines.cache import Cache
from engines.contract import Backend, Opening
from engines.errors import EngineError
from engines.machine.cuda import Device
from engines.plans import built_forms
from engines.plans.built_forms import (
    PLAN_FILE,
    PlanSettings,
    Source,
    find_half_graph,
    find_plan,
    make_half_graph,
    make_plan,
    plan_key,
)
from engines.plans.profiles import Profile
from engines.plans.tensorrt_builder import BuildRequest, BuildResult
from engines.plans.tensorrt_names import TENSORRT, TENSORRT_RTX, TensorRtPackage
from engines.progress import Progress
from tests.engines.graphs import lookup_weight, write_lookup

CARD = Device(name="RTX 4090", capability=(8, 9), memory=24 << 30, driver=(13, 0))
PROFILE = Profile(axes={"batch": (1, 1, 1), "height": (4, 8, 16), "width": (4, 8, 16), "rows": (4, 4, 4)})
SETTINGS = PlanSettings(package=TENSORRT_RTX, precision="fp16", profile=PROFILE, device=CARD)

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'idm-deploy[tensorrt-rtx]'",
)


def quiet(phase: str, fraction: float) -> None:
    del phase, fraction


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source.of(write_lookup(tmp_path), "face denoise")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def with_version(package: TensorRtPackage, monkeypatch: pytest.MonkeyPatch, version: str = "1.7.1") -> None:
    monkeypatch.setattr(TensorRtPackage, "version", lambda self: version if self is package else None)


def pretend_to_build(monkeypatch: pytest.MonkeyPatch) -> list[BuildRequest]:
    """Plans are written without TensorRT; the requests are returned as they come."""
    requests: list[BuildRequest] = []

    def built(request: BuildRequest, progress: Progress, *, deadline_s: float) -> BuildResult:
        del progress, deadline_s
        requests.append(request)
        Path(request.plan).write_bytes(b"plan")
        formats = {"convolution": {"Half": 1}}
        return BuildResult(version="1.7.1", plan_bytes=4, formats=formats, layers=1, notes=())

    monkeypatch.setattr(built_forms, "build", built)
    return requests


def test_the_half_graph_is_made_once(source: Source, cache: Cache) -> None:
    graph, reason = make_half_graph(source, cache)
    assert reason == "it was not built before"
    assert make_half_graph(source, cache) == (graph, "")
    assert find_half_graph(source, cache) == graph
    weight = onnx.load(graph).graph.initializer[0]
    assert weight.data_type == onnx.TensorProto.FLOAT16


def test_without_onnx_no_half_graph_is_made_but_one_is_found(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(built_forms, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"fp16 form of lookup\.onnx needs the package onnx\. Type pip install onnx"):
        find_half_graph(source, cache)
    monkeypatch.undo()
    graph, _ = make_half_graph(source, cache)
    monkeypatch.setattr(built_forms, "find_spec", lambda _: None)
    assert find_half_graph(source, cache) == graph


def test_a_plan_is_built_once_from_the_half_graph(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    requests = pretend_to_build(monkeypatch)
    entry, reason = make_plan(source, SETTINGS, cache, quiet)
    assert reason == "it was not built before"
    assert entry.figures["formats"] == {"convolution": {"Half": 1}}
    again, reason = make_plan(source, SETTINGS, cache, quiet)
    assert (again.path, reason, len(requests)) == (entry.path, "", 1)
    assert Path(requests[0].graph).name == "half.onnx"
    float_settings = dataclasses.replace(SETTINGS, precision="fp32")
    make_plan(source, float_settings, cache, quiet)
    assert Path(requests[1].graph) == source.graph


def test_a_plan_of_other_constants_is_another_one(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    requests = pretend_to_build(monkeypatch)
    weight = lookup_weight()
    built = [
        make_plan(Source.of(source.graph, constants={"weight": factor * weight}), SETTINGS, cache, quiet)[0]
        for factor in (1, 2, 2)
    ]
    assert (built[0].path == built[1].path, built[1].path == built[2].path, len(requests)) == (False, True, 2)
    halves = [numpy_helper.to_array(onnx.load(request.graph).graph.initializer[0]) for request in requests]
    np.testing.assert_array_equal(halves[1], 2 * halves[0])
    same = source.filled("face denoise", {"weight": weight})
    assert same.fingerprint == Source.of(source.graph, constants={"weight": weight}).fingerprint != source.fingerprint
    with pytest.raises(EngineError, match=r"whose constants change from range to range are built in fp16 only"):
        make_plan(same, dataclasses.replace(SETTINGS, precision="fp32"), cache, quiet)


CHANGES = {
    "graph": {"source": "other"},
    "rules": {"rules": "2"},
    "version": {"version": "1.8.0"},
    "precision": {"precision": "fp32"},
    "device": {"device": dataclasses.replace(CARD, name="RTX 5090")},
    "driver": {"device": dataclasses.replace(CARD, driver=(13, 1))},
    "profile": {"profile": Profile(axes=dict(PROFILE.axes) | {"batch": (1, 1, 4)})},
    "workspace": {"workspace_bytes": 1 << 30},
}


@pytest.mark.parametrize("field", CHANGES)
def test_each_thing_a_plan_depends_on_changes_its_key_alone(
    field: str, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    before = plan_key(source, SETTINGS)
    change = dict(CHANGES[field])
    if "version" in change:
        with_version(TENSORRT_RTX, monkeypatch, str(change.pop("version")))
    if "rules" in change:
        monkeypatch.setattr(built_forms, "HALF_RULES", change.pop("rules"))
    other = dataclasses.replace(source, fingerprint="f") if change.pop("source", None) else source
    after = plan_key(other, dataclasses.replace(SETTINGS, **change))  # type: ignore[arg-type]
    changed = [name for name in after if after[name] != before[name]]
    assert changed == (["rules", "precision"] if field == "precision" else [field])


def test_the_two_packages_have_different_plans(source: Source) -> None:
    other = dataclasses.replace(SETTINGS, package=TENSORRT)
    assert plan_key(source, other)["backend"] != plan_key(source, SETTINGS)["backend"]


def test_a_plan_is_found_for_the_sizes_it_holds(source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    pretend_to_build(monkeypatch)
    entry, _ = make_plan(source, SETTINGS, cache, quiet)
    plan, profile = find_plan(source, TENSORRT_RTX, "fp16", CARD, cache, {"height": 16})
    assert (plan, profile.text) == (entry.file(PLAN_FILE), PROFILE.text)
    with pytest.raises(
        EngineError, match=r"the nearest lacks height 17 \(built for 4\.\.8\.\.16\)\. Build one with idm"
    ):
        find_plan(source, TENSORRT_RTX, "fp16", CARD, cache, {"height": 17})


@pytest.mark.parametrize("change", [{"name": "RTX 5090"}, {"driver": (13, 1)}])
def test_a_plan_of_another_card_or_driver_is_never_run(
    change: dict[str, object], source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    pretend_to_build(monkeypatch)
    make_plan(source, SETTINGS, cache, quiet)
    other = dataclasses.replace(CARD, **change)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"no tensorrt-rtx engine in fp16 was built for this bundle, GPU, driver"):
        find_plan(source, TENSORRT_RTX, "fp16", other, cache, {})


def test_a_plan_of_another_bundle_or_version_is_never_run(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    pretend_to_build(monkeypatch)
    make_plan(source, SETTINGS, cache, quiet)
    with pytest.raises(EngineError, match="was built for this bundle"):
        find_plan(dataclasses.replace(source, fingerprint="f"), TENSORRT_RTX, "fp16", CARD, cache, {})
    with_version(TENSORRT_RTX, monkeypatch, "1.8.0")
    with pytest.raises(EngineError, match=r"Type idm-deploy build-engine --engine tensorrt-rtx --precision fp16"):
        find_plan(source, TENSORRT_RTX, "fp16", CARD, cache, {})


def test_a_plan_built_ahead_of_time_serves_every_card_of_its_capability(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_version(TENSORRT_RTX, monkeypatch)
    requests = pretend_to_build(monkeypatch)
    ahead = dataclasses.replace(SETTINGS, device=None, capability="8.9")
    make_plan(source, ahead, cache, quiet)
    assert requests[0].capability == "8.9"
    other = dataclasses.replace(CARD, name="RTX 4060", driver=(14, 0))
    assert find_plan(source, TENSORRT_RTX, "fp16", other, cache, {})[1].text == PROFILE.text
    with pytest.raises(EngineError, match="was built for this bundle"):
        find_plan(source, TENSORRT_RTX, "fp16", dataclasses.replace(CARD, capability=(12, 0)), cache, {})


def test_the_timing_cache_is_one_per_version_and_gpu(
    source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requests = pretend_to_build(monkeypatch)
    with_version(TENSORRT, monkeypatch, "11.4.0")
    full = dataclasses.replace(SETTINGS, package=TENSORRT)
    make_plan(source, full, cache, quiet)
    assert requests[-1].timing_cache == str(cache.root / "timing" / "tensorrt-11.4.0-RTX_4090")
    make_plan(source, dataclasses.replace(full, timing_cache=tmp_path / "mine"), cache, quiet, rebuild=True)
    assert requests[-1].timing_cache == str(tmp_path / "mine")
    with_version(TENSORRT_RTX, monkeypatch)
    make_plan(source, SETTINGS, cache, quiet)
    assert requests[-1].timing_cache is None
    assert requests[-1].device == 0
    other = dataclasses.replace(CARD, name="L4", number=1)
    make_plan(source, dataclasses.replace(SETTINGS, device=other), cache, quiet)
    assert requests[-1].device == 1
    with pytest.raises(EngineError, match=r"tensorrt-rtx has no timing cache\. Leave --timing-cache out"):
        dataclasses.replace(SETTINGS, timing_cache=tmp_path / "mine")


def test_nothing_to_build_for() -> None:
    with pytest.raises(EngineError, match=r"tensorrt has no GPU to build for\. Name one's compute capability"):
        PlanSettings(package=TENSORRT, precision="fp16", profile=PROFILE)


def test_building_without_the_package(source: Source, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(TensorRtPackage, "version", lambda _: None)
    with pytest.raises(EngineError, match=r"tensorrt cannot build: it is not installed\. Type pip install"):
        make_plan(source, dataclasses.replace(SETTINGS, package=TENSORRT), cache, quiet)


# The backends' own refusals


@pytest.mark.parametrize("chosen", [TENSORRT_BACKEND, TENSORRT_RTX_BACKEND])
def test_probing_without_a_gpu(chosen: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    with_version(TENSORRT if chosen is TENSORRT_BACKEND else TENSORRT_RTX, monkeypatch)
    monkeypatch.setattr(TensorRtPackage, "needed_cuda", lambda _: (13, 0))
    monkeypatch.setattr("engines.adapters.tensorrt_engine.find_device", lambda _number=0: "no NVIDIA driver was found")
    assert chosen.probe().reason == "no NVIDIA driver was found"
    graph = write_lookup(tmp_path)
    with pytest.raises(EngineError, match=rf"{chosen.name} cannot run here: no NVIDIA driver was found"):
        chosen.open_engine(graph, Opening(precision="fp16"))
    old = dataclasses.replace(CARD, driver=(12, 4))
    monkeypatch.setattr("engines.adapters.tensorrt_engine.find_device", lambda _number=0: old)
    assert "too old: it has CUDA 12.4" in chosen.probe().reason
    with pytest.raises(EngineError, match=r"cannot run here: the NVIDIA driver is too old"):
        chosen.open_engine(graph, Opening(precision="fp16"))
    monkeypatch.setattr("engines.adapters.tensorrt_engine.find_device", lambda _number=0: CARD)
    assert chosen.probe().available
    with pytest.raises(EngineError, match=r"no .* engine in fp16 was built"):
        chosen.open_engine(graph, Opening(precision="fp16", cache_dir=cache.root))


def test_a_package_that_cannot_be_imported(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    package = dataclasses.replace(TENSORRT, module="tensorrt.gone")
    from engines.onnx_files.graph_file import read_signature

    with pytest.raises(EngineError, match=r"tensorrt\.gone cannot start \(.*\)\. Install it again"):
        TensorRtEngine(source.graph, read_signature(source.graph), "fp16", package, source.graph, PROFILE)


@needs_rtx
@pytest.mark.slow
def test_a_real_plan_ahead_of_time(source: Source, cache: Cache) -> None:
    ahead = dataclasses.replace(SETTINGS, device=None, capability="8.9")
    entry, _ = make_plan(source, ahead, cache, quiet)
    assert entry.figures["layers"] > 0
    assert entry.bytes == entry.file(PLAN_FILE).stat().st_size > 1000
