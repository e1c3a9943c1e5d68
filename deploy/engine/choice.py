"""Which engine and precision a run uses when it is told "auto"."""

from dataclasses import replace
from pathlib import Path

from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO, Candidate, KnownDecision, chosen_engine, newest_decision
from deploy.engine.graphs import DENOISE, INT8, EngineChoice
from deploy.engine.int8 import has_int8, runs_int8
from deploy.errors import BundleError, DeployError, MissingPackage
from engines.backends import BACKENDS, backend_named, check_device, probe_all
from engines.contract import check_request
from engines.errors import EngineError

__all__ = ["AUTO", "choices_here", "engine_choice"]


def engine_choice(
    bundle: Bundle,
    engine: str = AUTO,
    precision: str = AUTO,
    threads: int | None = None,
    device: int | None = None,
    around: str = AUTO,
) -> EngineChoice:
    """The engine and precision that were named, checked before anything is opened.

    What is left to "auto" is what `build-engine` measured to be fastest for this bundle here; where it was not asked,
    the first engine that is installed and has the precision, and float32, or int8 where that is all the bundle has.
    device: the number of a GPU; then only engines that run on GPUs are chosen from. around: the precision of what
    surrounds int8 layers; "auto" is what was measured to be faster, else what is usual for this processor.
    """
    check_device(device, None if engine == AUTO else engine)
    if engine == precision == AUTO and (chosen := chosen_engine(bundle, threads=threads, device=device)) is not None:
        return _surrounded(chosen, around)
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
    choice = EngineChoice(backend=backend, precision=precision_used, threads=threads, device=device)
    return _surrounded(_as_measured(bundle, choice), around)


def _surrounded(choice: EngineChoice, around: str) -> EngineChoice:
    """The choice with the precision around its int8 layers that was asked for, which is checked."""
    if around == AUTO:
        return choice
    if choice.precision != INT8:
        raise DeployError(
            f"`around` {around} says what surrounds int8 layers, and {choice.name} has none. Leave it out, or take "
            "`precision` int8."
        )
    usual, others = choice.record.precision_around_int8(), choice.record.others_around_int8()
    if around not in (usual, *others):
        raise EngineError(
            f"The engine {choice.backend} has no {around} around int8 on this machine. It has "
            f"{', '.join([usual, *others])}."
        )
    return replace(choice, around=None if around == usual else around)


def _as_measured(bundle: Bundle, choice: EngineChoice) -> EngineChoice:
    """The choice in the fastest of the ways in which `build-engine` measured its backend and precision, if it did."""
    decision = newest_decision(bundle, device=choice.device)
    same = (choice.backend, choice.precision)
    timed = [one for one in _timed(decision) if (one.backend, one.precision) == same]
    if not timed:
        return choice
    best = min(timed, key=lambda one: one.pace)
    return replace(choice, around=best.around, normalisation=best.normalisation)


def _timed(decision: KnownDecision | None) -> list[Candidate]:
    return [] if decision is None else [one for one in decision.figures.candidates if one.step_ms is not None]


def choices_here(
    bundle: Bundle, threads: int | None, cache_dir: Path | None = None, device: int | None = None
) -> list[EngineChoice]:
    """Every engine that is here, in every precision that this machine has and the bundle has graphs for.

    Int8 comes with each precision that may surround it.

    device: the number of the GPU for engines that run on one.
    """
    choices = []
    for name, backend in BACKENDS.items():
        if not backend.probe().available:
            continue
        precisions = [*backend.precisions_here()] if DENOISE in bundle.manifest.graphs else []
        precisions += [INT8] if has_int8(bundle, name) else []
        gpu = device if backend.on_gpu else None
        for precision in precisions:
            choice = EngineChoice(backend=name, precision=precision, threads=threads, cache_dir=cache_dir, device=gpu)
            others = backend.others_around_int8() if precision == INT8 else ()
            choices += [choice, *(replace(choice, around=around) for around in others)]
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
    timed = [one for one in _timed(decision) if one.precision == precision and one.backend in able]
    return min(timed, key=lambda one: one.pace).backend if timed else (able or installed)[0]
