"""What the upscaler asks of a family's networks, so that it need not know which family it runs.

A `Model` is a bundle's networks on an engine. A `Subject` is a batch of low-resolution pictures of one size on its
way to one output size: what the network sees of them, where the state begins and how it becomes pixels. The *state*
is what the sampler works on, (batch, channels, height, width): the picture itself for IDM, a latent for the other
family. Sizes are (height, width); pictures are float32 in [-1, 1].
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.forms import Lease
from deploy.runtime.graphs import NOTHING_STAYS, Array, Keep
from deploy.runtime.tiles import Size, Window
from engines.recurrence import Step

Float32 = NDArray[np.float32]
Feeds = Mapping[str, Array]
NoiseOfShape = Callable[[tuple[int, int, int, int]], Float32]


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
        """`estimate`, changed in place, agrees with the input by `strength`; `trim` is called between its strips."""

    def picture_rows(self, state: Float32, room: int) -> Iterator[Float32]:
        """The pictures of a finished state from top to bottom, (batch, 3, rows, width), in about `room` bytes."""


class Model(Protocol):
    """A bundle's networks on an engine, for any number of runs at the same time."""

    family: str

    @property
    def channels(self) -> int:
        """Channels of the state."""

    @property
    def stride(self) -> int:
        """Windows of the state must start at multiples of this."""

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> Subject:
        """The pictures `lr` (batch, 3, h, w) on their way to `size`; `posterior` makes the noise of an encoder."""

    def state_size(self, lr: Size, size: Size) -> Size:
        """The state's (height, width) for an input and output size."""

    def rows(self, noise_levels: Sequence[float], timesteps: Sequence[int]) -> list[dict[str, Array]]:
        """What each step of a plan feeds besides state and condition."""

    def predict(self, x: Float32, condition: Feeds, row: Feeds, keep: Keep = NOTHING_STAYS) -> Float32:
        """The noise that the network sees in `x`."""

    @property
    def carries_state(self) -> bool:
        """Whether the engine takes the state from step to step itself; only then `follow` is asked."""

    def follow(self, x: Float32, condition: Feeds, steps: Iterable[Step], keep: Keep = NOTHING_STAYS) -> Float32:
        """The state after these steps, for a whole picture whose condition stays."""

    def lease(self) -> Lease:
        """What one run has of the engines: passed on in `Keep`, closed at the run's end."""

    def fixed_size_pays(self, pixels: int) -> bool:
        """Whether evaluating so many pixels of state, all at one size, is worth compiling the network for it."""

    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory that making the condition and predicting the noise of one window take, at most."""

    def condition_bytes(self, window: Size, batch: int) -> int:
        """Memory of the condition of one window."""

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Memory that is needed whatever the tiles: encoding and decoding that cannot be cut."""

    def open_engines(self) -> None:
        """All graphs that a run needs are open, so that what they hold can be measured."""

    def blank_condition(self, lr: Size, size: Size, window: Window) -> Feeds:
        """A condition of one window without a picture, for timing."""

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """The rows of the picture that an empty state becomes, for timing; none where a state is a picture already."""

    def refusal_of_consistency(self) -> str | None:
        """Why data consistency cannot be had, as one sentence; None where it can."""

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What to tell about an output size that training did not cover; None if it did."""
