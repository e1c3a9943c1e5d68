"""All training pictures on one device, and batches of random crops out of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deploy.errors import SizeError
from training.leaves import dead_leaves_stack, training_seeds
from training.photographs import read_photograph, reductions, training_photographs

Picture = NDArray[np.uint8]
REDUCTIONS = (1.0, 1.4, 2.0, 2.8, 4.0)
SMALLEST_SIDE = 48


@dataclass(frozen=True, kw_only=True)
class PictureStore:
    """Pictures of any sizes in one table of pixels, and how often each is drawn. Made by `from_pictures`."""

    pixels: Tensor
    """(all pixels, 3) uint8, picture after picture, row by row."""
    starts: Tensor
    heights: Tensor
    widths: Tensor
    weights: Tensor

    @classmethod
    def from_pictures(cls, pictures: list[Picture], weights: list[float], device: torch.device) -> "PictureStore":
        """The store of these pictures (height, width, 3) on a device."""
        counts = [picture.shape[0] * picture.shape[1] for picture in pictures]
        table = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        return cls(
            pixels=torch.from_numpy(table).to(device),
            starts=torch.tensor(np.cumsum([0, *counts[:-1]]), device=device),
            heights=torch.tensor([picture.shape[0] for picture in pictures], device=device),
            widths=torch.tensor([picture.shape[1] for picture in pictures], device=device),
            weights=torch.tensor(weights, dtype=torch.float32, device=device),
        )

    def crops(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """(count, 3, H, W) uint8 crops at random places, turned and mirrored at random."""
        reach = max(size)
        weights = self.weights * ((self.heights >= reach) & (self.widths >= reach))
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        place = torch.rand(2, count, generator=generator, device=self.pixels.device)
        flags = torch.randint(0, 2, (3, count, 1, 1), generator=generator, device=self.pixels.device).bool()
        i = torch.arange(size[0], device=self.pixels.device)[None, :, None]
        j = torch.arange(size[1], device=self.pixels.device)[None, None, :]
        i, j = torch.where(flags[0], size[0] - 1 - i, i), torch.where(flags[1], size[1] - 1 - j, j)
        rows, columns = torch.where(flags[2], j, i), torch.where(flags[2], i, j)
        high = torch.where(flags[2, :, 0, 0], size[1], size[0])
        wide = torch.where(flags[2, :, 0, 0], size[0], size[1])
        top = (place[0] * (self.heights[chosen] - high + 1)).long()
        left = (place[1] * (self.widths[chosen] - wide + 1)).long()
        row = rows + top[:, None, None]
        index = self.starts[chosen][:, None, None] + row * self.widths[chosen][:, None, None]
        return self.pixels[index + columns + left[:, None, None]].permute(0, 3, 1, 2)

    def largest_crop(self) -> int:
        """The largest square side that `crops` can cut."""
        drawn = self.weights > 0
        return int(torch.minimum(self.heights, self.widths)[drawn].max())


def training_store(
    leaves: int, leaf_size: int, device: torch.device, *, processes: int = 1, folder: Path | None = None
) -> PictureStore:
    """The training photographs at several reductions and as many dead-leaves pictures, half of all crops each.

    Reductions that would be too small are left out; a photograph's weight is shared by those that remain.
    """
    pictures: list[Picture] = []
    weights: list[float] = []
    for photograph in training_photographs():
        levels = reductions(read_photograph(photograph, folder), REDUCTIONS, SMALLEST_SIDE)
        pictures += levels
        weights += [photograph.weight / len(levels)] * len(levels)
    share = sum(weights) / max(1, leaves)
    if leaves:
        pictures += list(dead_leaves_stack(training_seeds(leaves), leaf_size, processes))
    return PictureStore.from_pictures(pictures, weights + [share] * leaves, device)


def coloured(crops: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 crops -> float pictures in [-1, 1] with mild random changes of colour, different for each picture."""
    count, device = crops.shape[0], crops.device
    picture = crops.float() / 255.0

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        unit = torch.rand(count, channels, 1, 1, generator=generator, device=device)
        return low + (high - low) * unit

    swap = torch.rand(count, 3, generator=generator, device=device).argsort(dim=1)
    same = torch.arange(3, device=device).expand(count, 3)
    swap = torch.where(draw(0, 1)[:, :, 0, 0] < 0.25, swap, same)
    picture = picture.gather(1, swap[:, :, None, None].expand_as(picture))
    grey = picture.mean(dim=1, keepdim=True)
    changed = grey + (picture - grey) * draw(0.4, 1.4)
    changed = (changed - 0.5) * draw(0.7, 1.2) + 0.5 + draw(-0.12, 0.12) + draw(-0.05, 0.05, 3)
    # Half of the pictures stay as they are: they are what users have.
    picture = torch.where(draw(0, 1) < 0.5, picture, changed)
    return picture.clamp(0, 1) * 2 - 1


def low_resolution(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 3, h, w): antialiased bicubic, rounded to 8 bits as users' pictures are."""
    if size[0] > picture.shape[2] or size[1] > picture.shape[3]:
        raise SizeError(f"Cannot reduce {tuple(picture.shape[2:])} pixels to {size}; the sizes are (height, width).")
    return eight_bits(reduced(picture, size))


def reduced(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The antialiased bicubic reduction, as Pillow computes it, before any rounding."""
    return functional.interpolate(picture, size=size, mode="bicubic", antialias=True)


def enlarged(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The bicubic enlargement, as Pillow computes it."""
    return functional.interpolate(picture, size=size, mode="bicubic", antialias=True)


def eight_bits(picture: Tensor) -> Tensor:
    """A picture in [-1, 1] after a visit to 8-bit pixels."""
    return torch.round((picture.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1
