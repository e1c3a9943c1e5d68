"""A bundle's graphs on one engine: opened when first needed, fed by name, closed together."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from deploy.bundle import Bundle
from engines.backends import DEFAULT_BACKEND, open_engine
from engines.contract import Engine

Array = NDArray[Any]

FORM_OF_BACKEND = {"onnxruntime-cpu": "instance", "openvino-cpu": "group"}
"""How group normalisation is written in the graphs that a backend runs; measured, see the README."""

FLOAT_GRAPHS = frozenset({"tabulate", "encode", "condition"})
"""Run once per plan or picture, where float32 costs nothing and a rounding error would stay for every step."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """A backend, the precision of the graphs that run often, and the number of threads (None: the backend's own)."""

    backend: str = DEFAULT_BACKEND
    precision: str = "fp32"
    threads: int | None = None


class GraphSet:
    """The graphs of `bundle`; a context manager. `run` takes from the feeds what a graph asks for."""

    def __init__(self, bundle: Bundle, choice: EngineChoice) -> None:
        self.bundle = bundle
        self.choice = choice
        self._open: dict[str, Engine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self.bundle.manifest.graphs

    def engine(self, name: str) -> Engine:
        """The engine of one graph, opened now if it was not yet."""
        if name not in self._open:
            choice = self.choice
            precision = "fp32" if name in FLOAT_GRAPHS else choice.precision
            graph = self.bundle.graph(name, FORM_OF_BACKEND[choice.backend])
            self._open[name] = open_engine(graph, backend=choice.backend, precision=precision, threads=choice.threads)
        return self._open[name]

    def run(self, name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of one graph; `feeds` may hold more than the graph asks for."""
        engine = self.engine(name)
        return engine.run({spec.name: feeds[spec.name] for spec in engine.inputs if spec.name in feeds})

    def release(self, name: str) -> None:
        """Frees the memory of one graph; it opens again when it is next needed."""
        if name in self._open:
            self._open.pop(name).close()

    def close(self) -> None:
        """Frees the memory of all graphs."""
        for name in list(self._open):
            self.release(name)
