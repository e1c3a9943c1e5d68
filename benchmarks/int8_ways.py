"""Ways to quantize one bundle, all made from one calibration, and what they do to the same pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import replace as changed
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from calibration.choose.clipping import Method, MinMax
from calibration.choose.partition import FixedRanges
from calibration.choose.quantizer import Form
from calibration.choose.recipe import Recipe
from calibration.choose.rounding import RoundedWeights
from calibration.lanes import lanes_for
from calibration.observe.layers import LINEAR, Layer, layers_of, read_graph, weights_of
from calibration.passes.gathering import Findings, Gathered, gather
from calibration.passes.inputs import Inputs
from calibration.passes.recipes import Scales, biases_of, densities_of_inputs, recipe_of, scales_for
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.images.pictures import Pixels
from deploy.int8.pipeline import Calibrated
from deploy.int8.recording.trajectories import Trajectories, groups_of_pictures
from deploy.int8.storing.storing import calibrated_graph, graphs_of_target
from deploy.int8.telling.records import hash_of_record
from deploy.int8.trying.budget import share_in_float
from deploy.int8.trying.comparison import Fidelity, compare, float_upscaler, int8_upscaler, made_by
from deploy.int8.trying.drafts import Draft, drafted
from deploy.measure.evaluation.originals import Original
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

LARGEST_CODE = 127

NaiveLayers = Literal["everything in int8", "first and last in float", "the same layers"]
"""What int8 without our ideas is given: every layer; all but the first and last, as is usual; those of `quantize`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """A bundle with int8 graphs made in one way. target: None where only weights are rounded, in a float graph."""

    name: str
    target: str | None
    bundle: Bundle
    ranges: int = 1
    share_in_float: float | None = None


@dataclass(eq=False)
class Workbench:
    """One calibrated bundle, the pictures it is measured on, and a scratch copy to try things in."""

    calibrated: Calibrated
    originals: Sequence[Original]
    draft: Draft
    folder: Path
    threads: int | None = None
    seed: int = 1
    """Another than that of the calibration."""
    _in_float: dict[Choices, list[Pixels]] = field(default_factory=dict)
    _as_they_are: Findings | None = None

    @property
    def graph(self) -> Path:
        """The float denoiser."""
        return calibrated_graph(self.calibrated.bundle, "denoise")

    def measured(self, way: Way, choices: Choices) -> Fidelity:
        """What a way does to the pictures, against float ones from the same noise and against the originals."""
        if choices not in self._in_float:
            with float_upscaler(self.calibrated.bundle, self.threads) as upscaler:
                self._in_float[choices] = made_by(upscaler, self.originals, choices, self.seed)
        with _opened(way, self.threads) as upscaler:
            made = made_by(upscaler, self.originals, choices, self.seed)
        return compare(self._in_float[choices], made, self.originals, looks=True)

    def as_quantized(self, target: str) -> Way:
        """What `quantize` wrote."""
        recipe = self.calibrated.recipes[target]
        return Way(
            name="default",
            target=target,
            bundle=self.calibrated.bundle,
            ranges=recipe.ranges,
            share_in_float=share_in_float(recipe, self.calibrated.multiplications),
        )

    def naive(self, target: str, layers: NaiveLayers) -> Way:
        """Min-max ranges and nearest rounding, one range."""
        nearest = self.as_they_are()
        if layers != "everything in int8":
            taken = {node: nearest.layers[node] for node in self.calibrated.findings.layers}
            nearest = Findings(layers=taken, inputs=nearest.inputs)
        scales = self.scales(target_named(target).codes, MinMax(), 1, nearest)
        kept = self.calibrated.choices[target].in_float if layers == "the same layers" else frozenset()
        return self.way(f"naive, {layers}", target, scales, nearest, kept)

    def with_scales(self, name: str, target: str, form: Form, method: Method, ranges: int) -> Way:
        """The layers and weights of `quantize` with other activation scales and without correction of the noise."""
        findings = self.calibrated.findings
        scales = self.scales(form, method, ranges, findings)
        return self.way(name, target, scales, findings, self.calibrated.choices[target].in_float)

    def weights_only(self) -> Way:
        """Int8 weights as `quantize` rounded them, and everything else in float."""
        copy = self.folder / "rounded.bundle"
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(self.calibrated.bundle.path, copy)
        plain = Bundle.open(copy, verify="sizes")
        model = _with_weights(read_graph(self.graph), self.calibrated.findings)
        with BundleWriter.update(plain) as writer:
            written = writer.add_bytes("denoise-rounded", "onnx", model.SerializeToString(deterministic=True))
            graphs = dict(plain.manifest.graphs)
            graphs["denoise"] = changed(graphs["denoise"], forms=dict.fromkeys(graphs["denoise"].forms, written))
            bundle = writer.commit(replace(plain.manifest, graphs=graphs, quantization=None))
        return Way(name="int8 weights only", target=None, bundle=bundle)

    def scales(self, form: Form, method: Method, ranges: int, findings: Findings) -> Scales:
        """Activation scales for so many ranges."""
        levels, count = self.calibrated.plans.levels, FixedRanges(count=ranges)
        return scales_for(form, densities_of_inputs(findings), levels, method, count, None, _nothing)

    def way(self, name: str, target: str, scales: Scales, findings: Findings, in_float: frozenset[str]) -> Way:
        """The scratch bundle with such graphs for one target."""
        biases = biases_of(self.graph, findings)
        recipe: Recipe = recipe_of(findings, scales, biases, in_float=in_float)
        made = graphs_of_target(self.calibrated.bundle, target, recipe, scales.ranges.edges)
        return Way(
            name=name,
            target=target,
            bundle=self.draft.tried([made]),
            ranges=recipe.ranges,
            share_in_float=share_in_float(recipe, self.calibrated.multiplications),
        )

    def as_they_are(self) -> Findings:
        """Findings of every layer, the first and last included, with inputs that nothing equalised and nearest codes.

        `quantize` never looks at these layers and inputs, so its pictures are run once more.
        """
        if self._as_they_are is None:
            self._as_they_are = _rounded_to_nearest(self._gathered(layers_of(read_graph(self.graph))), self.graph)
        return self._as_they_are

    def _gathered(self, layers: Sequence[Layer]) -> Findings:
        folder = self.folder / f"naive-{calibration_of(self.calibrated)[:16]}"
        folder.mkdir(exist_ok=True)
        plans, lanes = self.calibrated.plans, lanes_for(self.threads)
        with float_upscaler(self.calibrated.bundle, lanes.threads) as upscaler:
            groups = groups_of_pictures(self.calibrated.pictures)
            recorded = Trajectories(upscaler.session, groups, plans, folder, seed=0)
            recorded.record(lanes, _nothing)
            inputs = Inputs(recorded.inputs, recorded.few, recorded.count, plans.levels)
            return gather(
                self.graph,
                layers,
                inputs,
                recorded.example(),
                folder,
                memory_bytes=1 << 30,
                second_order=False,
                threads=self.threads,
                progress=_nothing,
            )


def calibration_of(calibrated: Calibrated) -> str:
    """A hash of every scale and setting of a calibration: another where pictures, code or settings are others."""
    return hash_of_record(calibrated.record)


@contextmanager
def workbench(
    calibrated: Calibrated, originals: Sequence[Original], folder: Path, threads: int | None
) -> Iterator[Workbench]:
    """A workbench whose scratch copy is gone when the block is left."""
    with drafted(calibrated.bundle, folder, calibrated.plans.levels) as draft:
        yield Workbench(calibrated, originals, draft, folder, threads)


def _opened(way: Way, threads: int | None) -> Upscaler:
    return float_upscaler(way.bundle, threads) if way.target is None else int8_upscaler(way.bundle, way.target, threads)


def _rounded_to_nearest(found: Findings, graph: Path) -> Findings:
    """The same layers with the nearest codes under the scale that clips no weight."""
    model = read_graph(graph)
    layers = {
        node: replace(one, rounded=nearest_codes(weights_of(model, graph.parent, one.layer)))
        for node, one in found.layers.items()
    }
    return Findings(layers=layers, inputs=found.inputs)


def nearest_codes(weights: NDArray[np.float32]) -> RoundedWeights:
    """Per output channel the scale max|w| / 127, and the nearest code of each weight. What it costs is not known."""
    largest = np.abs(weights).reshape(weights.shape[0], -1).max(axis=1)
    scales = np.where(largest > 0, largest / LARGEST_CODE, 1.0).astype(np.float32)
    codes = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    nan = float("nan")
    return RoundedWeights(
        codes=np.clip(codes, -LARGEST_CODE, LARGEST_CODE).astype(np.int8),
        scales=scales,
        error=nan,
        nearest_error=nan,
        signal=nan,
    )


def _with_weights(model: ModelProto, found: Findings) -> ModelProto:
    """The float graph with every layer's weights as its codes have them."""
    nodes = {node.name: node for node in model.graph.node}
    for name, one in found.layers.items():
        weights = _in_the_graph(one, found.factors.get(one.layer.input))
        tensor = numpy_helper.from_array(weights, f"{nodes[name].input[1]}.rounded")
        model.graph.initializer.append(tensor)
        nodes[name].input[1] = tensor.name
    return model


def _in_the_graph(one: Gathered, factors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    weights = one.rounded.weights
    if factors is not None:
        weights = weights * factors.reshape(1, -1, *[1] * (weights.ndim - 2))
    return np.ascontiguousarray(weights.T) if one.layer.kind == LINEAR else weights


def _nothing(*_: Any) -> None:
    pass
