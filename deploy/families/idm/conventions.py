"""What the authors of IDM agreed on between their pictures, their sampler and their network."""

import numpy as np

from deploy.images.values import NetworkValues, ValueRule
from deploy.sampling.plan import SamplingRules


def _levels() -> NetworkValues:
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.float32(0.5)) / np.float32(0.5)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = (np.clip(values, -1.0, 1.0) + np.float32(1)) / np.float32(2)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)  # rint rounds half to even


VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""A picture that goes in and straight out again is unchanged."""


def published_timesteps(timesteps: int, count: int) -> list[int]:
    """IDM's own DDIM grid and the timestep its last step leads to: 0, k, 2k, ... < T with k = T // count, descending.

    With T = 2000 and 4: 1500, 1000, 500, then 0, from which no step is made.
    """
    return list(range(0, timesteps, timesteps // count))[::-1]


SAMPLING = SamplingRules(integer_timesteps=False, clip=True, published_grid=published_timesteps)
"""The network is conditioned on the noise level itself, and its estimate is a picture in [-1, 1]."""
