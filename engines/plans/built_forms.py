"""Forms of a graph that are made once per machine and kept in the engine cache: fp16 graphs and TensorRT plans.

`make_*` is for `build-engine`: it makes what is missing and says why. `find_*` is for the run time: it takes what is
there, and its error says what to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from engines.arrays import Array
from engines.cache import Cache, Entry, Figures, fingerprint, fingerprint_of_graph
from engines.errors import EngineError
from engines.machine.cuda import Device
from engines.onnx_files.graph_constants import tensor_message
from engines.onnx_files.graph_file import read_signature
from engines.plans.building import DEADLINE_S, build
from engines.plans.profiles import Profile
from engines.plans.tensorrt_builder import BuildRequest
from engines.plans.tensorrt_names import TensorRtPackage
from engines.progress import Progress

HALF_RULES = "1"
"""Counts up when engines.plans.half writes another graph for the same source."""

HALF = "fp16"
HALF_FILE = "half.onnx"
PLAN_FILE = "engine.plan"


class PlanFigures(TypedDict):
    """What the engine cache holds of a plan: its sizes by axis, and what the builder told of its layers."""

    axes: dict[str, tuple[int, int, int]]
    formats: dict[str, dict[str, int]]
    layers: int
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A graph, who it belongs to in people's words, and its fingerprint over graph, weights and constants.

    constants: values that replace some of the graph's own.
    """

    graph: Path
    label: str
    fingerprint: str
    constants: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Path, label: str | None = None, constants: Mapping[str, Array] | None = None) -> Source:
        """Read from the files themselves."""
        plain = cls(
            graph=graph,
            label=label or graph.stem,
            fingerprint=fingerprint_of_graph(graph, read_signature(graph).weights),
        )
        return plain.filled(plain.label, constants) if constants else plain

    def filled(self, label: str, constants: Mapping[str, Array]) -> Source:
        """The source with these constants in place of the graph's own."""
        digests = [sha256(tensor_message(name, value)).hexdigest() for name, value in constants.items()]
        fingerprint_of_all = fingerprint([self.fingerprint, *digests])
        return Source(graph=self.graph, label=label, fingerprint=fingerprint_of_all, constants=constants)


def make_half_graph(source: Source, cache: Cache) -> tuple[Path, str]:
    """The fp16 form of a float32 graph, and why it was made just now ("" if it was there)."""

    def write(folder: Path) -> Figures:
        from engines.plans.half import write_half_graph

        write_half_graph(source.graph, folder / HALF_FILE, source.constants)
        return {}

    key = _half_key(source)
    if find_spec("onnx") is None and cache.find(key) is None:
        raise EngineError(f"Making the fp16 form of {source.graph.name} needs the package onnx. Type pip install onnx.")
    entry, reason = cache.obtain(f"{source.label} fp16 graph", key, write)
    return entry.file(HALF_FILE), reason


def find_half_graph(source: Source, cache: Cache) -> Path:
    """The fp16 form at run time: made now where onnx is installed, since that takes a second."""
    return make_half_graph(source, cache)[0]


def _half_key(source: Source) -> dict[str, str]:
    return {"graph": source.fingerprint, "form": "fp16 graph", "rules": HALF_RULES}


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What a plan is built for, besides its graph. `capability` None: the GPU that is here, `device`."""

    package: TensorRtPackage
    precision: str
    profile: Profile
    device: Device | None = None
    capability: str | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    deadline_s: float = DEADLINE_S

    def __post_init__(self) -> None:
        if self.device is None and self.capability is None:
            raise EngineError(
                f"{self.package.backend} has no GPU to build for. Name one's compute capability: "
                "--compute-capability 8.9 --engine tensorrt-rtx."
            )
        if self.timing_cache is not None and not self.package.has_timing_cache:
            raise EngineError(f"{self.package.backend} has no timing cache. Leave --timing-cache out.")


def plan_key(source: Source, settings: PlanSettings) -> dict[str, str]:
    """The key of a plan: all that it depends on."""
    key = _plan_base(source, settings.package, settings.precision)
    key |= _target_key(settings.device, settings.capability)
    workspace = settings.workspace_bytes
    return key | {
        "profile": settings.profile.text,
        "workspace": "not limited" if workspace is None else f"{workspace} bytes",
    }


def _plan_base(source: Source, package: TensorRtPackage, precision: str) -> dict[str, str]:
    return {
        "graph": source.fingerprint,
        "rules": HALF_RULES if precision == HALF else "none",
        "backend": package.backend,
        "version": package.version() or "none",
        "precision": precision,
    }


def _target_key(device: Device | None, capability: str | None) -> dict[str, str]:
    """A plan built ahead of time serves every GPU of its compute capability and any driver."""
    if capability is not None:
        return {"device": f"compute capability {capability}", "driver": "any"}
    if device is None:
        return {"device": "none", "driver": "none"}
    return {
        "device": f"{device.name} ({device.capability[0]}.{device.capability[1]})",
        "driver": f"CUDA {device.driver[0]}.{device.driver[1]}",
    }


def make_plan(
    source: Source, settings: PlanSettings, cache: Cache, progress: Progress, *, rebuild: bool = False
) -> tuple[Entry, str]:
    """The entry whose PLAN_FILE is the plan, and why it was built just now ("" if it was there)."""

    def write(folder: Path) -> Figures:
        half = settings.precision == HALF
        graph = make_half_graph(source, cache)[0] if half else source.graph
        timing = settings.timing_cache or _timing_cache(settings, cache)
        request = BuildRequest(
            module=settings.package.module,
            graph=str(graph.absolute()),
            plan=str(folder.absolute() / PLAN_FILE),
            profile=dict(settings.profile.axes),
            workspace_bytes=settings.workspace_bytes,
            timing_cache=None if timing is None else str(timing.absolute()),
            capability=settings.capability,
            device=0 if settings.device is None else settings.device.number,
        )
        result = build(request, progress, deadline_s=settings.deadline_s)
        figures: dict[str, Any] = {"formats": result.formats, "layers": result.layers, "notes": list(result.notes)}
        return figures | {"axes": {axis: list(sizes) for axis, sizes in settings.profile.axes.items()}}

    if source.constants and settings.precision != HALF:
        raise EngineError(
            f"Building {source.graph.name}: graphs whose constants change from range to range are built in fp16 only. "
            "Ask for --precision int8."
        )
    if settings.package.version() is None:
        raise EngineError(
            f"{settings.package.backend} cannot build: it is not installed. Type {settings.package.install}."
        )
    label = f"{source.label} {settings.precision} plan"
    return cache.obtain(label, plan_key(source, settings), write, rebuild=rebuild, kind=PlanFigures)


def _timing_cache(settings: PlanSettings, cache: Cache) -> Path | None:
    """The file where kernels' times are kept from build to build, one per version and GPU; None where there is none."""
    if not settings.package.has_timing_cache or settings.device is None:
        return None
    name = f"{settings.package.version()}-{settings.device.name}".replace(" ", "_").replace("/", "_")
    return cache.root / "timing" / f"{settings.package.backend}-{name}"


def find_plan(
    source: Source,
    package: TensorRtPackage,
    precision: str,
    device: Device,
    cache: Cache,
    sizes: Mapping[str, int],
) -> tuple[Path, Profile]:
    """The plan of this graph for this GPU whose profile holds `sizes`; EngineError with what to build if there is none.

    One built on this GPU is preferred to one built ahead of time.
    """
    base = _plan_base(source, package, precision)
    capability = f"{device.capability[0]}.{device.capability[1]}"
    profiles: list[Profile] = []
    for target in (_target_key(device, None), _target_key(None, capability)):
        key = base | target
        for entry in cache.entries():
            if any(entry.key.get(name) != value for name, value in key.items()):
                continue
            try:
                profile = Profile(axes=msgspec.convert(entry.figures, PlanFigures)["axes"])
            except msgspec.ValidationError:
                continue
            if not profile.excess(sizes):
                cache.find(entry.key)  # marks it as used
                return entry.file(PLAN_FILE), profile
            profiles.append(profile)
    command = f"idm-deploy build-engine --engine {package.backend} --precision {precision}"
    if profiles:
        nearest = min(profiles, key=lambda profile: profile.excess(sizes).count("built for"))
        raise EngineError(
            f"Opening {source.graph}: no engine was built for these sizes; the nearest lacks {nearest.excess(sizes)}. "
            f"Build one with {command} --sizes or --scale."
        )
    raise EngineError(
        f"Opening {source.graph}: no {package.backend} engine in {precision} was built for this bundle, GPU, driver "
        f"and version. Type {command}."
    )
