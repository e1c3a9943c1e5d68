"""A bundle's graphs on one engine: opened when first needed, fed by name, closed together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.engine.int8 import RANGE_INDEX, TARGET_OF_BACKEND, Int8Denoiser
from deploy.engine.int8_decoder import int8_graph
from deploy.families.contract import Array, Keep
from engines.adapters import openvino_engine
from engines.backends import AROUND_INT8, CARRY_STATE, DEFAULT_BACKEND, FORM_OF_BACKEND, open_engine
from engines.contract import ANONYMOUS, Engine
from engines.onnx_files.graph_file import read_signature
from engines.recurrence import Step
from engines.saturation import constants_without_saturation

Shapes = Mapping[str, tuple[int, ...]]


FLOAT_GRAPHS = frozenset({"tabulate", "encode", "condition"})
"""Run once per plan or picture, where float32 costs nothing and a rounding error would stay for every step."""


INT8 = "int8"
"""The precision of a denoiser that was quantized; see precision_around_int8 for the rest."""


DENOISE = "denoise"


NOTHING: Mapping[str, Array] = MappingProxyType({})


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
        self._fixed_for: dict[str, Shapes] = {}
        self._fixed_for_good: set[str] = set()
        self._kept: dict[str, Mapping[str, Array]] = {}

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
        return Int8Denoiser(self.bundle, self._int8_target) if self.choice.precision == INT8 else None

    @property
    def _int8_target(self) -> str:
        return self.choice.int8_target or TARGET_OF_BACKEND[self.choice.backend]

    def fix_sizes(self, name: str, feeds: Mapping[str, Array]) -> None:
        """The graph runs inputs of these shapes only from now on, compiled for them, and refuses others."""
        self._fix(name, feeds)
        self._fixed_for_good.add(name)

    def _fix(self, name: str, feeds: Mapping[str, Array]) -> None:
        self.release(name)
        self._fixed_for[name] = {feed: array.shape for feed, array in feeds.items()}

    def _take_form(self, name: str, feeds: Mapping[str, Array], *, fixed: bool) -> None:
        """What `run` opens or finds open is the form that was asked for."""
        if name in self._fixed_for_good:
            return
        if fixed:
            if self._fixed_for.get(name) != {feed: array.shape for feed, array in feeds.items()}:
                self._fix(name, feeds)
        elif self._fixed_for.pop(name, None) is not None:
            self.release(name)

    def engine(self, name: str, range_index: int = 0) -> Engine:
        """The engine of one graph, opened now if it was not yet. range_index: of a graph that has one per range."""
        int8 = self.int8 if name == DENOISE else None
        index, key = self._index_and_key(name, range_index)
        if key not in self._open:
            choice = self.choice
            precision = precision_around_int8(choice.backend) if choice.precision == INT8 else choice.precision
            graph = int8.graph if int8 else self._graph(name)
            self._open[key] = open_engine(
                graph,
                backend=choice.backend,
                precision="fp32" if name in FLOAT_GRAPHS else precision,
                threads=choice.threads,
                sizes=sizes_of(graph, self._fixed_for[name]) if name in self._fixed_for else None,
                cache_dir=choice.cache_dir,
                constants=self._constants(name, graph, index),
            )
        return self._open[key]

    def _graph(self, name: str) -> Path:
        """The file of a graph other than the int8 denoiser: in int8 too if the decoder has it."""
        coded = int8_graph(self.bundle, self._int8_target, name) if self.choice.precision == INT8 else None
        return coded or self.bundle.graph(name, FORM_OF_BACKEND[self.choice.backend])

    def _constants(self, name: str, graph: Path, index: int) -> dict[str, Array]:
        """What replaces the constants of a graph: those of a range, and what this CPU needs for right int8 sums."""
        if self.choice.precision != INT8:
            return {}
        of_range = self.int8.constants(index) if name == DENOISE and self.int8 is not None else {}
        return of_range | constants_without_saturation(graph, self.choice.backend)

    def _index_and_key(self, name: str, range_index: int) -> tuple[int, str]:
        """Which of the denoiser's graphs serves a range, and its name among the open ones."""
        int8 = self.int8 if name == DENOISE else None
        index = range_index if int8 is not None and int8.engines > 1 else 0
        return index, f"{name}.{index}" if index else name

    def run(
        self, name: str, feeds: Mapping[str, Array], *, kept: Mapping[str, Array] = NOTHING, fixed: bool = False
    ) -> dict[str, Array]:
        """All outputs of one graph; `feeds` may hold more than the graph asks for.

        kept: more feeds, which stay as they are for as long as this very mapping is given; a GPU copies them once.
        fixed: by a form of the graph that is compiled for exactly these sizes. There is one form of a graph at a time,
        so that its weights are in memory once; asking for the other one opens it.
        """
        self._take_form(name, {**kept, **feeds}, fixed=fixed)
        range_index = int(feeds.get(RANGE_INDEX, 0))
        engine = self.engine(name, range_index)
        self._keep(self._index_and_key(name, range_index)[1], kept)
        given = {spec.name: feeds[spec.name] for spec in engine.inputs if spec.name in feeds and spec.name not in kept}
        made = engine.run(given)
        if name == DENOISE and self.int8 is not None:
            made["noise"] = self.int8.corrected(made["noise"], feeds)
        return made

    def predicted_noise(
        self, x: NDArray[np.float32], condition: Mapping[str, Array], row: Mapping[str, Array], keep: Keep
    ) -> NDArray[np.float32]:
        """What the denoiser makes of a state, a condition and the row of a step."""
        if keep.condition:
            made = self.run(DENOISE, {"x": x, **row}, kept=condition, fixed=keep.size)
        else:
            made = self.run(DENOISE, {"x": x, **condition, **row}, fixed=keep.size)
        noise: NDArray[np.float32] = made["noise"]
        return noise

    @property
    def carries_state(self) -> bool:
        """Whether the denoiser's engine takes the state from step to step itself; see `followed`."""
        return self.choice.backend in CARRY_STATE and self.int8 is None

    def followed(
        self, x: NDArray[np.float32], condition: Mapping[str, Array], steps: Iterable[Step], keep: Keep
    ) -> NDArray[np.float32]:
        """The state after these steps, for one condition that stays."""
        waiting = iter(steps)
        first = next(waiting)
        self._take_form(DENOISE, {"x": x, **condition, **first.feeds}, fixed=keep.size)
        engine = self.engine(DENOISE)
        self._keep(DENOISE, condition)
        wanted = {spec.name for spec in engine.inputs}

        def asked_for() -> Iterator[Step]:
            for step in chain([first], waiting):
                yield replace(step, feeds={name: value for name, value in step.feeds.items() if name in wanted})

        return engine.follow("x", "noise", x, asked_for())

    def let_go(self, name: str) -> None:
        """What was kept for a graph's next run is free."""
        for key in self._keys_of(name):
            if key in self._kept:
                self._open[key].hold({})
                del self._kept[key]

    def _keep(self, key: str, kept: Mapping[str, Array]) -> None:
        if kept is self._kept.get(key, NOTHING):
            return
        engine = self._open[key]
        engine.hold({spec.name: kept[spec.name] for spec in engine.inputs if spec.name in kept})
        self._kept[key] = kept

    def rows_in_precision(self, rows: list[dict[str, Array]], noise_levels: Sequence[float]) -> list[dict[str, Array]]:
        """The rows of a plan with what the chosen precision needs in each of them besides."""
        if self.int8 is None:
            return rows
        return [row | more for row, more in zip(rows, self.int8.row_feeds(noise_levels), strict=True)]

    def release(self, name: str) -> None:
        """Frees the memory of one graph; it opens again when it is next needed."""
        for key in self._keys_of(name):
            self._kept.pop(key, None)
            self._open.pop(key).close()

    def _keys_of(self, name: str) -> list[str]:
        return [key for key in self._open if key == name or key.startswith(f"{name}.")]

    def close(self) -> None:
        """Frees the memory of all graphs."""
        for name in list(self._open):
            self.release(name)


def sizes_of(graph: Path, shapes: Shapes) -> dict[str, int]:
    """The size of every named axis of a graph's inputs when it is fed arrays of these shapes."""
    specs = [spec for spec in read_signature(graph).inputs if spec.name in shapes]
    axes = ((axis, size) for spec in specs for axis, size in zip(spec.shape, shapes[spec.name], strict=True))
    return {axis: size for axis, size in axes if isinstance(axis, str) and axis != ANONYMOUS}
