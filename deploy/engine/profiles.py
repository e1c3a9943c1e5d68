"""The sizes that a GPU engine is built for: from what a user says (outputs, scales) to every axis of every graph.

Axes of one graph depend on one another: IDM's `height_1` is half of `height`, rounded up, as its strided convolutions
have it; the latent family's latent is the encoder's input divided by its stride, and must divide by the U-Net's. So a
user gives three output sizes and three scales, and every axis follows by the run time's own rules.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.bundle import Bundle
from deploy.errors import SizeError
from deploy.families import recorded_config
from deploy.families.idm.config import IdmConfig
from deploy.families.latent.config import LatentConfig
from engines.plans.profiles import AxisRange, Profile

Size = tuple[int, int]

STEPS: AxisRange = (1, 20, 2000)
"""Rows of a plan that `tabulate` is asked for at once."""


@dataclass(frozen=True, kw_only=True)
class EngineSizes:
    """Smallest, usual and largest output (height, width), scale and batch.

    The smallest input is the smallest output at the largest scale, and so on.
    """

    sizes: tuple[Size, Size, Size]
    scales: tuple[float, float, float]
    batch: AxisRange = (1, 1, 1)

    def __post_init__(self) -> None:
        problems = []
        for axis, name in enumerate(("heights", "widths")):
            found = [size[axis] for size in self.sizes]
            if found != sorted(found) or found[0] < 1:
                problems.append(f"{name} {found}")
        if list(self.scales) != sorted(self.scales) or self.scales[0] <= 0:
            problems.append(f"scales {list(self.scales)}")
        if list(self.batch) != sorted(self.batch) or self.batch[0] < 1:
            problems.append(f"batch {list(self.batch)}")
        if problems:
            raise SizeError(
                f"An engine cannot be built for {', '.join(problems)}: give the smallest, the usual and the largest, "
                "in this order and above 0."
            )

    def lr_size(self, which: int) -> Size:
        """(height, width) of the smallest (0), usual (1) or largest (2) input."""
        rounding: Callable[[float], int] = (math.floor, round, math.ceil)[which]
        height, width = (max(1, rounding(side / self.scales[2 - which])) for side in self.sizes[which])
        return height, width


def default_sizes(bundle: Bundle) -> EngineSizes:
    """Half to four times the output of training around that output.

    At every scale of training for IDM, whose input only its encoder sees. The latent family attends to every pixel of a
    latent that grows with the input: there from half the largest scale, so that inputs are at most 8 times the usual.
    """
    config = recorded_config(bundle.manifest.family, bundle.manifest.configuration)
    trained = bundle.manifest.scale_range.get("trained") or [1.0, 8.0]
    if isinstance(config, LatentConfig):
        usual = config.default_output_size or (config.image_size or 1) * config.first_stage.stride
    else:
        usual = config.image_size
    low, high = (float(scale) for scale in trained)
    if isinstance(config, LatentConfig):
        low = max(low, high / 2)
    sides = (max(1, usual // 2), usual, 4 * usual)
    return EngineSizes(sizes=((sides[0],) * 2, (sides[1],) * 2, (sides[2],) * 2), scales=(min(low, high), high, high))


def profiles_of_graphs(bundle: Bundle, sizes: EngineSizes) -> Mapping[str, Profile]:
    """The profile of each float graph of the bundle, by name."""
    return {
        name: profile_of_graph(bundle, sizes, name, [spec["shape"] for spec in graph["inputs"]])
        for name, graph in bundle.manifest.graphs.items()
    }


def profile_of_graph(bundle: Bundle, sizes: EngineSizes, name: str, shapes: Iterable[Sequence[int | str]]) -> Profile:
    """The profile of a graph that does the work of the graph `name`, for inputs of these shapes."""
    config = recorded_config(bundle.manifest.family, bundle.manifest.configuration)
    axes = _latent_axes(config, sizes) if isinstance(config, LatentConfig) else _idm_axes(config, sizes)
    named = {axis for shape in shapes for axis in shape if isinstance(axis, str)}
    known = axes(name)
    return Profile(axes={axis: known[axis] for axis in sorted(named & set(known))})


Axes = Callable[[str], dict[str, AxisRange]]
"""Name of a graph -> its axes; one name may mean different things in different graphs."""


def _idm_axes(config: IdmConfig, sizes: EngineSizes) -> Axes:
    axes: dict[str, AxisRange] = {}
    for axis, name in enumerate(("height", "width")):
        sides = [size[axis] for size in sizes.sizes]
        for level in range(config.levels):
            axes[f"{name}_{level}" if level else name] = (sides[0], sides[1], sides[2])
            sides = [-(-side // 2) for side in sides]
        low, usual, high = (sizes.lr_size(which)[axis] for which in range(3))
        axes[f"lr_{name}"] = (low, usual, high)
    axes["batch"] = sizes.batch

    def of_graph(graph: str) -> dict[str, AxisRange]:
        return axes | {"rows": STEPS if graph == "tabulate" else (1, 1, 1)}

    return of_graph


def _latent_axes(config: LatentConfig, sizes: EngineSizes) -> Axes:
    latents = [_latent_size(config, sizes, which) for which in range(3)]
    stride = config.first_stage.stride
    axes: dict[str, AxisRange] = {"batch": sizes.batch}
    for axis, name in enumerate(("height", "width")):
        low, usual, high = (size[axis] for size in latents)
        axes[name] = (low, usual, high)
    heights, widths = ([size[axis] for size in sizes.sizes] for axis in (0, 1))
    query = {"rows": (heights[0], heights[1], heights[2]), "columns": (widths[0], widths[1], widths[2])}
    # Chunks of the decoder's queries are of any height up to the whole.
    query["rows"] = (1, *query["rows"][1:])

    def of_graph(graph: str) -> dict[str, AxisRange]:
        if graph == "encode":
            pixels = {name: (axes[name][0] * stride, axes[name][1] * stride, axes[name][2] * stride) for name in axes}
            return pixels | {"batch": sizes.batch}
        if graph == "query":
            return axes | query
        return axes | {"rows": STEPS if graph == "tabulate" else (1, 1, 1)}

    return of_graph


def _latent_size(config: LatentConfig, sizes: EngineSizes, which: int) -> Size:
    stride = config.first_stage.stride
    if config.kind != "generation":
        rows, columns = config.padded_size(*sizes.lr_size(which))
        return rows // stride, columns // stride
    rows, columns = (side // stride for side in sizes.sizes[which])
    needed = config.unet.stride if config.unet else 1
    if rows % needed or columns % needed or not rows or not columns:
        raise SizeError(
            f"An output of {sizes.sizes[which][1]}x{sizes.sizes[which][0]} means a latent of {columns}x{rows}, whose "
            f"sides must be multiples of {needed} for this U-Net. Choose multiples of {needed * stride} pixels."
        )
    return rows, columns
