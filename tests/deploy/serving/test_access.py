"""Who may ask, from where, how much and how slowly; and what is left of it: nothing."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.serving.options import ServeError, ServeOptions, named_bundles, tokens_in
from deploy.serving.problems import Problem
from deploy.serving.start import listening_socket
from deploy.serving.upscale_route import json_from
from tests.deploy.serving.service import Service, served
from tests.deploy.serving.test_upscale import form

TOKEN = "0123456789abcdef-of-somebody"
OPTIONS = ("--max-queue", "2", "--max-upload", "100kB", "--idle-seconds", "0.5", "--keep-seconds", "0.4")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a token and has small limits."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "tokens").write_text(f"# of a test\n\nanother-token-of-16\n{TOKEN}\n")
    names = ("--allow-host", "pictures.example.org")
    options = (*OPTIONS, "--token-file", str(folder / "tokens"), *names, "--log-format", "json")
    with served(folder / "tmp", options=options) as running:
        yield running


SLOW = {"scale": "20", "stages": "once", "draws": "64"}
"""Seconds of work, which nobody waits for."""


def header_of_png(width: int, height: int) -> bytes:
    """The beginning of a picture of that size, which is missing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_only_the_page_is_to_be_had(strict: Service) -> None:
    with strict.client() as client:
        for headers in (
            {},
            bearer("0123456789abcdef-of-nobody"),
            {"Authorization": "Bearer"},
            {"Authorization": "Basic eDp5"},
        ):
            answer = client.post("/v1/upscale", files=form(), data={"scale": "2"}, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "Authorization: Bearer TOKEN" in answer.json()["detail"]
        assert [client.get(path).status_code for path in ("/v1/models", "/metrics", "/openapi.json")] == [401] * 3
        assert [client.get(path).status_code for path in ("/", "/page.js", "/healthz", "/readyz")] == [200] * 4
        page = client.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get("/v1/models", headers=bearer()).status_code == 200
        assert client.get("/v1/models", auth=("whoever", TOKEN)).status_code == 200
        assert "access-control-allow-origin" not in client.get("/v1/models", headers=bearer()).headers
    assert TOKEN not in strict.log.read_text()


def test_other_names_and_other_sites_are_refused(strict: Service) -> None:
    port = urlsplit(strict.address).port
    with strict.client(headers=bearer()) as client:
        for host in ("evil.example.com", f"127.0.0.1.evil.com:{port}", "", "localhost@evil.com"):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 421
        for host in ("localhost", f"127.0.0.1:{port}", f"[::1]:{port}", "Pictures.Example.org"):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 200
        asked: dict[str, Any] = {"json": {"width": 8, "height": 8, "scale": 2}}
        for headers in (
            {"Origin": "https://evil.example.com"},
            {"Origin": "null"},
            {"Origin": f"http://localhost:{port}"},  # another name is another origin
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            answer = client.post("/v1/estimate", headers=headers, **asked)
            assert (answer.status_code, answer.json()["detail"]) == (
                403,
                "Requests from pages of other sites are refused.",
            )
        own = {"Origin": strict.address, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/v1/estimate", headers=own, **asked).status_code == 200


def test_too_much_and_too_slow_are_not_waited_for(strict: Service) -> None:
    def endless() -> Iterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n"
        for _ in range(100):
            yield b"x" * 10_000

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    with strict.client(headers=bearer()) as client:
        answer = client.post("/v1/upscale", files=form(b"x" * 200_000), data={"scale": "2"})
        assert (answer.status_code, "larger than 100000 bytes" in answer.json()["detail"]) == (413, True)
        assert client.post("/v1/upscale", content=endless(), headers=kind).status_code == 413  # no length was said
    host = urlsplit(strict.address)
    head = f"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    body = f"{head}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000\r\n\r\n--b\r\n"
    for sent, expected in ((head, b""), (body, b"HTTP/1.1 408")):
        with socket.create_connection((host.hostname, host.port), 10) as connection:
            connection.sendall(sent.encode())
            began = time.monotonic()
            assert connection.recv(12) == expected
            assert time.monotonic() - began < 5
    with ExitStack() as stack:
        # All that comes at once is four of the largest uploads, 400 kB here.
        several = [stack.enter_context(socket.create_connection((host.hostname, host.port), 10)) for _ in range(5)]
        part = 'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for connection in several:
            connection.sendall(f"{body}{part}".encode() + b"x" * 89_000)
        assert sorted(connection.recv(12) for connection in several) == [b"HTTP/1.1 408"] * 4 + [b"HTTP/1.1 429"]
    with pytest.raises(Problem, match="more than 4000000 values"):
        json_from(b"[" + b"[]," * 2_000_001 + b"[]]")
    assert strict.files() == []


def test_a_full_queue_says_when_to_come_again_and_results_expire(strict: Service) -> None:
    with strict.client(headers=bearer()) as client:
        answers = [client.post("/v1/upscale?wait=false", files=form(), data=SLOW) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert "2 pictures wait already" in answers[-1].json()["detail"]
        jobs = [answer.json() for answer in answers[:3]]
        assert [job["place"] for job in jobs] == [None, 1, 2]
        assert client.get(jobs[1]["links"]["result"]).status_code == 409
        for job in jobs:
            client.delete(job["links"]["self"])
        hurried = client.post("/v1/upscale?deadline=0.2", files=form(), data=SLOW)
        assert (hurried.status_code, "within the time" in hurried.json()["detail"]) == (504, True)
        job = client.post("/v1/upscale?wait=false", files=form(), data={"scale": "2"}).json()
        for _ in range(100):
            state = client.get(job["links"]["self"]).json()["state"]
            if state == "expired":
                break
            time.sleep(0.05)
        assert state == "expired"
        gone = client.get(job["links"]["result"])
        assert (gone.status_code, "the job is expired" in gone.json()["detail"]) == (410, True)
    assert strict.files() == []


def test_a_client_that_hangs_up_cancels(strict: Service) -> None:
    with strict.client(headers=bearer(), timeout=0.5) as client, pytest.raises(Exception, match="timed out"):
        client.post("/v1/upscale", files=form(), data=SLOW)
    with strict.client(headers=bearer()) as client:
        for _ in range(100):
            figures = client.get("/metrics").text
            if "idm_running 0.0" in figures:
                break
            time.sleep(0.02)
        assert "idm_running 0.0" in figures
    assert strict.files() == []


def test_what_is_no_request_is_refused_and_one_that_is_cut_off_leaves_nothing(strict: Service) -> None:
    host = urlsplit(strict.address)
    head = f"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    kind = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000\r\n\r\n--b\r\n"
    part = b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc'
    for sent, expected in (
        (head + kind, None),  # None: the client hangs up
        (head + kind + part, None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x00\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"b" * 200_000, b"HTTP/1.1 400"),
        (head + b"Content-Length: -5\r\n\r\n", b"HTTP/1.1 400"),
    ):
        with socket.create_connection((host.hostname, host.port), 10) as connection:
            connection.sendall(sent)
            assert expected is None or connection.recv(12) == expected
    with strict.client(headers=bearer()) as client:
        assert client.put("/v1/models").status_code == 405
        for path in ("/", "/v1/models", "/healthz"):
            answers = client.head(path), client.get(path)
            assert [answer.status_code for answer in answers] == [200, 200] and answers[0].content == b""
            assert answers[0].headers["content-length"] == answers[1].headers["content-length"]
        huge = form(header_of_png(60_000, 60_000))
        answer = client.post("/v1/upscale", files=huge, data={"scale": "2"})
        assert answer.status_code == 422 and answer.json()["detail"].endswith("250000000. Send a smaller picture.")
        for name in ("../../etc/passwd.png", "\x00.png", "é" * 300 + ".png", 'a";x="b.png', "..", ".png"):
            answer = client.post("/v1/upscale", files=form(name=name), data={"scale": "2"})
            assert answer.status_code == 200 and "/" not in answer.headers["content-disposition"]
    assert strict.files() == []


def test_the_log_says_who_asked_for_what_and_nothing_of_it(strict: Service) -> None:
    lines = [json.loads(line) for line in strict.log.read_text().splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert {line["client"] for line in requests} >= {"token 2", "127.0.0.1"}
    assert all(line["request"] and line["status"] for line in requests)
    with strict.client() as client:
        seen = [client.get("/healthz").headers["x-request-id"] for _ in range(2)]
    assert seen[0] in strict.log.read_text()  # a line is written once its answer is sent


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    bundles = {"a": Path("a.bundle")}
    with pytest.raises(ServeError, match="can be reached from other machines: name a file of tokens"):
        ServeOptions(bundles=bundles, host="0.0.0.0")
    assert ServeOptions(bundles=bundles, host="0.0.0.0", needs_no_token=True).tokens is None
    assert ServeOptions(bundles=bundles, host="[::1]").is_loopback
    with pytest.raises(ServeError, match="Each token has at least 16 characters"):
        ServeOptions(bundles=bundles, tokens=("short",))
    with pytest.raises(ServeError, match=r"There is no bundle.* --workers is a number from 1, found 0\..*port"):
        ServeOptions(bundles={}, workers=0, port=70000)
    with pytest.raises(ServeError, match="would both be called 'a'"):
        named_bundles([tmp_path / "x" / "a.bundle", tmp_path / "a"])
    with pytest.raises(ServeError, match=r"reading the tokens in .*: No such file"):
        tokens_in(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ServeError, match="it is no text"):
        tokens_in(tmp_path / "bytes")
    with pytest.raises(ServeError, match=r"The address no-such-host.invalid is unknown here"):
        listening_socket("no-such-host.invalid", 80)
    with listening_socket("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ServeError, match=r"Nothing can listen at 127.0.0.1, port .*--port, of which 0 takes any"):
            listening_socket("127.0.0.1", taken.getsockname()[1])
    refused = CliRunner().invoke(app, ["serve", "--host", "192.0.2.1"])
    assert refused.exit_code == 2 and "--no-auth" in refused.stderr.replace("\n", " ")


def test_a_picture_of_the_largest_kind_is_known_before_it_is_sent(strict: Service) -> None:
    asked = {"width": 40, "height": 30, "long_edge": 400}
    with strict.client(headers=bearer()) as client:
        assert client.post("/v1/estimate", json=asked).json()["width"] == 400
        for wrong, sentence in (
            ({"width": 0}, "width is a whole number of pixels from 1"),
            ({"width": True}, "width is a whole number"),
            ({"crop": [0, 0, 50, 5]}, "reaches beyond the picture"),
            ({"steps": 2.5}, "steps is a whole number"),
            ({"size": [3]}, "size is WIDTHxHEIGHT"),
        ):
            answer = client.post("/v1/estimate", json=asked | wrong)
            assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.text
        for body in (b"{", b"[]", b"\xff", b"[" * 100_000):
            assert client.post("/v1/estimate", content=body).status_code in (400, 422)
