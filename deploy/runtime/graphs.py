"""A bundle's graphs on one engine: opened when first needed, fed by name, closed together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.runtime.int8 import RANGE_INDEX, TARGET_OF_BACKEND, Int8Denoiser
from engines import openvino_engine
from engines.backends import DEFAULT_BACKEND, open_engine
from engines.contract import ANONYMOUS, Engine
from engines.graph_file import read_signature

Array = NDArray[Any]

FORM_OF_BACKEND = {
    "onnxruntime-cpu": "instance",
    "openvino-cpu": "instance",
    "onnxruntime-cuda": "instance",
    "tensorrt": "group",
    "tensorrt-rtx": "group",
}
"""How group normalisation is written in the graphs that a backend runs.

Measured on the CPU (ONNX Runtime 1.31, OpenVINO 2026.4, medians of interleaved rounds): on the full IDM both forms are
within 10 % of each other on both engines; on the latent U-Nets "instance" is 8 to 16 % faster on OpenVINO, while ONNX
Runtime goes either way by as much. On GPUs it follows from what they have a kernel for, which is belief: ONNX Runtime
has none for GroupNormalization, TensorRT has.
"""

FLOAT_GRAPHS = frozenset({"tabulate", "encode", "condition"})
"""Run once per plan or picture, where float32 costs nothing and a rounding error would stay for every step."""


INT8 = "int8"
"""The precision of a denoiser that was quantized; see precision_around_int8 for the rest."""

AROUND_INT8 = {"openvino-cpu": "bf16", "tensorrt": "fp16", "tensorrt-rtx": "fp16"}
"""The precision that a backend is asked for when it opens an int8 graph, and for graphs that have no int8 form.

OpenVINO needs bfloat16 for int8 to be worth anything: a step of the demo model (128x128, one thread) took 150 ms with
float32 around the convolutions, 80 ms with bfloat16, which alone takes 84. It costs 2.4 dB of the fidelity of plain
ddim (48.7 to 46.3) and 0.6 dB with start and data consistency (52.5 to 51.9).
"""

DENOISE = "denoise"


def precision_around_int8(backend: str) -> str:
    """AROUND_INT8, or float32 on a CPU without bfloat16."""
    wanted = AROUND_INT8.get(backend, "fp32")
    return "fp32" if wanted == "bf16" and not openvino_engine.has_bf16() else wanted


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """A backend, the precision of the graphs that run often, and the number of threads (None: the backend's own).

    int8_target: whose int8 graphs are run; None: those made for the backend. For comparisons.
    cache_dir: where `build-engine` keeps what GPU backends run; None: the user's cache directory.
    """

    backend: str = DEFAULT_BACKEND
    precision: str = "fp32"
    threads: int | None = None
    int8_target: str | None = None
    cache_dir: Path | None = None


class GraphSet:
    """The graphs of `bundle`; a context manager. `run` takes from the feeds what a graph asks for."""

    def __init__(self, bundle: Bundle, choice: EngineChoice) -> None:
        self.bundle = bundle
        self.choice = choice
        self._open: dict[str, Engine] = {}
        self._example: dict[str, Mapping[str, Array]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self.bundle.manifest.graphs or (name == DENOISE and self.int8 is not None)

    @cached_property
    def int8(self) -> Int8Denoiser | None:
        """The int8 form of the denoiser, if that is what was chosen."""
        choice = self.choice
        if choice.precision != INT8:
            return None
        return Int8Denoiser(self.bundle, choice.int8_target or TARGET_OF_BACKEND[choice.backend])

    def fix_sizes(self, name: str, feeds: Mapping[str, Array]) -> None:
        """The graph runs inputs of these shapes only from now on, compiled for them: 4 to 9 % faster on the CPU."""
        self.release(name)
        self._example[name] = feeds

    def engine(self, name: str, range_index: int = 0) -> Engine:
        """The engine of one graph, opened now if it was not yet. range_index: of a graph that has one per range."""
        int8 = self.int8 if name == DENOISE else None
        index = range_index if int8 is not None and len(int8.graphs) > 1 else 0
        key = f"{name}.{index}" if index else name
        if key not in self._open:
            choice = self.choice
            precision = precision_around_int8(choice.backend) if choice.precision == INT8 else choice.precision
            graph = int8.graphs[index] if int8 else self.bundle.graph(name, FORM_OF_BACKEND[choice.backend])
            self._open[key] = open_engine(
                graph,
                backend=choice.backend,
                precision="fp32" if name in FLOAT_GRAPHS else precision,
                threads=choice.threads,
                sizes=sizes_of(graph, self._example[name]) if name in self._example else None,
                cache_dir=choice.cache_dir,
            )
        return self._open[key]

    def run(self, name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of one graph; `feeds` may hold more than the graph asks for."""
        engine = self.engine(name, int(feeds.get(RANGE_INDEX, 0)))
        made = engine.run({spec.name: feeds[spec.name] for spec in engine.inputs if spec.name in feeds})
        if self.int8 is not None and name == DENOISE:
            made["noise"] = self.int8.corrected(made["noise"], feeds)
        return made

    def rows_in_precision(self, rows: list[dict[str, Array]], noise_levels: Sequence[float]) -> list[dict[str, Array]]:
        """The rows of a plan with what the chosen precision needs in each of them besides."""
        if self.int8 is None:
            return rows
        return [row | more for row, more in zip(rows, self.int8.row_feeds(noise_levels), strict=True)]

    def release(self, name: str) -> None:
        """Frees the memory of one graph; it opens again when it is next needed."""
        for key in [key for key in self._open if key == name or key.startswith(f"{name}.")]:
            self._open.pop(key).close()

    def close(self) -> None:
        """Frees the memory of all graphs."""
        for name in list(self._open):
            self._open.pop(name).close()


def sizes_of(graph: Path, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The size of every named axis of a graph's inputs when it is fed these arrays."""
    specs = [spec for spec in read_signature(graph).inputs if spec.name in feeds]
    axes = ((axis, size) for spec in specs for axis, size in zip(spec.shape, feeds[spec.name].shape, strict=True))
    return {axis: size for axis, size in axes if isinstance(axis, str) and axis != ANONYMOUS}
