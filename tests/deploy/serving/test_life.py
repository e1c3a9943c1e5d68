"""How a service begins and ends, and what becomes of the pictures of a worker that dies."""

import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.packaged.places import IDM_BUNDLE
from deploy.serving.start import service_folder
from tests.deploy.serving.service import Service, served
from tests.deploy.serving.test_upscale import PICTURE, form

LONG = {"scale": "12", "stages": "once", "draws": "4"}


def start(service: Service, fields: dict[str, str], picture: bytes = PICTURE) -> dict[str, Any]:
    with service.client() as client:
        job: dict[str, Any] = client.post("/v1/upscale?wait=false", files=form(picture), data=fields).json()
    return job


def until(service: Service, address: str, states: set[str], seconds: float) -> dict[str, Any]:
    ends = time.monotonic() + seconds
    with service.client() as client:
        while time.monotonic() < ends:
            job: dict[str, Any] = client.get(address).json()
            if job["state"] in states:
                return job
            time.sleep(0.02)
    raise AssertionError(f"the job is {job['state']} after {seconds} s: {job['error']}")


@pytest.mark.slow
def test_a_killed_worker_costs_its_pictures_alone_and_a_signal_lets_the_rest_be_made(tmp_path: Path) -> None:
    """The next picture comes soon after the kill; a drained service has made what it took, and left nothing."""
    with served(tmp_path / "tmp") as service:
        jobs = [start(service, LONG) for _ in range(3)]  # a worker makes two at once, where the second is a short one
        until(service, jobs[0]["links"]["self"], {"running"}, 10)
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        lost = until(service, jobs[0]["links"]["self"], {"failed"}, 5)
        assert "killed by SIGKILL" in lost["error"]["detail"] and lost["error"]["status"] == 500
        with service.client() as client:
            assert client.post("/v1/upscale", files=form(), data={"scale": "2"}).status_code == 200
            # On a machine where nothing else runs: 2 s.
            assert time.monotonic() - killed < 20
            assert "idm_worker_restarts 1.0" in client.get("/metrics").text
        until(service, jobs[2]["links"]["self"], {"done"}, 30)
        assert service.workers() != [worker]

        answers: list[httpx2.Response] = []

        def wait_for_one() -> None:
            with service.client() as client:
                answers.append(client.post("/v1/upscale", files=form(), data=LONG))

        waiting = threading.Thread(target=wait_for_one)
        waiting.start()
        with service.client() as client:
            while "idm_running 1.0" not in client.get("/metrics").text:
                time.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            while client.get("/readyz").json()["status"] != "draining":
                time.sleep(0.01)
            refused = client.post("/v1/upscale", files=form(), data={"scale": "2"})
            assert (refused.status_code, "being stopped" in refused.json()["detail"]) == (503, True)
        waiting.join(60)
        assert [answer.status_code for answer in answers] == [200]
        assert service.process.wait(30) == 0
        assert list(service.folder.iterdir()) == []


@pytest.mark.slow
def test_a_second_signal_stops_and_a_dead_service_leaves_no_file(tmp_path: Path) -> None:
    with served(tmp_path / "one") as service:
        start(service, LONG | {"draws": "64"})
        service.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 5
        assert list(service.folder.iterdir()) == []
    with served(tmp_path / "two") as service:
        start(service, LONG | {"draws": "64"})
        workers = service.workers()
        service.process.kill()
        for _ in range(200):
            alive = [number for number in workers if Path(f"/proc/{number}").exists()]
            if not alive and not list(service.folder.iterdir()):
                break
            time.sleep(0.05)
        assert (alive, list(service.folder.iterdir())) == ([], [])


@pytest.mark.slow
def test_two_bundles_on_two_workers_are_called_by_their_names(tmp_path: Path) -> None:
    other = tmp_path / "of another.bundle"
    shutil.copytree(IDM_BUNDLE, other)
    with served(tmp_path / "tmp", IDM_BUNDLE, other, options=("--workers", "2")) as service, service.client() as client:
        models = client.get("/v1/models").json()["models"]
        assert [(model["name"], model["default"]) for model in models] == [("idm-demo", True), ("of-another", False)]
        for _ in range(300):
            if "idm_workers_ready 2.0" in client.get("/metrics").text:
                break
            time.sleep(0.1)
        assert len(service.workers()) == 2
        answers = [
            client.post("/v1/upscale", files=form(), data={"scale": "2"} | ({"model": name} if name else {}))
            for name in (None, "idm-demo", "of-another")
        ]
        assert [answer.headers["x-idm-model"] for answer in answers] == ["idm-demo", "idm-demo", "of-another"]
        assert len({answer.content for answer in answers}) == 1


def test_folders_that_killed_services_left_go_when_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "idm-deploy-serve-left").mkdir()
    (tmp_path / "idm-deploy-serve-left" / "input.png").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "idm-deploy-serve-link").symlink_to(tmp_path / "mine")
    with service_folder() as first, service_folder() as second:
        assert first.is_dir() and second.is_dir() and first != second
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "mine", "idm-deploy-serve-link"}
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "idm-deploy-serve-link"}
