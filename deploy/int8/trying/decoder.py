"""The latent decoder in int8: as much of it as keeps its pictures, per target.

Its graphs are calibrated on the latents in which the recorded trajectories end. The convolutional decoder runs once per
picture, the implicit one (`query`), which not every decoder has, once per output pixel. Both pay on ONNX Runtime and
OpenVINO; on TensorRT only the convolutions of `decode` are believed to (docs/measurements.md, the latent decoder in
int8).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from calibration.choose.clipping import Method, choose_quantizer
from calibration.choose.quantizer import Quantizer
from calibration.choose.ranges import ONE_RANGE
from calibration.choose.recipe import HEADROOM, LayerRecipe, Recipe, output_window
from calibration.errors import GraphError
from calibration.observe.layers import CONV, Layer, read_graph
from calibration.passes.decoder_gathering import (
    DecoderFindings,
    convolutions_of_decode,
    gather_decoder,
    hidden_layers,
    layers_of_query,
)
from calibration.targets.editing import Int8Graphs
from calibration.targets.table import DECODE, QUERY, target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import Int8Decoder, Int8Target, Quantization
from deploy.engine.graph_files import graph_file
from deploy.engine.graphs import INT8, EngineChoice
from deploy.errors import BundleError
from deploy.families.contract import Decoder as StateDecoder
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.values import Pixels, pixels_from_network
from deploy.int8.installed import backend_of_target
from deploy.int8.settings import QuantizeSettings
from deploy.int8.storing.storing import GraphsOfTarget, calibrated_graph, write_decoder
from deploy.int8.trying.comparison import Fidelity
from deploy.int8.trying.drafts import Draft
from deploy.measure.metrics import fidelity
from deploy.picture.session import Session
from engines.arrays import Float32
from engines.progress import Progress, Say

LEAST_FIDELITY: Final = 45.0
"""dB between the pictures of the int8 and of the float decoder, from the same latent, that each must reach. The
denoiser's own int8 errors leave 40 to 50 dB, so the decoder adds little to them."""

VERIFIED: Final = 8
"""Latents that are decoded by both at the resolution of training, and the first of them at LARGER times that."""

LARGER: Final = 4


@dataclass(frozen=True, kw_only=True)
class DecoderTrial(Fidelity):
    """The pictures of a decoder of which some graphs, `parts`, were in int8, beside those of the float decoder."""

    parts: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Whether the pictures are kept."""
        return self.worst >= LEAST_FIDELITY


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetDecoder:
    """What one target has in int8 (nothing: the decoder stays in float), and everything that was tried."""

    target: str
    graphs: GraphsOfTarget
    recipes: Mapping[str, Recipe]
    trials: tuple[DecoderTrial, ...]

    def describe(self) -> str:
        """What was chosen and why, in one line."""
        if not self.trials:
            return f"decoder, {self.target}: stays in float, since none of its graphs has an int8 form"
        last = self.trials[-1]
        if not self.graphs:
            tried = "; ".join(f"{' and '.join(trial.parts)} {trial.worst:.1f} dB" for trial in self.trials)
            return (
                f"decoder, {self.target}: stays in float, since int8 would change a picture too much"
                f" ({tried}; at least {LEAST_FIDELITY:g} wanted)"
            )
        return (
            f"decoder, {self.target}: {' and '.join(last.parts)} in int8, {last.mean:.1f} dB against the float decoder"
            f" over {_counted(len(last.decibels) - 1)} and one of them {LARGER} times as large, the worst"
            f" {last.worst:.1f} dB"
        )

    def in_short(self) -> str:
        """What a table says of it: the mean fidelity, or that it stays in float."""
        return f"{self.trials[-1].mean:.1f} dB" if self.graphs else "float"

    def as_json(self) -> dict[str, Any]:
        """What was tried and chosen, in JSON's types."""
        return {
            "int8": sorted(self.graphs),
            "trials": [{"int8": list(trial.parts), "mean": trial.mean, "worst": trial.worst} for trial in self.trials],
        }


def _counted(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


Decoder = Mapping[str, TargetDecoder]
"""By target."""


def quantized_decoder(
    model: Model,
    draft: Draft,
    latents: Sequence[Float32],
    settings: QuantizeSettings,
    *,
    memory_bytes: int,
    threads: int | None,
    say: Say,
    progress: Progress,
) -> Decoder:
    """Every graph calibrated on `latents`, and for each target what of them keeps the pictures; nothing for IDM.

    model: of the float bundle. draft: a copy of it, in which candidates are tried and the chosen ones are left.
    """
    if model.decoder is None:
        return {}
    second_order = settings.rounding == "second-order"
    findings = findings_of_decoder(
        model.decoder, draft.bundle, latents, memory_bytes, threads, progress, second_order=second_order
    )
    cases = _cases(model.decoder, latents)
    exact = [decoded(model, latent, size) for latent, size in cases]
    decoders: dict[str, TargetDecoder] = {}
    for number, target in enumerate(settings.targets):
        progress(f"trying int8 in the decoder, for {target}", 0.6 + 0.4 * number / len(settings.targets))
        both = graphs_of_decoder(draft.bundle, target, findings, settings.method, say)

        def attempt(graphs: GraphsOfTarget, target: str = target) -> list[Pixels]:
            return _decoded_in_int8(draft, target, graphs, cases, threads)

        decoders[target] = chosen_decoder(target, both, exact, attempt)
        say(decoders[target].describe())
    draft.decoder = {target: decoder_of_target.graphs for target, decoder_of_target in decoders.items()}
    return decoders


def findings_of_decoder(
    decoder: StateDecoder,
    bundle: Bundle,
    latents: Sequence[Float32],
    memory_bytes: int,
    threads: int | None,
    progress: Progress,
    *,
    second_order: bool,
) -> dict[str, DecoderFindings]:
    """What the layers of each graph that the decoder has were seen to do, by the name of the graph."""
    findings = {}
    for number, (name, layers_of_graph) in enumerate(((DECODE, convolutions_of_decode), (QUERY, layers_of_query))):
        if name not in bundle.manifest.graphs:
            continue
        progress(f"looking inside the decoder, {name}", 0.3 * number)
        graph = calibrated_graph(bundle, name)
        feeds = partial(decoder.inputs, name, latents)
        findings[name] = gather_decoder(
            graph, layers_of_graph(graph), feeds, memory_bytes=memory_bytes, second_order=second_order, threads=threads
        )
    return findings


def graphs_of_decoder(
    bundle: Bundle, target: str, findings: Mapping[str, DecoderFindings], method: Method, say: Say
) -> dict[str, tuple[Int8Graphs, Recipe]]:
    """The int8 forms of all graphs of which a target may run one, and what they hold.

    A graph that the target has no form for is left out, and `say` is told why: it stays in float.
    """
    graphs = {}
    for name in sorted({name for parts in target_named(target).decoder for name in parts} & set(findings)):
        try:
            graphs[name] = decoder_graph(bundle, name, target, findings[name], method)
        except GraphError as error:
            say(f"decoder, {target}: {name} stays in float ({str(error).rstrip('.')})")
    return graphs


def chosen_decoder(
    target: str,
    both: Mapping[str, tuple[Int8Graphs, Recipe]],
    exact: Sequence[Pixels],
    attempt: Callable[[GraphsOfTarget], list[Pixels]],
) -> TargetDecoder:
    """The first choice of the target that keeps the pictures, or float. attempt: the pictures that graphs make."""
    trials = []
    possible = [parts for parts in target_named(target).decoder if set(parts) <= set(both)]
    for parts in (*possible, ()):
        graphs = {name: both[name][0] for name in parts}
        recipes = {name: both[name][1] for name in parts}
        if parts:
            decibels = tuple(fidelity(a, b) for a, b in zip(exact, attempt(graphs), strict=True))
            trials.append(DecoderTrial(parts=parts, decibels=decibels))
        if not parts or trials[-1].allowed:
            break
    return TargetDecoder(target=target, graphs=graphs, recipes=recipes, trials=tuple(trials))


def _cases(decoder: StateDecoder, latents: Sequence[Float32]) -> list[tuple[Float32, Size]]:
    """Latents of one picture each and the sizes they are decoded to."""
    stride = decoder.stride
    each = [latent[index : index + 1] for latent in latents for index in range(latent.shape[0])]
    chosen = each[:: max(1, len(each) // VERIFIED)][:VERIFIED]
    usual = [(latent, Size(latent.shape[2] * stride, latent.shape[3] * stride)) for latent in chosen]
    smallest, (height, width) = min(usual, key=lambda case: case[0].size)
    return [*usual, (smallest, Size(height * LARGER, width * LARGER))]


def decoded(model: Model, latent: Float32, size: Size) -> Pixels:
    """The picture of a latent (1, channels, height, width) at (height, width)."""
    if model.decoder is None:
        raise BundleError("The state of this model is the picture itself; there is nothing to decode.")
    rows = [pixels_from_network(block, model.values) for block in model.decoder.rows(latent, size)]
    whole: Pixels = np.concatenate(rows, axis=1)[0]
    return whole


def with_decoder(draft: Draft, made: Mapping[str, GraphsOfTarget]) -> Bundle:
    """The scratch bundle with these decoder graphs, by target, and nothing else in int8."""
    with BundleWriter.update(draft.bundle) as writer:
        targets = decoder_alone(draft.bundle, write_decoder(writer, draft.bundle, made))
        quantization = Quantization(targets=targets, noise_levels=draft.levels)
        draft.bundle = writer.commit(replace(draft.bundle.manifest, quantization=quantization))
    return draft.bundle


def decoder_alone(bundle: Bundle, decoders: Mapping[str, Int8Decoder]) -> dict[str, Int8Target]:
    """What a manifest says of targets whose denoiser is the float one, in one range."""
    denoiser = bundle.manifest.graphs["denoise"]
    return {
        name: Int8Target(
            graph=denoiser.forms[target_named(name).norm],
            edges=ONE_RANGE.edges,
            rows={},
            constants={},
            weights=denoiser.weights,
            noise_corrections=(),
            decoder=decoder,
        )
        for name, decoder in decoders.items()
    }


def _decoded_in_int8(
    draft: Draft,
    target: str,
    graphs: GraphsOfTarget,
    cases: Sequence[tuple[Float32, Size]],
    threads: int | None,
) -> list[Pixels]:
    bundle = with_decoder(draft, {target: graphs})
    choice = EngineChoice(backend=backend_of_target(target), precision=INT8, threads=threads, int8_target=target)
    with Session(bundle, choice) as session:
        return [decoded(session.model, latent, size) for latent, size in cases]


def decoder_graph(
    bundle: Bundle, name: str, target: str, findings: DecoderFindings, method: Method
) -> tuple[Int8Graphs, Recipe]:
    """The int8 form of `decode` or `query` for one target, and what it holds."""
    described = target_named(target)
    path = graph_file(bundle, name, described.norm)
    model = read_graph(path)
    quantizers = {
        tensor: choose_quantizer(density, described.codes, method)
        for tensor, density in sorted(findings.densities.items())
    }
    inside = findings.layers if name == DECODE else hidden_layers(findings.layers)
    layers = tuple(_layer(findings, layer, quantizers[layer.input]) for layer in inside)
    recipe = Recipe(ranges=1, layers=layers)
    if name == DECODE or described.chain_writer is None:
        return described.writer(model, path.parent, recipe), recipe
    ends = {layer.input: quantizers[layer.input] for layer in findings.layers if layer not in inside}
    return described.chain_writer(model, path.parent, recipe, ends), recipe


def _layer(findings: DecoderFindings, layer: Layer, quantizer: Quantizer) -> LayerRecipe:
    rounded = findings.rounded[layer.weight]
    window: Any = None
    if layer.kind == CONV:  # with all of HEADROOM: a decoder sees few latents here, and others would clip
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
