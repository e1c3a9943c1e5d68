"""A quick look at held-out photographs while a training runs: a few crops, a few figures, one line.

These figures guide the training. The ones that are published come from `idm-deploy evaluate`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deploy.sampling.schedule import NoiseSchedule
from training.photographs import held_out_photographs, read_photograph, reductions
from training.pictures import enlarged, reduced

Predict = Callable[[Tensor, int], Tensor]
"""The noise predicted in x at a timestep."""
PLACES = ((0.35, 0.4), (0.6, 0.65))
FACTORS = (1.0, 2.0)


def held_out_crops(side: int, device: torch.device, folder: Path | None = None) -> Tensor:
    """(N, 3, side, side) crops of the held-out photographs at two reductions, in [-1, 1]."""
    crops = []
    for photograph in held_out_photographs():
        for picture in reductions(read_photograph(photograph, folder), FACTORS, side):
            for down, right in PLACES[: 1 if picture.shape[0] < 2 * side else 2]:
                top, left = round((picture.shape[0] - side) * down), round((picture.shape[1] - side) * right)
                crops.append(picture[top : top + side, left : left + side])
    stack = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(stack / 127.5 - 1).to(device)


def psnr(picture: Tensor, original: Tensor) -> float:
    """Mean over the batch of the peak signal-to-noise ratio in dB, for pictures in [-1, 1]."""
    error = (picture.clamp(-1, 1) - original).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
    return float((10 * torch.log10(4 / error)).mean())


def fine_energy(picture: Tensor, scale: float) -> float:
    """Energy of the spectrum above the low resolution's Nyquist frequency (the larger of the two counts)."""
    spectrum = torch.fft.fft2(picture.clamp(-1, 1)).abs().square()
    rows, columns = (torch.fft.fftfreq(n, device=picture.device).abs() for n in picture.shape[2:])
    above = torch.maximum(rows[:, None], columns[None, :]) > 0.5 / scale
    return float((spectrum * above).sum())


def timesteps_from(first: int, count: int) -> list[int]:
    """`count` timesteps from `first` downwards, evenly spaced, with an equal step left to the clean picture."""
    return [round(float(t)) for t in np.linspace(first, -1, count + 1)[:-1]]


def ddim(
    predict: Predict,
    x: Tensor,
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    clip: bool,
    low: Tensor | None = None,
) -> Tensor:
    """The sample reached from x without further noise; `low` keeps every estimate true to that input."""
    levels = [float(schedule.noise_levels[t]) for t in timesteps] + [1.0]
    for index, timestep in enumerate(timesteps):
        level, following = levels[index], levels[index + 1]
        predicted = predict(x, timestep)
        estimate = (x - math.sqrt(1 - level**2) * predicted) / level
        estimate = estimate.clamp(-1, 1) if clip else estimate
        if low is not None:
            lost = low - reduced(estimate, (low.shape[2], low.shape[3]))
            estimate = estimate + enlarged(lost, (x.shape[2], x.shape[3]))
        predicted = (x - level * estimate) / math.sqrt(1 - level**2)
        x = following * estimate + math.sqrt(1 - following**2) * predicted
    return x


def figures(name: str, picture: Tensor, original: Tensor, low: Tensor) -> str:
    """PSNR, low-resolution consistency and the share of the original's fine energy, in words."""
    scale = original.shape[2] / low.shape[2]
    consistency = psnr(reduced(picture.clamp(-1, 1), (low.shape[2], low.shape[3])), low)
    energy = fine_energy(picture, scale) / fine_energy(original, scale)
    return f"{name}: {psnr(picture, original):.2f} dB, consistency {consistency:.1f} dB, fine energy {energy:.2f}"
