"""The latent family's implicit decoder on a whole grid, the way that trains fastest; same result as the network's.

The first linear layer's share of the features is applied at the latent's resolution and then looked up (both
are linear). Looking up is a multiplication with a 0/1 matrix, whose gradient is a multiplication too.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.errors import ConfigError
from deploy.families.latent.implicit_decoder import AREA_FLOOR, ImplicitDecoder
from deploy.images.coordinates import shifted_lookup
from training.quick_networks import look_up_matrix


@dataclass(frozen=True)
class AxisTables:
    """One axis of the four-fold look-up on a device: for either side a 0/1 matrix (m, n) and coordinates (m,)."""

    minus: tuple[Tensor, Tensor]
    plus: tuple[Tensor, Tensor]
    cell: float


GridTables = tuple[AxisTables, AxisTables]


def grid_tables(low: tuple[int, int], size: tuple[int, int], device: torch.device) -> GridTables:
    """The tables that lead from features of size `low` (height, width) to a picture of `size`."""
    return _axis_tables(low[0], size[0], device), _axis_tables(low[1], size[1], device)


@lru_cache(maxsize=1024)
def _axis_tables(count_in: int, count_out: int, device: torch.device) -> AxisTables:
    lookup = shifted_lookup(count_in, count_out)
    minus, plus = (look_up_matrix(side, count_in, device) for side in (lookup.minus, lookup.plus))
    return AxisTables(minus, plus, float(lookup.relative_cell))


def quick_picture(decoder: ImplicitDecoder, features: Tensor, tables: GridTables) -> Tensor:
    """Features (B, C, h, w) -> picture (B, 3, H, W), as `ImplicitDecoder.picture` computes it."""
    if not (decoder.cell_decode and decoder.local_ensemble):
        raise ConfigError("The quick implicit decoder needs cell decoding and the local ensemble, as published.")
    first, *others = decoder.imnet.layers
    assert isinstance(first, nn.Linear)
    channels = features.shape[1]
    down, right, tall, wide = first.weight[:, channels:].T
    base = first.bias + tall * tables[0].cell + wide * tables[1].cell
    low = functional.linear(features.permute(0, 2, 3, 1), first.weight[:, :channels])
    colours, areas = [], []
    for rows, row_relative in (tables[0].minus, tables[0].plus):
        for columns, column_relative in (tables[1].minus, tables[1].plus):
            place = (row_relative[:, None] * down)[:, None] + (column_relative[:, None] * right)[None] + base
            hidden = _looked_up_last(low, rows, columns) + place.to(low.dtype)
            for layer in others:
                hidden = layer(hidden)
            colours.append(hidden)
            areas.append((row_relative[:, None] * column_relative[None, :]).abs() + AREA_FLOOR)
    total = torch.stack(areas).sum(dim=0)
    picture = sum(
        colour.float() * (area / total)[..., None] for colour, area in zip(colours, reversed(areas), strict=True)
    )
    assert isinstance(picture, Tensor)
    return picture.permute(0, 3, 1, 2)


def _looked_up_last(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, h, w, C) looked up by 0/1 matrices (H, h) and (W, w) -> (B, H, W, C)."""
    tall = torch.matmul(rows.to(x.dtype), x.flatten(2)).reshape(len(x), len(rows), *x.shape[2:])
    return torch.matmul(columns.to(x.dtype), tall)
