"""The service on a Ray cluster: what it is told, what it refuses, and one that runs, under load and with losses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.packaged.places import IDM_BUNDLE
from deploy.serving.cluster.binding import bound
from deploy.serving.cluster.settings import ClusterSettings
from deploy.serving.options import ServeError
from tests.browser import opened_browser
from tests.deploy.serving import test_page
from tests.deploy.serving.service import Service
from tests.deploy.serving.test_upscale import PICTURE, form

LOAD_SECONDS = 30.0
CLIENTS = 40


def test_settings_become_a_file_and_are_checked(tmp_path: Path) -> None:
    tokens, config = tmp_path / "tokens", tmp_path / "serve.yaml"
    tokens.write_text("a token of this test\n")
    words = ["serve", str(IDM_BUNDLE), "--write-config", str(config), "--replicas", "1-8", "--gpus", "0.5"]
    words += ["--keep-seconds", "60", "--max-kept", "1GiB"]
    words += ["--host", "0.0.0.0", "--token-file", str(tokens), "--allow-host", "pictures.example.org"]
    assert CliRunner().invoke(app, words).exit_code == 0
    text = config.read_text()
    assert "a token of this test" not in text
    written = json.loads(text[text.index("{") :])
    assert (written["proxy_location"], written["http_options"]["host"]) == ("EveryNode", "0.0.0.0")
    arguments = written["applications"][0]["args"]
    settings = ClusterSettings.of(arguments)
    assert settings.as_json() == arguments and (settings.replicas_least, settings.replicas_most) == (1, 8)
    assert (settings.options().keep_seconds, settings.options().max_kept) == (60, 1 << 30)
    assert settings.options().tokens == ("a token of this test",) and settings.hosts == ("pictures.example.org",)
    for wrong, sentence in (
        ({"replicas_least": 3}, "--replicas is N or LEAST-MOST from 1, found 3-1"),
        ({"ongoing": 4}, "--ongoing is a number from 16, found 4"),
        ({"cpus": 0}, "--cpus above 0"),
        ({"bundels": {}}, "There is no argument 'bundels'; the nearest is 'bundles'"),
        ({"bundles": "a"}, "must name folders"),
        ({"host": "0.0.0.0"}, "can be reached from other machines"),
    ):
        with pytest.raises(ServeError, match=sentence):
            ClusterSettings.of({"bundles": {"a": "a.bundle"}, **wrong})
    for words, sentence in (
        (["--ray", "auto", "--workers", "2"], "on a cluster say --replicas"),
        (["--ray", "auto", "--replicas", "many"], "it is N or LEAST-MOST, such as 1-8"),
    ):
        refused = CliRunner().invoke(app, ["serve", str(IDM_BUNDLE), *words])
        assert refused.exit_code == 2 and sentence in " ".join(refused.stderr.split()).replace("│ ", "")


def test_ports_of_replicas_are_bound_to_their_machine() -> None:
    assert bound("[::]:0", "127.0.0.1") == "127.0.0.1:0"
    assert bound("[::]:0", "fd00::1") == "[fd00::1]:0"
    assert bound("10.0.0.1:5", "127.0.0.1") == "10.0.0.1:5"


@pytest.fixture
def on_cluster(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service of two replicas, on a cluster of its own, and its address."""
    pytest.importorskip("ray")
    words = ["serve", str(IDM_BUNDLE), "--ray", "local", "--port", "0", "--json", "--max-queue", "4"]
    words += [
        "--replicas",
        "2",
        "--cpus",
        "0.5",
        "--threads",
        "1",
        "--engine",
        "onnxruntime-cpu",
        "--precision",
        "fp32",
    ]
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("idm-deploy"), *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=tmp_path,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield process, json.loads(line)["address"]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        if process.stdout is not None:
            process.stdout.close()


def replicas_of(process: int) -> set[int]:
    """The processes that make pictures below another one."""
    names = {int(place.name): place for place in Path("/proc").iterdir() if place.name.isdecimal()}
    found = set()
    for number, place in names.items():
        try:
            is_one = (place / "cmdline").read_bytes().startswith(b"ray::ServeReplica:idm-deploy:Pictures")
            parent = number
            while is_one and parent not in (process, 0, 1):
                parent = int((Path("/proc") / str(parent) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if is_one and parent == process:
            found.add(number)
    return found


def busiest(processes: set[int]) -> int:
    """The one that works now."""

    def ticks(process: int) -> int:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = {process: ticks(process) for process in processes}
    time.sleep(0.3)
    return max(processes, key=lambda process: ticks(process) - before[process])


def jobs_are_as_those_of_one_machine(client: httpx2.Client, process: int) -> None:
    """Followed by events, fetched, cancelled, and made by another replica where one is killed meanwhile."""
    long = {"scale": "8", "steps": "120"}
    alone, longer = (
        client.post("/v1/upscale", files=form(), data=each).content for each in (long, {**long, "steps": "400"})
    )
    job = client.post("/v1/upscale?wait=false&previews=40", files=form(), data=long).json()
    assert (job["width"], job["steps"]) == (128, 120), job
    lines = client.get(job["links"]["events"]).text.splitlines()
    heads = [line.removeprefix("event: ") for line in lines[::3]]
    told = [json.loads(line.removeprefix("data: ")) for line in lines[1::3]]
    steps = [data["step"] for head, data in zip(heads, told, strict=True) if head == "job"]
    assert "preview" in heads and steps == sorted(steps) and len(set(steps)) > 3 and steps[-1] == 120, steps
    assert client.get(job["links"]["result"]).content == alone
    for view in ("input", "bicubic"):
        assert client.get(job["links"][view]).content[:4] == b"\x89PNG"
    client.delete(job["links"]["self"])
    assert client.get(job["links"]["self"]).status_code == 404

    unwanted = client.post("/v1/upscale?wait=false", files=form(), data={**long, "steps": "700"}).json()
    until(client, unwanted, lambda now: now["step"] > 0)
    assert client.delete(unwanted["links"]["self"]).json()["state"] == "cancelled"
    assert client.get(unwanted["links"]["result"]).status_code == 410
    for _ in range(4):  # more than both replicas have places for
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/upscale", files=form(), data={**long, "steps": "700"}, timeout=1)
    lost = client.post("/v1/upscale?wait=false", files=form(), data={**long, "steps": "400"}).json()
    until(client, lost, lambda now: now["step"] > 0)
    os.kill(busiest(replicas_of(process)), signal.SIGKILL)
    until(client, lost, lambda now: now["state"] == "queued")
    until(client, lost, lambda now: now["state"] == "done")
    assert client.get(lost["links"]["result"]).content == longer
    end = time.monotonic() + 60
    while len(replicas_of(process)) < 2 and time.monotonic() < end:
        time.sleep(0.5)


def until(client: httpx2.Client, job: dict[str, Any], is_so: Callable[[dict[str, Any]], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so(now := client.get(job["links"]["self"]).json()):
        assert time.monotonic() < end and now["error"] is None, now
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.long
def test_two_replicas_bear_load_refuse_what_is_too_much_and_lose_nothing(
    on_cluster: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, address = on_cluster
    with httpx2.Client(base_url=address, timeout=120) as client:
        alone = client.post("/v1/upscale", files=form(), data={"scale": "4"})
        assert alone.status_code == 200, alone.text
        assert client.get("/readyz").status_code == 200 and client.head("/v1/models").status_code == 200
        assert client.post("/v1/estimate", json={"width": 8, "height": 8, "scale": 2}).json()["width"] == 16
        jobs_are_as_those_of_one_machine(client, process.pid)
        wrong = client.post("/v1/upscale", files=form(b"no picture"), data={"scale": "4"})
        assert wrong.status_code == 422 and "this is not a PNG" in wrong.json()["detail"]
    (tmp_path / "a.png").write_bytes(PICTURE)
    infer = ["infer", str(tmp_path / "a.png"), "--bundle", str(IDM_BUNDLE), "--scale", "4", "--threads", "1"]
    infer += ["--engine", "onnxruntime-cpu", "--precision", "fp32", "-o", str(tmp_path / "b.png"), "--quiet"]
    assert CliRunner().invoke(app, infer).exit_code == 0
    assert (tmp_path / "b.png").read_bytes() == alone.content

    answers: Counter[int] = Counter()
    wrong_ones: list[str] = []
    ends = time.monotonic() + LOAD_SECONDS

    def ask() -> None:
        with httpx2.Client(base_url=address, timeout=120) as client:
            while time.monotonic() < ends:
                answer = client.post("/v1/upscale", files=form(), data={"scale": "4"})
                answers[answer.status_code] += 1
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    time.sleep(0.2)
                elif answer.content != alone.content:
                    wrong_ones.append(answer.text[:300])

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    time.sleep(LOAD_SECONDS / 3)
    before = replicas_of(process.pid)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    for each in clients:
        each.join()
    print("answers", dict(answers))
    assert wrong_ones == [] and set(answers) == {200, 429} and answers[200] > 0, (answers, wrong_ones)
    end = time.monotonic() + 60
    while len(after := replicas_of(process.pid)) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    assert len(after) == 2 and after != before
    with httpx2.Client(base_url=address, timeout=120) as client:
        assert client.post("/v1/upscale", files=form(), data={"scale": "4"}).content == alone.content
        assert re.search(r'idm_requests_total\{.*status="429"\} [1-9]', client.get("/metrics").text)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(test_page.BROWSER is None, reason="no Chromium or Chrome is installed")
def test_the_page_works_as_before_one_machine(on_cluster: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, address = on_cluster
    folder = tmp_path / "served" / "tmp"
    folder.mkdir(parents=True)
    service = Service(process=process, line=json.dumps({"address": address}), log=tmp_path / "log", folder=folder)
    assert test_page.BROWSER is not None
    with opened_browser(test_page.BROWSER, tmp_path / "profile") as page:
        page.resize(1280, 900)
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        page.open(f"{address}/")
        page.until("offer !== null")
        test_page.test_what_is_dropped_is_enlarged_and_saved_as_one_zip(page, service, folder)
        page.tell("removeAll(), localStorage.clear()")
        page.open(f"{address}/")
        page.until("offer !== null")
        test_page.test_cancelling_ends_the_work_of_the_service(page, service)


def free_port() -> int:
    """Below those that Ray gives to its workers."""
    for port in range(28000, 29000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.mark.slow
@pytest.mark.long
def test_ray_starts_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    for name, value in (
        ("USAGE_STATS_ENABLED", "0"),
        ("ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),
        ("AUTH_MODE", "disabled"),
    ):
        monkeypatch.setenv(f"RAY_{name}", value)
    here = "127.0.0.1"
    config, port = tmp_path / "serve.yaml", free_port()
    words = ["serve", str(IDM_BUNDLE), "--write-config", str(config), "--port", str(port), "--cpus", "0.5"]
    assert CliRunner().invoke(app, [*words, "--engine", "onnxruntime-cpu"]).exit_code == 0
    ports = {name: str(port + number) for number, name in enumerate(("port", "dashboard-port", "agent"), 1)}
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address", here, "--num-cpus", "2"]
    start += ["--dashboard-host", here, "--port", ports["port"], "--dashboard-port", ports["dashboard-port"]]
    start += ["--dashboard-agent-listen-port", ports["agent"], "--disable-usage-stats", "--include-dashboard", "true"]
    log = tmp_path / "head"
    with log.open("w") as output:
        head = subprocess.Popen([sys.executable, *start], stdout=output, stderr=output)
    try:
        dashboard = f"http://{here}:{ports['dashboard-port']}"
        deploy = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(config), "--address", dashboard]
        end = time.monotonic() + 180
        while (said := subprocess.run(deploy, capture_output=True, text=True, check=False)).returncode != 0:
            assert time.monotonic() < end and head.poll() is None, (said.stderr[-2000:], log.read_text()[-2000:])
        with httpx2.Client(base_url=f"http://{here}:{port}", timeout=60) as client:
            ready = 0
            while ready != 200:
                assert time.monotonic() < end
                with suppress(httpx2.TransportError):
                    ready = client.get("/readyz").status_code
                time.sleep(0.2)
            job = client.post("/v1/upscale?wait=false", files=form(), data={"scale": "2"}).json()
            until(client, job, lambda now: now["state"] == "done")
            alone = client.post("/v1/upscale", files=form(), data={"scale": "2"})
            assert client.get(job["links"]["result"]).content == alone.content
    finally:
        head.send_signal(signal.SIGTERM)  # its own processes end with it
        head.wait(60)
