"""The record of the latent family: latent diffusion with an implicit neural decoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deploy.errors import ConfigError, SizeError
from deploy.families.cases import TIMESTEP, Trial
from deploy.families.compvis.detect import UNET, averaged_names
from deploy.families.contract import Family, Rewrite
from deploy.families.latent import detect
from deploy.families.latent.config import LatentConfig
from deploy.families.latent.model import SAMPLING, VALUES, LatentModel
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT
from deploy.families.sizes import STEPS, Axes, EngineSizes
from deploy.images.coordinates import AxisLookup, axis_lookup, relative_cell, shifted_lookup
from deploy.images.sizes import Size
from engines.arrays import Array
from engines.plans.profiles import AxisRange

if TYPE_CHECKING:
    from torch import nn

    from deploy.families.published import Published
    from deploy.families.rewriting.ops import Part


REWRITES: Mapping[str, Rewrite] = {
    "drop-unused": DROP_UNUSED,
    "condition-once": Rewrite(
        title="Condition once",
        what="The condition's half of the first convolution is computed once per picture.",
        saves="half of that convolution in every step",
    ),
    "tabulate-time": Rewrite(
        title="Tabulate the timestep",
        what="Everything made of the timestep is one table row per step, in float32.",
        saves="the embedding and its layers in every step",
    ),
    "fold-first-layer": Rewrite(
        title="Fold the decoder's first layer",
        what="The first layer of the implicit decoder is linear: its part on the features is applied per latent "
        "pixel, before the look-up.",
        saves="that layer per output pixel; the larger the picture, the more",
    ),
    "split-shortcut": SPLIT_SHORTCUT,
}


def _graphs(config: LatentConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.latent.rewrites import LatentParts

    return LatentParts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.latent.network import PublishedLatent

    return PublishedLatent(network, case)


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
    multiple = config.unet.stride if config.unet else 1
    if not all(latent) or any(side % multiple for side in latent):
        raise SizeError(
            f"An output of {sizes.sizes[which]} means a latent of {latent}, whose "
            f"sides must be multiples of {multiple} for this U-Net. Choose multiples of {multiple * stride} pixels."
        )
    return latent


def trial(config: LatentConfig, size: Size, batch: int) -> Trial:
    """A picture to encode, a noisy latent of the training's size, one timestep; `size` is the decoded picture's."""
    if config.image_size is None:
        raise ConfigError("A first-stage checkpoint has no denoiser to try; name a diffusion model's checkpoint.")
    rng = np.random.default_rng(0)
    side, stride = config.image_size, config.first_stage.stride
    latent = (batch, config.first_stage.z_channels, side, side)
    picture = (batch, config.first_stage.in_channels, side * stride, side * stride)
    feeds: dict[str, Array] = {
        "image": rng.uniform(-1, 1, picture).astype(np.float32),
        "x": rng.standard_normal(latent).astype(np.float32),
        "z": rng.standard_normal(latent).astype(np.float32),
        "posterior_noise": rng.standard_normal(latent).astype(np.float32),
        "timestep": np.full(1, TIMESTEP, dtype=np.float32),
        "cell": np.array([relative_cell(side, count) for count in size], dtype=np.float32),
    }
    for axis, count in zip(("row", "column"), size, strict=True):
        for ending, lookup in _look_ups(config, side, count).items():
            feeds[f"{axis}_index{ending}"] = lookup.index
            feeds[f"{axis}_offset{ending}"] = lookup.relative
    lr_size = Size.square(config.lr_size or side)
    return Trial(size=size, lr_size=lr_size, feeds=feeds, between=_draw_condition)


def _look_ups(config: LatentConfig, side: int, count: int) -> dict[str, AxisLookup]:
    if not config.first_stage.local_ensemble:
        return {"": axis_lookup(side, count)}
    lookup = shifted_lookup(side, count)
    return {"_minus": lookup.minus, "_plus": lookup.plus}


def _draw_condition(graph: str, feeds: dict[str, Array]) -> None:
    """The condition is drawn from the posterior where the encoder has one, else it is the encoder's answer."""
    if graph == "encode":
        draw = feeds["deviation"] * feeds["posterior_noise"] if "deviation" in feeds else np.float32(0)
        feeds["cond"] = feeds["mean"] + draw


def _usual_side(config: LatentConfig) -> int:
    return config.default_output_size or (config.image_size or 1) * config.first_stage.stride


def _least_scale(smallest: float, largest: float) -> float:
    """The network attends to every pixel of a latent that grows with the input: at most 8 times the usual."""
    return max(smallest, largest / 2)


LATENT = Family(
    name="latent",
    title="latent diffusion with an implicit decoder",
    config=LatentConfig,
    fields=detect.FIELDS,
    parts={
        "model.": "denoiser",
        "model_ema.": "denoiser, moving average",
        "first_stage_model.encoder.": "encoder",
        "first_stage_model.decoder.": "decoder",
        "encoder.": "encoder",
        "decoder.": "decoder",
        "loss.": "training loss",
    },
    live_prefixes=(
        UNET,
        *(f"{place}{half}." for place in ("first_stage_model.", "") for half in ("encoder", "decoder")),
    ),
    value_range=(-1.0, 1.0),
    marks_of=detect.marks_of,
    detect=detect.detect,
    settings_from_mapping=detect.settings_from_mapping,
    settings_from_record=detect.settings_from_record,
    config_from_values=detect.config_from_values,
    limits={
        "channels": (1, 1 << 10),
        "default_output_size": (1, 1 << 16),
        "first_stage.ch": (1, 1 << 14),
        "first_stage.ch_mult": (1, 256),
        "first_stage.hidden_list": (1, 1 << 16),
        "first_stage.num_res_blocks": (1, 256),
        "first_stage.resolution": (1, 1 << 16),
        "first_stage.stride": (1, 1 << 10),
        "image_size": (1, 1 << 14),
        "inp_size": (1, 1 << 16),
        "lr_size": (1, 1 << 16),
        "timesteps": (1, 100_000),
        "unet.channel_mult": (1, 256),
        "unet.model_channels": (1, 1 << 14),
        "unet.num_res_blocks": (1, 256),
        "unet.stride": (1, 1 << 10),
    },
    scale_range=detect.scale_range,
    averaged_names=averaged_names,
    build=detect.build,
    rewrites=REWRITES,
    graphs=_graphs,
    trial=trial,
    published=_published,
    parity_cases=((Size(37, 37), 1), (Size(128, 128), 1), (Size(200, 300), 1), (Size(32, 32), 3)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddim",),
    model=LatentModel,
    decodes=True,
    usual_side=_usual_side,
    least_scale=_least_scale,
    axes=axes_of_graphs,
)
