"""What the authors of the latent model agreed on between their pictures, their sampler and their network."""

import numpy as np

from deploy.errors import PlanError
from deploy.images.values import NetworkValues, ValueRule
from deploy.sampling.plan import SamplingRules


def _levels() -> NetworkValues:
    return (np.arange(256) / 127.5 - 1.0).astype(np.float32)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = np.clip(values * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(unit * np.float32(255), np.float32)  # the conversion to uint8 truncates


VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""A picture that goes in and straight out again may be a level darker by float32 rounding: published so, and kept."""


def published_timesteps(timesteps: int, count: int) -> list[int]:
    """The latent repository's own DDIM grid, which drops its largest entry, and the 0 its last step leads to.

    With T = 1000 and 4: the table is 1, 251, 501, 751; run are 501, 251, 1, then alpha_bar[0].
    """
    table = [timestep + 1 for timestep in range(0, timesteps, timesteps // count)]
    if table[-1] >= timesteps:
        raise PlanError(
            f"The published grid of {count} steps asks for timestep {table[-1]} of a schedule that ends at "
            f"{timesteps - 1}, and the authors' sampler fails there; choose a number of steps that divides {timesteps}."
        )
    return [*table[:-1][::-1], 0]


SAMPLING = SamplingRules(integer_timesteps=True, clip=False, published_grid=published_timesteps)
"""The network is conditioned on the timestep, and its estimate is a latent without limits."""
