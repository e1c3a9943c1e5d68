"""A bundle's graphs on one engine: opened when first needed, fed by name, closed together."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.engine.first_run import run_first
from deploy.engine.graph_files import graph_file, int8_decoder_graph, int8_graph_file
from deploy.engine.int8 import Int8Denoiser, target_of_backend
from deploy.errors import BundleError
from deploy.families.bundles import check_bundle
from deploy.families.contract import NOTHING_STAYS, Array, Keep
from deploy.sampling.plan import PlanRow
from engines.backends import DEFAULT_BACKEND, backend_named, open_engine
from engines.contract import ANONYMOUS, Backend, Engine, Step
from engines.forms import Forms, Lease, Shapes
from engines.onnx_files.graph_file import read_signature
from engines.saturation import constants_without_saturation

FLOAT_GRAPHS = frozenset({"tabulate", "encode", "condition", "codes"})
"""Run once per plan or picture, where float32 costs nothing and a rounding error would stay for every step, or choose
another code of a quantizer."""

INT8 = "int8"
"""The precision of a denoiser that was quantized; see `engines.contract.Backend.around_int8` for the rest."""

DENOISE = "denoise"

NOTHING: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """A backend, the precision of the graphs that run often, and the number of threads (None: the backend's own).

    int8_target: whose int8 graphs are run; None: those made for the backend. For comparisons.
    cache_dir: where `build-engine` keeps what GPU backends run; None: the user's cache directory.
    device: the number of the GPU; None: the first, and no GPU for a CPU backend.
    around: the precision of what surrounds int8 layers; None: what is usual for the backend on this machine.
    normalisation: one of the backend's ways to normalise groups; None: its usual one.
    """

    backend: str = DEFAULT_BACKEND
    precision: str = "fp32"
    threads: int | None = None
    int8_target: str | None = None
    cache_dir: Path | None = None
    device: int | None = None
    around: str | None = None
    normalisation: str | None = None

    @property
    def name(self) -> str:
        """Backend and precision, as people are shown them, with what is not usual."""
        return name_of_way(self.backend, self.precision, self.around, self.normalisation)

    @property
    def record(self) -> Backend:
        """What is known of the backend."""
        return backend_named(self.backend)

    @property
    def precision_of_engines(self) -> str:
        """What an engine is opened in; int8 graphs carry their own precision, and this is that of the rest of them."""
        if self.precision != INT8:
            return self.precision
        return self.around or self.record.precision_around_int8()


def name_of_way(backend: str, precision: str, around: str | None = None, normalisation: str | None = None) -> str:
    """A way to run a bundle as people are shown it: backend and precision, and after them what is not usual."""
    unusual = [f"{around} around"] if around else []
    unusual += [f"{normalisation} normalisation"] if normalisation else []
    return ", ".join([f"{backend} {precision}", *unusual])


class GraphSet:
    """The graphs of `bundle` on an engine, opened when first needed; a context manager that closes them.

    Any number of runs on any number of threads may share one set: what belongs to a run is in its Lease. `run` takes
    from the feeds what a graph asks for.
    """

    def __init__(self, bundle: Bundle, choice: EngineChoice) -> None:
        check_bundle(bundle)
        self.bundle = bundle
        self.choice = choice
        self.int8 = Int8Denoiser(bundle, self._int8_target) if choice.precision == INT8 else None
        """The int8 form of the denoiser, if that is what was chosen."""
        self._forms = Forms(self._open_engine)
        self._fixed_for_good: dict[str, Shapes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self.bundle.manifest.graphs or (name == DENOISE and self.int8 is not None)

    @property
    def _int8_target(self) -> str:
        return self.choice.int8_target or target_of_backend(self.choice.backend)

    def fix_sizes(self, name: str, feeds: Mapping[str, Array]) -> None:
        """From now on the graph runs only inputs of these shapes, compiled for them, and refuses others."""
        self._fixed_for_good[name] = shapes_of(feeds)

    def lease(self) -> Lease:
        """What one run has of the open graphs; close it at the run's end."""
        return Lease(self._forms)

    def engine(self, name: str, range_index: int = 0) -> Engine:
        """The engine of one graph in the form that was used last, opened now if it was not yet; only to look at it.

        range_index: the timestep range, of a graph that has an engine for each. A run elsewhere may close the engine.
        """
        form = self._forms.current(name)
        if form is not None:
            return form.engine(self._index(name, range_index))
        form = self._forms.take(name, self._fixed_for_good.get(name))
        try:  # used while it opens, so that nobody closes it meanwhile
            return form.engine(self._index(name, range_index))
        finally:
            self._forms.give_back(name, form)

    def _open_engine(self, name: str, shapes: Shapes | None, index: int) -> Engine:
        choice = self.choice
        run_first(self.bundle, choice.backend)
        precision = choice.precision_of_engines
        graph = self._graph(name)
        return open_engine(
            graph,
            backend=choice.backend,
            precision="fp32" if name in FLOAT_GRAPHS else precision,
            threads=choice.threads,
            sizes=None if shapes is None else sizes_of(graph, shapes),
            cache_dir=choice.cache_dir,
            constants=self._constants(name, graph, index),
            device=choice.device,
            normalisation=choice.normalisation,
        )

    def _graph(self, name: str) -> Path:
        """The file of a graph, in int8 if that is wanted and there; it is as bundle.json says."""
        if name == DENOISE and self.int8 is not None:
            return int8_graph_file(self.bundle, self._int8_target)
        int8_graph = int8_decoder_graph(self.bundle, self._int8_target, name) if self.choice.precision == INT8 else None
        return int8_graph or graph_file(self.bundle, name, self.choice.record.norm)

    def _constants(self, name: str, graph: Path, index: int) -> dict[str, Array]:
        """What replaces the constants of a graph: those of a range, and what this CPU needs for right int8 sums."""
        if self.choice.precision != INT8:
            return {}
        of_range = self.int8.constants(index) if name == DENOISE and self.int8 is not None else {}
        return of_range | constants_without_saturation(graph, self.choice.backend)

    def _index(self, name: str, range_index: int) -> int:
        """Which of the denoiser's engines serves a range."""
        return range_index if name == DENOISE and self.int8 is not None and self.int8.engines > 1 else 0

    def run(
        self,
        name: str,
        feeds: Mapping[str, Array],
        *,
        kept: Mapping[str, Array] = NOTHING,
        fixed: bool = False,
        lease: Lease | None = None,
        range_index: int = 0,
    ) -> dict[str, Array]:
        """All outputs of one graph; `feeds` may hold more than the graph asks for.

        kept: more feeds, which stay as they are for as long as this very mapping is given; a GPU copies them once.
        fixed: whether the graph is compiled for exactly these sizes. lease: of the run of many graphs that this call
        belongs to; None: it is a run by itself. range_index: the timestep range, of a graph that has an engine for
        each.
        """
        with nullcontext(lease) if lease is not None else self.lease() as lease:
            index = self._index(name, range_index)
            engine = lease.engine(name, self._shapes(name, {**kept, **feeds}, fixed=fixed), index)
            held = lease.held(name, index, engine, kept)
            names = [spec.name for spec in engine.inputs if spec.name not in kept]
            outputs = engine.run({name: feeds[name] for name in names if name in feeds}, held)
        return _Outputs(outputs, name)

    def _shapes(self, name: str, feeds: Mapping[str, Array], *, fixed: bool) -> Shapes | None:
        """The shapes that the engine for these feeds is compiled for; None: any size."""
        if name in self._fixed_for_good:
            return self._fixed_for_good[name]
        return shapes_of(feeds) if fixed else None

    def predicted_noise(
        self, x: NDArray[np.float32], condition: Mapping[str, Array], row: PlanRow, keep: Keep = NOTHING_STAYS
    ) -> NDArray[np.float32]:
        """The noise that the denoiser predicts for a state, a condition and a step, which comes from `GraphSet.row`."""
        changing, kept = ({}, condition) if keep.condition else (condition, NOTHING)
        outputs = self.run(
            DENOISE,
            {"x": x, **changing, **row.feeds},
            kept=kept,
            fixed=keep.size,
            lease=keep.lease,
            range_index=row.range_index,
        )
        noise: NDArray[np.float32] = outputs["noise"]
        return noise if row.correction is None else row.correction.of(noise)

    @property
    def carries_state(self) -> bool:
        """Whether the denoiser's engine takes the state from step to step itself; see `followed`."""
        return self.choice.record.carries_state and self.int8 is None

    def followed(
        self, x: NDArray[np.float32], condition: Mapping[str, Array], steps: Iterable[Step], keep: Keep
    ) -> NDArray[np.float32]:
        """The state after all these steps, which its engine takes by itself under one condition."""
        waiting = iter(steps)
        first = next(waiting)
        shapes = self._shapes(DENOISE, {"x": x, **condition, **first.feeds}, fixed=keep.size)
        with nullcontext(keep.lease) if keep.lease is not None else self.lease() as lease:
            engine = lease.engine(DENOISE, shapes, 0)
            held = lease.held(DENOISE, 0, engine, condition)
            names = {spec.name for spec in engine.inputs}

            def asked_for() -> Iterator[Step]:
                for step in chain([first], waiting):
                    yield replace(step, feeds={name: value for name, value in step.feeds.items() if name in names})

            return engine.follow("x", "noise", x, asked_for(), held)

    def row(self, row: PlanRow) -> PlanRow:
        """The step with what int8 needs at its noise level; unchanged in other precisions."""
        return row if self.int8 is None else self.int8.row(row)

    def close(self) -> None:
        """The memory of all graphs is freed, now or when the runs end that use them; later runs open them again."""
        self._forms.close()


class _Outputs(dict[str, Array]):
    """What a graph made, by name; a name that it does not have is a refusal, as bundles come from strangers."""

    def __init__(self, outputs: Mapping[str, Array], graph: str) -> None:
        super().__init__(outputs)
        self._graph = graph

    def __missing__(self, name: str) -> Array:
        raise BundleError(
            f"The graph {self._graph} of this bundle makes {', '.join(self) or 'nothing'}, expected {name} too. Export "
            "the checkpoint again with this version."
        )


def shapes_of(feeds: Mapping[str, Array]) -> Shapes:
    """The shape of each input, by name."""
    return {name: array.shape for name, array in feeds.items()}


def sizes_of(graph: Path, shapes: Shapes) -> dict[str, int]:
    """The size of every named axis of a graph's inputs when it is fed arrays of these shapes."""
    specs = [spec for spec in read_signature(graph).inputs if spec.name in shapes]
    axes = ((axis, size) for spec in specs for axis, size in zip(spec.shape, shapes[spec.name], strict=True))
    return {axis: size for axis, size in axes if isinstance(axis, str) and axis != ANONYMOUS}
