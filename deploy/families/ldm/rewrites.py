"""LDM-SR's exact rewrites: the same picture to float rounding, with less work per step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.compvis.autoencoder_rewrites import AutoencoderBlocks
from deploy.families.compvis.layout import UNET
from deploy.families.compvis.unet_rewrites import LatentUNetGraph
from deploy.families.ldm.config import LR_CHANNELS, LdmConfig
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import SAME, Array, Feeds, Forward, Ops, Part
from engines.contract import TensorSpec

FIRST_STAGE = "first_stage_model"
_FIRST = f"{UNET}.input_blocks.0.0"
_CODEBOOK = f"{FIRST_STAGE}.quantize.embedding"
_POST = f"{FIRST_STAGE}.post_quant_conv"
_DECODER = f"{FIRST_STAGE}.decoder"
_TIMESTEP = TensorSpec("timestep", "float32", ("rows",))


def folded_codebook(weights: Mapping[str, Array]) -> dict[str, Array]:
    """`fold-codebook`: W e + b of every vector e of the codebook, which is all that the convolution behind it sees."""
    matrix = weights[f"{_POST}.weight"][:, :, 0, 0].astype(np.float64)
    folded = weights[f"{_CODEBOOK}.weight"].astype(np.float64) @ matrix.T + weights[f"{_POST}.bias"]
    return {f"{_CODEBOOK}.folded": folded.astype(np.float32)}


class LdmParts:
    """Describes the graphs under a choice of rewrites.

    In the order in which they are used:

        tabulate    timestep -> time_row, once per plan                                       [tabulate-time]
        guess       image (the input, enlarged) -> guess, its latent; once, where sampling starts from the input
        condition   lr -> first, once per picture                                             [condition-once]
        denoise     x, first or lr, time_row or timestep -> noise
        codes       vectors (pixels of the finished latent) -> codes, the nearest of the codebook; in blocks
        features    quantized -> features, queries, keys, values of the decoder's one attention
        attend      queries (some pixels), keys, values (all) -> mixed; in blocks
        decode      features, mixed -> picture
    """

    def __init__(self, config: LdmConfig, weights: Mapping[str, Array], rewrites: frozenset[str]) -> None:
        self.config = config
        self.once = "condition-once" in rewrites
        self.tabulate = "tabulate-time" in rewrites
        self.fold = "fold-codebook" in rewrites
        self.unet = LatentUNetGraph(
            config.unet, weights, split="split-shortcut" in rewrites, epsilon=config.norm_epsilon
        )
        self._blocks = AutoencoderBlocks(weights, config.first_stage.norm_groups)
        self._scale = float(weights["scale_factor"])
        self.weights = dict(weights) | self.unet.weights
        if self.once:
            self.weights |= split_convolution(weights, _FIRST, config.first_stage.embed_dim, bias="b")
        if self.fold:
            self.weights |= folded_codebook(weights)

    def parts(self) -> list[Part]:
        """The graphs in the order in which they are used."""
        parts = [self._tabulate_part()] if self.tabulate else []
        parts.append(self._guess_part())
        if self.once:
            parts.append(self._part("condition", [self._picture("lr")], [self._first_spec()], self._run_condition))
        parts += [self._denoise_part(), self._codes_part(), self._features_part(), self._attend_part()]
        return [*parts, self._decode_part()]

    def _part(self, name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], forward: Forward) -> Part:
        return Part(name=name, inputs=tuple(inputs), outputs=tuple(outputs), weights=self.weights, forward=forward)

    # Before the steps

    def _tabulate_part(self) -> Part:
        def run(ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
            return {"time_row": self.unet.time_row(ops, feeds["timestep"])}

        return self._part("tabulate", [_TIMESTEP], [self._row_spec()], run)

    def _row_spec(self) -> TensorSpec:
        return TensorSpec("time_row", "float32", ("rows", self.unet.total, 1, 1))

    def _guess_part(self) -> Part:
        def run(ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
            maps = self._blocks.encoded(ops, feeds["image"], f"{FIRST_STAGE}.encoder", self.config.first_stage)
            name = f"{FIRST_STAGE}.quant_conv"
            return {"guess": ops.scale(ops.conv(maps, name), self._scale, name)}

        latent = self._latent("guess", "latent_height", "latent_width")
        return self._part("guess", [self._picture("image")], [latent], run)

    def _run_condition(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """`condition-once`: W [x; c] + b = Wa x + (Wb c + b), the bracket being the same in every step."""
        return {"first": ops.conv(feeds["lr"], f"{_FIRST}.b", padding=SAME)}

    def _picture(self, name: str) -> TensorSpec:
        return TensorSpec(name, "float32", ("batch", LR_CHANNELS, "height", "width"))

    def _latent(self, name: str, height: str = "height", width: str = "width") -> TensorSpec:
        return TensorSpec(name, "float32", ("batch", self.config.first_stage.embed_dim, height, width))

    def _first_spec(self) -> TensorSpec:
        return TensorSpec("first", "float32", ("batch", self.config.unet.model_channels, "height", "width"))

    # denoise: once per step

    def _denoise_part(self) -> Part:
        inputs = [self._latent("x"), self._row_spec() if self.tabulate else _TIMESTEP]
        inputs.append(self._first_spec() if self.once else self._picture("lr"))
        return self._part("denoise", inputs, [self._latent("noise")], self._run_denoise)

    def _run_denoise(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        if self.once:
            first = ops.add(ops.conv(feeds["x"], f"{_FIRST}.a", padding=SAME), feeds["first"], _FIRST)
        else:
            first = ops.conv(ops.concat([feeds["x"], feeds["lr"]], _FIRST, axis=1), _FIRST, padding=SAME)
        return {"noise": self.unet.noise(ops, first, self.unet.shifts_of(ops, feeds))}

    # After the last step

    def _codes_part(self) -> Part:
        first_stage = self.config.first_stage
        length = first_stage.z_channels if self.fold else first_stage.embed_dim
        vectors = TensorSpec("vectors", "float32", ("pixels", first_stage.embed_dim))
        return self._part("codes", [vectors], [TensorSpec("codes", "float32", ("pixels", length))], self._run_codes)

    def _run_codes(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """The nearest vector of the codebook: differences, squared and summed, no layer that int8 would touch."""
        codes = self.weights[f"{_CODEBOOK}.weight"]
        z = ops.scale(feeds["vectors"], 1.0 / self._scale, _CODEBOOK)
        numbers = ops.split(z, (1,) * codes.shape[1], _CODEBOOK, axis=1)
        total = None
        for axis, number in enumerate(numbers):
            minus = np.ascontiguousarray(-codes[None, :, axis])
            difference = ops.add(number, ops.constant(minus, f"{_CODEBOOK}.minus_{axis}"), _CODEBOOK)
            square = ops.mul(difference, difference, _CODEBOOK)
            total = square if total is None else ops.add(total, square, _CODEBOOK)
        table = f"{_CODEBOOK}.folded" if self.fold else f"{_CODEBOOK}.weight"
        chosen = ops.index_of_least(total, _CODEBOOK, len(codes))
        return {"codes": ops.take(ops.constant(self.weights[table], table), chosen, _CODEBOOK, axis=0)}

    def _features_part(self) -> Part:
        first_stage = self.config.first_stage
        length = first_stage.z_channels if self.fold else first_stage.embed_dim
        quantized = TensorSpec("quantized", "float32", ("batch", length, "height", "width"))
        outputs = [self._features(), *(self._pixels(name) for name in ("queries", "keys", "values"))]
        return self._part("features", [quantized], outputs, self._run_features)

    def _run_features(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """The decoder up to the products of its attention, which would take memory by the square of the pixels."""
        h = feeds["quantized"] if self.fold else ops.conv(feeds["quantized"], _POST)
        h = ops.conv(h, f"{_DECODER}.conv_in", padding=SAME)
        h = self._blocks.residual(ops, h, f"{_DECODER}.mid.block_1")
        queries, keys, values = self._blocks.asked(ops, h, f"{_DECODER}.mid.attn_1", self._deepest)
        return {"features": h, "queries": queries, "keys": keys, "values": values}

    def _attend_part(self) -> Part:
        name = f"{_DECODER}.mid.attn_1"

        def run(ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
            parts = (feeds["queries"], feeds["keys"], feeds["values"])
            return {"mixed": ops.attention(*parts, name, scale=self._deepest**-0.5, late=True)}

        inputs = [self._pixels("queries", "asking"), self._pixels("keys"), self._pixels("values")]
        return self._part("attend", inputs, [self._pixels("mixed", "asking")], run)

    def _decode_part(self) -> Part:
        out = self.config.first_stage.out_ch
        picture = TensorSpec("picture", "float32", ("batch", out, "picture_height", "picture_width"))
        return self._part("decode", [self._features(), self._pixels("mixed")], [picture], self._run_decode)

    def _run_decode(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        first_stage, name, deepest = self.config.first_stage, f"{_DECODER}.mid.attn_1", self._deepest
        mixed = ops.transpose(feeds["mixed"], (0, 1, 3, 2), f"{name}.channels")
        mixed = ops.reshape(mixed, (0, deepest, -1), f"{name}.mixed")
        mixed = ops.unflatten(mixed, feeds["features"], deepest, f"{name}.image")
        h = ops.add(feeds["features"], ops.conv(mixed, f"{name}.proj_out"), name)
        h = self._blocks.residual(ops, h, f"{_DECODER}.mid.block_2")
        for level in reversed(range(len(first_stage.ch_mult))):
            place, channels = f"{_DECODER}.up.{level}", first_stage.level_channels[level]
            attention = first_stage.has_attention(level)
            h = self._blocks.level(ops, h, place, first_stage.num_res_blocks + 1, channels, attention=attention)
            if level:
                h = ops.conv(ops.upsample(h, f"{place}.upsample"), f"{place}.upsample.conv", padding=SAME)
        return {
            "picture": ops.conv(
                self._blocks.active(ops, h, f"{_DECODER}.norm_out"), f"{_DECODER}.conv_out", padding=SAME
            )
        }

    @property
    def _deepest(self) -> int:
        return self.config.first_stage.level_channels[-1]

    def _features(self) -> TensorSpec:
        return TensorSpec("features", "float32", ("batch", self._deepest, "height", "width"))

    def _pixels(self, name: str, count: str = "pixels") -> TensorSpec:
        return TensorSpec(name, "float32", ("batch", 1, count, self._deepest))
