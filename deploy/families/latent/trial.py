"""One random case for the latent family's graphs and for the published network."""

import numpy as np

from deploy.errors import ConfigError
from deploy.families.cases import TIMESTEP, Array, Trial
from deploy.families.latent.config import LatentConfig
from deploy.images.coordinates import AxisLookup, axis_lookup, relative_cell, shifted_lookup
from deploy.images.sizes import Size


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
