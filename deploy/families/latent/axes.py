"""The axes of the latent family's graphs for engines that are built for ranges of sizes."""

from deploy.errors import SizeError
from deploy.families.latent.config import LatentConfig
from deploy.families.sizes import STEPS, Axes, EngineSizes
from deploy.images.sizes import Size
from engines.plans.profiles import AxisRange


def axes_of_graphs(config: LatentConfig, sizes: EngineSizes) -> Axes:
    """The latent is the encoder's input divided by its stride, and must divide by the U-Net's."""
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
        return Size(*(side // stride for side in config.padded_size(*sizes.lr_size(which))))
    latent = Size(*(side // stride for side in sizes.sizes[which]))
    needed = config.unet.stride if config.unet else 1
    if not all(latent) or any(side % needed for side in latent):
        raise SizeError(
            f"An output of {sizes.sizes[which]} means a latent of {latent}, whose "
            f"sides must be multiples of {needed} for this U-Net. Choose multiples of {needed * stride} pixels."
        )
    return latent
