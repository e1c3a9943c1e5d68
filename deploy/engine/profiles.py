"""The sizes that a GPU engine is built for: from what a user says (outputs, scales) to every axis of every graph.

Axes of one graph depend on one another: IDM's `height_1` is half of `height`, rounded up, as its strided convolutions
have it; the latent family's latent is the encoder's input divided by its stride, and must divide by the U-Net's. So a
user gives three output sizes and three scales, and every axis follows by the run time's own rules.
"""

from collections.abc import Iterable, Mapping, Sequence

from deploy.bundle import Bundle
from deploy.families.bundles import recorded_config
from deploy.families.sizes import EngineSizes
from deploy.families.table import family_named
from deploy.images.sizes import Size
from engines.plans.profiles import Profile


def default_sizes(bundle: Bundle) -> EngineSizes:
    """Half to four times the output of training around that output, at the scales of training that its family names."""
    family = family_named(bundle.manifest.family)
    usual = family.usual_side(recorded_config(bundle.manifest))
    trained = bundle.manifest.scale_range.trained or (1.0, 8.0)
    smallest, largest = (float(scale) for scale in trained)
    low = family.least_scale(smallest, largest)
    small, medium, large = (Size.square(side) for side in (max(1, usual // 2), usual, 4 * usual))
    scales = (min(low, largest), largest, largest)
    return EngineSizes(sizes=(small, medium, large), scales=scales)


def profiles_of_graphs(bundle: Bundle, sizes: EngineSizes) -> Mapping[str, Profile]:
    """The profile of each float graph of the bundle, by name."""
    return {
        name: profile_of_graph(bundle, sizes, name, [tensor.shape for tensor in graph.inputs])
        for name, graph in bundle.manifest.graphs.items()
    }


def profile_of_graph(bundle: Bundle, sizes: EngineSizes, name: str, shapes: Iterable[Sequence[int | str]]) -> Profile:
    """The profile of a graph that does the work of the graph `name`, for inputs of these shapes."""
    family = family_named(bundle.manifest.family)
    axes = family.axes(recorded_config(bundle.manifest), sizes)
    names = {axis for shape in shapes for axis in shape if isinstance(axis, str)}
    ranges = axes(name)
    return Profile(axes={axis: ranges[axis] for axis in sorted(names & set(ranges))})
