"""TensorRT's plans of a bundle: which are needed, for which sizes, and building them into the engine cache.

The scales of Q/DQ pairs are constants for TensorRT, so K timestep ranges in int8 are K plans. The other way would be
one plan with exact multipliers around fixed scales, as OpenVINO has it. It was not taken, for a reason that is a belief
until it is measured on a GPU: a multiplication with a run-time number before and after every convolution keeps the
scales from being folded into it, and another pass over every tensor in fp16 costs about what int8 gains. K plans cost
memory instead: the int8 weights K times (100 MB each for the full IDM) and room to run in; a picture changes plans
K - 1 times. One range, which is what `quantize` chooses unless more pay, costs one plan.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.engine.graph_files import graph_file, int8_decoder_graph, int8_graph_file
from deploy.engine.graphs import DENOISE, FLOAT_GRAPHS, INT8
from deploy.engine.int8 import Int8Denoiser, has_int8, target_of_backend
from deploy.engine.profiles import profile_of_graph, profiles_of_graphs
from deploy.errors import BundleError
from deploy.families.sizes import EngineSizes
from engines.backends import BACKENDS, backend_named, check_device
from engines.cache import Cache, fingerprint
from engines.contract import check_request
from engines.errors import EngineError
from engines.machine.cuda import find_device
from engines.onnx_files.graph_file import read_signature
from engines.plans.built_forms import PlanSettings, Source, make_plan
from engines.plans.tensorrt_names import TENSORRT, TENSORRT_RTX, TensorRtPackage
from engines.progress import Progress, part_of

AUTO = "auto"

TENSORRT_PACKAGES = {package.backend: package for package in (TENSORRT, TENSORRT_RTX)}


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How TensorRT's plans are built; see engines.plans.built_forms.PlanSettings."""

    sizes: EngineSizes
    capability: str | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    deadline_s: float = 3600.0
    rebuild: bool = False
    device: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedBuild:
    """A plan to be built: its graph, its settings, and the bytes of its weights in the plan's precision."""

    source: Source
    settings: PlanSettings
    weights_bytes: int


@dataclass(frozen=True, kw_only=True)
class Built:
    """A plan in the cache. `reason` is "" if it was there already."""

    label: str
    bytes: int
    seconds: float
    formats: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    reason: str


def packages_to_build_for(engine: str, capability: str | None) -> list[TensorRtPackage]:
    """The TensorRT packages whose plans are to be built: those asked for, or those that can run or build here."""
    if engine != AUTO:
        backend_named(engine)
    if engine not in (AUTO, *TENSORRT_PACKAGES) and capability is not None:
        raise EngineError(
            f"{engine} builds nothing for a compute capability. Leave --compute-capability out, or take tensorrt-rtx."
        )
    if engine in TENSORRT_PACKAGES:
        return [TENSORRT_PACKAGES[engine]]
    if engine != AUTO:
        return []
    if capability is not None:
        return [TENSORRT_RTX]
    return [package for name, package in TENSORRT_PACKAGES.items() if BACKENDS[name].probe().available]


def all_planned_builds(bundle: Bundle, engine: str, precision: str, options: PlanOptions) -> list[PlannedBuild]:
    """Every plan that was asked for ("auto": all that this machine can use), checked before the first is built."""
    if options.device is not None and options.capability is not None:
        raise EngineError(
            f"A plan for GPUs of compute capability {options.capability} is built on none, and device {options.device} "
            "was given too. Leave one of them out."
        )
    check_device(options.device, None if engine == AUTO else engine)
    return [
        plan
        for package in packages_to_build_for(engine, options.capability)
        for kind in precisions_to_build(bundle, package, engine, precision)
        for plan in planned_builds(bundle, package, kind, options)
    ]


def planned_builds(
    bundle: Bundle, package: TensorRtPackage, precision: str, options: PlanOptions
) -> list[PlannedBuild]:
    """Every plan that running this bundle in `precision` takes; profiles that do not fit are refused here already."""
    device = find_device(options.device or 0)
    settings = PlanSettings(
        package=package,
        precision="fp16",
        profile=next(iter(profiles_of_graphs(bundle, options.sizes).values())),
        device=None if isinstance(device, str) or options.capability else device,
        capability=options.capability,
        workspace_bytes=options.workspace_bytes,
        timing_cache=options.timing_cache,
        deadline_s=options.deadline_s,
    )
    form = BACKENDS[package.backend].norm
    builds = []
    for name, profile in profiles_of_graphs(bundle, options.sizes).items():
        if name == DENOISE and precision == INT8:
            continue
        kind = "fp32" if name in FLOAT_GRAPHS or precision == "fp32" else "fp16"
        coded = int8_decoder_graph(bundle, target_of_backend(package.backend), name) if precision == INT8 else None
        files = [(coded or graph_file(bundle, name, form)).name]
        label = name if coded is None else f"{name} int8"
        builds.append(_planned(bundle, label, files, replace(settings, precision=kind, profile=profile)))
    if precision == INT8:
        if not has_int8(bundle, package.backend):
            raise BundleError(
                f"{bundle.path} has no int8 graphs for {package.backend}. Make them with "
                "`idm-deploy quantize --targets tensorrt`."
            )
        int8 = Int8Denoiser(bundle, target_of_backend(package.backend))
        graph = int8_graph_file(bundle, target_of_backend(package.backend))
        shapes = [spec.shape for spec in read_signature(graph).inputs]
        profile = profile_of_graph(bundle, options.sizes, DENOISE, shapes)
        plain = _planned(bundle, "denoise int8", [graph.name], replace(settings, profile=profile))
        for index in range(int8.engines):
            source = plain.source.filled(f"{plain.source.label} {index}", int8.constants(index))
            builds.append(replace(plain, source=source))
    return builds


def _planned(bundle: Bundle, name: str, files: list[str], settings: PlanSettings) -> PlannedBuild:
    graph = bundle.file(files[0])
    # Quantized graphs name their weights themselves; the hashes are those that the bundle vouches for.
    names = [files[0], *(path.name for path in read_signature(graph).weights)]
    hashes = [bundle.manifest.files[name].sha256 for name in names]
    source = Source(graph=graph, label=f"{bundle.path.resolve().name} {name}", fingerprint=fingerprint(hashes))
    return PlannedBuild(
        source=source, settings=settings, weights_bytes=weights_bytes(graph, half=settings.precision != "fp32")
    )


def weights_bytes(graph: Path, *, half: bool = False) -> int:
    """Bytes of the initializers that a graph uses; the file may hold those of others too. half: float32 as fp16."""
    import onnx

    model: Any = onnx.load(str(graph), load_external_data=False)
    total = 0
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        size = int(entries.get("length", 0)) or len(tensor.raw_data)
        total += size // 2 if half and tensor.data_type == onnx.TensorProto.FLOAT else size
    return total


def build_plans(planned: Sequence[PlannedBuild], cache: Cache, options: PlanOptions, progress: Progress) -> list[Built]:
    """Puts all plans into the cache, each built in its own process unless it was there."""
    results = []
    for number, plan in enumerate(planned):
        share = part_of(progress, number, len(planned), plan.source.label)
        begin = time.monotonic()
        entry, reason = make_plan(plan.source, plan.settings, cache, share, rebuild=options.rebuild)
        results.append(
            Built(
                label=entry.label,
                bytes=entry.bytes,
                seconds=time.monotonic() - begin,
                formats=entry.figures["formats"],
                notes=tuple(entry.figures["notes"]),
                reason=reason,
            )
        )
    return results


def precisions_to_build(bundle: Bundle, package: TensorRtPackage, engine: str, precision: str) -> list[str]:
    """The precision that was asked for; "auto" is fp16, and int8 where the bundle has it.

    One that TensorRT lacks is refused where this package was asked for, and not built where any engine will do.
    """
    if precision != AUTO:
        precisions = (*BACKENDS[package.backend].precisions, INT8)
        if engine == package.backend:
            check_request(package.backend, precision, precisions, None)
        return [precision] if precision in precisions else []
    return ["fp16", INT8] if has_int8(bundle, package.backend) else ["fp16"]


def seconds_to_build(plan: PlannedBuild) -> float:
    """A rough time, within a factor of three of what TensorRT-RTX 1.7 took on two cores.

    TensorRT with a GPU times its kernels besides, which takes minutes the first time.
    """
    return 2.0 + plan.weights_bytes / 20e6
