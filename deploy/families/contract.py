"""What a family of networks owes the rest, so that nothing outside its folder need know which family it runs.

A `Family` is the record of one: how its checkpoints are recognised, its network, its rewrites, its run time. A `Model`
is a bundle's networks on an engine. A `Subject` is a batch of low-resolution pictures of one size on its way to one
output size: what the network sees of them, where the state begins and how it becomes pixels. The *state* is what the
sampler works on, (batch, channels, height, width): the picture itself, or a latent. Sizes are (height, width);
pictures are float32 in [-1, 1].
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.families.cases import Trial
from deploy.families.detection import Detection, Settings, Shape, Stored
from deploy.families.folders import PipelineFolder
from deploy.families.sizes import Axes, EngineSizes
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.images.values import ValueRule
from deploy.sampling.plan import PlanRow, SamplingRules
from engines.contract import Backend, Step
from engines.forms import Lease

if TYPE_CHECKING:
    from torch import nn

    from deploy.families.model import Model
    from deploy.families.published import Published
    from deploy.families.rewriting.ops import Part

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Feeds = Mapping[str, Array]
NoiseOfShape = Callable[[tuple[int, int, int, int]], Float32]


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What stays as it is in the predictions to come, so that an engine may keep it or prepare for it.

    condition: this very mapping is given again; a GPU copies it once. size: no other size comes, and this one often
    enough to compile the network for it. lease: of the run whose predictions these are; None: of no run, then nothing
    is kept from one to the next.
    """

    condition: bool = False
    size: bool = False
    lease: Lease | None = field(default=None, compare=False)


NOTHING_STAYS = Keep()


class ChosenEngine(Protocol):
    """The engine that graphs were opened on."""

    @property
    def backend(self) -> str:
        """By its name in the table of backends."""

    @property
    def record(self) -> Backend:
        """What is known of that backend."""

    @property
    def threads(self) -> int | None:
        """None: the backend's own number."""


class Graphs(Protocol):
    """A bundle's graphs on one engine, as models use them; see `deploy.engine.graphs.GraphSet`."""

    @property
    def bundle(self) -> Bundle:
        """Whose graphs they are."""

    @property
    def choice(self) -> ChosenEngine:
        """The engine they run on."""

    def __contains__(self, name: str) -> bool: ...

    def engine(self, name: str) -> object:
        """The engine of one graph, opened now if it was not yet."""

    def run(self, name: str, feeds: Feeds) -> dict[str, Array]:
        """All outputs of one graph."""

    def predicted_noise(self, x: Float32, condition: Feeds, row: PlanRow, keep: Keep) -> Float32:
        """What the denoiser makes of a state, a condition and a step that `row` made ready."""

    @property
    def carries_state(self) -> bool:
        """Whether the denoiser's engine takes the state from step to step itself."""

    def followed(self, x: Float32, condition: Feeds, steps: Iterable[Step], keep: Keep) -> Float32:
        """The state after these steps, for one condition that stays."""

    def lease(self) -> Lease:
        """What one run has of the open graphs."""

    def row(self, row: PlanRow) -> PlanRow:
        """A step with what the chosen precision needs at its noise level besides."""


class Subject(Protocol):
    """Pictures of one size on their way to one output size."""

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """(batch, channels, height, width) of the state."""

    def condition(self, window: Window) -> Feeds:
        """Everything about the pictures that does not change from step to step, for one window of the state."""

    def first_guess(self, rows: slice) -> Float32:
        """Rows of the state that a sampler may begin from, noised: the enlarged input."""

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        """`estimate`, changed in place, agrees with the input by `strength`; `trim` is called between its strips.

        Nothing is done by a model that makes its finished pictures agree instead (`Model.agrees_when_decoded`).
        """

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """The pictures of a finished state from top to bottom, (batch, 3, rows, width), in about `room` bytes.

        consistency: how strongly they are made to agree with the input, where that is not done to each estimate.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """Pictures to be made from noise alone: the subject, and the (height, width) of its state and of the output."""

    subject: Subject
    state: Size
    size: Size


class Decoder(Protocol):
    """Makes pictures of finished states; an int8 form of its graphs is calibrated and tried apart from the denoiser."""

    @property
    def stride(self) -> int:
        """Output pixels per pixel of the state and side, at the resolution of training."""

    def rows(self, state: Float32, size: Size) -> Iterator[Float32]:
        """The pictures of a state at (height, width) from top to bottom, (batch, 3, rows, width)."""

    def inputs(self, graph: str, states: Sequence[Float32]) -> Iterator[Feeds]:
        """What one of its graphs, `decode` or `query`, is really fed for these states."""


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """An exact rewrite for readers: its title, what it does and what that saves."""

    title: str
    what: str
    saves: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another package that runs the networks of a family, for comparison.

    published: (network, trial) -> the same network there. Its weights may be random: the time does not depend on them.
    """

    package: str
    published: Callable[[Any, Trial], "Published"]


def mapping_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration and of its parts in JSON's types."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def nothing_of(_: Any) -> dict[str, Any]:
    """The answer of a family that has nothing of the kind."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that the rest of the tool asks about one family of networks.

    Configurations are of the class `config`; `values` below means its fields and their values, as a bundle lists them.
    What imports torch does so when it is called, so that a bundle runs without it.
    """

    name: str  # as in bundles and on the command line
    title: str  # as a person would name it

    # A checkpoint and its configuration
    config: type[Any]
    fields: tuple[str, ...]  # of the configuration, as `Settings.values` names them
    parts: Mapping[str, str]  # prefix of parameter names -> name of the part, for `inspect`
    live_prefixes: tuple[str, ...]  # below these, a name that is not known means another network
    value_range: tuple[float, float]  # of the images that the network sees
    marks_of: Callable[[Mapping[str, Shape]], tuple[str, ...]]
    """Names of tensors -> those by which a checkpoint is known: of the variant that is nearest."""
    detect: Callable[[Stored, list[Settings]], Detection]
    """The configuration and schedule, each value with its source."""
    settings_from_mapping: Callable[[Mapping[str, Any], str], Settings]
    """What the authors' configuration file says; the text names it in messages."""
    settings_from_record: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """The fields of a configuration that `as_mapping` wrote."""
    as_mapping: Callable[[Any], dict[str, Any]] = mapping_of
    """The configuration in JSON's types."""
    config_from_values: Callable[[Mapping[str, Any]], Any]
    """The configuration from the fields and values that a checkpoint's or a bundle's `configuration` lists."""
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most that a number of the configuration, or each in a list, may be for a bundle to be run: far beyond
    any network, and little enough for what is computed of it. By field or property, `unet.stride` of a part."""
    scale_range: Callable[[Any], tuple[float, float] | None]
    """The magnifications seen in training; beyond them the network extrapolates. None: it magnifies nothing."""
    unused_shapes: Callable[[Any], dict[str, Shape]] = nothing_of
    """What published checkpoints hold although no output depends on it."""
    averaged_names: Callable[[Mapping[str, Shape]], dict[str, str]] = nothing_of
    """Live name -> name of its moving average in the same state dict."""

    folder: PipelineFolder | None = None
    """How folders of diffusers hold it; None: it comes in files only."""

    # The network in PyTorch, and its exact rewrites as graphs
    build: Callable[[Any], "nn.Module"]
    """The network, with any weights."""
    rewrites: Mapping[str, Rewrite]
    graphs: Callable[[Any, Mapping[str, Array], frozenset[str]], "list[Part]"]
    """(configuration, weights, names of rewrites) -> the graphs under that choice."""
    trial: Callable[[Any, Size, int], Trial]
    """One random case at an output (height, width) and batch."""
    published: Callable[[Any, Trial], "Published"]
    """The published network on one trial."""
    parity_cases: tuple[tuple[Size, int], ...]
    """Output sizes (height, width) and batches: small, odd, that of training, not square, several pictures."""

    # Pictures and sampling
    values: ValueRule
    sampling: SamplingRules
    published_equations: tuple[str, ...]  # of the authors' samplers
    published_ddim_steps: int = 200
    """How many the authors ask for, of DDIM."""
    peer: Peer | None = None
    """What people run the network with in place of the authors' code: then the baseline of `bench`, if installed."""

    # At run time
    model: Callable[[Graphs], "Model"]
    decodes: bool  # the state is a latent, which a decoder makes a picture of
    usual_side: Callable[[Any], int]
    """Side of the output in training, in pixels."""
    least_scale: Callable[[float, float], float]
    """(smallest, largest) magnification of training -> the smallest that engines are built for."""
    axes: Callable[[Any, EngineSizes], Axes]
    """Name of a graph -> its axes, for engines that are built for ranges of sizes."""
