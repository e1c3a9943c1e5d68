"""A denoiser that is a graph: what the models of all families do alike with theirs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from deploy.families.contract import NOTHING_STAYS, Array, Float32, Graphs, Keep
from deploy.sampling.plan import PlanRow
from engines.forms import Lease
from engines.recurrence import Step


class GraphDenoiser(ABC):
    """Steps of the sampler on a bundle's `denoise` graph.

    training_pixels: of the state that the network was trained on.
    """

    def __init__(self, graphs: Graphs, training_pixels: int) -> None:
        self.graphs = graphs
        self._training_pixels = training_pixels
        self._rows: tuple[tuple[PlanRow, ...], tuple[PlanRow, ...]] | None = None

    def rows(self, rows: Sequence[PlanRow]) -> tuple[PlanRow, ...]:
        """The steps of a plan with what each feeds besides state and condition, in arrays not to be written to.

        Those of the last plan are kept: all pictures of a run have one plan.
        """
        asked = tuple(rows)
        kept = self._rows
        if kept is None or kept[0] != asked:
            fed = zip(asked, self.feeds_of_rows(asked), strict=True)
            kept = asked, tuple(self.graphs.row(replace(row, feeds=feeds)) for row, feeds in fed)
            self._rows = kept
        return kept[1]

    @abstractmethod
    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What the float graph is fed at each of these noise levels and timesteps: that is the family's part."""

    def predict(self, x: Float32, condition: Mapping[str, Array], row: PlanRow, keep: Keep = NOTHING_STAYS) -> Float32:
        """The noise that the network sees in x."""
        return self.graphs.predicted_noise(x, condition, row, keep)

    @property
    def carries_state(self) -> bool:
        """Whether the engine takes the state from step to step itself."""
        return self.graphs.carries_state

    def follow(
        self, x: Float32, condition: Mapping[str, Array], steps: Iterable[Step], keep: Keep = NOTHING_STAYS
    ) -> Float32:
        """The state after these steps, which the engine takes by itself."""
        return self.graphs.followed(x, condition, steps, keep)

    def lease(self) -> Lease:
        """What one run has of the engines."""
        return self.graphs.lease()

    def fixed_size_pays(self, pixels: int) -> bool:
        """Whether so many pixels are worth compiling for their size; measured in evaluations of the training's size."""
        return self.graphs.choice.record.fixed_sizes_pay(pixels / self._training_pixels)
