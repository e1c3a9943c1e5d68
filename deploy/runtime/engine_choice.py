"""Which engine and precision a run uses when it is told "auto"."""

from deploy.bundle import Bundle
from deploy.chosen_engine import AUTO, chosen_engine
from deploy.errors import MissingPackage
from deploy.runtime.graphs import FORM_OF_BACKEND, INT8, EngineChoice
from deploy.runtime.int8 import TARGET_OF_BACKEND
from engines.backends import backend_named, probe_all
from engines.contract import check_request
from engines.errors import EngineError

__all__ = ["AUTO", "engine_choice"]


def engine_choice(
    bundle: Bundle, engine: str = AUTO, precision: str = AUTO, threads: int | None = None
) -> EngineChoice:
    """The engine and precision that were named, checked before anything is opened.

    What is left to "auto" is what `build-engine` measured to be fastest for this bundle here; where it was not asked,
    the first engine that is installed, in float32.
    """
    if engine == precision == AUTO and (chosen := chosen_engine(bundle, threads=threads)) is not None:
        return chosen
    backend = _first_installed() if engine == AUTO else engine
    module = backend_named(backend)
    if backend not in FORM_OF_BACKEND:
        raise EngineError(
            f"The engine {backend} cannot run a bundle's graphs yet; use {' or '.join(FORM_OF_BACKEND)} (--engine)."
        )
    wanted = "fp32" if precision == AUTO else precision
    int8 = (INT8,) if backend in TARGET_OF_BACKEND else ()
    check_request(backend, wanted, (*module.PRECISIONS, *int8), threads)
    return EngineChoice(backend=backend, precision=wanted, threads=threads)


def _first_installed() -> str:
    found = [probe for probe in probe_all() if probe.name in FORM_OF_BACKEND]
    for probe in found:
        if probe.available:
            return probe.name
    lines = " or ".join(probe.install for probe in found)
    raise MissingPackage(f"No engine is installed that could run the networks. Type {lines}.")
