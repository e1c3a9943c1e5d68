"""One random case for IDM's graphs and for the published network."""

import numpy as np

from deploy.families.cases import NOISE_LEVEL, Array, Trial
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.lookups import lookup_tables
from deploy.images.coordinates import resize_index
from deploy.images.sizes import Size


def trial(config: IdmConfig, size: Size, batch: int) -> Trial:
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
