"""The latent family's auto-encoder and the exact rewrite of its implicit decoder, described over `Ops`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.compvis.autoencoder_rewrites import AutoencoderBlocks
from deploy.families.latent.config import FirstStageConfig
from deploy.families.latent.first_stage import LOG_VARIANCE_RANGE
from deploy.families.latent.implicit_decoder import AREA_FLOOR
from deploy.families.rewriting.ops import SAME, Array, Feeds, Ops

FIRST_STAGE = "first_stage_model"
"""Where a checkpoint keeps the auto-encoder."""

_MLP = f"{FIRST_STAGE}.decoder.inr.imnet.layers"


def split_first_layer(weights: Mapping[str, Array], config: FirstStageConfig) -> dict[str, Array]:
    """`fold-first-layer`: the first layer of the implicit decoder, by what its inputs depend on.

    W [f; r; c; s] + b = (Wf f + b) + Wr r + Wc c + Ws s, with f the features of a latent pixel, r and c the row's
    and the column's distance from it and s the size of an output pixel. The bracket is linear in f and the look-up
    only copies pixels, so it may be computed first, once per latent pixel; the second term is computed once per
    output row and the third once per column.
    """
    weight = weights[f"{_MLP}.0.weight"]
    channels = config.level_channels[0]
    tensors = {
        f"{_MLP}.0.features.weight": weight[:, :channels].copy(),
        f"{_MLP}.0.features.bias": weights[f"{_MLP}.0.bias"],
        f"{_MLP}.0.rows": weight[:, channels][None, None, None].copy(),
        f"{_MLP}.0.columns": weight[:, channels + 1][None, None, None].copy(),
    }
    if config.cell_decode:
        tensors[f"{_MLP}.0.cell.weight"] = weight[:, channels + 2 :].copy()
    return tensors


class FirstStageGraph:
    """Describes the auto-encoder: image to maps, latent to features, features to colours."""

    def __init__(self, config: FirstStageConfig, weights: Mapping[str, Array], *, scale: float, fold: bool) -> None:
        self.config = config
        self.weights = split_first_layer(weights, config)
        self.feature_channels = config.hidden_list[0] if fold else config.level_channels[0]
        self._scale = scale
        self._fold = fold
        self._blocks = AutoencoderBlocks(weights, config.norm_groups)

    # encode

    def latent(self, ops: Ops[Any], image: Any) -> dict[str, Any]:
        """`mean`, times scale_factor; with a posterior also `deviation` = scale_factor * exp(log variance / 2)."""
        config, name = self.config, f"{FIRST_STAGE}.encoder.0"
        h = self._blocks.encoded(ops, image, name, config)
        name = f"{FIRST_STAGE}.encoder.1"
        maps = ops.conv(h, name)
        if not config.double_z:
            return {"mean": ops.scale(maps, self._scale, f"{name}.mean")}
        mean, log_variance = ops.split(maps, (config.z_channels, config.z_channels), name, axis=1)
        log_variance = ops.clip(log_variance, *LOG_VARIANCE_RANGE, f"{name}.deviation")
        deviation = ops.exp(ops.scale(log_variance, 0.5, f"{name}.deviation"), f"{name}.deviation")
        return {
            "mean": ops.scale(mean, self._scale, f"{name}.mean"),
            "deviation": ops.scale(deviation, self._scale, f"{name}.deviation"),
        }

    # decode

    def features(self, ops: Ops[Any], z: Any) -> Any:
        """(batch, h, w, feature_channels): pixels lie together, since `colours` copies whole pixels."""
        config, name = self.config, f"{FIRST_STAGE}.decoder.decoder"
        h = ops.conv(ops.scale(z, 1.0 / self._scale, name), f"{name}.0")
        h = ops.conv(h, f"{name}.1.conv_in", padding=SAME)
        h = self._blocks.middle(ops, h, f"{name}.1.mid", config.level_channels[-1])
        # All levels work at the latent's size, hence attention everywhere or nowhere.
        attention = config.has_attention(len(config.ch_mult) - 1)
        for level in reversed(range(len(config.ch_mult))):
            blocks, channels = config.num_res_blocks + 1, config.level_channels[level]
            h = self._blocks.level(ops, h, f"{name}.1.up.{level}", blocks, channels, attention=attention)
        pixels = ops.transpose(h, (0, 2, 3, 1), f"{name}.pixels")
        return ops.linear(pixels, f"{_MLP}.0.features") if self._fold else pixels

    # query

    def colours(self, ops: Ops[Any], feeds: Feeds) -> Any:
        """Colours (batch, 3, rows, columns) of a block of output pixels; inputs as `LatentParts` names them.

        The four look-ups of an output pixel are those of its row, above and below, times those of its column, left
        and right. Each answer is weighted by the area towards the diagonally opposite pixel. The caller chooses how
        many rows; 4096 output pixels a call were fastest on CPUs (see deploy.families.latent.model).
        """
        sides = self.sides
        rows = [self._rows(ops, feeds, side) for side in sides]
        columns = [self._term(ops, feeds, "column", side) for side in sides]
        answers = []
        for row, row_term in rows:
            for side, column_term in zip(sides, columns, strict=True):
                h = ops.take(row, feeds[f"column_index{side}"], f"{_MLP}.0.columns", axis=2)
                if not self._fold:
                    h = ops.add(ops.linear(h, f"{_MLP}.0.features"), row_term, f"{_MLP}.0.rows")
                answers.append(self._answer(ops, ops.add(h, column_term, f"{_MLP}.0.columns")))
        colours = answers[0]
        if len(answers) > 1:
            weighted = [
                ops.mul(answer, weight, f"{_MLP}.ensemble")
                for answer, weight in zip(answers, self._ensemble_weights(ops, feeds), strict=True)
            ]
            colours = _sum(ops, weighted, f"{_MLP}.ensemble")
        return ops.transpose(colours, (0, 3, 1, 2), f"{_MLP}.picture")

    @property
    def sides(self) -> tuple[str, ...]:
        """Endings of the names of the look-up tables: two per axis with the local ensemble, else one."""
        return ("_minus", "_plus") if self.config.local_ensemble else ("",)

    def _rows(self, ops: Ops[Any], feeds: Feeds, side: str) -> tuple[Any, Any]:
        """The latent rows that the output rows read, and what their distance adds; folded, already added."""
        term = self._term(ops, feeds, "row", side)
        if self.config.cell_decode:
            cell = ops.linear(ops.reshape(feeds["cell"], (1, 1, 1, 2), f"{_MLP}.0.cell"), f"{_MLP}.0.cell")
            term = ops.add(term, cell, f"{_MLP}.0.cell")
        row = ops.take(feeds["features"], feeds[f"row_index{side}"], f"{_MLP}.0.rows", axis=1)
        # Before the columns are looked up the rows are still narrow.
        return (ops.add(row, term, f"{_MLP}.0.rows") if self._fold else row), term

    def _term(self, ops: Ops[Any], feeds: Feeds, axis: str, side: str) -> Any:
        """What the distance from the latent pixel adds to the first layer, per output row or column."""
        name = f"{_MLP}.0.{axis}s"
        return ops.mul(self._offset(ops, feeds, axis, side), ops.constant(self.weights[name], name), name)

    def _offset(self, ops: Ops[Any], feeds: Feeds, axis: str, side: str) -> Any:
        shape = (1, -1, 1, 1) if axis == "row" else (1, 1, -1, 1)
        return ops.reshape(feeds[f"{axis}_offset{side}"], shape, f"{_MLP}.{axis}_offset{side}")

    def _answer(self, ops: Ops[Any], h: Any) -> Any:
        """The layers after the first, over (batch, rows, columns, width), for one of the four answers.

        As matrix products over pixels, which were faster than 1x1 convolutions: docs/measurements.md.
        """
        for index in range(1, len(self.config.hidden_list) + 1):
            h = ops.linear(ops.relu(h, f"{_MLP}.{2 * index - 1}"), f"{_MLP}.{2 * index}")
        return h

    def _ensemble_weights(self, ops: Ops[Any], feeds: Feeds) -> list[Any]:
        """Shares (1, rows, columns, 1) of the four answers: area of the opposite one over the sum of areas."""
        name = f"{_MLP}.ensemble"
        floor = ops.constant(np.array(AREA_FLOOR, dtype=np.float32), f"{name}.floor")
        heights, widths = (
            [ops.absolute(self._offset(ops, feeds, axis, side), name) for side in reversed(self.sides)]
            for axis in ("row", "column")
        )
        areas = [ops.add(ops.mul(height, width, name), floor, name) for height in heights for width in widths]
        total = _sum(ops, areas, name)
        return [ops.divide(area, total, name) for area in areas]


def _sum(ops: Ops[Any], terms: list[Any], name: str) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = ops.add(total, term, name)
    return total
