"""One random case for a network: what its graphs are fed, without any picture or sampler.

`verify --against` compares the graphs' answers with the published network's, `bench` times both. Seeded, and without
torch: `deploy.families.published` holds the other side.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ConfigError
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.model import lookup_tables
from deploy.families.latent.config import LatentConfig
from deploy.images.coordinates import AxisLookup, axis_lookup, relative_cell, resize_index, shifted_lookup

Array = NDArray[Any]
Size = tuple[int, int]
Run = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
"""Runs the graph of that name on these feeds."""

BEFORE_STEP = ("tabulate", "encode", "condition")
"""Graphs that run before the first step, in this order, where a bundle has them."""

NOISE_LEVEL = 0.5
TIMESTEP = 500


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A case at one output size (height, width) and batch.

    `feeds` holds the inputs that no graph makes; `between` adds what the run time computes after a graph.
    """

    size: Size
    feeds: Mapping[str, Array]
    between: Callable[[str, dict[str, Array]], None]


def chain(trial: Trial, graphs: Iterable[str], run: Run) -> dict[str, Array]:
    """All feeds and outputs of the graphs, each run on what came before."""
    feeds = dict(trial.feeds)
    for graph in graphs:
        feeds |= run(graph, feeds)
        trial.between(graph, feeds)
    return feeds


def idm_trial(config: IdmConfig, size: Size, batch: int) -> Trial:
    """A low-resolution picture an eighth of the output's size, a noisy state, one noise level."""
    rng = np.random.default_rng(0)
    lr_size = (max(4, -(-size[0] // 8)), max(4, -(-size[1] // 8)))
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
    return Trial(size=size, feeds=feeds, between=lambda _graph, _feeds: None)


def latent_trial(config: LatentConfig, size: Size, batch: int) -> Trial:
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
    return Trial(size=size, feeds=feeds, between=_draw_condition)


def _look_ups(config: LatentConfig, side: int, count: int) -> dict[str, AxisLookup]:
    if not config.first_stage.local_ensemble:
        return {"": axis_lookup(side, count)}
    found = shifted_lookup(side, count)
    return {"_minus": found.minus, "_plus": found.plus}


def _draw_condition(graph: str, feeds: dict[str, Array]) -> None:
    """The condition is drawn from the posterior where the encoder has one, else it is the encoder's answer."""
    if graph == "encode":
        drawn = feeds["deviation"] * feeds["posterior_noise"] if "deviation" in feeds else np.float32(0)
        feeds["cond"] = feeds["mean"] + drawn


TRIALS: Mapping[str, Callable[[Any, Size, int], Trial]] = {"idm": idm_trial, "latent": latent_trial}
