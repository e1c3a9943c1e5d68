"""The record of LDM-SR: latent diffusion that enlarges four times, with a vector-quantized decoder."""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from deploy.families.cases import TIMESTEP, Trial
from deploy.families.compvis.detect import UNET, averaged_names
from deploy.families.contract import Family, Peer, Rewrite
from deploy.families.ldm import detect
from deploy.families.ldm.config import FIELDS, LR_CHANNELS, LdmConfig, config_from_values, values_from_record
from deploy.families.ldm.diffusers_folder import FOLDER
from deploy.families.ldm.model import SAMPLING, VALUES, LdmModel
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT
from deploy.families.sizes import STEPS, Axes, EngineSizes
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
        what="The low-resolution picture's half of the first convolution is computed once per picture.",
        saves="half of that convolution in every step",
    ),
    "tabulate-time": Rewrite(
        title="Tabulate the timestep",
        what="Everything made of the timestep is one table row per step, in float32.",
        saves="the embedding and its layers in every step",
    ),
    "fold-codebook": Rewrite(
        title="Fold the codebook",
        what="The 1x1 convolution behind the quantizer sees vectors of the codebook only, and is applied to those.",
        saves="that convolution for every picture",
    ),
    "split-shortcut": SPLIT_SHORTCUT,
}


def _graphs(config: LdmConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.ldm.rewrites import LdmParts

    return LdmParts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.ldm.network import PublishedLdm

    return PublishedLdm(network, case)


def _in_diffusers(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.ldm.peer import DiffusersLdm

    return DiffusersLdm(network, case)


def axes_of_graphs(config: LdmConfig, sizes: EngineSizes) -> Axes:
    """The latent has the input's size, padded; the decoder's attention works on its pixels in a row."""
    latents = [config.padded(sizes.lr_size(which)) for which in range(3)]
    axes: dict[str, AxisRange] = {"batch": sizes.batch}
    for axis, name in enumerate(("height", "width")):
        low, usual, high = (size[axis] for size in latents)
        axes[name] = (low, usual, high)
    low, usual, high = (prod(size) for size in latents)
    axes |= {"pixels": (low, usual, high), "asking": (1, usual, high)}

    def of_graph(graph: str) -> dict[str, AxisRange]:
        if graph == "guess":
            scale = config.scale
            sides = {name: axes[name] for name in ("height", "width")}
            return {"batch": sizes.batch} | {
                name: (low * scale, usual * scale, high * scale) for name, (low, usual, high) in sides.items()
            }
        if graph == "codes":
            return {"pixels": (1, usual, high * sizes.batch[2])}
        return axes | {"rows": STEPS if graph == "tabulate" else (1, 1, 1)}

    return of_graph


def trial(config: LdmConfig, size: Size, batch: int) -> Trial:
    """A low-resolution picture of the size that becomes `size`, padded, beside a noisy latent; one timestep."""
    rng = np.random.default_rng(0)
    lr_size = Size(*(-(-side // config.scale) for side in size))
    latent = config.padded(lr_size)
    first_stage = config.first_stage
    shape = (batch, first_stage.embed_dim, *latent)
    z = rng.standard_normal(shape).astype(np.float32)
    feeds: dict[str, Array] = {
        "lr": rng.uniform(-1, 1, (batch, LR_CHANNELS, *latent)).astype(np.float32),
        "x": rng.standard_normal(shape).astype(np.float32),
        "z": z,
        "vectors": np.ascontiguousarray(np.moveaxis(z, 1, -1).reshape(-1, first_stage.embed_dim)),
        "image": rng.uniform(-1, 1, (batch, first_stage.in_channels, *config.enlarged(latent))).astype(np.float32),
        "timestep": np.full(1, TIMESTEP, dtype=np.float32),
    }

    def between(graph: str, feeds: dict[str, Array]) -> None:
        if graph == "codes":
            maps = feeds["codes"].reshape(batch, *latent, -1)
            feeds["quantized"] = np.ascontiguousarray(np.moveaxis(maps, -1, 1))

    return Trial(size=size, lr_size=lr_size, feeds=feeds, between=between)


LDM = Family(
    name="ldm",
    title="LDM-SR, latent diffusion that enlarges photographs 4x",
    config=LdmConfig,
    fields=FIELDS,
    parts={
        "model.": "denoiser",
        "model_ema.": "denoiser, moving average",
        "first_stage_model.encoder.": "encoder",
        "first_stage_model.quant_conv.": "encoder",
        "first_stage_model.quantize.": "codebook",
        "first_stage_model.": "decoder",
    },
    live_prefixes=(
        UNET,
        *(
            f"{detect.FIRST_STAGE}{part}."
            for part in ("encoder", "decoder", "quantize", "quant_conv", "post_quant_conv")
        ),
        "unet.",
        "vqvae.",
    ),
    value_range=(-1.0, 1.0),
    marks_of=lambda _names: detect.MARKS,
    detect=detect.detect,
    settings_from_mapping=detect.settings_from_mapping,
    settings_from_record=values_from_record,
    config_from_values=config_from_values,
    limits={
        "first_stage.ch": (1, 1 << 14),
        "first_stage.ch_mult": (1, 256),
        "first_stage.embed_dim": (1, 1 << 10),
        "first_stage.n_embed": (1, 1 << 24),
        "first_stage.num_res_blocks": (1, 256),
        "first_stage.resolution": (1, 1 << 16),
        "first_stage.stride": (1, 1 << 10),
        "timesteps": (1, 100_000),
        "unet.channel_mult": (1, 256),
        "unet.image_size": (1, 1 << 14),
        "unet.model_channels": (1, 1 << 14),
        "unet.num_res_blocks": (1, 256),
        "unet.stride": (1, 1 << 10),
    },
    scale_range=lambda config: (float(config.scale), float(config.scale)),
    averaged_names=averaged_names,
    folder=FOLDER,
    build=detect.build,
    rewrites=REWRITES,
    graphs=_graphs,
    trial=trial,
    published=_published,
    parity_cases=((Size(64, 64), 1), (Size(256, 256), 1), (Size(96, 160), 1), (Size(64, 64), 3)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddim",),
    published_ddim_steps=100,
    peer=Peer(package="diffusers", published=_in_diffusers),
    model=LdmModel,
    decodes=True,
    usual_side=lambda config: config.image_size * config.scale,
    least_scale=lambda smallest, _largest: smallest,
    axes=axes_of_graphs,
)
