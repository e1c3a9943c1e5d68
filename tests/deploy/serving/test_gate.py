"""Jobs of a service on a cluster: gate and replica as they are, with a stand-in for what Ray carries between them."""

import asyncio
import json
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from deploy.packaged.places import IDM_BUNDLE
from deploy.serving.cluster import gate as gate_module
from deploy.serving.cluster import pictures as pictures_module
from deploy.serving.cluster.pictures import Pictures, Wish
from deploy.serving.cluster.settings import ClusterSettings
from tests.deploy.serving.test_upscale import form

SETTINGS = ClusterSettings(bundles={"idm": str(IDM_BUNDLE)}, threads=1, engine="onnxruntime-cpu", batch=1, max_queue=2)
LONG = {"scale": "8", "steps": "60"}
END: Any = StopAsyncIteration


class Call:
    """A call of a replica: its events come from a task that can be cancelled. dies_after: so many events, if at all."""

    def __init__(self, handle: "Handle", events: AsyncGenerator[Any], dies_after: int | None) -> None:
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(handle, events, dies_after))

    async def _run(self, handle: "Handle", events: AsyncGenerator[Any], dies_after: int | None) -> None:
        from ray.exceptions import RayActorError

        number = 0
        try:
            if handle.refusal is not None:
                self._told.put_nowait(handle.refusal)
                return
            while handle.is_busy:
                await asyncio.sleep(0.01)
            async for event in events:
                if number == dies_after:
                    self._told.put_nowait(RayActorError())
                    return
                number += 1
                self._told.put_nowait(event)
            self._told.put_nowait(END())
        finally:
            await events.aclose()

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> Any:
        event = await self._told.get()
        if isinstance(event, Exception):
            raise event
        return event

    def cancel(self) -> None:
        self._task.cancel()


class Collecting(Pictures):
    """Pictures that are made whether or not somebody still waits, as where Ray Serve collects them."""

    async def _made_together(self, wish: Wish) -> dict[str, Any]:
        return (await asyncio.shield(asyncio.ensure_future(self.make_all([wish]))))[0]


@dataclass
class Handle:
    """Ray Serve's handle of replicas, of which there is one, in this process; a test says what goes wrong."""

    pictures: Any
    deaths: list[int] = field(default_factory=list)  # after how many events, of the next pictures
    refusal: Exception | None = None
    is_busy: bool = False

    def options(self, *, stream: bool) -> "Handle":
        assert stream
        return self

    def __getattr__(self, name: str) -> Any:
        handle = self

        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Any:
                answer = getattr(handle.pictures, name)(*arguments)
                if name == "describe":
                    return answer
                return Call(handle, answer, handle.deaths.pop(0) if name == "make" and handle.deaths else None)

        return Method


@dataclass(frozen=True, kw_only=True)
class Service:
    """A gate that listens. folders: where it and the replica have their files."""

    app: FastAPI
    handle: Handle
    client: httpx2.Client
    folder: Path

    def job(self, settings: dict[str, str], query: str = "") -> dict[str, Any]:
        answer = self.client.post(f"/v1/upscale?wait=false{query}", files=form(), data=settings)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def events(self, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        lines = self.client.get(job["links"]["events"]).text.splitlines()
        heads = (line.removeprefix("event: ") for line in lines[::3])
        return [(head, json.loads(line.removeprefix("data: "))) for head, line in zip(heads, lines[1::3], strict=True)]

    def until(self, job: dict[str, Any], is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + 30
        while not is_so(now := self.client.get(job["links"]["self"]).json()):
            assert time.monotonic() < end, now
            time.sleep(0.02)
        return dict(now)

    def files(self) -> list[Path]:
        """What is kept, once what is to go has had the time to go."""
        end = time.monotonic() + 30
        while (left := [path for path in self.folder.rglob("*") if path.is_file()]) and time.monotonic() < end:
            time.sleep(0.02)
        return left


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray 2.60's of pydantic
        pytest.importorskip("ray.serve")
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        for module in (gate_module, pictures_module):
            patch.setattr(module, "bind_to_own_address", lambda: None)
        handle = Handle(Collecting(SETTINGS.as_json()))
        app = gate_module.Gate(SETTINGS.as_json(), handle).__serve_build_asgi_app__()
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Service(app=app, handle=handle, client=client, folder=folder)
        server.should_exit = True
        thread.join()


def test_jobs_are_told_of_and_their_files_fetched_as_from_a_service(service: Service) -> None:
    alone = service.client.post("/v1/upscale", files=form(), data=LONG)
    assert alone.status_code == 200 and service.files() == []
    job = service.job(LONG, "&previews=20")
    assert (job["width"], job["height"], job["steps"], job["evaluations"]) == (128, 96, 60, 60)
    events = service.events(job)
    jobs = [data for kind, data in events if kind == "job"]
    steps = [data["step"] for data in jobs]
    assert steps == sorted(steps) and len(set(steps)) > 2 and steps[-1] == 60
    assert {data["state"] for data in jobs} >= {"running", "done"} and jobs[-1]["bytes"] == len(alone.content)
    previews = [data for kind, data in events if kind == "preview"]
    assert previews and all(each["step"] % 20 == 0 and each["image"].startswith("data:image/") for each in previews)
    result = service.client.get(job["links"]["result"])
    assert result.content == alone.content and "a_x8.png" in result.headers["content-disposition"]
    for view in (job["links"]["input"], job["links"]["bicubic"], f"{job['links']['result']}?view=png"):
        answer = service.client.get(view)
        assert Image.open(BytesIO(answer.content)).size == (128, 96), view
    assert 'idm_jobs_total{outcome="done"}' in service.client.get("/metrics").text
    assert "<title>" in service.client.get("/").text
    service.client.delete(job["links"]["self"])
    assert service.client.get(job["links"]["self"]).status_code == 404 and service.files() == []


def test_jobs_end_when_they_are_cancelled_expire_or_are_late(service: Service) -> None:
    job = service.job(LONG)
    service.until(job, lambda now: now["step"] > 0)
    assert service.client.delete(job["links"]["self"]).json()["state"] == "cancelled"
    assert service.files() == [] and service.client.get(job["links"]["result"]).status_code == 410
    assert service.client.post("/v1/upscale?deadline=0.01", files=form(), data=LONG).status_code == 504
    jobs = service.app.state.jobs
    usual = jobs.options
    jobs.options = replace(usual, max_kept=1)
    try:
        job = service.job({"scale": "2"})
        assert service.until(job, lambda now: now["state"] == "expired") and service.files() == []
    finally:
        jobs.options = usual


def test_a_picture_whose_replica_dies_is_made_by_another(service: Service) -> None:
    alone = service.client.post("/v1/upscale", files=form(), data={"scale": "4"}).content
    for deaths in ([2, 1], [0]):
        service.handle.deaths = deaths
        job = service.job({"scale": "4"})
        assert service.until(job, lambda now: now["state"] == "done")["step"] > 0
        assert service.client.get(job["links"]["result"]).content == alone and service.handle.deaths == []
        service.client.delete(job["links"]["self"])
    service.handle.deaths = [0]
    assert service.client.post("/v1/upscale", files=form(), data={"scale": "4"}).content == alone
    service.handle.deaths = [0, 0, 0]
    refused = service.client.post("/v1/upscale", files=form(), data={"scale": "4"})
    assert refused.status_code == 500 and "3 replicas died while this picture" in refused.json()["detail"]
    assert service.files() == []


def test_what_cannot_be_made_is_refused_at_once_or_told_later(service: Service) -> None:
    from ray.serve._private.common import DeploymentID
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    client, handle = service.client, service.handle
    wrong = client.post("/v1/upscale?wait=false", files=form(b"no picture"), data={"scale": "4"})
    assert wrong.status_code == 422 and "this is not a PNG" in wrong.json()["detail"]
    assert client.get("/v1/jobs/one").status_code == 404
    handle.refusal = BackPressureError(num_queued_requests=1, max_queued_requests=1)
    full = client.post("/v1/upscale?wait=false", files=form(), data={"scale": "4"})
    assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
    assert client.post("/v1/estimate", json={"width": 8, "height": 8, "scale": 2}).status_code == 429
    handle.refusal = DeploymentUnavailableError(DeploymentID("Pictures"))
    none = client.post("/v1/upscale?wait=false", files=form(), data={"scale": "4"})
    assert none.status_code == 503 and "No replica can make pictures now" in none.json()["detail"]
    handle.refusal = None
    handle.is_busy = True
    jobs = [service.job({"scale": "2"}), service.job({"scale": "2"})]
    assert [(job["state"], job["width"]) for job in jobs] == [("queued", 0)] * 2
    assert client.get(jobs[1]["links"]["self"]).json()["place"] == 2
    client.delete(jobs[0]["links"]["self"])
    assert client.get(jobs[1]["links"]["self"]).json()["place"] == 1
    handle.is_busy = False
    assert service.until(jobs[1], lambda now: now["state"] == "done")["width"] == 32
    for job in jobs:
        client.delete(job["links"]["self"])
    assert service.files() == []
