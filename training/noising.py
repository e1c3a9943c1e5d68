"""What diffusion training draws: noise levels, noised pictures, and how much each noise level's error counts."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deploy.sampling.schedule import NoiseSchedule

LARGEST_WEIGHT = 4.0
LARGEST_COARSE_WEIGHT = 32.0
COARSE_SHARE = 0.25
COARSE_SIDES = (4, 16)
"""Sides of the squares whose mean error the coarse term looks at: a low-resolution pixel at 4x, and a cast."""
CLEAN_RANGE = 0.375
"""Share of the timesteps that counts as clean: with IDM's schedule, noise levels above 0.5."""


@dataclass(frozen=True)
class NoiseLevels:
    """The borders sqrt(alpha_bar) of a schedule's timesteps on a device, (T + 1,), 1 first and falling."""

    borders: Tensor
    clean_share: float = 0.0
    """Share of the draws that come from the clean timesteps alone, beside their part of the others."""

    @classmethod
    def from_schedule(cls, schedule: NoiseSchedule, device: torch.device, clean_share: float = 0.0) -> "NoiseLevels":
        """The borders of a schedule."""
        borders = np.append(1.0, schedule.noise_levels).astype(np.float32)
        return cls(borders=torch.from_numpy(borders).to(device), clean_share=clean_share)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) timesteps, uniform but for an extra share among the clean ones."""
        device, steps = self.borders.device, len(self.borders) - 1
        unit = torch.rand(2, count, generator=generator, device=device)
        reach = torch.where(unit[0] < self.clean_share, CLEAN_RANGE * steps, float(steps))
        return (unit[1] * reach).long().clamp(max=steps - 1)

    def draw_levels(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count,) timesteps and noise levels, uniform between a timestep's own and the one before (SR3, alg. 1)."""
        timestep = self.draw_timesteps(count, generator)
        above, below = self.borders[timestep], self.borders[timestep + 1]
        place = torch.rand(count, generator=generator, device=above.device)
        return timestep, below + (above - below) * place


def noised(picture: Tensor, noise: Tensor, noise_level: Tensor) -> Tensor:
    """level * picture + sqrt(1 - level^2) * noise, one noise level (B,) per item."""
    level = noise_level[:, None, None, None]
    return level * picture + (1 - level**2).sqrt() * noise


def error_ratio(noise_level: Tensor) -> Tensor:
    """How many times larger an error in the noise becomes in the estimate of the picture: sqrt(1 - l^2) / l."""
    return (1 - noise_level**2).clamp(min=0).sqrt() / noise_level


def weighted_error(error: Tensor, noise_level: Tensor, coarse_sides: tuple[int, ...] = COARSE_SIDES) -> Tensor:
    """(B,) losses of the errors (B, C, H, W) in the predicted noise: L1 with more weight at high noise.

    A plain mean barely sees a colour cast at high noise: an error of 0.01 in the noise is 1.5 in the picture
    at the noisiest timestep. So the error's mean over squares of some pixels, which is what a cast consists
    of, is weighted by the ratio of the two up to 32, and the error itself up to 4 only: the gradient of L1 is
    as large as its weight however small the error, and the clean levels, which make the details, weigh 1.
    """
    ratio = error_ratio(noise_level)
    size = error.abs().mean(dim=(1, 2, 3))
    means = [functional.avg_pool2d(error, min(side, *error.shape[2:])) for side in coarse_sides]
    coarse = torch.stack([mean.abs().mean(dim=(1, 2, 3)) for mean in means]).mean(dim=0)
    return size * ratio.clamp(1, LARGEST_WEIGHT) + COARSE_SHARE * coarse * ratio.clamp(max=LARGEST_COARSE_WEIGHT)


def sums_by_third(values: Tensor, timestep: Tensor, timesteps: int) -> Tensor:
    """(3, 2): sum and count of the values whose timestep lies in the cleanest, middle and noisiest third."""
    third = (timestep * 3 // timesteps).clamp(max=2)
    member = (third[:, None] == torch.arange(3, device=third.device)).to(values.dtype)
    return torch.stack([values.detach() @ member, member.sum(dim=0)], dim=1)
