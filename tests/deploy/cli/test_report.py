"""`idm-deploy report`: what is written, found, given and refused."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.errors import BundleError, DeployError, FolderError
from deploy.packaged.places import IDM_BUNDLE
from tests.deploy.quantizations import int8_target, quantization
from tests.deploy.report.facts_for_tests import bench_record, evaluation_record
from tests.json_schema import checked


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copytree(IDM_BUNDLE, tmp_path / "demo.bundle")
    (tmp_path / "originals").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "originals" / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_page_with_pictures(here: Path) -> None:
    result = run("--originals", "originals", "--engine", "onnxruntime-cpu", "--threads", 1, "--scale", 2)
    assert result.exit_code == 0, result.output
    assert "page: demo-report/report.html, 0." in result.stdout
    page = (here / "demo-report" / "report.html").read_text()
    assert page.count("data:image/webp") == 5
    assert "1 picture, originals from originals, enlarged 2×" in page


def test_given_figures_are_on_the_page(here: Path) -> None:
    (here / "b.json").write_text(json.dumps(bench_record()))
    (here / "e.json").write_text(json.dumps(evaluation_record()))
    arguments = ["demo.bundle", "-o", "page.html", "--no-pictures", "--json"]
    result = run(*arguments, "--bench", "b.json", "--evaluation", "e.json")
    assert checked("report", result.stdout) == {
        "page": "page.html",
        "bytes": (here / "page.html").stat().st_size,
        "failures": {},
    }
    page = (here / "page.html").read_text()
    assert "From b.json." in page
    assert "2 originals of 1 photograph, e.json" in page
    assert "data:image/webp" not in page


def test_a_page_in_the_way_is_kept(here: Path) -> None:
    (here / "page.html").write_text("mine")
    with pytest.raises(FolderError, match="it exists already"):
        run("demo.bundle", "-o", "page.html", "--no-pictures")
    assert (here / "page.html").read_text() == "mine"
    assert run("demo.bundle", "-o", "page.html", "--no-pictures", "--force").exit_code == 0
    assert (here / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_what_cannot_be_read_is_refused_before_any_work(here: Path) -> None:
    (here / "b.json").write_text("[]")
    with pytest.raises(DeployError, match=r"b\.json: it holds a list.*bench --json"):
        run("demo.bundle", "--bench", "b.json")
    with pytest.raises(BundleError, match="is not a bundle"):
        run("originals")
    assert not (here / "demo-report").exists()


def test_options_that_contradict_are_wrong_usage(here: Path) -> None:
    assert here
    assert run("--no-pictures", "--originals", "originals").exit_code == 2
    assert run("--measure", "--bench", "b.json").exit_code == 2


def test_without_a_bundle_the_packaged_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--no-pictures", "-o", "page.html")
    assert result.exit_code == 0
    assert "using the packaged demo model" in result.stderr
    assert "<h1>idm-demo</h1>" in (tmp_path / "page.html").read_text()


def test_a_way_that_fails_is_told_and_exits_with_1(here: Path) -> None:
    manifest = json.loads((here / "demo.bundle" / "bundle.json").read_text())
    (no_graph,) = (name for name in manifest["samples"] if name.startswith("coffee"))
    manifest["quantization"] = quantization(ort=int8_target(graph=no_graph)).as_json()
    (here / "demo.bundle" / "bundle.json").write_text(json.dumps(manifest))
    options = ["--originals", "originals", "--engine", "onnxruntime-cpu", "--threads", 1, "--scale", 2]
    result = run("-o", "page.html", *options)
    assert result.exit_code == 1
    assert "idm-deploy: int8: " in result.stderr
    assert no_graph in (here / "page.html").read_text()


def test_measuring_times_steps_and_pictures_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.report import facts

    seen = []

    def bench(_bundle: object, settings: object, network: object, _progress: object) -> dict[str, object]:
        seen.append((settings, network))
        return bench_record()

    monkeypatch.setattr(facts, "bench_bundle", bench)
    assert run("-o", "page.html", "--no-pictures", "--measure", "--threads", 1).exit_code == 0
    ((settings, network),) = seen
    assert (settings.parts, settings.threads, network) == (("step", "picture", "disk"), 1, None)
    assert "a quick measurement of 3 rounds, made for this page" in (here / "page.html").read_text()
