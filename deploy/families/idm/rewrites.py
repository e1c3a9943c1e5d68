"""IDM's exact rewrites: the same picture to float rounding, with less work per step.

Notation: level k works at ceil(size / 2^k); implicit layer k leads from level k to level k - 1. Each rewrite is
named in `identities`, is exact on its own, and can be left out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.layers import BLUR_KERNEL, LEAKY_GAIN, LEAKY_SLOPE, SCALE_EPSILON
from deploy.families.pixel_unet.graphs import UnetParts
from deploy.families.pixel_unet.layout import Layer
from deploy.families.rewriting.ops import SAME, Array, Feeds, Ops, Part
from engines.contract import TensorSpec

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


class IdmParts(UnetParts):
    """Describes the graphs of one IDM network under a choice of rewrites: `tabulate`, `encode` and `denoise`."""

    def __init__(self, config: IdmConfig, weights: Mapping[str, Array], rewrites: frozenset[str]) -> None:
        super().__init__(config, weights, rewrites)
        self.config = config
        self.fold = "fold-implicit" in rewrites
        self.weights |= equalised(weights, config)
        fold = folded_implicit if self.fold else pointwise_implicit
        for layer in self.ups:
            if layer.kind == "doubling":
                self.weights |= fold(weights, f"denoise_fn.{layer.name}", layer.channels_in)

    def parts(self) -> list[Part]:
        """The graphs in the order in which they are used."""
        first = [self.tabulate_part()] if self.tabulate else []
        return [*first, self._encode_part(), self._denoise_part()]

    # encode: once per picture and size

    def _encode_part(self) -> Part:
        outputs = [self.picture_spec("cond")]
        inputs = [
            self.picture_spec("lr", "lr_height", "lr_width"),
            TensorSpec("row_index", "int64", ("height",)),
            TensorSpec("column_index", "int64", ("width",)),
        ]
        if self.hoist:
            inputs.append(SCALER)
            outputs = self._hoisted_specs()
        return self.part("encode", inputs, outputs, self._run_encode)

    def _hoisted_specs(self) -> list[TensorSpec]:
        specs = [self.first_spec()]
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
        inputs = [self.picture_spec("x"), self.level_spec()]
        inputs += self._hoisted_specs() if self.hoist else [self.picture_spec("cond"), SCALER]
        for k in range(1, self.config.levels):
            finer = f"_{k - 1}" if k > 1 else ""
            inputs += [
                TensorSpec(f"row_index_{k}", "int64", (f"height{finer}",)),
                TensorSpec(f"column_index_{k}", "int64", (f"width{finer}",)),
                TensorSpec(f"row_offset_{k}", "float32", (f"height{finer}",)),
                TensorSpec(f"column_offset_{k}", "float32", (f"width{finer}",)),
            ]
        return self.part("denoise", inputs, [self.picture_spec("noise")], self._run_denoise)

    def _run_denoise(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        condition = feeds if self.hoist else {**feeds, **self._condition(ops, feeds["cond"], feeds["scaler"])}
        return {"noise": self.predicted_noise(ops, feeds, condition)}

    def doubled(self, ops: Ops[Any], layer: Layer, h: Any, condition: Feeds) -> Any:
        """The implicit layer from level k to k - 1: blend, activate, one linear map, look-up, coordinates added."""
        name, k = f"denoise_fn.{layer.name}", layer.level + 1
        h = ops.add(ops.mul(h, condition[f"gain_{k}"], f"{name}.style"), condition[f"shift_{k}"], f"{name}.style")
        h = ops.leaky_relu(h, f"{name}.style.activate", slope=LEAKY_SLOPE)
        row, column = (
            ops.mul(
                ops.constant(self.weights[f"{name}.imnet.{axis}s"], f"{name}.imnet.{axis}s"),
                ops.reshape(condition[f"{axis}_offset_{k}"], shape, f"{name}.{axis}_offset"),
                f"{name}.imnet.{axis}s",
            )
            for axis, shape in (("row", (1, 1, -1, 1)), ("column", (1, 1, 1, -1)))
        )
        if self.fold:
            h = ops.conv(h, f"{name}.imnet.features")
            # Columns first, with their coordinate term, while the map still has few rows: columns are looked up number
            # by number, rows are copied whole.
            h = ops.take(h, condition[f"column_index_{k}"], f"{name}.columns", axis=3)
            h = ops.add(h, column, f"{name}.imnet.columns")
            return ops.add(ops.take(h, condition[f"row_index_{k}"], f"{name}.rows", axis=2), row, f"{name}.imnet.rows")
        h = ops.scale(h, LEAKY_GAIN, f"{name}.style.activate")
        h = ops.take(h, condition[f"column_index_{k}"], f"{name}.columns", axis=3)
        h = ops.take(h, condition[f"row_index_{k}"], f"{name}.rows", axis=2)
        h = ops.add(ops.conv(h, f"{name}.imnet.features"), row, f"{name}.imnet.rows")
        return ops.conv(ops.add(h, column, f"{name}.imnet.columns"), f"{name}.imnet.second")

    def _implicit_names(self) -> dict[int, str]:
        """Level k -> name of the implicit layer that leads away from it, finest (k = 1) first."""
        names = {layer.level + 1: f"denoise_fn.{layer.name}" for layer in self.ups if layer.kind == "doubling"}
        return dict(sorted(names.items()))
