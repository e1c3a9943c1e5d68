"""What int8 graphs take on disk and in memory, and what opens them, with made-up scales in place of a calibration."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins

from calibration.choose.recipe import Recipe
from calibration.observe.layers import CONV, Layer
from calibration.passes.gathering import quantizable_layers
from deploy.bundle import Bundle, BundleWriter
from deploy.engine.builds import PlanOptions, build_plans, planned_builds
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.engine.int8 import Int8Denoiser
from deploy.engine.profiles import default_sizes
from deploy.engine.trials import TrialSettings, trial_step
from deploy.errors import BundleError
from deploy.export.weights_file import ALIGNMENT, places_of
from deploy.images.sizes import Size
from deploy.int8.settings import TARGET_NAMES
from deploy.int8.storing.storing import graphs_of_target, merged_tensors, write_targets
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.upscaler import Upscaler
from engines import saturation
from engines.cache import Cache
from engines.errors import EngineError
from engines.plans.built_forms import Source
from engines.plans.tensorrt_names import TENSORRT_RTX
from engines.saturation import is_refused
from tests.deploy.int8.made_up import made_up_recipe, quantized_without_calibration
from tests.deploy.quantizations import quantization


def int8_bytes(bundle: Bundle, target: str) -> int:
    """Of everything that quantizing added: graph, int8 weights, rows, and what the manifest says."""
    assert bundle.manifest.quantization is not None
    told = bundle.manifest.quantization.targets[target]
    files = set(told.files) - set(bundle.manifest.graphs["denoise"].weights)
    return sum(bundle.manifest.files[name].bytes for name in files) + len(json.dumps(to_builtins(told)))


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_eight_ranges_cost_at_most_five_percent_more_disk_than_one(target: str, tmp_path: Path) -> None:
    """All scales differ between all ranges here, which is the most that ranges can cost."""
    sizes = [
        int8_bytes(quantized_without_calibration(IDM_BUNDLE, tmp_path / f"{ranges}.bundle", target, ranges), target)
        for ranges in (1, 8)
    ]
    codes = sum(layer.weight_shape[0] * int(np.prod(layer.weight_shape[1:])) for layer in packaged_layers())
    assert codes < sizes[0] < 1.2 * codes
    assert sizes[0] <= sizes[1] <= 1.05 * sizes[0], f"{target}: {sizes}"


RESIDENT = """
import sys
from dataclasses import replace
from pathlib import Path

from deploy.bundle import Bundle
from deploy.engine.trials import TrialSettings, trial_step
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.images.sizes import Size

bundle = Bundle.open(sys.argv[1])
with GraphSet(bundle, EngineChoice(backend=sys.argv[2], precision="int8", threads=1)) as graphs:
    step = trial_step(graphs, TrialSettings(size=Size(128, 128), threads=1))
    edges = bundle.manifest.quantization.targets[graphs.int8.target].edges
    for low, high in list(zip(edges, edges[1:])) * 2:
        row = graphs.row(replace(step.row, noise_level=(low + high) / 2))
        graphs.predicted_noise(step.x, step.condition, row)
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("target", "backend"), [("ort", "onnxruntime-cpu"), ("openvino", "openvino-cpu")])
def test_eight_ranges_cost_at_most_ten_percent_more_memory_than_one(target: str, backend: str, tmp_path: Path) -> None:
    """The most that was resident in a process that opens the packaged model and runs a step of every range twice."""
    if is_refused(backend):
        pytest.skip("this CPU cuts sums of int8 products off")
    peaks = []
    for ranges in (1, 8):
        bundle = quantized_without_calibration(IDM_BUNDLE, tmp_path / f"{ranges}.bundle", target, ranges)
        command = [sys.executable, "-c", RESIDENT, str(bundle.path), backend]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.1 * peaks[0], f"{target}: {peaks} kB"


def predicted(bundle: Bundle, choice: EngineChoice, range_index: int = 0) -> np.ndarray:
    """The noise of a trial's step by the int8 graph, with the numbers of a range."""
    with GraphSet(bundle, choice) as graphs:
        assert graphs.int8 is not None
        edges = graphs.int8.bundle.manifest.quantization.targets[graphs.int8.target].edges
        step = trial_step(graphs, TrialSettings(size=Size(16, 16), threads=1))
        level = (edges[range_index] + edges[range_index + 1]) / 2
        return graphs.predicted_noise(step.x, step.condition, graphs.row(replace(step.row, noise_level=level)))


def test_sums_that_would_be_cut_off_are_made_another_way(
    micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned weights give the very same integers; where a backend has no such way, that is told."""
    for target, backend in (("ort", "onnxruntime-cpu"), ("tensorrt", "onnxruntime-cpu"), ("openvino", "openvino-cpu")):
        bundle = quantized_without_calibration(micro.path, tmp_path / f"{target}.bundle", target, 2)
        choice = EngineChoice(backend=backend, precision="int8", threads=1, int8_target=target)
        before = predicted(bundle, choice_of(target))
        monkeypatch.setattr(saturation, "int8_saturates", lambda _: True)
        if backend == "openvino-cpu":
            with pytest.raises(EngineError, match="openvino-cpu cuts sums of int8 products off at 16 bits on this CPU"):
                predicted(bundle, choice)
        else:
            np.testing.assert_allclose(predicted(bundle, choice), before, atol=1e-4 * np.abs(before).max())
        monkeypatch.undo()


def test_each_range_of_tensorrt_has_its_own_constants(micro: Bundle, tmp_path: Path) -> None:
    """On ONNX Runtime: two ranges differ, and the first is what the graph holds by itself."""
    bundle = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "tensorrt", 2)
    choice = EngineChoice(backend="onnxruntime-cpu", precision="int8", threads=1, int8_target="tensorrt")
    first, second = (predicted(bundle, choice, index) for index in (0, 1))
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()
    int8 = Int8Denoiser(bundle, "tensorrt")
    assert int8.engines == 2
    assert set(int8.constants(0)) == set(int8.constants(1))


def test_a_plan_per_range_is_built_and_found_again(micro: Bundle, tmp_path: Path) -> None:
    """The key under which a plan is built is the one that opening the graph in that range looks for."""
    bundle = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "tensorrt", 2)
    options = PlanOptions(sizes=default_sizes(bundle), capability="8.9")
    int8 = Int8Denoiser(bundle, "tensorrt")
    planned = [plan.source for plan in planned_builds(bundle, TENSORRT_RTX, "int8", options)]
    of_ranges = [one for one in planned if one.constants]
    assert [one.label.split()[-3:] for one in of_ranges] == [["denoise", "int8", "0"], ["denoise", "int8", "1"]]
    for index, one in enumerate(of_ranges):
        opened = Source.of(int8.graph, constants=int8.constants(index))
        assert (one.graph, one.fingerprint) == (opened.graph, opened.fingerprint)
    assert of_ranges[0].fingerprint != of_ranges[1].fingerprint


def test_steps_that_were_not_calibrated_are_told_before_the_work(micro: Bundle, tmp_path: Path) -> None:
    bundle = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "ort", 2)
    told: list[str] = []
    with Upscaler(bundle, "onnxruntime-cpu", "int8", 1) as upscaler:
        upscaler.upscale(np.zeros((8, 8, 3), np.uint8), size=Size(16, 16), steps=2, notice=told.append)
    assert [line for line in told if line.startswith("int8")] == [
        "int8: 2 of 2 steps lie at noise levels that were not calibrated; each step uses the scales of the range that"
        " holds its noise level"
    ]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'idm-deploy[tensorrt-rtx]'",
)
def test_the_plans_of_all_ranges_compute_in_int8(micro: Bundle, tmp_path: Path) -> None:
    bundle = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "tensorrt", 2)
    options = PlanOptions(sizes=default_sizes(bundle), capability="8.9")
    planned = [plan for plan in planned_builds(bundle, TENSORRT_RTX, "int8", options) if plan.source.constants]
    convolutions = [one for one in quantizable_layers(bundle.graph("denoise", "group")) if one.kind == CONV]
    built = build_plans(planned, Cache(tmp_path / "cache"), options, lambda _doing, _fraction: None)
    assert [one.formats["convolution"]["Int8"] for one in built] == [len(convolutions)] * 2
    assert all(one.reason for one in built)


def packaged_layers() -> list[Layer]:
    return quantizable_layers(Bundle.open(IDM_BUNDLE).graph("denoise", "instance"))


def test_small_tensors_are_packed_and_large_ones_begin_a_page() -> None:
    small, large = np.zeros(3, np.float32), np.zeros(5000, np.int8)
    places = places_of({"a": small, "b": small, "c": large, "d": small, "e": large}, small_bytes=ALIGNMENT)
    assert [place.offset for place in places.values()] == [0, 64, 4096, 4096 + 5056, 12288]
    assert [place.offset for place in places_of({"a": small, "b": small}).values()] == [0, 4096]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranges", "corrected"),
    [({"openvino": 2, "tensorrt": 1}, False), ({"openvino": 1, "tensorrt": 1, "ort": 1}, True)],
    ids=str,
)
def test_targets_in_one_bundle_compute_what_each_does_alone(
    micro: Bundle, tmp_path: Path, ranges: dict[str, int], corrected: bool
) -> None:
    """Int8 weights are shared; biases, which hold other things in each target, are not."""
    alone, made = {}, []
    for target, count in ranges.items():
        told = made_up_recipe(micro, target, count)
        if corrected:
            added = [np.full((count, layer.outputs), 0.01, np.float32) for layer in told.layers]
            layers = [replace(layer, corrections=one) for layer, one in zip(told.layers, added, strict=True)]
            told = replace(told, layers=tuple(layers))
        made.append((target, told, np.linspace(0, 1, count + 1).tolist()))
        folder = tmp_path / f"{target}.bundle"
        alone[target] = predicted(written(micro, folder, made[-1:]), choice_of(target))
    together = written(micro, tmp_path / "both.bundle", made)
    for target, expected in alone.items():
        np.testing.assert_array_equal(predicted(together, choice_of(target)), expected)


def choice_of(target: str) -> EngineChoice:
    """The target's own backend, or ONNX Runtime, which reads OpenVINO's graphs too, where that is refused."""
    own = target == "openvino" and not is_refused("openvino-cpu")
    backend = "openvino-cpu" if own else "onnxruntime-cpu"
    return EngineChoice(backend=backend, precision="int8", threads=1, int8_target=target)


def written(source: Bundle, folder: Path, made: Sequence[tuple[str, Recipe, list[float]]]) -> Bundle:
    """A copy of a bundle with the int8 graphs of several targets."""
    shutil.copytree(source.path, folder)
    bundle = Bundle.open(folder)
    graphs = [graphs_of_target(bundle, *one) for one in made]
    with BundleWriter.update(bundle) as writer:
        targets = write_targets(writer, graphs, bundle.manifest.graphs["denoise"].weights)
        return writer.commit(replace(bundle.manifest, quantization=quantization(**targets)))


def test_different_tensors_of_one_name_are_refused() -> None:
    """Of two, the last would be what both graphs find."""
    one = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.int8)}
    assert set(merged_tensors([one, {"b": np.ones(2, np.int8)}])) == {"a", "b"}
    for other in (np.ones(3, np.float32), np.zeros((3, 1), np.float32), np.zeros(3, np.int32)):
        with pytest.raises(BundleError, match="storing the tensors of several graphs: a is float32 of shape"):
            merged_tensors([one, {"a": other}])
