"""The record of SR3: super-resolution by iterative refinement."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deploy.families.cases import NOISE_LEVEL, Trial
from deploy.families.contract import Family, Rewrite
from deploy.families.pixel_unet.config import LIMITS
from deploy.families.pixel_unet.model import axes_of_graphs
from deploy.families.pixel_unet.subject import PIXEL_VALUES
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT, TABULATE_NOISE
from deploy.families.sr3 import detect
from deploy.families.sr3.condition import doubling_tables
from deploy.families.sr3.config import Sr3Config
from deploy.families.sr3.model import SAMPLING, Sr3Model
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
        what="W·[cond; x] = Wa·cond + Wb·x: the condition's half of the first convolution is made once per picture.",
        saves="half of the first convolution in every step, and joining it to the state",
    ),
    "tabulate-noise": TABULATE_NOISE,
    "split-shortcut": SPLIT_SHORTCUT,
}


def _graphs(config: Sr3Config, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.sr3.rewrites import Sr3Parts

    return Sr3Parts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.sr3.network import PublishedSr3

    return PublishedSr3(network, case)


def trial(config: Sr3Config, size: Size, batch: int) -> Trial:
    """A condition, a noisy state, one noise level."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, config.out_channel, *size))
    feeds: dict[str, Array] = {
        "cond": PIXEL_VALUES.levels[pixels],
        "x": rng.standard_normal((batch, config.out_channel, *size)).astype(np.float32),
        "noise_level": np.full((1, 1), NOISE_LEVEL, dtype=np.float32),
        **doubling_tables(size, config.levels),
    }
    lr_size = Size(*(max(1, round(side / config.scale)) for side in size))
    return Trial(size=size, lr_size=lr_size, feeds=feeds, between=lambda _graph, _feeds: None)


SR3 = Family(
    name="sr3",
    title="SR3, iterative refinement in pixel space",
    config=Sr3Config,
    fields=detect.FIELDS,
    parts={"denoise_fn.": "denoiser"},
    live_prefixes=("denoise_fn.",),
    value_range=(-1.0, 1.0),
    marks_of=detect.marks_of,
    detect=detect.detect,
    settings_from_mapping=detect.settings_from_mapping,
    config_from_values=detect.config_from_values,
    limits={**LIMITS, "scale": (1.001, 1 << 14)},
    scale_range=lambda config: (config.scale, config.scale),
    build=detect.build,
    rewrites=REWRITES,
    graphs=_graphs,
    trial=trial,
    published=_published,
    parity_cases=((Size(32, 32), 1), (Size(37, 21), 1), (Size(128, 128), 1), (Size(96, 160), 1), (Size(32, 32), 3)),
    values=PIXEL_VALUES,
    sampling=SAMPLING,
    published_equations=("ddpm",),
    model=Sr3Model,
    decodes=False,
    usual_side=lambda config: config.image_size,
    least_scale=lambda smallest, _largest: smallest,  # the network does not see the input's size
    axes=axes_of_graphs,
)
