"""The latent family's exact rewrites: the same picture to float rounding, with less work per step and pixel.

Each rewrite is named in `identities`, is exact on its own, and can be left out; the graphs then take other inputs.
"""

from collections.abc import Mapping
from typing import Any

from deploy.errors import ConfigError
from deploy.families.compvis.layout import UNET
from deploy.families.compvis.unet_rewrites import LatentUNetGraph
from deploy.families.latent.config import LatentConfig
from deploy.families.latent.first_stage_rewrites import FIRST_STAGE, FirstStageGraph
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import SAME, Array, Feeds, Forward, Ops, Part
from engines.contract import TensorSpec

_FIRST = f"{UNET}.input_blocks.0.0"
_LATENT = ("latent_height", "latent_width")
_TIMESTEP = TensorSpec("timestep", "float32", ("rows",))


def unused_names(config: LatentConfig, weights: Mapping[str, Array]) -> tuple[str, ...]:
    """What `drop-unused` leaves out: f(x; w, u) = f(x; w) for the tables of the training's schedule, which the
    sampler recomputes, and for the encoder of a generation model, which has no picture to encode."""
    encoder = f"{FIRST_STAGE}.encoder."
    generates = config.kind == "generation"
    tables = (name for name in weights if "." not in name and name != "scale_factor")
    return (*tables, *(name for name in weights if generates and name.startswith(encoder)))


class LatentParts:
    """Describes the graphs of one latent network under a choice of rewrites.

    In the order in which they are used:

        tabulate    timestep -> time_row, once per plan                                 [tabulate-time]
        encode      image (resized and padded) -> mean, deviation; once per picture     [super-resolution]
        condition   cond = mean + deviation * noise -> first, once per picture          [condition-once]
        denoise     x, first or cond, time_row or timestep -> noise
        decode      z as the sampler leaves it -> features, once per picture
        query       features and look-up tables of some rows and all columns -> colours of those output pixels

    `deviation` exists where the encoder has a posterior (`double_z`).
    """

    def __init__(self, config: LatentConfig, weights: Mapping[str, Array], rewrites: frozenset[str]) -> None:
        if config.unet is None:
            raise ConfigError(
                "A first-stage configuration has no diffusion U-Net to describe; "
                "export the checkpoint of a super-resolution or generation model."
            )
        self.config = config
        self.once = "condition-once" in rewrites and config.kind == "super-resolution"
        self.tabulate = "tabulate-time" in rewrites
        fold = "fold-first-layer" in rewrites
        self.unet = LatentUNetGraph(config.unet, weights, split="split-shortcut" in rewrites)
        self.first_stage = FirstStageGraph(config.first_stage, weights, scale=float(weights["scale_factor"]), fold=fold)
        self.weights = dict(weights) | self.unet.weights | self.first_stage.weights
        if self.once:
            self.weights |= split_convolution(weights, _FIRST, config.first_stage.z_channels, bias="b")
        self.unused = () if "drop-unused" in rewrites else unused_names(config, weights)

    def parts(self) -> list[Part]:
        """The graphs in the order in which they are used."""
        parts = [self._tabulate_part()] if self.tabulate else []
        if self.config.kind == "super-resolution":
            parts.append(self._encode_part())
        if self.once:
            parts.append(self._condition_part())
        return [*parts, self._denoise_part(), self._decode_part(), self._query_part()]

    def _part(self, name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], forward: Forward) -> Part:
        extra = self.unused if name == "denoise" else ()
        return Part(
            name=name, inputs=tuple(inputs), outputs=tuple(outputs), weights=self.weights, forward=forward, extra=extra
        )

    # tabulate: once per plan

    def _tabulate_part(self) -> Part:
        return self._part("tabulate", [_TIMESTEP], [self._row_spec()], self._run_tabulate)

    def _run_tabulate(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """`tabulate-time`: shift_k(t) = Wk silu(mlp(embedding(t))) + bk of every residual block k, side by side."""
        return {"time_row": self.unet.time_row(ops, feeds["timestep"])}

    def _row_spec(self) -> TensorSpec:
        return TensorSpec("time_row", "float32", ("rows", self.unet.total, 1, 1))

    # encode and condition: once per picture

    def _encode_part(self) -> Part:
        first_stage = self.config.first_stage
        image = TensorSpec("image", "float32", ("batch", first_stage.in_channels, "height", "width"))
        names = ("mean", "deviation") if first_stage.double_z else ("mean",)
        outputs = [self._latent_spec(name, *_LATENT) for name in names]
        return self._part("encode", [image], outputs, lambda ops, feeds: self.first_stage.latent(ops, feeds["image"]))

    def _condition_part(self) -> Part:
        return self._part("condition", [self._latent_spec("cond")], [self._first_spec()], self._run_condition)

    def _run_condition(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        """`condition-once`: W [x; c] + b = Wa x + (Wb c + b), the bracket being the same in every step."""
        return {"first": ops.conv(feeds["cond"], f"{_FIRST}.b", padding=SAME)}

    def _latent_spec(self, name: str, height: str = "height", width: str = "width") -> TensorSpec:
        return TensorSpec(name, "float32", ("batch", self.config.first_stage.z_channels, height, width))

    def _first_spec(self) -> TensorSpec:
        return TensorSpec("first", "float32", ("batch", self.unet.config.model_channels, "height", "width"))

    # denoise: once per step

    def _denoise_part(self) -> Part:
        inputs = [self._latent_spec("x"), self._row_spec() if self.tabulate else _TIMESTEP]
        if self.config.kind == "super-resolution":
            inputs.append(self._first_spec() if self.once else self._latent_spec("cond"))
        return self._part("denoise", inputs, [self._latent_spec("noise")], self._run_denoise)

    def _run_denoise(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        return {"noise": self.unet.noise(ops, self._first(ops, feeds), self.unet.shifts_of(ops, feeds))}

    def _first(self, ops: Ops[Any], feeds: Feeds) -> Any:
        if self.once:
            return ops.add(ops.conv(feeds["x"], f"{_FIRST}.a", padding=SAME), feeds["first"], _FIRST)
        if self.config.kind == "generation":
            return ops.conv(feeds["x"], _FIRST, padding=SAME)
        return ops.conv(ops.concat([feeds["x"], feeds["cond"]], _FIRST, axis=1), _FIRST, padding=SAME)

    # decode and query

    def _decode_part(self) -> Part:
        def run(ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
            return {"features": self.first_stage.features(ops, feeds["z"])}

        return self._part("decode", [self._latent_spec("z")], [self._features_spec()], run)

    def _query_part(self) -> Part:
        inputs = [self._features_spec()]
        for side in self.first_stage.sides:
            for axis, length in (("row", "rows"), ("column", "columns")):
                inputs.append(TensorSpec(f"{axis}_index{side}", "int64", (length,)))
                inputs.append(TensorSpec(f"{axis}_offset{side}", "float32", (length,)))
        if self.config.first_stage.cell_decode:
            inputs.append(TensorSpec("cell", "float32", (2,)))
        colours = TensorSpec("colours", "float32", ("batch", self.config.first_stage.out_ch, "rows", "columns"))
        return self._part(
            "query", inputs, [colours], lambda ops, feeds: {"colours": self.first_stage.colours(ops, feeds)}
        )

    def _features_spec(self) -> TensorSpec:
        channels = self.first_stage.feature_channels
        return TensorSpec("features", "float32", ("batch", "height", "width", channels))
