"""Which engine and precision a run uses when it is told "auto"."""

from deploy.errors import MissingPackage
from deploy.runtime.graphs import FORM_OF_BACKEND, INT8, EngineChoice
from deploy.runtime.int8 import TARGET_OF_BACKEND
from engines.backends import backend_named, probe_all
from engines.contract import check_request
from engines.errors import EngineError

AUTO = "auto"


def engine_choice(engine: str = AUTO, precision: str = AUTO, threads: int | None = None) -> EngineChoice:
    """The engine that was named, or the first that is installed; checked before anything is opened.

    A measured decision belongs here once engines are built and measured; "auto" precision is float32 until then.
    """
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
