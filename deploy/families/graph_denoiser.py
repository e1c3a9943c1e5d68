"""A denoiser that is a graph: what the models of all families do alike with theirs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

from deploy.errors import PlanError
from deploy.families.contract import NOTHING_STAYS, Array, Decoder, Feeds, Float32, Generated, Graphs, Keep
from deploy.images.tiles import Size
from engines.forms import Lease
from engines.recurrence import Step


class GraphDenoiser(ABC):
    """The half of a `Model` that families share: steps on a bundle's `denoise` graph, and the answers of the usual one.

    The usual model enlarges pictures, and its state is the picture: no decoder, nothing that needs the whole of it at
    once. Others answer for themselves.
    """

    generates: bool = False
    usual_lr: int | None = None

    def __init__(self, graphs: Graphs, training_pixels: int) -> None:
        """training_pixels: of the state that the network was trained on."""
        self.graphs = graphs
        self._training_pixels = training_pixels
        self._rows: tuple[tuple[float, ...], list[dict[str, Array]]] | None = None

    @property
    def decoder(self) -> Decoder | None:
        """None: the state is the picture."""
        return None

    def rows(self, noise_levels: Sequence[float], timesteps: Sequence[int]) -> list[dict[str, Array]]:
        """What each step of a plan feeds besides the state: one mapping per step, not to be written to.

        Those of the last plan are kept: all pictures of a run have one plan.
        """
        plan = (*noise_levels, *timesteps)
        last = self._rows
        if last is None or last[0] != plan:
            last = self._rows = plan, self.made_rows(noise_levels, timesteps)
        return last[1]

    @abstractmethod
    def made_rows(self, noise_levels: Sequence[float], timesteps: Sequence[int]) -> list[dict[str, Array]]:
        """The same, made now: that is the family's part."""

    def tabulated_rows(
        self, name: str, values: Float32, row: str, noise_levels: Sequence[float]
    ) -> list[dict[str, Array]]:
        """One of `values` per step as the graph input `name`, or what `tabulate` makes of it as the input `row`."""
        if "tabulate" in self.graphs:
            name, values = row, self.graphs.run("tabulate", {name: values})[row]
        return self.graphs.rows_in_precision([{name: value[None]} for value in values], noise_levels)

    def generation(self, count: int, state: Size | None, size: Size | None) -> Generated:
        """Refused: such a model enlarges pictures."""
        del count, state, size
        raise PlanError("This model enlarges pictures and makes none from noise alone; use `upscale`.")

    def open_engines(self) -> None:
        """All graphs of the bundle are open; of a bundle with int8 only, its int8 denoiser too."""
        for graph in sorted({*self.graphs.bundle.manifest.graphs, "denoise"}):
            self.graphs.engine(graph)

    def state_size(self, lr: Size, size: Size) -> Size:
        """The output size: the state is the picture."""
        del lr
        return size

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """None: nothing is needed for the whole picture at once."""
        del lr, size, batch
        return 0

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """None: the state is the picture."""
        del lr, size
        return iter(())

    def refusal_of_consistency(self) -> str | None:
        """None: data consistency works on pictures, which the state is."""
        return None

    def predict(self, x: Float32, condition: Feeds, row: Feeds, keep: Keep = NOTHING_STAYS) -> Float32:
        """The noise that the network sees in x."""
        return self.graphs.predicted_noise(x, condition, row, keep)

    @property
    def carries_state(self) -> bool:
        """Whether the engine takes the state from step to step itself."""
        return self.graphs.carries_state

    def follow(self, x: Float32, condition: Feeds, steps: Iterable[Step], keep: Keep = NOTHING_STAYS) -> Float32:
        """The state after these steps, which the engine takes by itself."""
        return self.graphs.followed(x, condition, steps, keep)

    def lease(self) -> Lease:
        """What one run has of the engines."""
        return self.graphs.lease()

    def fixed_size_pays(self, pixels: int) -> bool:
        """Whether so many pixels are worth compiling for their size; measured in evaluations of the training's size."""
        return self.graphs.choice.record.fixed_sizes_pay(pixels / self._training_pixels)
