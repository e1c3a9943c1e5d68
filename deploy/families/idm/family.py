"""The record of IDM: pixel-space implicit diffusion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.families.cases import Trial
from deploy.families.contract import Array, Family
from deploy.families.idm import detect
from deploy.families.idm.axes import axes_of_graphs
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.conventions import SAMPLING, VALUES
from deploy.families.idm.identities import REWRITES
from deploy.families.idm.model import IdmModel
from deploy.families.idm.trial import trial
from deploy.images.sizes import Size

if TYPE_CHECKING:
    from torch import nn

    from deploy.families.published import Published
    from deploy.families.rewriting.parts import Part


def _graphs(config: IdmConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.idm.rewrites import IdmParts

    return IdmParts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.idm.published import PublishedIdm

    return PublishedIdm(network, case)


def _usual_side(config: IdmConfig) -> int:
    return config.image_size


def _least_scale(smallest: float, largest: float) -> float:
    del largest
    return smallest  # only the encoder sees the input


IDM = Family(
    # The same names in every family: each says where its answer lies.
    name=detect.NAME,
    title=detect.TITLE,
    config=detect.CONFIG,
    fields=detect.FIELDS,
    parts=detect.PARTS,
    live_prefixes=detect.LIVE_PREFIXES,
    value_range=detect.VALUE_RANGE,
    marks_of=detect.marks_of,
    detect=detect.detect,
    settings_from_mapping=detect.settings_from_mapping,
    settings_from_record=detect.settings_from_record,
    as_mapping=detect.as_mapping,
    config_from_values=detect.config_from_values,
    scale_range=detect.scale_range,
    unused_shapes=detect.unused_shapes,
    averaged_names=detect.averaged_names,
    build=detect.build,
    rewrites=REWRITES,
    graphs=_graphs,
    trial=trial,
    published=_published,
    parity_cases=((Size(32, 32), 1), (Size(77, 77), 1), (Size(128, 128), 1), (Size(96, 160), 1), (Size(32, 32), 3)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddpm", "ddim"),
    demo_presets={
        "draft": {"equation": "ddim", "steps": 2, "start": 0.5, "consistency": 1.0},
        # The fewest steps that keep the detail of 200; five of `ddim` have 0.6 dB more PSNR and a sixth less of it.
        "balanced": {"equation": "dpmpp-2m", "steps": 5, "placement": "logsnr", "start": 0.5, "consistency": 1.0},
        "best": {"equation": "ddim", "steps": 8, "placement": "logsnr", "start": 0.2, "consistency": 1.0},
    },
    model=IdmModel,
    decodes=False,
    usual_side=_usual_side,
    least_scale=_least_scale,
    axes=axes_of_graphs,
)
