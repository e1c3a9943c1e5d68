"""A denoiser that is a graph: what the models of all families do alike with theirs."""

from collections.abc import Iterable, Mapping

from deploy.families.contract import NOTHING_STAYS, Array, Float32, Graphs, Keep
from engines.backends import fixed_sizes_pay
from engines.recurrence import Step


class GraphDenoiser:
    """Steps of the sampler on a bundle's `denoise` graph.

    training_pixels: of the state that the network was trained on.
    """

    def __init__(self, graphs: Graphs, training_pixels: int) -> None:
        self.graphs = graphs
        self._training_pixels = training_pixels

    def predict(
        self, x: Float32, condition: Mapping[str, Array], row: Mapping[str, Array], keep: Keep = NOTHING_STAYS
    ) -> Float32:
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

    def let_go(self) -> None:
        """What was kept of a condition is free."""
        self.graphs.let_go("denoise")

    def fixed_size_pays(self, pixels: int) -> bool:
        """Whether so many pixels are worth compiling for their size; measured in evaluations of the training's size."""
        return fixed_sizes_pay(self.graphs.choice.backend, pixels / self._training_pixels)
