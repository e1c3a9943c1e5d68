"""The times of the latent decoder, on a tiny one."""

import json
from pathlib import Path

import pytest

from benchmarks import decoder
from deploy.bundle import Bundle
from tests.deploy.int8.latent_decoders import tiny


@pytest.mark.runs_openvino
def test_every_engine_and_precision_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny("latent_sr_tiny", tmp_path)
    before = bundle.manifest.as_bytes()
    figures = tmp_path / "figures.json"
    assert decoder.main([str(bundle.path), "--sizes", "16", "24", "--rounds", "2", "--json", str(figures)]) == 0
    report = json.loads(figures.read_text())
    assert list(report["seconds"]) == ["16", "24"]
    names = [row["name"] for row in report["seconds"]["24"]]
    assert names == [row["name"] for row in report["seconds"]["16"]]
    assert {"onnxruntime-cpu fp32", "onnxruntime-cpu int8"} <= set(names)
    for row in report["seconds"]["24"]:
        assert row["decode"] > 0
        assert row["query"] > 0
    shown = capsys.readouterr().out
    assert "16x16 pixels, 1 threads" in shown
    assert "24x24 pixels, 1 threads" in shown
    assert Bundle.open(bundle.path).manifest.as_bytes() == before  # only a copy was quantized


def test_each_engine_is_compared_with_its_own_float() -> None:
    rows = [
        {"name": "one fp32", "decode": 1.0, "query": 3.0},
        {"name": "one int8", "decode": 0.5, "query": 0.5},
        {"name": "other fp32", "decode": 1.0, "query": 1.0},
        {"name": "other bf16", "failure": "no memory"},
        {"name": "other int8", "decode": 0.25, "query": 0.25},
    ]
    assert [line[4] for line in decoder.cells_of_rows(rows)[1:]] == ["1.00", "4.00", "1.00", "", "4.00"]
    assert decoder.cells_of_rows(rows)[4][1] == "no memory"


def test_a_bundle_without_a_latent_decoder_is_refused(idm_micro: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert decoder.main([str(idm_micro.path)]) == 1
    assert "has no latent decoder to time. Name a bundle of the latent family" in capsys.readouterr().err
