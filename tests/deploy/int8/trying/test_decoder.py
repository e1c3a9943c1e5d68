"""The latent decoder in int8: calibrated on latents, chosen by its pictures, stored, run."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calibration.choose.quantizer import Quantizer
from calibration.targets.table import DECODE, QUERY
from deploy.bundle import Bundle
from deploy.bundle.quantization import Int8Decoder
from deploy.engine.builds import PlanOptions, planned_builds
from deploy.engine.graph_files import int8_decoder_graph
from deploy.engine.profiles import default_sizes
from deploy.families.latent.model import LatentModel
from deploy.int8.settings import QuantizeSettings
from deploy.int8.storing.only_int8 import moved_target
from deploy.int8.trying import decoder
from deploy.int8.trying.comparison import int8_upscaler
from deploy.int8.trying.decoder import Decoder, DecoderTrial, TargetDecoder, chosen_decoder, decoded, quantized_decoder
from deploy.int8.trying.drafts import drafted
from deploy.measure.metrics import fidelity
from engines.plans.tensorrt_names import TENSORRT_RTX
from tests.deploy.int8.latent_decoders import (
    PARTS,
    SIZES,
    TARGETS,
    float_model,
    ignored,
    latents_for,
    tiny,
    with_decoder,
)
from tests.deploy.quantizations import int8_target


@pytest.fixture(scope="module", params=SIZES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One of super-resolution and one of generation."""
    return tiny(request.param, tmp_path_factory.mktemp("latent"))


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One of super-resolution."""
    return tiny("latent_sr_tiny", tmp_path_factory.mktemp("latent"))


def quantized(bundle: Bundle, folder: Path, said: list[str], targets: Sequence[str] = TARGETS) -> Decoder:
    model = float_model(bundle)
    with model.graphs, drafted(bundle, folder, (0.5,)) as draft:
        made = quantized_decoder(
            model,
            draft,
            latents_for(model),
            QuantizeSettings(targets=tuple(targets)),
            memory_bytes=32 << 20,
            threads=1,
            say=said.append,
            progress=ignored,
        )
        assert draft.decoder == {target: one.graphs for target, one in made.items()}
    return made


@pytest.fixture(autouse=True)
def any_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic weights make noise of latents, which no 8 bits keep to 45 dB."""
    monkeypatch.setattr(decoder, "LEAST_FIDELITY", 15.0)
    monkeypatch.setattr(decoder, "LARGER", 2)


def test_both_graphs_run_in_int8_and_keep_the_picture(bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    made = quantized(bundle, tmp_path, said)
    assert [line.split(":")[0] for line in said] == [f"decoder, {target}" for target in TARGETS]
    stored = with_decoder(bundle, tmp_path, made)
    model = float_model(bundle)
    latent, size = latents_for(model)[0][:1], (40, 28)
    exact = decoded(model, latent, size)
    for target in TARGETS:
        assert set(made[target].graphs) == PARTS[target]
        with int8_upscaler(stored, target, 1) as upscaler:
            assert isinstance(upscaler.session.model, LatentModel)
            coded = decoded(upscaler.session.model, latent, size)
        assert 15 < fidelity(exact, coded) < 100


def test_all_targets_share_one_file_of_int8_weights_and_are_rebuilt_to_the_same_bytes(
    enlarging: Bundle, tmp_path: Path
) -> None:
    told = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        stored = with_decoder(enlarging, folder, quantized(enlarging, folder, []))
        assert stored.manifest.quantization is not None
        told.append({target: stored.manifest.quantization.targets[target].decoder for target in TARGETS})
        assert len({int8_decoder_graph(stored, target, name) for target in TARGETS for name in PARTS[target]}) == 5
        assert int8_decoder_graph(stored, "tensorrt", QUERY) is None
        assert int8_decoder_graph(stored, "ort", "encode") is None
    weights = {name for entry in told[0].values() if entry is not None for name in entry.weights}
    assert len([name for name in weights if name.startswith("int8-decoder")]) == 1
    assert told[0] == told[1]  # files are named after their content
    assert int8_decoder_graph(enlarging, "ort", QUERY) is None


def test_tensorrt_plans_are_built_from_the_int8_graphs(enlarging: Bundle, tmp_path: Path) -> None:
    stored = with_decoder(enlarging, tmp_path, quantized(enlarging, tmp_path, [], ["tensorrt"]))
    assert stored.manifest.quantization is not None
    decoder = stored.manifest.quantization.targets["tensorrt"].decoder
    assert decoder is not None
    options = PlanOptions(sizes=default_sizes(stored), capability="8.9")
    plans = {
        precision: {
            one.source.label.partition(" ")[2]: one.source.graph.name
            for one in planned_builds(stored, TENSORRT_RTX, precision, options)
        }
        for precision in ("fp16", "int8")
    }
    assert plans["int8"]["decode int8"] == decoder.graphs[DECODE]
    assert DECODE not in plans["int8"]
    assert plans["int8"][QUERY] == plans["fp16"][QUERY]
    assert {DECODE, QUERY} <= set(plans["fp16"])


# choosing


def trial_of(parts: Sequence[str], decibels: dict[tuple[str, ...], float]) -> list[np.ndarray]:
    """A picture as far from black as the decibels of these parts say: PSNR is 20 log10(255 / difference)."""
    return [np.full((4, 4, 3), round(255 / 10 ** (decibels[tuple(parts)] / 20)), np.uint8)]


@pytest.mark.parametrize(
    ("decibels", "kept", "line"),
    [
        ({(DECODE, QUERY): 40.0}, (DECODE, QUERY), "decode and query in int8"),
        ({(DECODE, QUERY): 20.0, (QUERY,): 40.0}, (QUERY,), "decoder, ort: query in int8"),
        ({(DECODE, QUERY): 20.0, (QUERY,): 25.0, (DECODE,): 40.0}, (DECODE,), "decoder, ort: decode in int8"),
        ({(DECODE, QUERY): 20.0, (QUERY,): 25.0, (DECODE,): 25.0}, (), "stays in float, since int8 would change"),
    ],
)
def test_the_most_that_keeps_the_pictures_is_chosen(
    monkeypatch: pytest.MonkeyPatch, decibels: dict[tuple[str, ...], float], kept: tuple[str, ...], line: str
) -> None:
    monkeypatch.setattr(decoder, "LEAST_FIDELITY", 30.0)
    both: Any = {DECODE: ("graph of decode", "recipe"), QUERY: ("graph of query", "recipe")}
    black = [np.zeros((4, 4, 3), np.uint8)]
    found = chosen_decoder("ort", both, black, lambda graphs: trial_of(tuple(graphs), decibels))
    assert tuple(found.graphs) == kept
    assert tuple(found.recipes) == kept
    assert line in found.describe()
    # 40 dB is a difference of 2.55, 3 in a picture of whole levels, and 20 log10(255 / 3) = 38.6.
    assert found.in_short() == ("38.6 dB" if kept else "float")
    assert found.as_json()["int8"] == sorted(kept)
    assert len(found.trials) == len(decibels)


def test_a_graph_without_an_int8_form_stays_in_float_and_the_other_is_tried(
    enlarging: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantizers whose codes begin below 0, which no chain has a place for."""
    chosen = Quantizer(scale=0.05, lowest=-10, highest=245)
    monkeypatch.setattr(decoder, "choose_quantizer", lambda *_: chosen)
    monkeypatch.setattr(decoder, "LEAST_FIDELITY", 0.0)
    said: list[str] = []
    made = quantized(enlarging, tmp_path, said, ["ort"])
    assert set(made["ort"].graphs) == {DECODE}
    assert said[0].startswith("decoder, ort: query stays in float (writing a chain of int8 layers: ")
    assert "do not begin at 0" in said[0]
    assert said[1].startswith("decoder, ort: decode in int8")


def test_a_decoder_without_any_int8_form_stays_in_float() -> None:
    found = chosen_decoder("ort", {}, [], lambda _: [])
    assert found.describe() == "decoder, ort: stays in float, since none of its graphs has an int8 form"
    assert (found.in_short(), found.as_json()) == ("float", {"int8": [], "trials": []})


def test_a_picture_that_is_made_again_larger_is_not_counted_as_another() -> None:
    graphs: Any = {DECODE: "graph"}
    for decibels, words in (((50.0, 48.0, 46.0), "2 pictures"), ((50.0, 46.0), "1 picture")):
        trial = DecoderTrial(parts=(DECODE,), decibels=decibels)
        told = TargetDecoder(target="ort", graphs=graphs, recipes={}, trials=(trial,)).describe()
        assert f"48.0 dB against the float decoder over {words} and one of them 2 times as large" in told  # LARGER here
        assert told.endswith("the worst 46.0 dB")


def test_a_model_without_a_latent_decoder_has_nothing_to_quantize() -> None:
    other: Any = SimpleNamespace(decoder=None)
    nothing: Any = None
    made = quantized_decoder(
        other, nothing, [], QuantizeSettings(), memory_bytes=1, threads=1, say=nothing, progress=nothing
    )
    assert made == {}


# without the float denoiser


def test_decoder_graphs_are_renamed_with_all_others() -> None:
    decoder = Int8Decoder(graphs={QUERY: "query-1", DECODE: "decode-1"}, weights=("w", "int8"))
    renamed = {"query-1": "query-2", "decode-1": "decode-2", "a": "b"}
    for before, after in (
        (decoder, Int8Decoder(graphs={QUERY: "query-2", DECODE: "decode-2"}, weights=("all",))),
        (Int8Decoder(graphs={}, weights=()), Int8Decoder(graphs={}, weights=())),
        (None, None),
    ):
        moved = moved_target(int8_target(graph="a", weights=("w",), decoder=before), renamed, "all")
        assert moved == int8_target(graph="b", weights=("all",), decoder=after)
