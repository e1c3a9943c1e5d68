"""A bundle's networks on an engine: what the run asks of them, and what the models of all families answer alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from deploy.errors import PlanError
from deploy.families.contract import NOTHING_STAYS, Decoder, Feeds, Generated, Graphs, Keep, NoiseOfShape, Subject
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.images.values import ValueRule
from deploy.sampling.plan import PlanRow, SamplingRules
from deploy.sampling.turns import Turn
from engines.arrays import Array, Float32
from engines.contract import Step
from engines.forms import Lease


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the time of an evaluation grows with the pixels of the state: as pixels * (1 + pixels / doubled_at).

    doubled_at: the pixels of which attention takes as long as all else. least_side: of tiles that differ little from
    the whole picture.
    """

    doubled_at: float
    least_side: int


class Model(ABC):
    """A bundle's networks on an engine, for any number of runs at the same time; its denoiser is a graph.

    A family adds what is abstract here. The rest is answered for the usual model, which enlarges pictures and whose
    state is the picture: no decoder, nothing that needs the whole of it at once. Others answer for themselves.
    """

    values: ValueRule
    sampling: SamplingRules
    channels: int
    """Of the state."""
    generates: bool = False
    """Whether pictures come from noise alone; only then `generation` is asked."""
    usual_lr: int | None = None
    """The side of low-resolution pictures that memory allows whole batches of; None: any."""
    notice_of_depth: str | None = None
    """What to tell where a picture has more than 8 bits; None: the network sees all of them."""
    agrees_when_decoded: bool = False
    """Whether data consistency is for the finished picture; False: for the estimate of every step."""

    def __init__(self, graphs: Graphs, training_pixels: int) -> None:
        """training_pixels: of the state that the network was trained on."""
        self.graphs = graphs
        self._training_pixels = training_pixels
        self._rows: tuple[tuple[PlanRow, ...], tuple[PlanRow, ...]] | None = None

    @property
    @abstractmethod
    def stride(self) -> int:
        """Windows of the state must start at multiples of this."""

    @abstractmethod
    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> Subject:
        """The pictures `lr` (batch, 3, h, w) on their way to `size`; `posterior` makes the noise of an encoder."""

    @abstractmethod
    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What the float graph is fed at the noise level and timestep of each step, besides state and condition."""

    @abstractmethod
    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory that making the condition and predicting the noise of one window take, at most."""

    @abstractmethod
    def condition_bytes(self, window: Size, batch: int) -> int:
        """Memory of the condition of one window."""

    @abstractmethod
    def blank_condition(self, lr: Size, size: Size, window: Window) -> Feeds:
        """A condition of one window without a picture, for timing."""

    @abstractmethod
    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What to tell about an output size that training did not cover; None if it did."""

    @property
    def decoder(self) -> Decoder | None:
        """What makes a picture of a finished state; None where the state is the picture."""
        return None

    def rows(self, rows: Sequence[PlanRow]) -> tuple[PlanRow, ...]:
        """The steps of a plan with what each feeds besides state and condition, in arrays not to be written to.

        Those of the last plan are kept: all pictures of a run have one plan.
        """
        plan = tuple(rows)
        last = self._rows
        if last is None or last[0] != plan:
            fed = zip(plan, self.feeds_of_rows(plan), strict=True)
            last = self._rows = plan, tuple(self.graphs.row(replace(row, feeds=feeds)) for row, feeds in fed)
        return last[1]

    def tabulated_feeds(self, name: str, values: Float32, row: str) -> list[dict[str, Array]]:
        """One of `values` per step as the graph input `name`, or what `tabulate` makes of it as the input `row`."""
        if "tabulate" in self.graphs:
            name, values = row, self.graphs.run("tabulate", {name: values})[row]
        return [{name: value[None]} for value in values]

    def generation(self, count: int, state: Size | None, size: Size | None) -> Generated:
        """`count` pictures to be made from noise alone; None: the state and the output of training.

        Refused by a model that enlarges pictures.
        """
        del count, state, size
        raise PlanError("This model enlarges pictures and makes none from noise alone; use `upscale`.")

    def open_engines(self) -> None:
        """All graphs that a run needs are open, so that what they hold can be measured."""
        for graph in sorted({*self.graphs.bundle.manifest.graphs, "denoise"}):
            self.graphs.engine(graph)

    def state_size(self, lr: Size, size: Size) -> Size:
        """The state's (height, width) for an input and output size: the output's where the state is the picture."""
        del lr
        return size

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Memory that is needed whatever the tiles: encoding and decoding that cannot be cut."""
        del lr, size, batch
        return 0

    def consistency_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Memory that data consistency takes: what differs from the input, in its size."""
        del size
        return 12 * batch * prod(lr)

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """The rows of the picture that an empty state becomes, for timing; none where a state is a picture already."""
        del lr, size
        return iter(())

    def refusal_of_consistency(self) -> str | None:
        """Why data consistency cannot be had, as one sentence; None where it can, as wherever there is an input."""
        return None

    def refusal_of_blend(self) -> str | None:
        """Why the network cannot be told of another magnification than its own, as one sentence; None where it can."""
        return "This network is not told how many times it magnifies, so there is nothing to move: leave `blend` out."

    def blended(self, subject: Subject, blend: float) -> Subject:
        """The same pictures, where the network is told `blend` times their scaling factor; asked if nothing refuses."""
        del subject, blend
        raise PlanError(str(self.refusal_of_blend()))

    def refusal_of_turns(self) -> str | None:
        """Why the network cannot be shown the picture turned, as one sentence; None where it can."""
        return "The state of this network is no picture, so that it cannot be turned."

    def turned(self, subject: Subject, turn: Turn) -> Subject:
        """The same pictures turned, as is their state; asked if nothing refuses."""
        del subject, turn
        raise PlanError(str(self.refusal_of_turns()))

    def predict(self, x: Float32, condition: Feeds, row: PlanRow, keep: Keep = NOTHING_STAYS) -> Float32:
        """The noise that the network sees in `x`; `row` is one that `rows` made."""
        return self.graphs.predicted_noise(x, condition, row, keep)

    @property
    def growth(self) -> Growth | None:
        """How the time grows of a network that may be given a picture in tiles because that is faster; None: whole."""
        return None

    @property
    def carries_state(self) -> bool:
        """Whether the engine takes the state from step to step itself; only then `follow` is asked."""
        return self.graphs.carries_state

    def follow(self, x: Float32, condition: Feeds, steps: Iterable[Step], keep: Keep = NOTHING_STAYS) -> Float32:
        """The state after these steps, for a whole picture whose condition stays."""
        return self.graphs.followed(x, condition, steps, keep)

    def lease(self) -> Lease:
        """What one run has of the engines: passed on in `Keep`, closed at the run's end."""
        return self.graphs.lease()

    def fixed_size_pays(self, pixels: int) -> bool:
        """Whether evaluating so many pixels of state, all at one size, is worth compiling the network for it."""
        return self.graphs.choice.record.fixed_sizes_pay(pixels / self._training_pixels)
