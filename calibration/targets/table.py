"""The targets: in which form int8 graphs are written, and for whom.

A backend names the form that it runs in int8 (`engines.contract.Backend.int8_form`); the target of that form is its
own. Looking a target up needs NumPy alone, writing its graphs needs onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from calibration.choose.quantizer import Asymmetric, Form, Quantizer, Shifted
from calibration.choose.recipe import Recipe
from calibration.errors import ChoiceError
from engines.backends import BACKENDS, DEFAULT_BACKEND
from engines.contract import CONSTANT_QDQ, GROUP, INSTANCE, QLINEAR, SCALED_QDQ

if TYPE_CHECKING:
    from onnx import ModelProto

    from calibration.targets.editing import Int8Graphs

Writer = Callable[["ModelProto", Path, Recipe], "Int8Graphs"]
ChainWriter = Callable[["ModelProto", Path, Recipe, Mapping[str, Quantizer]], "Int8Graphs"]

DECODE: Final = "decode"
QUERY: Final = "query"
"""The two graphs of a decoder that may be in int8: convolutions, and narrow linear layers for each output pixel."""

BOTH: Final = ((DECODE, QUERY), (QUERY,), (DECODE,))


@dataclass(frozen=True, kw_only=True)
class Target:
    """Everything that the rest of the tool asks about one form of int8 graphs."""

    name: str  # as in bundles and on the command line
    title: str  # as a person would name it
    form: str
    """Backends that name it as their `int8_form` run these graphs in int8."""
    codes: Form
    """The form of input codes that it makes the most of."""
    norm: str
    """How group normalisation is written around the int8 layers: as its backends run the float graphs fastest."""
    writer: Writer
    """(float graph, folder of its weights, recipe) -> the int8 graphs."""
    chain_writer: ChainWriter | None = None
    """The same where layers hand codes to each other, with the quantizers of what leaves the chain."""
    decoder: tuple[tuple[str, ...], ...] = BOTH
    """Which graphs of a decoder are tried in int8, in this order; the query is most of the work as soon as pictures are
    large."""

    @property
    def tried_on(self) -> str:
        """The backend that runs its graphs on a CPU: one that has int8 for them, else the reference, in float with the
        same codes."""
        return next((backend.name for backend in BACKENDS.values() if self._is_run_by(backend.name)), DEFAULT_BACKEND)

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU runs its graphs in int8."""
        return self._is_run_by(self.tried_on)

    def _is_run_by(self, name: str) -> bool:
        backend = BACKENDS[name]
        return not backend.on_gpu and backend.int8_form == self.form


def _written_by(module: str, function: str = "int8_graphs") -> Callable[..., Int8Graphs]:
    """A writer of that module, which is imported when graphs are first written: it needs onnx."""

    def write(*arguments: Any) -> Int8Graphs:
        graphs: Int8Graphs = getattr(import_module(f"calibration.targets.{module}"), function)(*arguments)
        return graphs

    return write


_TARGETS: Final = (
    Target(
        name="ort",
        title="ONNX Runtime",
        form=QLINEAR,
        codes=Asymmetric(),
        norm=INSTANCE,
        writer=_written_by("ort"),
        chain_writer=_written_by("ort_chain", "chained_graph"),
    ),
    Target(
        name="openvino",
        title="OpenVINO",
        form=SCALED_QDQ,
        codes=Asymmetric(),
        norm=INSTANCE,
        writer=_written_by("openvino"),
    ),
    Target(
        name="tensorrt",
        title="TensorRT",
        form=CONSTANT_QDQ,
        codes=Shifted(),
        norm=GROUP,
        writer=_written_by("tensorrt"),
        decoder=((DECODE,),),
    ),
)

TARGETS: Final[Mapping[str, Target]] = {target.name: target for target in _TARGETS}
"""Name -> record, in the order in which tables and reports have them."""


def target_named(name: str) -> Target:
    """The record of one target."""
    if name not in TARGETS:
        raise ChoiceError(f"there is no int8 target {name!r}; choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]


def target_of_form(form: str | None) -> Target | None:
    """The target whose graphs have that form; None if there is none."""
    return next((target for target in TARGETS.values() if target.form == form), None)
