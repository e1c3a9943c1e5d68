"""Which engine and precision a run uses when it is told "auto"."""

from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO, chosen_engine, newest_decision
from deploy.engine.graphs import DENOISE, INT8, EngineChoice
from deploy.engine.int8 import TARGET_OF_BACKEND, has_int8
from deploy.errors import BundleError, MissingPackage
from engines.backends import FORM_OF_BACKEND, backend_named, check_device, probe_all
from engines.contract import check_request
from engines.errors import EngineError

__all__ = ["AUTO", "engine_choice"]


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
    wanted = precision
    if precision == AUTO:
        wanted = "fp32" if DENOISE in bundle.manifest.graphs else INT8
    backend = _engine_for(bundle, wanted, device) if engine == AUTO else engine
    module = backend_named(backend)
    if backend not in FORM_OF_BACKEND:
        raise EngineError(
            f"The engine {backend} cannot run a bundle's graphs yet; give {' or '.join(FORM_OF_BACKEND)} as `engine`."
        )
    check_request(backend, wanted, _precisions(backend), threads)
    if not (found := module.probe()).available:
        raise MissingPackage(f"The engine {backend} cannot run here: {found.reason}. Type {found.install}.")
    if wanted == INT8 and bundle.manifest.quantization is None:
        raise BundleError(f"{bundle.path} has no int8 graphs. Make them with `idm-deploy quantize`.")
    if wanted != INT8 and DENOISE not in bundle.manifest.graphs:
        raise BundleError(
            f"{bundle.path} holds its denoiser in int8 only, not in {wanted}. Leave `precision` out, or export the"
            " checkpoint again."
        )
    return EngineChoice(backend=backend, precision=wanted, threads=threads, device=device)


def _precisions(backend: str) -> tuple[str, ...]:
    return (*backend_named(backend).PRECISIONS, *((INT8,) if backend in TARGET_OF_BACKEND else ()))


def _engine_for(bundle: Bundle, precision: str, device: int | None = None) -> str:
    """The engine for a precision: the fastest measured one; else the first installed one that has it, or any one."""
    found = [probe for probe in probe_all() if probe.name in FORM_OF_BACKEND]
    if device is not None:
        found = [probe for probe in found if backend_named(probe.name).ON_GPU]
    installed = [probe.name for probe in found if probe.available]
    if not installed:
        lines = " or ".join(probe.install for probe in found)
        if device is not None:
            raise MissingPackage(
                f"Device {device} was asked for, and no engine that runs on GPUs is here. Type {lines}."
            )
        raise MissingPackage(f"No engine is installed that could run the networks. Type {lines}.")
    able = [name for name in installed if precision in _precisions(name)]
    if precision == INT8:
        able = [name for name in able if has_int8(bundle, name)]
    decision = newest_decision(bundle, device=device) if len(able) > 1 else None
    measured = decision.figures["candidates"] if decision is not None else []
    times = {c["backend"]: c["step_ms"] for c in measured if c["precision"] == precision and c["step_ms"] is not None}
    known = [name for name in able if name in times]
    return min(known, key=times.__getitem__) if known else (able or installed)[0]
