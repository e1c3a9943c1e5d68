"""Which engine and precision a run uses when it is told "auto"."""

from pathlib import Path

from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO, chosen_engine, newest_decision
from deploy.engine.graphs import DENOISE, INT8, EngineChoice
from deploy.engine.int8 import has_int8, runs_int8
from deploy.errors import BundleError, MissingPackage
from engines.backends import BACKENDS, backend_named, check_device, probe_all
from engines.contract import check_request

__all__ = ["AUTO", "choices_here", "engine_choice"]


def engine_choice(
    bundle: Bundle, engine: str = AUTO, precision: str = AUTO, threads: int | None = None, device: int | None = None
) -> EngineChoice:
    """The engine and precision that were named, checked before anything is opened.

    What is left to "auto" is what `build-engine` measured to be fastest for this bundle here; where it was not asked,
    the first engine that is installed and has the precision, and float32, or int8 where that is all the bundle has.
    device: the number of a GPU; then only engines that run on GPUs are chosen from.
    """
    check_device(device, None if engine == AUTO else engine)
    if engine == precision == AUTO and (chosen := chosen_engine(bundle, threads=threads, device=device)) is not None:
        return chosen
    precision_used = precision
    if precision == AUTO:
        precision_used = "fp32" if DENOISE in bundle.manifest.graphs else INT8
    backend = _engine_for(bundle, precision_used, device) if engine == AUTO else engine
    record = backend_named(backend)
    check_request(backend, precision_used, _precisions(backend), threads)
    if not (state := record.probe()).available:
        raise MissingPackage(f"The engine {backend} cannot run here: {state.reason}. Type {state.install}.")
    if precision_used == INT8 and bundle.manifest.quantization is None:
        raise BundleError(f"{bundle.path} has no int8 graphs. Make them with `idm-deploy quantize`.")
    if precision_used != INT8 and DENOISE not in bundle.manifest.graphs:
        raise BundleError(
            f"{bundle.path} holds its denoiser in int8 only, not in {precision_used}. Leave `precision` out, or export"
            " the checkpoint again."
        )
    return EngineChoice(backend=backend, precision=precision_used, threads=threads, device=device)


def choices_here(
    bundle: Bundle, threads: int | None, cache_dir: Path | None = None, device: int | None = None
) -> list[EngineChoice]:
    """Every engine that is here, in every precision that this machine has and the bundle has graphs for.

    device: the number of the GPU for engines that run on one.
    """
    choices = []
    for name, backend in BACKENDS.items():
        if not backend.probe().available:
            continue
        precisions = [*backend.precisions_here()] if DENOISE in bundle.manifest.graphs else []
        precisions += [INT8] if has_int8(bundle, name) else []
        gpu = device if backend.on_gpu else None
        choices += [
            EngineChoice(backend=name, precision=precision, threads=threads, cache_dir=cache_dir, device=gpu)
            for precision in precisions
        ]
    return choices


def _precisions(backend: str) -> tuple[str, ...]:
    return (*backend_named(backend).precisions, *((INT8,) if runs_int8(backend) else ()))


def _engine_for(bundle: Bundle, precision: str, device: int | None = None) -> str:
    """The engine for a precision: the fastest measured one; else the first installed one that has it, or any one."""
    probes = [probe for probe in probe_all() if device is None or backend_named(probe.name).on_gpu]
    installed = [probe.name for probe in probes if probe.available]
    if not installed:
        lines = " or ".join(probe.install for probe in probes)
        if device is not None:
            raise MissingPackage(
                f"Device {device} was asked for, and no engine that runs on GPUs is here. Type {lines}."
            )
        raise MissingPackage(f"No engine is installed that could run the networks. Type {lines}.")
    able = [name for name in installed if precision in _precisions(name)]
    if precision == INT8:
        able = [name for name in able if has_int8(bundle, name)]
    decision = newest_decision(bundle, device=device) if len(able) > 1 else None
    candidates = decision.figures["candidates"] if decision is not None else []
    times = {c["backend"]: c["step_ms"] for c in candidates if c["precision"] == precision and c["step_ms"] is not None}
    timed = [name for name in able if name in times]
    return min(timed, key=times.__getitem__) if timed else (able or installed)[0]
