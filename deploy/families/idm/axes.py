"""The axes of IDM's graphs for engines that are built for ranges of sizes."""

from deploy.families.idm.config import IdmConfig
from deploy.families.sizes import STEPS, Axes, EngineSizes
from engines.plans.profiles import AxisRange


def axes_of_graphs(config: IdmConfig, sizes: EngineSizes) -> Axes:
    """Levels of the U-Net are halves, rounded up, as its strided convolutions have them."""
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
