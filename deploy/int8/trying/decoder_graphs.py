"""From what was gathered to the int8 graphs of the latent decoder, per target: one range, constant scales.

Output windows, which ONNX Runtime's convolutions need, get the full HEADROOM here: a decoder is calibrated on a few
latents, and other pictures clip. On the demo model, calibrated on 12 pictures, 8 others (fidelity of `decode` in int8,
mean and worst): headroom 1.0 51.8 and 46.9 dB, 1.2 53.7 and 52.1, 1.5 53.6 and 52.9, 2.0 52.9 and 52.0.
"""

from collections.abc import Sequence
from typing import Any

from calibration.choose.clipping import Method, choose_quantizer
from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import HEADROOM, LayerRecipe, Recipe, output_window
from calibration.observe.layers import CONV, Layer, read_graph
from calibration.passes.decoder_gathering import DecoderFindings, hidden_layers
from calibration.targets.editing import Int8Graphs
from calibration.targets.table import DECODE, target_named
from deploy.bundle import Bundle


def decoder_graph(
    bundle: Bundle, name: str, target: str, findings: DecoderFindings, method: Method
) -> tuple[Int8Graphs, Recipe]:
    """The int8 form of `decode` or `query` for one target, and what it holds."""
    described = target_named(target)
    path = bundle.graph(name, described.norm)
    model = read_graph(path)
    quantizers = {
        tensor: choose_quantizer(density, described.codes, method)
        for tensor, density in sorted(findings.densities.items())
    }
    inside = findings.layers if name == DECODE else hidden_layers(findings.layers)
    recipe = _recipe(findings, inside, quantizers)
    if name == DECODE or described.chain_writer is None:
        return described.writer(model, path.parent, recipe), recipe
    ends = {layer.input: quantizers[layer.input] for layer in findings.layers if layer not in inside}
    return described.chain_writer(model, path.parent, recipe, ends), recipe


def _recipe(findings: DecoderFindings, layers: Sequence[Layer], quantizers: dict[str, Quantizer]) -> Recipe:
    return Recipe(ranges=1, layers=tuple(_layer(findings, layer, quantizers[layer.input]) for layer in layers))


def _layer(findings: DecoderFindings, layer: Layer, quantizer: Quantizer) -> LayerRecipe:
    rounded = findings.rounded[layer.weight]
    window: Any = None
    if layer.kind == CONV:
        window = output_window(
            findings.low[layer.node][None],
            findings.high[layer.node][None],
            bias=findings.biases[layer.node],
            weight_scales=rounded.scales,
            inputs=(quantizer,),
            headroom=HEADROOM,
        )
    return LayerRecipe(
        node=layer.node, codes=rounded.codes, weight_scales=rounded.scales, inputs=(quantizer,), output=window
    )
