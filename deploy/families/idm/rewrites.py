"""IDM's exact rewrites: the same picture to float rounding, with less work per step.

Notation: level k works at ceil(size / 2^k); implicit layer k leads from level k to level k - 1. Each rewrite is
named in `identities`, is exact on its own, and can be left out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.layers import BLUR_KERNEL, LEAKY_GAIN, LEAKY_SLOPE, NORM_EPSILON, SCALE_EPSILON
from deploy.families.idm.layout import Layer, down_layers, mid_layers, up_layers
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import SAME, Array, Feeds, Forward, Ops, Part, attended
from engines.contract import TensorSpec

NOISE_LEVEL = TensorSpec("noise_level", "float32", ("rows", 1))
SCALER = TensorSpec("scaler", "float32", ("batch", 1))


# The identities, as functions from weights to weights ------------------------------------------------------------


def equalised(weights: Mapping[str, Array], config: IdmConfig) -> dict[str, Array]:
    """The weights with the run-time factor of the equalised layers multiplied in: w' = w / sqrt(fan_in).

    The blurs, which checkpoints do not store, become depthwise convolutions with the weights they always have.
    """
    changed: dict[str, Array] = {}
    prefixes = ("conv_body_first.0", "conv_body_down.", "condition_shift.", "condition_scale1.", "condition_scale2.")
    for name, value in weights.items():
        if name.endswith(".weight") and name.startswith(tuple(f"denoise_fn.{prefix}" for prefix in prefixes)):
            changed[name] = value * np.float32(1.0 / np.sqrt(float(np.prod(value.shape[1:]))))
    kernel = np.array(BLUR_KERNEL, dtype=np.float32) / np.float32(25.0)
    before = (config.inner_channel, *config.level_channels)
    for k in range(config.levels - 1):
        changed[f"denoise_fn.conv_body_down.{k}.0.weight"] = np.tile(kernel, (before[k], 1, 1, 1))
    return changed


def folded_implicit(weights: Mapping[str, Array], name: str, channels: int) -> dict[str, Array]:
    """`fold-implicit` for one layer: its two linear layers as one, ready to run before the look-up.

    W2 (W1 [y; r] + b1) + b2 = (W2 W1y) y + (W2 W1r) r + (W2 b1 + b2), with y the features and r the relative
    coordinates. The first term is linear in y and the look-up only copies pixels, so it may be computed first, at
    the low resolution. The activation's gain sqrt(2) goes into it too. Products are taken in float64.
    """
    first, second = (weights[f"{name}.imnet.{n}.weight"].astype(np.float64) for n in (0, 1))
    both = second @ first
    bias = second @ weights[f"{name}.imnet.0.bias"].astype(np.float64) + weights[f"{name}.imnet.1.bias"]
    return {
        f"{name}.imnet.features.weight": (both[:, :channels] * LEAKY_GAIN).astype(np.float32)[:, :, None, None],
        f"{name}.imnet.features.bias": bias.astype(np.float32),
        f"{name}.imnet.rows": both[:, channels].astype(np.float32)[None, :, None, None],
        f"{name}.imnet.columns": both[:, channels + 1].astype(np.float32)[None, :, None, None],
    }


def pointwise_implicit(weights: Mapping[str, Array], name: str, channels: int) -> dict[str, Array]:
    """Without `fold-implicit`: the two linear layers as 1x1 convolutions, the coordinates' columns on their own."""
    first = weights[f"{name}.imnet.0.weight"]
    return {
        f"{name}.imnet.features.weight": first[:, :channels, None, None].copy(),
        f"{name}.imnet.features.bias": weights[f"{name}.imnet.0.bias"],
        f"{name}.imnet.rows": first[:, channels][None, :, None, None].copy(),
        f"{name}.imnet.columns": first[:, channels + 1][None, :, None, None].copy(),
        f"{name}.imnet.second.weight": weights[f"{name}.imnet.1.weight"][:, :, None, None],
        f"{name}.imnet.second.bias": weights[f"{name}.imnet.1.bias"],
    }


# The description of the graphs -----------------------------------------------------------------------------------


class IdmParts:
    """Describes the graphs of one IDM network under a choice of rewrites: `tabulate`, `encode` and `denoise`.

    `drop-unused` needs nothing here: eps(x; w, u) = eps(x; w), no graph mentions u, so the export leaves it out.
    """

    def __init__(self, config: IdmConfig, weights: Mapping[str, Array], rewrites: frozenset[str]) -> None:
        self.config = config
        self.hoist = "hoist-condition" in rewrites
        self.fold = "fold-implicit" in rewrites
        self.tabulate = "tabulate-noise" in rewrites
        self.split = "split-shortcut" in rewrites
        self.downs = down_layers(config)
        self.mids = mid_layers(config)
        self.ups = up_layers(config)
        self.blocks = [layer for layer in (*self.downs, *self.mids, *self.ups) if layer.kind == "block"]
        self.weights = dict(weights) | equalised(weights, config) | self._rewritten(weights)

    def _rewritten(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        changed: dict[str, Array] = {}
        if self.hoist:
            changed |= split_convolution(weights, "denoise_fn.downs.0", self.config.out_channel, bias="a")
        for layer in self.ups:
            name = f"denoise_fn.{layer.name}"
            if layer.kind == "implicit":
                fold = folded_implicit if self.fold else pointwise_implicit
                changed |= fold(weights, name, layer.channels_in)
            elif self.split and layer.shortcut:
                changed |= split_convolution(weights, f"{name}.res_block.res_conv", layer.channels_in, bias="a")
        return changed

    def parts(self) -> list[Part]:
        """The graphs in the order in which they are used."""
        first = [self._tabulate_part()] if self.tabulate else []
        return [*first, self._encode_part(), self._denoise_part()]

    def _part(self, name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], forward: Forward) -> Part:
        return Part(name=name, inputs=tuple(inputs), outputs=tuple(outputs), weights=self.weights, forward=forward)

    # tabulate: (rows, 1) noise levels -> (rows, sum of channels, 1, 1), once per plan

    def _tabulate_part(self) -> Part:
        return self._part("tabulate", [NOISE_LEVEL], [self._row_spec()], self._run_tabulate)

    def _row_spec(self) -> TensorSpec:
        return TensorSpec("noise_row", "float32", ("rows", sum(layer.channels_out for layer in self.blocks), 1, 1))

    def _run_tabulate(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        rows = self._noise_shifts(ops, feeds["noise_level"])
        return {"noise_row": ops.concat(rows, "denoise_fn.noise_row", axis=1)}

    def _noise_shifts(self, ops: Ops[Any], noise_level: Any) -> list[Any]:
        """What each residual block adds to its features, (rows, C, 1, 1) in the order of `blocks`.

        `tabulate-noise`: shift_n(level) = Wn mlp(sin(level f), cos(level f)) + bn depends on the noise level alone.
        """
        half = self.config.inner_channel // 2
        name = "denoise_fn.noise_level_mlp"
        frequency = np.exp(-np.float32(np.log(1e4)) * (np.arange(half, dtype=np.float32) / np.float32(half)))
        angle = ops.mul(noise_level, ops.constant(frequency[None].astype(np.float32), f"{name}.frequency"), name)
        encoded = ops.concat([ops.sin(angle, name), ops.cos(angle, name)], name, axis=1)
        embedding = ops.linear(ops.silu(ops.linear(encoded, f"{name}.1"), name), f"{name}.3")
        shifts = []
        for layer in self.blocks:
            inner = f"denoise_fn.{layer.name}.res_block.noise_func.noise_func.0"
            shifts.append(ops.reshape(ops.linear(embedding, inner), (0, layer.channels_out, 1, 1), inner))
        return shifts

    # encode: once per picture and size

    def _encode_part(self) -> Part:
        outputs = [self._picture_spec("cond")]
        inputs = [
            self._picture_spec("lr", "lr_height", "lr_width"),
            TensorSpec("row_index", "int64", ("height",)),
            TensorSpec("column_index", "int64", ("width",)),
        ]
        if self.hoist:
            inputs.append(SCALER)
            outputs = self._hoisted_specs()
        return self._part("encode", inputs, outputs, self._run_encode)

    def _picture_spec(self, name: str, height: str = "height", width: str = "width") -> TensorSpec:
        return TensorSpec(name, "float32", ("batch", self.config.out_channel, height, width))

    def _hoisted_specs(self) -> list[TensorSpec]:
        specs = [TensorSpec("first", "float32", ("batch", self.config.inner_channel, "height", "width"))]
        for k, channels in list(enumerate(self.config.level_channels))[1:]:
            specs.append(TensorSpec(f"gain_{k}", "float32", ("batch", channels, 1, 1)))
            specs.append(TensorSpec(f"shift_{k}", "float32", ("batch", channels, f"height_{k}", f"width_{k}")))
        return specs

    def _run_encode(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        x = ops.conv(feeds["lr"], "encoder.head.0", padding=SAME)
        h = x
        for n in range(self.config.n_resblocks):
            name = f"encoder.body.{n}"
            inside = ops.relu(ops.conv(h, f"{name}.body.0", padding=SAME), name)
            inside = ops.conv(inside, f"{name}.body.2", padding=SAME)
            if self.config.res_scale != 1.0:
                inside = ops.scale(inside, self.config.res_scale, name)
            h = ops.add(inside, h, name)
        h = ops.conv(h, f"encoder.body.{self.config.n_resblocks}", padding=SAME)
        h = ops.add(h, x, "encoder")
        h = ops.take(h, feeds["row_index"], "encoder.rows", axis=2)
        h = ops.take(h, feeds["column_index"], "encoder.columns", axis=3)
        cond = ops.conv(h, "encoder.tail.0", padding=SAME)
        if not self.hoist:
            return {"cond": cond}
        first = ops.conv(cond, "denoise_fn.downs.0.a", padding=SAME)
        return {"first": first, **self._condition(ops, cond, feeds["scaler"])}

    def _condition(self, ops: Ops[Any], cond: Any, scaler: Any) -> dict[str, Any]:
        """Per level k the factor and the term of the blend: x * gain_k + shift_k, still to be activated.

        gain = s1 r and shift = map * (s2 r) + bias with r = 1 / sqrt(s1^2 + s2^2 + 1e-8).
        `hoist-condition`: (x s1 + map s2) r + bias = x gain + shift, and neither depends on x or the step. The same
        holds for the condition's half of the first convolution: W [cond; x] + b = (Wa cond + b) + Wb x.
        """
        terms = {}
        name = "denoise_fn.conv_body_first"
        x = self._fused_leaky(ops, ops.conv(cond, f"{name}.0", padding=SAME), f"{name}.1")
        for k, layer_name in self._implicit_names().items():
            name = f"denoise_fn.conv_body_down.{k - 1}"
            channels = (self.config.inner_channel, *self.config.level_channels)[k - 1]
            x = ops.conv(x, f"{name}.0", padding=SAME, groups=channels)
            x = self._fused_leaky(ops, ops.conv(x, f"{name}.1", padding=SAME, stride=2), f"{name}.2")
            shape = (0, self.config.level_channels[k], 1, 1)
            scales = [
                ops.reshape(ops.linear(scaler, f"denoise_fn.condition_scale{n}.{k}"), shape, f"{layer_name}.style")
                for n in (1, 2)
            ]
            squares = [ops.mul(scale, scale, f"{layer_name}.style") for scale in scales]
            epsilon = ops.constant(np.array(SCALE_EPSILON, dtype=np.float32), f"{layer_name}.style.epsilon")
            total = ops.add(ops.add(squares[0], squares[1], f"{layer_name}.style"), epsilon, f"{layer_name}.style")
            norm = ops.reciprocal_root(total, f"{layer_name}.style")
            terms[f"gain_{k}"] = ops.mul(scales[0], norm, f"{layer_name}.style.gain")
            shift = ops.conv(x, f"denoise_fn.condition_shift.{k}.0", padding=SAME)
            shift = ops.mul(shift, ops.mul(scales[1], norm, f"{layer_name}.style"), f"{layer_name}.style.shift")
            terms[f"shift_{k}"] = ops.add(shift, self._channel_bias(ops, f"{layer_name}.style.activate"), layer_name)
        return terms

    def _fused_leaky(self, ops: Ops[Any], x: Any, name: str) -> Any:
        """leaky_relu(x + bias, 0.2) * sqrt(2)."""
        x = ops.leaky_relu(ops.add(x, self._channel_bias(ops, name), name), name, slope=LEAKY_SLOPE)
        return ops.scale(x, LEAKY_GAIN, name)

    def _channel_bias(self, ops: Ops[Any], name: str) -> Any:
        return ops.constant(self.weights[f"{name}.bias"][None, :, None, None], f"{name}.bias")

    # denoise: once per step

    def _denoise_part(self) -> Part:
        inputs = [self._picture_spec("x"), self._row_spec() if self.tabulate else NOISE_LEVEL]
        inputs += self._hoisted_specs() if self.hoist else [self._picture_spec("cond"), SCALER]
        for k in range(1, self.config.levels):
            finer = f"_{k - 1}" if k > 1 else ""
            inputs += [
                TensorSpec(f"row_index_{k}", "int64", (f"height{finer}",)),
                TensorSpec(f"column_index_{k}", "int64", (f"width{finer}",)),
                TensorSpec(f"row_offset_{k}", "float32", (f"height{finer}",)),
                TensorSpec(f"column_offset_{k}", "float32", (f"width{finer}",)),
            ]
        return self._part("denoise", inputs, [self._picture_spec("noise")], self._run_denoise)

    def _run_denoise(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        if self.tabulate:
            sizes = [layer.channels_out for layer in self.blocks]
            shifts = ops.split(feeds["noise_row"], sizes, "denoise_fn.noise_row", axis=1)
        else:
            shifts = self._noise_shifts(ops, feeds["noise_level"])
        by_name = {layer.name: shift for layer, shift in zip(self.blocks, shifts, strict=True)}
        condition = feeds if self.hoist else {**feeds, **self._condition(ops, feeds["cond"], feeds["scaler"])}
        h = self._first(ops, feeds)
        skips = [h]
        for layer in self.downs:
            h = self._layer(ops, layer, h, by_name)
            skips.append(h)
        for layer in self.mids:
            h = self._layer(ops, layer, h, by_name)
        for layer in self.ups:
            if layer.kind == "implicit":
                h = self._implicit(ops, layer, h, condition)
            else:
                h = self._joined_block(ops, layer, h, skips.pop(), by_name[layer.name])
        return {"noise": self._block(ops, h, "denoise_fn.final_conv")}

    def _first(self, ops: Ops[Any], feeds: Feeds) -> Any:
        name = "denoise_fn.downs.0"
        if not self.hoist:
            return ops.conv(ops.concat([feeds["cond"], feeds["x"]], name, axis=1), name, padding=SAME)
        return ops.add(ops.conv(feeds["x"], f"{name}.b", padding=SAME), feeds["first"], name)

    def _layer(self, ops: Ops[Any], layer: Layer, h: Any, shifts: Mapping[str, Any]) -> Any:
        name = f"denoise_fn.{layer.name}"
        if layer.kind == "halving":
            return ops.conv(h, f"{name}.conv", stride=2, padding=SAME)
        shortcut = ops.conv(h, f"{name}.res_block.res_conv") if layer.shortcut else h
        return self._residual(ops, layer, h, shortcut, shifts[layer.name])

    def _joined_block(self, ops: Ops[Any], layer: Layer, h: Any, skip: Any, shift: Any) -> Any:
        name = f"denoise_fn.{layer.name}.res_block.res_conv"
        joined = ops.concat([h, skip], f"denoise_fn.{layer.name}", axis=1)
        shortcut = joined
        if layer.shortcut and self.split:
            shortcut = ops.add(ops.conv(h, f"{name}.a"), ops.conv(skip, f"{name}.b"), name)
        elif layer.shortcut:
            shortcut = ops.conv(joined, name)
        return self._residual(ops, layer, joined, shortcut, shift)

    def _residual(self, ops: Ops[Any], layer: Layer, h: Any, shortcut: Any, shift: Any) -> Any:
        name = f"denoise_fn.{layer.name}"
        h = ops.add(self._block(ops, h, f"{name}.res_block.block1"), shift, f"{name}.res_block.noise_func")
        h = ops.add(self._block(ops, h, f"{name}.res_block.block2"), shortcut, f"{name}.res_block")
        return self._attention(ops, layer, h) if layer.attention else h

    def _block(self, ops: Ops[Any], h: Any, name: str) -> Any:
        h = ops.group_norm(h, f"{name}.block.0", groups=self.config.norm_groups, epsilon=NORM_EPSILON)
        return ops.conv(ops.silu(h, f"{name}.block.1"), f"{name}.block.3", padding=SAME)

    def _attention(self, ops: Ops[Any], layer: Layer, x: Any) -> Any:
        name, channels = f"denoise_fn.{layer.name}.attn", layer.channels_out
        h = ops.group_norm(x, f"{name}.norm", groups=self.config.norm_groups, epsilon=NORM_EPSILON)
        qkv = ops.reshape(ops.conv(h, f"{name}.qkv"), (0, 3, channels, -1), f"{name}.pixels")
        qkv = ops.transpose(qkv, (0, 1, 3, 2), f"{name}.pixels")
        q, k, v = ops.split(qkv, (1, 1, 1), f"{name}.qkv", axis=1)
        return ops.add(ops.conv(attended(ops, x, (q, k, v), name, channels, channels), f"{name}.out"), x, name)

    def _implicit(self, ops: Ops[Any], layer: Layer, h: Any, feeds: Feeds) -> Any:
        """The implicit layer from level k to k - 1: blend, activate, one linear map, look-up, coordinates added."""
        name, k = f"denoise_fn.{layer.name}", layer.level + 1
        h = ops.add(ops.mul(h, feeds[f"gain_{k}"], f"{name}.style"), feeds[f"shift_{k}"], f"{name}.style")
        h = ops.leaky_relu(h, f"{name}.style.activate", slope=LEAKY_SLOPE)
        row, column = (
            ops.mul(
                ops.constant(self.weights[f"{name}.imnet.{axis}s"], f"{name}.imnet.{axis}s"),
                ops.reshape(feeds[f"{axis}_offset_{k}"], shape, f"{name}.{axis}_offset"),
                f"{name}.imnet.{axis}s",
            )
            for axis, shape in (("row", (1, 1, -1, 1)), ("column", (1, 1, 1, -1)))
        )
        if self.fold:
            h = ops.conv(h, f"{name}.imnet.features")
            # Columns first, with their coordinate term, while the map still has few rows: columns are looked up number
            # by number, rows are copied whole.
            h = ops.take(h, feeds[f"column_index_{k}"], f"{name}.columns", axis=3)
            h = ops.add(h, column, f"{name}.imnet.columns")
            return ops.add(ops.take(h, feeds[f"row_index_{k}"], f"{name}.rows", axis=2), row, f"{name}.imnet.rows")
        h = ops.scale(h, LEAKY_GAIN, f"{name}.style.activate")
        h = ops.take(h, feeds[f"column_index_{k}"], f"{name}.columns", axis=3)
        h = ops.take(h, feeds[f"row_index_{k}"], f"{name}.rows", axis=2)
        h = ops.add(ops.conv(h, f"{name}.imnet.features"), row, f"{name}.imnet.rows")
        return ops.conv(ops.add(h, column, f"{name}.imnet.columns"), f"{name}.imnet.second")

    def _implicit_names(self) -> dict[int, str]:
        """Level k -> name of the implicit layer that leads away from it, finest (k = 1) first."""
        names = {layer.level + 1: f"denoise_fn.{layer.name}" for layer in self.ups if layer.kind == "implicit"}
        return dict(sorted(names.items()))
