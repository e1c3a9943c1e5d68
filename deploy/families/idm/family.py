"""The record of IDM: pixel-space implicit diffusion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deploy.families.cases import NOISE_LEVEL, Trial
from deploy.families.contract import Family, Rewrite
from deploy.families.idm import detect
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.model import SAMPLING, VALUES, IdmModel, lookup_tables
from deploy.families.pixel_unet.config import LIMITS
from deploy.families.pixel_unet.model import axes_of_graphs
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT, TABULATE_NOISE
from deploy.images.coordinates import resize_index
from deploy.images.sizes import Size
from engines.arrays import Array

if TYPE_CHECKING:
    from torch import nn

    from deploy.families.published import Published
    from deploy.families.rewriting.ops import Part


REWRITES: Mapping[str, Rewrite] = {
    "drop-unused": DROP_UNUSED,
    "hoist-condition": Rewrite(
        title="Hoist the condition",
        what="Everything made of the low-resolution picture and the scaling factor is computed once per picture.",
        saves="the whole conditioning network in every step",
    ),
    "fold-implicit": Rewrite(
        title="Fold the implicit decoder",
        what="Two linear layers without an activation between them are one: W2·(W1·[y; r] + b1) + b2, applied "
        "before the look-up, at the lower resolution.",
        saves="most of the decoder's multiplications",
    ),
    "tabulate-noise": TABULATE_NOISE,
    "split-shortcut": SPLIT_SHORTCUT,
}


def _graphs(config: IdmConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.idm.rewrites import IdmParts

    return IdmParts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.idm.network import PublishedIdm

    return PublishedIdm(network, case)


def trial(config: IdmConfig, size: Size, batch: int) -> Trial:
    """A low-resolution picture an eighth of the output's size, a noisy state, one noise level."""
    rng = np.random.default_rng(0)
    lr_size = Size(*(max(4, -(-side // 8)) for side in size))
    scaler = (size[1] - lr_size[1]) / ((config.s_max - 1) * lr_size[1])
    feeds: dict[str, Array] = {
        "lr": rng.uniform(-1, 1, (batch, config.out_channel, *lr_size)).astype(np.float32),
        "x": rng.standard_normal((batch, config.out_channel, *size)).astype(np.float32),
        "scaler": np.full((batch, 1), scaler, dtype=np.float32),
        "noise_level": np.full((1, 1), NOISE_LEVEL, dtype=np.float32),
        "row_index": resize_index(lr_size[0], size[0]),
        "column_index": resize_index(lr_size[1], size[1]),
        **lookup_tables(size, config.levels),
    }
    return Trial(size=size, lr_size=lr_size, feeds=feeds, between=lambda _graph, _feeds: None)


IDM = Family(
    name="idm",
    title="IDM, implicit diffusion in pixel space",
    config=IdmConfig,
    fields=detect.FIELDS,
    parts={"encoder.": "encoder", "denoise_fn.": "denoiser", "imnet.": "outer imnet"},
    live_prefixes=("encoder.", "denoise_fn."),
    value_range=(-1.0, 1.0),
    marks_of=lambda _names: detect.MARKS,
    detect=detect.detect,
    settings_from_mapping=detect.settings_from_mapping,
    config_from_values=detect.config_from_values,
    limits={
        **LIMITS,
        "implicit_hidden": (1, 1 << 16),
        "n_feats": (1, 1 << 14),
        "n_resblocks": (1, 1 << 12),
        "s_max": (1.001, 1 << 14),
    },
    scale_range=lambda config: (1.0, config.s_max),
    unused_shapes=detect.unused_shapes,
    build=detect.build,
    rewrites=REWRITES,
    graphs=_graphs,
    trial=trial,
    published=_published,
    parity_cases=((Size(32, 32), 1), (Size(77, 77), 1), (Size(128, 128), 1), (Size(96, 160), 1), (Size(32, 32), 3)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddpm", "ddim"),
    model=IdmModel,
    decodes=False,
    usual_side=lambda config: config.image_size,
    least_scale=lambda smallest, _largest: smallest,  # only the encoder sees the input
    axes=axes_of_graphs,
)
