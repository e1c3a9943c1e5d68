"""What the chapters say of known figures, and that what is missing or of another kind is left out."""

import html
import re
from typing import Any

import pytest

from deploy.bundle.records import Preset
from deploy.report.chapters.int8 import int8_section
from deploy.report.chapters.making import engine_section, rewriting_section
from deploy.report.chapters.model import model_section
from deploy.report.chapters.quality import quality_section
from deploy.report.chapters.sampling import sampling_section
from deploy.report.chapters.speed import speed_section
from deploy.report.chapters.unmeasured import unmeasured_section
from deploy.report.facts import Facts
from deploy.report.gallery import Gallery
from deploy.report.html.parts import Section
from tests.deploy.report.facts_for_tests import (
    bench_record,
    evaluation_record,
    figures,
    full_facts,
    packaged_bundle,
    quantization_entry,
    quantization_record,
)

BARE = Facts(bundle=packaged_bundle())


def words(section: Section | None) -> str:
    """The section's text, its elements as blanks."""
    assert section is not None
    return " ".join(html.unescape(re.sub(r"<title>.*?</title>|<[^>]+>", " ", section.html())).split())


def test_speed_tells_medians_spread_and_failures() -> None:
    told = words(speed_section(full_facts()))
    assert "Processor a processor Pictures 16x16 to 128x128 Batch 1 Threads 2 Versions torch 2.13.0" in told
    assert "openvino-cpu bf16 100 ms 99 ms to 101 ms 4.00×" in told
    assert "broken it fell over" in told
    assert "PyTorch, DDPM extrapolated from 4 timed steps 2000 13 min" in told
    assert "× DDPM-2000" in told
    assert "1,600×" in told
    assert "x 500 ms 1.5 s 153 MB" in told  # columns that no row fills are left out
    assert "bundle 11.9 MB sample pictures 26.4 kB" in told


def test_an_extrapolated_picture_has_no_bar_and_does_not_shrink_the_others() -> None:
    section = speed_section(full_facts())
    assert section is not None
    pictures = section.html().split("A whole picture")[2]
    assert re.findall(r'class="fill" width="([^"]+)"', pictures)[0] == "100.00%"


@pytest.mark.parametrize(
    "data", [{}, {"timings": 3}, {"timings": {"step": []}}, {"timings": {"step": [3]}}, {"disk": {"bundle": "x"}}]
)
def test_a_bench_that_says_nothing_is_no_chapter(data: dict[str, Any]) -> None:
    assert speed_section(full_facts(bench=figures(data))) is None
    assert speed_section(BARE) is None


def test_quality_tells_means_intervals_and_what_is_recommended() -> None:
    told = words(quality_section(full_facts()))
    assert "4×, 2 originals of 1 photograph, evaluation.json" in told
    assert "Means with 95 % intervals over the photographs." in told and "Protocol plain: as it is." in told
    assert "balanced recommended 29.26 ±1.85 0.123 +0.53 ±0.48 500 ms" in told
    assert "broken it fell over" in told
    assert "Recommended: the fastest that is good." in told
    assert "novel measure what is new" in told
    assert "PSNR, dB 28 30 PSNR" in told  # the axis of the dots: 29.26 - 1.85 to 29.26 + 1.85


def test_the_few_pictures_of_the_page_recommend_nothing_and_have_no_intervals() -> None:
    gallery = Gallery(scenes=(), origin="x", scale=4.0, ways={}, failures={}, evaluation=evaluation_record())
    told = words(quality_section(full_facts(evaluation=None, gallery=gallery)))
    assert "balanced 29.26 0.123 +0.53 500 ms" in told
    assert "Means over few pictures: a hint." in told
    assert "ecommended" not in told


def test_each_scale_has_a_table() -> None:
    data = evaluation_record()
    data["rows"].append({**data["rows"][0], "scale": 8.0})
    told = words(quality_section(full_facts(evaluation=figures(data))))
    assert "4×, 2 originals of 1 photograph, a file" in told
    assert "8×, a file" in told


@pytest.mark.parametrize("data", [{}, {"rows": "x"}, {"rows": [1]}])
def test_an_evaluation_without_rows_is_no_chapter(data: dict[str, Any]) -> None:
    assert quality_section(full_facts(evaluation=figures(data))) is None


def test_int8_tells_the_targets_the_budget_and_what_stays_in_float() -> None:
    told = words(int8_section(full_facts()))
    assert "ONNX Runtime: int8 is safe here. PSNR against the originals changes by −0.031 dB" in told
    assert "TensorRT: what int8 costs was not measured." in told
    assert "calibrated steps noise levels that were recorded within it" in told  # for those who cannot hover
    assert (
        "ONNX Runtime 2 1 of 60 3.93 MB 26% of float 200 ms 1.50× 52.8 dB 51.3 dB 44.0 dB −0.12 −0.031 −0.0025" in told
    )
    assert "TensorRT 2 0 of 60 3.93 MB 26% of float – – 52.8 dB" in told
    assert "may fall by 0.05 dB" in told
    assert "it changed by: ONNX Runtime −0.020 dB after 2 settings" in told
    assert "For ONNX Runtime, because they spoil most" in told
    assert "or to stay within the budget: denoise_fn.mid.0.attn.qkv/Conv" in told
    assert "For TensorRT the budget asks for no other layer." in told
    assert "1 0 0.3 1 2 0.3 1 2" in told  # ranges with the number of calibrated steps within them
    assert "changes 1.63-fold in the median and 5.03-fold at most" in told
    assert "51.2 dB at the least, 55.6 dB in the median, 60.0 dB at most, over 2 layers" in told
    assert "2 75.0%" in told  # the second range's worth
    assert "asymmetric: ONNX Runtime" in told


def test_int8_tells_what_of_the_decoder_is_in_int8() -> None:
    data = quantization_record()
    data["targets"]["ort"]["decoder"] = {"int8": ["decode", "query"], "trials": [{"mean": 50.26, "worst": 46.0}]}
    tried = [{"mean": 40.0, "worst": 30.0}, {"mean": 41.0, "worst": 31.0}]
    data["targets"]["tensorrt"]["decoder"] = {"int8": [], "trials": tried}
    told = words(int8_section(full_facts(quantization=figures(data))))
    assert "ONNX Runtime: decode and query in int8, 50.3 dB against the float decoder in the mean, 46.0 dB" in told
    assert "TensorRT: stays in float; the last that was tried: 41.0 dB" in told
    assert "The decoder" not in words(int8_section(full_facts()))


def test_int8_without_its_report_tells_what_the_bundle_knows() -> None:
    facts = Facts(bundle=packaged_bundle(quantization=quantization_entry()))
    told = words(int8_section(facts))
    assert "ONNX Runtime 2 – – – – 52.8 dB – – −0.12 −0.031 –" in told
    assert "Some figures are missing" in told
    assert int8_section(BARE) is None


@pytest.mark.parametrize("key", sorted(quantization_record()))
def test_any_figure_of_a_quantization_may_be_missing_or_strange(key: str) -> None:
    for value in (None, 3, "x", [], {}, {"ort": 3}, {"ort": []}, {"tensors": {"a": [1, "x", None]}}):
        facts = full_facts(quantization=figures({**quantization_record(), key: value}))
        assert "In int8" in words(int8_section(facts))
        assert words(unmeasured_section(facts))


@pytest.mark.parametrize("key", sorted(bench_record()))
def test_any_figure_of_a_bench_may_be_missing_or_strange(key: str) -> None:
    for value in (None, 3, "x", [], {}, {"rows": 3}, {"rows": [3, {"name": 3}, {"times_ms": "x"}]}):
        facts = full_facts(bench=figures({**bench_record(), key: value}))
        assert speed_section(facts) is not None
        assert words(unmeasured_section(facts))


@pytest.mark.parametrize("key", sorted(evaluation_record()))
def test_any_figure_of_an_evaluation_may_be_missing_or_strange(key: str) -> None:
    for value in (None, 3, "x", [], {}, [{"name": 3, "figures": {"psnr": {"mean": "x"}}}]):
        facts = full_facts(evaluation=figures({**evaluation_record(), key: value}))
        section = quality_section(facts)
        assert section is not None or key == "rows"
        assert words(unmeasured_section(facts))


def test_the_engine_of_this_machine() -> None:
    told = words(engine_section(full_facts()))
    assert "Chosen openvino-cpu bf16 Because it is faster Step 64×128, batch 1" in told
    assert "openvino-cpu bf16 chosen 12.5 ms 2.00× 40.0 dB" in told
    assert "onnxruntime-cpu fp32 25 ms 1.00× reference" in told
    assert "tensorrt fp16 no GPU" in told
    assert engine_section(BARE) is None


def test_the_model_tells_where_each_value_came_from() -> None:
    told = words(model_section(BARE))
    assert "channel_multiplier [1, 2, 4, 4] metadata" in told
    assert "metadata: stated in the checkpoint's metadata." in told
    assert BARE.bundle.manifest.source.sha256 in told
    assert "linear, 2000 timesteps, beta 1e-06 to 0.01" in told
    assert "−1 to 1" in told


def test_presets_are_drawn_and_one_that_cannot_be_used_says_why() -> None:
    presets = {**BARE.bundle.manifest.presets, "odd": Preset(equation="nonsense", steps=3)}
    told = words(sampling_section(Facts(bundle=packaged_bundle(presets=presets))))
    assert "balanced default fitted-2 2 fitted 0.5 1 1 4 best fitted-4 4 fitted 0.5 1 3 4" in told
    assert "The denoising plan is impossible" in told or "nonsense" in told
    assert "No placement was searched" in told
    assert "The noise levels as numbers draft 0.7 balanced 0.5, 0.985 best 0.5, " in told


def test_rewrites_that_were_left_out_are_named() -> None:
    told = words(rewriting_section(Facts(bundle=packaged_bundle(rewrites=["drop-unused", "one-of-tomorrow"]))))
    assert "one-of-tomorrow" in told
    assert "Left out by choice: hoist-condition, fold-implicit, tabulate-noise and split-shortcut." in told


def test_what_was_not_measured_shrinks_with_what_was() -> None:
    bare, full = words(unmeasured_section(BARE)), words(unmeasured_section(full_facts()))
    for missing in ("idm-deploy bench", "idm-deploy evaluate", "idm-deploy quantize", "idm-deploy build-engine"):
        assert missing in bare
        assert missing not in full
    assert "The speed of int8 on TensorRT" in full
    assert "Speed on a GPU" in full
