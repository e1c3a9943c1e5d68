"""`build-engine` and `engines` on a small bundle: one screen, JSON, nothing twice, and usage that makes no sense."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.cli.values import bytes_from_text, engine_sizes_from_text
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import GraphSet
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE
from engines.cache import Cache
from tests.deploy.exported import exported
from tests.deploy.quantized import with_held_out
from tests.json_schema import checked

QUICK = ["--size", "16x16", "--rounds", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


def build(bundle: Bundle, cache: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["build-engine", str(bundle.path), "--cache-dir", str(cache), *QUICK, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_measured_once_then_known_at_once(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(bundle, tmp_path)
    assert "onnxruntime-cpu fp32" in first
    assert "chosen: " in first
    assert "measured now: it was not built before" in first
    monkeypatch.setattr(GraphSet, "engine", None)  # no graph is opened
    second = build(bundle, tmp_path)
    assert "nothing changed since it was measured" in second
    assert [line for line in first.splitlines() if "ms" in line] == [li for li in second.splitlines() if "ms" in li]


def test_json_has_every_figure(bundle: Bundle, tmp_path: Path) -> None:
    asked = ["--json", "--engine", "onnxruntime-cpu", "--precision", "fp32"]
    report = checked("build-engine", build(bundle, tmp_path, *asked))
    decision = report["decision"]
    assert (decision["engine"], decision["precision"]) == ("onnxruntime-cpu", "fp32")
    assert [found["step_ms"] > 0 for found in decision["candidates"]] == [True]
    assert report["plans"] == []


@pytest.fixture(scope="module")
def quantized(quantized_idm: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In int8, ONNX Runtime loses 10 dB on held-out pictures, more than the 9 that were allowed; OpenVINO loses 1."""
    place = tmp_path_factory.mktemp("int8") / "int8.bundle"
    shutil.copytree(quantized_idm.path, place)
    figures = {
        "ort": {"psnr_drop": 10.0, "fidelity_db": 20.0},
        "openvino": {"psnr_drop": 1.0, "fidelity_db": 31.0, "worst_db": 29.5, "preset": "quick", "pictures": 6},
    }
    return with_held_out(Bundle.open(place), figures)


@pytest.mark.slow
@pytest.mark.runs_openvino
def test_int8_is_measured_too_and_held_to_the_budget(
    quantized: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache().root
    decision = checked("build-engine", build(quantized, cache, "--json", "--min-sqnr", "3"))["decision"]
    found = {(one["backend"], one["precision"]): one for one in decision["candidates"]}
    for engine, lost in (("onnxruntime-cpu", 10.0), ("openvino-cpu", 1.0)):
        int8 = found[engine, "int8"]
        assert int8["failure"] is None and int8["step_ms"] > 0 and 3 < int8["sqnr_db"] < 60
        assert int8["psnr_drop"] == lost
        assert found[engine, "fp32"]["psnr_drop"] is None
    assert "onnxruntime-cpu int8 loses 10.000 dB against originals, more than 9 (--max-psnr-drop)" in decision["why"]
    assert engine_choice(quantized).precision == decision["precision"]
    told = build(quantized, cache, "--min-sqnr", "3")
    assert "picture dB" in told and "nothing changed since it was measured" in told
    assert [line.split()[-3:] for line in told.splitlines() if line.startswith("onnxruntime-cpu int8")] == [
        ["20.0", "10.000", "-"]  # reorders are OpenVINO's to tell
    ]
    shown = CliRunner().invoke(app, ["inspect", str(quantized.path)]).output
    assert "31.0" in shown and "1.000" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["openvino"] == ["2", "31.0", "29.5", "1.000"] and rows["tensorrt"] == ["2", "-", "-", "-"]
    assert "preset quick, 6 crops of 5 held-out photographs" in " ".join(shown.split())
    again = with_held_out(quantized, {"ort": {"psnr_drop": 8.0, "fidelity_db": 20.0}})
    told = build(again, cache, "--min-sqnr", "3")
    assert "int8 lost openvino 1.0 and 31.0 dB, ort 10.0 and 20.0 dB, now openvino 1.0 and 31.0 dB, ort 8.0" in told
    assert "--max-psnr-drop" not in told
    strict = build(again, cache, "--min-sqnr", "3", "--max-psnr-drop", "0.5")
    assert "openvino-cpu int8 loses 1.000 dB against originals, more than 0.5" in strict
    assert "measured now: built before with budget PSNR drop 9 dB, fidelity 0 dB, now PSNR drop 0.5 dB" in strict


def test_a_dry_run_names_the_plan_of_each_range(quantized: Bundle, tmp_path: Path) -> None:
    told = build(quantized, tmp_path, "--dry-run", "--engine", "tensorrt-rtx", "--compute-capability", "8.9")
    assert [f"would build int8.bundle denoise int8 {index} fp16, tensorrt-rtx" in told for index in (0, 1)] == [
        True
    ] * 2
    measured = build(quantized, tmp_path, "--dry-run").splitlines()[-1]
    assert "onnxruntime-cpu int8" in measured and "openvino-cpu int8" in measured


def test_int8_by_name_is_taken_at_its_word(quantized: Bundle, tmp_path: Path) -> None:
    options = ["--engine", "onnxruntime-cpu", "--precision", "int8", "--min-sqnr", "3"]
    assert "chosen: onnxruntime-cpu int8 takes " in build(quantized, tmp_path, *options)


def test_a_dry_run_does_nothing(bundle: Bundle, tmp_path: Path) -> None:
    told = build(bundle, tmp_path / "cache", "--dry-run", "--engine", "tensorrt-rtx", "--compute-capability", "8.9")
    assert "would build idm_micro.bundle denoise fp16, tensorrt-rtx: about " in told
    assert "height 8..16..64" in told
    told = build(bundle, tmp_path / "cache", "--dry-run")
    assert "would measure onnxruntime-cpu fp32" in told
    assert not (tmp_path / "cache").exists()


def test_without_a_bundle_the_packaged_model_is_measured_and_infer_finds_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = CliRunner().invoke(app, ["build-engine", *QUICK, "--json"])
    assert done.exit_code == 0, done.output
    assert "no bundle here: using the packaged demo model" in done.stderr
    report = checked("build-engine", done.stdout)
    assert report["bundle"] == str(IDM_BUNDLE) and report["cache"] == str(tmp_path / "cache" / "idm-deploy")
    chosen = engine_choice(Bundle.open(IDM_BUNDLE, verify="sizes"))
    assert (chosen.backend, chosen.precision) == (report["decision"]["engine"], report["decision"]["precision"])
    assert list(Path.cwd().iterdir()) == []


def test_of_two_bundles_one_has_to_be_named(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.bundle", "b.bundle"):
        (tmp_path / name).symlink_to(bundle.path)
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["build-engine"]).exception
    assert isinstance(refused, BundleError)
    assert "found 2 bundles in" in str(refused) and "a.bundle, b.bundle. Name the one you mean" in str(refused)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
@pytest.mark.slow
def test_ahead_of_time_with_sizes(bundle: Bundle, tmp_path: Path) -> None:
    options = ["--engine", "tensorrt-rtx", "--compute-capability", "12.0", "--sizes", "16x16,32x32", "--scale", "4"]
    told = build(bundle, tmp_path, *options, "--max-workspace", "1GiB")
    assert "denoise fp16 plan" in told and "built for compute capability 12.0" in told
    assert told.count("in the cache") == 0
    again = build(bundle, tmp_path, *options, "--max-workspace", "1GiB")
    assert again.count("in the cache") == 3
    other = build(bundle, tmp_path, *options, "--max-workspace", "2GiB")
    assert "built before with workspace 1073741824 bytes, now 2147483648 bytes" in other


def test_the_list_and_pruning(bundle: Bundle, tmp_path: Path) -> None:
    build(bundle, tmp_path, "--engine", "onnxruntime-cpu")
    run = CliRunner()
    place = ["engines", "--cache-dir", str(tmp_path)]
    listed = run.invoke(app, place).stdout
    assert listed.startswith("1 in ")
    assert "choice for idm_micro.bundle" in listed
    report = checked("engines", run.invoke(app, [*place, "--json"]).stdout)
    assert [entry["label"] for entry in report["kept"]] == ["choice for idm_micro.bundle"]
    assert run.invoke(app, [*place, "--prune", "--unused", "1"]).stdout.startswith("1 in ")
    pruned = run.invoke(app, [*place, "--prune", "--unused", "0"]).stdout
    assert pruned.startswith("removed choice for idm_micro.bundle")
    assert run.invoke(app, place).stdout.startswith("0 in ")


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--unused", "3"], "give --prune as well"), (["--prune"], "Say what to remove")],
)
def test_pruning_must_say_what(options: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["engines", "--cache-dir", str(tmp_path), *options])
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500MB", 500_000_000), ("2GB", 2_000_000_000), ("1.5GiB", 1_610_612_736), ("1024", 1024), ("3 kib", 3072)],
)
def test_amounts_of_memory(text: str, expected: int) -> None:
    assert bytes_from_text(text) == expected


def test_what_is_no_amount_of_memory() -> None:
    with pytest.raises(typer.BadParameter, match=r"'lots' is not an amount of memory; write 500MB"):
        bytes_from_text("lots")


def test_sizes_and_scales_as_they_are_typed(bundle: Bundle) -> None:
    one = engine_sizes_from_text(bundle, "64x48", "4", 2)
    assert (one.sizes, one.scales, one.batch) == (((48, 64),) * 3, (4.0, 4.0, 4.0), (1, 1, 2))
    two = engine_sizes_from_text(bundle, "16x16,64x48", "2,4", 1)
    assert (two.sizes, two.scales) == (((16, 16), (48, 64), (48, 64)), (2.0, 4.0, 4.0))
    assert engine_sizes_from_text(bundle, None, None, 1).sizes == ((8, 8), (16, 16), (64, 64))


@pytest.mark.parametrize(
    ("sizes", "scale", "message"),
    [
        ("1x1,2x2,3x3,4x4", None, r"--sizes '1x1,2x2,3x3,4x4' has 4 values; write 64x64"),
        ("small", None, r"'small' is no size"),
        (None, "big", r"--scale 'big' cannot be read; write 2,8,12"),
    ],
)
def test_sizes_that_cannot_be_read(bundle: Bundle, sizes: str | None, scale: str | None, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        engine_sizes_from_text(bundle, sizes, scale, 1)
