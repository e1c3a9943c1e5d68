from dataclasses import replace

from msgspec.structs import replace as changed

from deploy.bundle import Bundle
from deploy.bundle.quantization import HeldOut, Int8Target, Quantization
from deploy.packaged.places import IDM_BUNDLE
from deploy.report.model_card import model_card


def test_a_card_says_what_the_bundle_stores_and_nothing_else() -> None:
    bundle = Bundle.open(IDM_BUNDLE, verify="sizes")
    card = model_card(bundle, "a/idm", "mit")
    assert card.startswith("---\nlicense: mit\n") and "\n# idm\n" in card
    assert f"SHA-256 `{bundle.manifest.source.sha256}`" in card
    assert "| balanced (default) | fitted-2, 2 steps" in card and "| not measured |" in card
    assert "None in this bundle; `idm-deploy quantize` adds it." in card


def test_figures_of_int8_are_those_that_were_measured() -> None:
    bundle = Bundle.open(IDM_BUNDLE, verify="sizes")
    parts = {
        "graph": "g",
        "edges": (0.0, 0.5, 1.0),
        "rows": {},
        "constants": {},
        "weights": (),
        "noise_corrections": (),
    }
    held = HeldOut(preset="balanced", pictures=24, psnr_drop=0.0123, fidelity_db=44.44, worst_db=41.21)
    targets = {"ort": Int8Target(**parts, held_out=held), "openvino": Int8Target(**parts)}
    quantization = Quantization(targets=targets, noise_levels=(0.5,))
    manifest = replace(bundle.manifest, quantization=quantization)
    card = model_card(Bundle(bundle.path, manifest), "a/b", "mit")
    assert "| ONNX Runtime | 2 | 44.4 dB | 41.2 dB | 0.012 dB |\n| OpenVINO | 2 | not measured | | |" in card


def test_words_of_a_bundle_are_no_markup() -> None:
    bundle = Bundle.open(IDM_BUNDLE, verify="sizes")
    source = changed(bundle.manifest.source, file="a`|<script>\n# x")
    card = model_card(Bundle(bundle.path, replace(bundle.manifest, source=source)), "a/b", "mit")
    assert "<script" not in card and "\n# x" not in card and "`a---script--# x`" in card
