"""One random case for a network: what its graphs are fed, without any picture or sampler.

`verify --against` compares the graphs' answers with the published network's, `bench` times both. Seeded, and without
torch: `deploy.families.published` holds the other side.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from deploy.images.sizes import Size
from engines.arrays import Array

Run = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
"""Runs the graph of that name on these feeds."""

BEFORE_STEP = ("tabulate", "encode", "condition")
"""Graphs that run before the first step, in this order, where a bundle has them."""

NOISE_LEVEL = 0.5
TIMESTEP = 500


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A case at one output size (height, width) and batch.

    `feeds` holds the inputs that no graph makes; `between` adds what the run time computes after a graph.
    lr_size: of the low-resolution picture that leads to such an output.
    """

    size: Size
    lr_size: Size = Size.square(16)
    feeds: Mapping[str, Array]
    between: Callable[[str, dict[str, Array]], None]


def chain(trial: Trial, graphs: Iterable[str], run: Run) -> dict[str, Array]:
    """All feeds and outputs of the graphs, each run on what came before."""
    feeds = dict(trial.feeds)
    for graph in graphs:
        feeds |= run(graph, feeds)
        trial.between(graph, feeds)
    return feeds
