"""The command on small bundles: its report, tables, plot and exit codes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.cli.commands.bench import note_from_load, show
from deploy.cli.main import app
from deploy.engine.graphs import GraphSet
from deploy.errors import DeployError, MissingPackage
from deploy.measure.benchmark.bench import failures_of
from deploy.measure.benchmark.plot import write_plot
from deploy.measure.benchmark.settings import PARTS, BenchSettings
from deploy.measure.benchmark.steps import runnable_choices
from engines.backends import BACKENDS
from engines.errors import EngineError
from tests.checkpoints import save_idm
from tests.json_schema import checked

QUICK = ["--size", "17x16", "--rounds", "1", "--threads", "1", "--plain", "1", "--batches", "1,2", "--sizes", "8,16"]
ROW = {"name": str, "failure": (str, type(None)), "times_ms": list, "median_ms": float}
COLUMNS: dict[str, dict[str, Any]] = {
    "pictures": ROW | {"evaluations": int, "sampling": str, "parts_ms": dict},
    "batches": ROW | {"pictures": int, "at_once": int, "pictures_per_second": float, "tiles": int},
    "sizes": ROW | {"size": str, "us_per_pixel": float, "tiles": int},
    "start_up": {"name": str, "imported": float, "first_picture": float, "resident_bytes": int, "peak_bytes": int},
    "roofline": {"name": str, "peak": float},
}
"""What every row of the JSON report has, part by part; other tools read it."""


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bench", *arguments])


@pytest.fixture(scope="module")
def whole(idm_micro: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report of all parts, measured once, and its plot."""
    plot = tmp_path_factory.mktemp("plot") / "bench.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.measure.benchmark.bench.STARTS", 1)
        patch.setattr("deploy.measure.benchmark.roofline.SIDE", 64)
        result = run(str(idm_micro.path), *QUICK, "--json", "--plot", str(plot))
    assert result.exit_code == 0, result.output
    return checked("bench", result.stdout), plot


@pytest.mark.runs_openvino
def test_everything_of_a_bundle_as_json(whole: tuple[dict[str, Any], Path]) -> None:
    report, plot = whole
    assert report["schema"] == 2
    head = {"bundle", "family", "size", "lr_size", "batch", "threads", "rounds", "cpu", "versions", "note"}
    assert head <= report.keys()
    engines = [f"{name} {p}" for name, b in BACKENDS.items() if b.probe().available for p in b.precisions]
    steps = report["timings"]["step"]
    assert [row["name"] for row in steps] == ["PyTorch, as published", "PyTorch, rewritten", *engines]
    assert all(len(row["times_ms"]) == 1 and min(row["times_ms"]) > 0 and row["ratio"] > 0 for row in steps)
    for part, columns in COLUMNS.items():
        rows = report[part]["rows"]
        assert rows, part
        for row in rows:
            assert all(isinstance(row[name], kind) for name, kind in columns.items()), (part, row)
    published, *_ = report["pictures"]["rows"]
    assert published["extrapolated_from_steps"] == 2
    assert report["pictures"]["rows"][-1]["times_faster"].keys() == {"DDPM-2000", "DDIM-200"}
    assert report["disk"]["bundle"] > 0
    assert failures_of(report) == []
    with Image.open(plot) as drawn:
        assert drawn.width > 1000


def test_tables_for_people(whole: tuple[dict[str, Any], Path], capsys: pytest.CaptureFixture[str]) -> None:
    report, _ = whole
    show(report | {"note": "busy"})
    shown = capsys.readouterr().out
    for words in (
        "! busy",
        "one step at 17x16, batch 1, 1 threads",
        "a whole picture, 4x4 to 17x16, batch 1, everything included",
        "x DDPM-2000",
        "pictures/s",
        "one picture from 4x4 at each size",
        "first picture",
        "operations per second",
        "on disk",
        "PyTorch, as published, DDIM-200: extrapolated from 2 timed steps to 199",
        "ddim, 1 steps placed uniform, from pure noise",
    ):
        assert words in shown


@pytest.mark.slow
def test_the_latent_family_is_decoded_too(latent_sr: Bundle) -> None:
    result = run(str(latent_sr.path), *QUICK, "--part", "step", "--part", "picture", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["timings"]["decode"][0]["name"] == "PyTorch, as published"
    assert all(row["times_ms"][0] > 0 for kind in ("step", "decode") for row in report["timings"][kind])
    assert all(row["parts_ms"]["decode"] > 0 for row in report["pictures"]["rows"])
    assert "batches" not in report


def test_pictures_that_come_from_noise(latent_gen: Bundle) -> None:
    result = run(str(latent_gen.path), *QUICK, "--engine", "onnxruntime-cpu", "--part", "sizes", "--part", "batches")
    assert result.exit_code == 0, result.output
    assert "one picture from noise at each size, onnxruntime-cpu fp32" in result.stdout


@pytest.mark.runs_openvino
def test_a_checkpoint_s_own_weights(tmp_path: Path) -> None:
    checkpoint = save_idm(tmp_path)
    bundle = tmp_path / "micro.bundle"
    assert CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(bundle)]).exit_code == 0
    arguments = [str(bundle), *QUICK, "--part", "step", "--json"]
    assert run(*arguments, "--checkpoint", str(checkpoint)).exit_code == 0
    other = run(*arguments, "--checkpoint", str(bundle / "bundle.json"))
    assert "bundle.json is not a checkpoint but something else" in str(other.exception)


def test_an_engine_that_fails_is_a_row_in_every_part_and_exit_code_1(
    idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_graph: Callable[..., Any] = GraphSet.run

    def failing(self: GraphSet, name: str, feeds: Any, **told: Any) -> Any:
        if self.choice.backend == "onnxruntime-cpu" and name == "denoise":
            raise EngineError("the engine fell over")
        return run_graph(self, name, feeds, **told)

    monkeypatch.setattr(GraphSet, "run", failing)
    asked = [item for part in ("step", "picture") for item in ("--part", part)]
    result = run(str(idm_micro.path), *QUICK, *asked, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert failures_of(report) == ["onnxruntime-cpu fp32: the engine fell over"] * 2
    others = [row for row in report["timings"]["step"] if not row["failure"]]
    assert len(others) >= 2 and all(row["times_ms"] for row in others)
    show(report)
    assert re.search(r"onnxruntime-cpu fp32 +the engine fell over", capsys.readouterr().out)


def test_without_torch_the_engines_are_timed_alone(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.measure.benchmark.steps.find_spec", lambda _: None)
    report = json.loads(run(str(idm_micro.path), *QUICK, "--part", "step", "--part", "picture", "--json").stdout)
    assert not [row for row in report["timings"]["step"] if row["name"].startswith("PyTorch")]
    assert all("times_faster" not in row for row in report["pictures"]["rows"])


def test_without_onnx_the_roofline_says_what_it_needs(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.measure.benchmark.roofline.find_spec", lambda _: None)
    result = run(str(idm_micro.path), *QUICK, "--part", "roofline")
    assert result.exit_code == 0
    assert "needs onnx: pip install 'idm-deploy[export]'" in result.stdout


def test_one_engine_and_precision_can_be_asked_for(idm_micro: Bundle) -> None:
    asked = BenchSettings(engines=("onnxruntime-cpu",), precisions=("fp32",), threads=3)
    (choice,) = runnable_choices(idm_micro, asked)
    assert (choice.backend, choice.precision, choice.threads) == ("onnxruntime-cpu", "fp32", 3)
    with pytest.raises(DeployError, match="nothing of what was asked for can be timed; there is onnxruntime-cpu fp32"):
        runnable_choices(idm_micro, BenchSettings(precisions=("int8",)))


def test_no_engine_at_all(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.engine.choice.BACKENDS", {})
    with pytest.raises(MissingPackage, match=r"No engine is installed to time: pip install 'idm-deploy\[cpu\]'"):
        runnable_choices(idm_micro, BenchSettings())


def test_a_busy_machine_is_noted_and_a_quiet_one_is_not() -> None:
    assert note_from_load(1.0, 2) is None
    assert "busy (load 7.5 on 2 cores)" in str(note_from_load(7.54, 2))


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(DeployError, match="batch 0, threads 0, side -1: each must be at least 1"):
        BenchSettings(batch=0, threads=0, sides=(64, -1))
    with pytest.raises(DeployError, match="no part 'pictures', the nearest is 'picture'; it has step"):
        BenchSettings(parts=("pictures",))
    assert BenchSettings().parts == PARTS


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--size", "big"], "WIDTHxHEIGHT"), (["--sizes", "64,big"], "is no list of numbers")]
)
def test_what_is_no_size_is_wrong_usage(arguments: list[str], told: str, tmp_path: Path) -> None:
    result = run(str(tmp_path), *arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_a_plot_that_cannot_be_is_refused_before_any_work(
    idm_micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run(str(idm_micro.path), "--plot", str(tmp_path / "none" / "plot.png"))
    assert "there is no folder" in str(refused.exception)
    monkeypatch.setattr("deploy.measure.benchmark.plot.find_spec", lambda _: None)
    assert "needs matplotlib" in str(run(str(idm_micro.path), "--plot", str(tmp_path / "plot.png")).exception)


def test_a_plot_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no part that can be drawn was measured"):
        write_plot({"timings": {}}, tmp_path / "plot.png")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    modules = ["torch", "onnx", "onnxruntime", "openvino", "matplotlib"]
    program = (
        "import sys, deploy.measure.benchmark.bench, deploy.measure.benchmark.plot; "
        f"print(set({modules}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
