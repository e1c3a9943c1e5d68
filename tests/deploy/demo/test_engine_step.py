"""The demo's step that chooses an engine, on a tiny quantized bundle."""

import shutil
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.demo.demo import Demo, DemoSettings, choose_engine
from deploy.engine.graphs import GraphSet


@pytest.fixture
def demo(quantized_idm: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Demo(settings=DemoSettings(threads=1), folder=tmp_path, say=lambda _: None, progress=lambda *_: None)
    shutil.copytree(quantized_idm.path, made.bundle_path())
    return made


@pytest.mark.slow
def test_the_steps_after_it_run_what_was_chosen(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_engine(demo)
    assert chosen["left_out"] is None
    assert chosen["why"].startswith(f"{chosen['engine']} {chosen['precision']} takes ")
    assert {"int8", "fp32"} <= {candidate["precision"] for candidate in chosen["candidates"]}
    with demo.upscaler() as upscaler:
        assert (upscaler.choice.backend, upscaler.choice.precision) == (chosen["engine"], chosen["precision"])
    monkeypatch.setattr(GraphSet, "engine", None)  # an interrupted demo measures nothing twice
    assert choose_engine(demo) == chosen


@pytest.mark.parametrize("named", [{"engine": "onnxruntime-cpu"}, {"precision": "fp32"}])
def test_what_was_named_is_not_chosen(demo: Demo, named: dict[str, str]) -> None:
    told = Demo(settings=DemoSettings(**named), folder=demo.folder, say=demo.say, progress=demo.progress)  # type: ignore[arg-type]
    assert choose_engine(told) == {"left_out": "the engine or the precision was named"}
