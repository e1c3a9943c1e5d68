"""The record of the latent family: latent diffusion with an implicit neural decoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.families.cases import Trial
from deploy.families.contract import Array, Family
from deploy.families.latent import detect
from deploy.families.latent.axes import axes_of_graphs
from deploy.families.latent.config import LatentConfig
from deploy.families.latent.conventions import SAMPLING, VALUES
from deploy.families.latent.identities import REWRITES
from deploy.families.latent.model import LatentModel
from deploy.families.latent.trial import trial
from deploy.images.sizes import Size

if TYPE_CHECKING:
    from torch import nn

    from deploy.families.published import Published
    from deploy.families.rewriting.parts import Part


def _graphs(config: LatentConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.latent.rewrites import LatentParts

    return LatentParts(config, weights, chosen).parts()


def _published(network: "nn.Module", case: Trial) -> "Published":
    from deploy.families.latent.published import PublishedLatent

    return PublishedLatent(network, case)


def _usual_side(config: LatentConfig) -> int:
    return config.default_output_size or (config.image_size or 1) * config.first_stage.stride


def _least_scale(smallest: float, largest: float) -> float:
    """The network attends to every pixel of a latent that grows with the input: at most 8 times the usual."""
    return max(smallest, largest / 2)


LATENT = Family(
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
    parity_cases=((Size(37, 37), 1), (Size(128, 128), 1), (Size(200, 300), 1), (Size(32, 32), 3)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddim",),
    demo_presets={
        "draft": {"equation": "dpmpp-2m", "steps": 4},
        "balanced": {"equation": "ddim", "steps": 10},
        "best": {"equation": "ddim", "steps": 20},
    },
    model=LatentModel,
    decodes=True,
    usual_side=_usual_side,
    least_scale=_least_scale,
    axes=axes_of_graphs,
)
