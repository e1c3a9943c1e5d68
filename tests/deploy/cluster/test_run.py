"""Pictures of a bucket made by a cluster of one node: names, bytes, refusals and what a second run leaves alone."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import deploy
from deploy.bundle import Bundle
from deploy.cluster.pool import Share
from deploy.cluster.run import Cluster, ClusterRun
from deploy.errors import ClusterError, DeployError
from deploy.folders.outcome import Outcome
from deploy.folders.request import Request
from deploy.folders.run import Run
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.upscaler import Upscaler
from tests.s3_server import Store, running_store

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)

ONE = Share(cpus=1, gpus=0)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running_store() as running:
        yield running


@pytest.fixture(scope="module")
def upscaler() -> Iterator[Upscaler]:
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as opened:
        yield opened


def quiet(*_: object) -> None:
    pass


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in it and below, but for what is hidden."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in names.items() if not name.startswith(".")}


def results_in(store: Store, prefix: str) -> dict[str, bytes]:
    inside = {key.removeprefix(prefix): content for key, content in store.objects.items() if key.startswith(prefix)}
    return {name: content for name, content in inside.items() if not name.startswith(".") and not name.endswith("/")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen: in a folder, in one below, two that differ in their suffix, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "2024").mkdir()
    random = np.random.default_rng(0)
    names = [*(f"{number}.png" for number in range(7)), "2024/same.png", "2024/same.bmp", "2024/a b.webp", "2024/c.jpg"]
    for name in names:
        Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def request_for(image: str | Path, output: str | Path, **more: Any) -> Request:
    return Request(images=(Path(image),), output=Path(output), output_is_folder=True, scale=2.0, **more)


def run_on(cluster: Any, upscaler: Upscaler, request: Request, share: Share = ONE, say: Any = quiet) -> list[Outcome]:
    asked = Cluster(address=cluster.address, share=share, threads=1)
    with ClusterRun(upscaler, request, asked, say=say, progress=quiet) as run:
        outcomes = list(run.outcomes())
        assert run.summary["made"] + run.summary["skipped"] + run.summary["failed"] == len(outcomes)
        return outcomes


@pytest.mark.slow
def test_a_bucket_is_enlarged_as_a_folder_is(
    cluster: Any, upscaler: Upscaler, store: Store, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.CRITICAL),
        Run(upscaler, request_for(pictures, tmp_path / "out", keeps_record=True), say=quiet, progress=quiet) as run,
    ):
        alone = {outcome.input.name: outcome for outcome in run.outcomes()}
    for name, content in files_of(pictures).items():
        store.objects[f"b/in/{name}"] = content
    store.objects["b/in/gone.png"] = store.objects["b/in/0.png"]
    store.vanishing.add("b/in/gone.png")
    source, target = store.address("b/in"), store.address("b/out")
    outcomes = run_on(cluster, upscaler, request_for(source, target))
    failed = {outcome.shown_input: outcome.error or "" for outcome in outcomes if outcome.state == "failed"}
    assert set(failed) == {"s3://b/in/broken.png", "s3://b/in/gone.png"}
    assert failed["s3://b/in/gone.png"] == "reading s3://b/in/gone.png: it is not there, or not any more."
    there = failed["s3://b/in/broken.png"].replace("s3://b/in", str(pictures))
    assert there == alone["broken.png"].error
    assert results_in(store, "b/out/") == files_of(tmp_path / "out")  # the same names, the same bytes
    made = [outcome for outcome in outcomes if outcome.state == "made"]
    assert len(made) == 11 and {outcome.as_json()["width"] for outcome in made} == {24}

    # A second run makes what failed, what was changed and what is gone; one whose list is lost goes by the notes.
    store.vanishing.clear()
    store.objects["b/in/1.png"] = store.objects["b/in/2.png"] + b"\0"
    del store.objects["b/out/3_x2.png"]
    store.objects["b/out/4_x2.png"] = b"somebody else's"
    states = {o.shown_input: o.state for o in run_on(cluster, upscaler, request_for(source, target))}
    changed = {f"s3://b/in/{name}": "made" for name in ("1.png", "3.png", "gone.png")}
    changed |= {f"s3://b/in/{name}": "failed" for name in ("broken.png", "4.png")}
    assert states == dict.fromkeys([*(o.shown_input for o in outcomes)], "skipped") | changed
    for key in [key for key in store.objects if "/.idm-deploy/" in key]:
        del store.objects[key]
    before = results_in(store, "b/out/")
    outcomes = run_on(cluster, upscaler, request_for(source, target))
    assert sorted(outcome.state for outcome in outcomes) == ["failed"] * 2 + ["skipped"] * 11
    assert results_in(store, "b/out/") == before
    forced = run_on(cluster, upscaler, request_for(f"{source}".replace("/in?", "/in/4.png?"), target, force=True))
    assert [(o.state, o.shown_output) for o in forced] == [("made", "s3://b/out/4_x2.png")]


@pytest.mark.slow
def test_what_a_cluster_lacks_is_told(
    cluster: Any, upscaler: Upscaler, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = request_for(pictures, tmp_path / "out")
    with pytest.raises(ClusterError, match=r"room for a worker of 1 CPUs and 1 GPUs: .* has 1 CPUs and 0 GPUs"):
        run_on(cluster, upscaler, here, Share(cpus=1, gpus=1))
    monkeypatch.setattr(deploy, "__version__", "9.9")
    told: list[str] = []
    with pytest.raises(
        ClusterError, match=r"No machine .* can make these pictures\. .*\(127\.0\.0\.1\): it has idm-deploy"
    ):
        run_on(cluster, upscaler, here, say=told.append)
    assert any("is not used: it has idm-deploy" in line and "the command is of 9.9" in line for line in told)


def test_places_that_will_not_do_are_refused(
    upscaler: Upscaler, store: Store, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cluster.run.connected", lambda _: nullcontext())  # no cluster is needed to list files

    def refusal(request: Request) -> str:
        asked = Cluster(address="auto", share=ONE, threads=1)
        with pytest.raises(DeployError) as caught:
            ClusterRun(upscaler, request, asked, say=quiet, progress=quiet)
        return str(caught.value)

    out = tmp_path / "out"
    assert "would lie among its pictures" in refusal(request_for(pictures, pictures))
    assert "There is no picture and no folder" in refusal(request_for(tmp_path / "none", out))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.txt").write_bytes(b"")
    assert "no picture to enlarge in" in refusal(request_for(tmp_path / "empty", out))
    assert "is a file; on a cluster, -o names a folder" in refusal(request_for(pictures, pictures / "0.png"))
    shutil.copytree(pictures, tmp_path / "b" / pictures.name)
    two = Request(images=(pictures, tmp_path / "b" / pictures.name), output=out, output_is_folder=True, scale=2.0)
    assert "2 of the folders are called" in refusal(two)
    store.refused.add("PUT")
    try:
        assert "ACCESS_DENIED" in refusal(request_for(pictures, store.address("b/closed")))
    finally:
        store.refused.clear()


def test_what_is_asked_for_is_checked_before_a_cluster_is(upscaler: Upscaler, tmp_path: Path) -> None:
    for more, match in (
        ({"batch": 8}, "leave `batch` out"),
        ({"name": "x{ext}"}, "it must have {stem} or"),
        ({"output": None}, "-o names the folder"),
    ):
        request = Request(**{"images": (tmp_path,), "output": tmp_path, "scale": 2.0} | more)  # type: ignore[arg-type]
        asked = Cluster(address="auto", share=ONE, threads=1)
        with pytest.raises(ClusterError, match=match):
            ClusterRun(upscaler, request, asked, say=quiet, progress=quiet)
    for cpus, gpus, match in ((0, 0, "must take a part"), (-1, 1, "must take a part"), (1, 1.5, "whole number")):
        with pytest.raises(ClusterError, match=match):
            Share(cpus=cpus, gpus=gpus)
    assert Share(cpus=0.1, gpus=0).fits({"CPU": 0.7}) == 7
    assert Share(cpus=1, gpus=0.25).fits({"CPU": 8, "GPU": 1}) == 4
