"""The latent family's implicit decoder (LIIF, Chen et al. 2021), with the published parameter names."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.errors import SizeError
from deploy.families.latent.config import FirstStageConfig
from deploy.images.coordinates import covered_centres, relative_coordinates, shifted_index
from engines.arrays import Float32

AREA_FLOOR = 1e-9
"""Keeps the four weights of the local ensemble from all being zero."""
QUERIES_PER_CHUNK = 1 << 14
"""Pixels answered at once over the batch: 16 MiB of activations per layer of 256, at any output size."""


class Perceptron(nn.Module):
    """Linear layers with ReLU between them; index 2n of `layers` is the n-th linear layer."""

    def __init__(self, features_in: int, hidden: tuple[int, ...], features_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features_in, width), nn.ReLU()]
            features_in = width
        self.layers = nn.Sequential(*layers, nn.Linear(features_in, features_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ImplicitDecoder(nn.Module):
    """LIIF: features queried at any coordinate (Chen et al. 2021; local ensemble, cell decoding)."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.cell_decode = config.cell_decode
        self.local_ensemble = config.local_ensemble
        self.channels_out = config.out_ch
        features = config.level_channels[0] + (4 if config.cell_decode else 2)
        self.imnet = Perceptron(features, config.hidden_list, config.out_ch)

    def picture(self, features: Tensor, size: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W) for any size (H, W), square or not (the official one is square, quirk 7).

        `covered` is the part of the features' rows and columns, counted from the top left, that the picture
        shows: below 1 where the encoder's input was padded at the bottom or right.
        """
        height, width = size
        if min(size) < 1 or not all(0 < part <= 1 for part in covered):
            raise SizeError(
                f"Cannot decode {width}x{height} pixels from {covered[1]:g} of a latent's width and "
                f"{covered[0]:g} of its height; both sizes must be positive and both parts in (0, 1]."
            )
        down, right = (covered_centres(count, part) for count, part in zip(size, covered, strict=True))
        cell = np.array([2.0 / count * part for count, part in zip(size, covered, strict=True)], np.float32)
        batch = features.shape[0]
        picture = features.new_empty(batch, height, width, self.channels_out)
        rows = max(1, QUERIES_PER_CHUNK // (batch * width))
        for top in range(0, height, rows):
            part = down[top : top + rows]
            grid = np.stack(np.meshgrid(part, right, indexing="ij"), axis=-1).reshape(-1, 2)
            colours = self.query(features, grid, np.broadcast_to(cell, grid.shape))
            picture[:, top : top + rows] = colours.reshape(batch, len(part), width, self.channels_out)
        return picture.permute(0, 3, 1, 2)

    def query(self, features: Tensor, coordinates: Float32, cells: Float32) -> Tensor:
        """Colours (B, Q, 3) at coordinates (Q, 2) or (B, Q, 2), row then column, on [-1, 1]; in chunks.

        Cells are the size of the output pixel in the same units, one per query. (Given coordinates without
        cells the official code scales them along the wrong axis, quirk 7; here cells are always given.)
        """
        if coordinates.shape != cells.shape or coordinates.shape[-1:] != (2,):
            raise SizeError(
                f"The implicit decoder needs a (row, column) pair of coordinates and of cells per query, "
                f"found shapes {coordinates.shape} and {cells.shape}."
            )
        count = coordinates.shape[-2]
        chunk = max(1, QUERIES_PER_CHUNK // features.shape[0])
        parts = [slice(start, start + chunk) for start in range(0, count, chunk)]
        return torch.cat([self(features, coordinates[..., part, :], cells[..., part, :]) for part in parts], dim=1)

    def forward(self, features: Tensor, coordinates: Float32, cells: Float32) -> Tensor:
        """Colours (B, Q, 3) at all coordinates (Q, 2) or (B, Q, 2) at once; see `query`."""
        shifts = [(row, column) for row in (-1, 1) for column in (-1, 1)] if self.local_ensemble else [(0, 0)]
        answers = [self.predict(features, coordinates, cells, shift) for shift in shifts]
        # Each answer is weighted by the area towards the diagonally opposite pixel: near means heavy.
        areas = [area + AREA_FLOOR for _, area in answers][::-1]
        total = torch.stack(areas).sum(dim=0)
        colours = answers[0][0] * (areas[0] / total)[..., None]
        for (answer, _), area in zip(answers[1:], areas[1:], strict=True):
            colours = colours + answer * (area / total)[..., None]
        return colours

    def predict(
        self, features: Tensor, coordinates: Float32, cells: Float32, shift: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """One look-up: the answer (B, Q, 3) of the pixel nearest to the shifted coordinate, and its area."""
        batch, _, height, width = features.shape
        index, relative = [], []
        for axis, count in enumerate((height, width)):
            along = np.ascontiguousarray(coordinates[..., axis])
            nearest = shifted_index(along, count, shift[axis])
            index.append(nearest)
            relative.append(relative_coordinates(along, nearest, count))
        pixel = _tensor(index[0] * width + index[1], features).expand(batch, -1)
        items = torch.arange(batch, device=features.device)[:, None]
        inputs = [features.flatten(2).transpose(1, 2)[items, pixel]]
        inputs.append(_tensor(np.stack(relative, axis=-1), features).expand(batch, -1, -1))
        if self.cell_decode:
            scaled = cells * np.array([height, width], dtype=np.float32)
            inputs.append(_tensor(scaled, features).expand(batch, -1, -1))
        answer: Tensor = self.imnet(torch.cat(inputs, dim=-1))
        return answer, _tensor(np.abs(relative[0] * relative[1]), features).expand(batch, -1)


def _tensor(table: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(table)).to(like.device)
