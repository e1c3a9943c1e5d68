"""A hub of the Hugging Face kind on loopback, as far as huggingface_hub asks it; it keeps repositories in memory.

Large files answer as those in LFS do: a redirect with X-Linked-ETag, the SHA-256, and X-Linked-Size. `spoil` changes an
answer, for hubs that lie.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

IN_LFS = (".safetensors", ".bin", ".onnx", ".pt", ".pth", ".ckpt", ".npy", ".png")
Files = dict[str, bytes]


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repository:
    commits: dict[str, Files] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def files(self, revision: str) -> tuple[str, Files] | None:
        commit = self.revisions.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


@dataclass
class Hub:
    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    stored: Files = field(default_factory=dict)
    """By SHA-256: what is in LFS."""
    spoil: Callable[["Answer"], None] = lambda _: None
    refused: dict[str, int] = field(default_factory=dict)
    """Status by how a path begins."""
    status: int | None = None
    """With which everything is answered, if any."""

    @property
    def store(self) -> str:
        """Where LFS keeps its files: another host, which is not to see tokens."""
        return self.url.replace("127.0.0.1", "localhost")

    def add(self, name: str, files: Mapping[str, bytes], revision: str = "main", **more: Any) -> str:
        """The commit that the revision is now; a new one for each call."""
        repository = self.repositories.setdefault(name, Repository())
        for key, value in more.items():
            setattr(repository, key, value)
        commit = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.revisions[revision] = commit
        self.stored |= {sha256(content): content for content in files.values()}
        return commit

    def fetched(self) -> list[str]:
        """The names of the files whose content was asked for, here or in LFS, sorted."""
        repositories = self.repositories.values()
        names = {sha256(c): name for r in repositories for files in r.commits.values() for name, c in files.items()}
        asked = [path for method, path, _ in self.requests if method == "GET"]
        found = [unquote(path.partition("/resolve/")[2].partition("/")[2]) for path in asked]
        found += [names[path.removeprefix("/cdn/")] for path in asked if path.startswith("/cdn/")]
        return sorted(filter(None, found))


@dataclass
class Answer:
    path: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    more: Iterator[bytes] | None = None
    """What goes on after the body, beyond what was said."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.serve()

        def do_HEAD(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def do_PUT(self) -> None:
            self.serve()

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            hub.requests.append((self.command, self.path, dict(self.headers)))
            answer = answered(hub, self.command, urlsplit(self.path).path, body, dict(self.headers))
            hub.spoil(answer)
            self.send_response(answer.status)
            if answer.more is None:
                answer.headers.setdefault("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                try:
                    self.wfile.write(answer.body)
                    for piece in answer.more or ():
                        self.wfile.write(piece)
                except OSError:
                    pass  # whoever asked has gone

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(status: int, code: str) -> Answer:
    return Answer("", status, {"X-Error-Code": code, "X-Error-Message": code}, json.dumps({"error": code}).encode())


def answered(hub: Hub, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    answer = _answered(hub, method, path, body, headers)
    answer.path = path
    return answer


def _answered(hub: Hub, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    if hub.status is not None:
        return Answer(path, hub.status)
    for beginning, status in hub.refused.items():
        if path.startswith(beginning):
            return Answer(path, status, body=b"{}")
    parts = path.strip("/").split("/")
    if parts[0] == "cdn":
        if method == "PUT":
            hub.stored[parts[1]] = body
        return Answer(path, body=hub.stored[parts[1]])
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in hub.repositories:
            return Answer(path, 409, body=json.dumps({"url": f"{hub.url}/{name}", "error": "exists"}).encode())
        hub.add(name, {})
        hub.repositories[name].private = bool(asked.get("private")) or asked.get("visibility") == "private"
        return Answer(path, body=json.dumps({"url": f"{hub.url}/{name}"}).encode())
    if path == "/api/validate-yaml":
        return Answer(path, body=b'{"warnings": [], "errors": []}')
    name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2]).removesuffix(".git")
    repository = hub.repositories.get(name)
    if repository is None:
        return refusal(401, "RepoNotFound")
    if parts[0] == "api":
        return _api(hub, repository, path, parts[4:], body)
    if parts[2:] == ["info", "lfs", "objects", "batch"]:
        return _batch(hub, body)
    if parts[2] != "resolve":
        return Answer(path, 404)
    found = repository.files(unquote(parts[3]))
    if repository.gated and headers.get("authorization", headers.get("Authorization")) is None:
        return refusal(401, "GatedRepo")
    if found is None:
        return refusal(404, "RevisionNotFound")
    commit, files = found
    file = unquote("/".join(parts[4:]))
    if file not in files:
        return refusal(404, "EntryNotFound")
    content, said = files[file], {"X-Repo-Commit": commit}
    if not file.endswith(IN_LFS):
        return Answer(path, headers=said | {"ETag": f'"{git_sha1(content)}"'}, body=content)
    linked = {"X-Linked-ETag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
    return Answer(path, 302, said | linked | {"Location": f"{hub.store}/cdn/{sha256(content)}"})


def _api(hub: Hub, repository: Repository, path: str, rest: list[str], body: bytes) -> Answer:
    revision = unquote(rest[1]) if len(rest) > 1 else "main"
    found = repository.files(revision)
    if found is None:
        return refusal(404, "RevisionNotFound")
    commit, files = found
    if rest[:1] == ["preupload"]:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(IN_LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        return Answer(path, body=json.dumps({"files": modes}).encode())
    if rest[:1] == ["commit"]:
        new = dict(files)
        for line in filter(None, body.split(b"\n")):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                import base64

                new[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                new[value["path"]] = hub.stored[value["oid"]]
        name = path.removeprefix("/api/models/").partition("/commit/")[0]
        commit = hub.add(name, new, revision)
        url = f"{hub.url}/{name}/commit/{commit}"
        return Answer(path, body=json.dumps({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None}).encode())
    siblings = [
        {
            "rfilename": file,
            "size": len(content),
            "blobId": git_sha1(content),
            **(
                {"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 130}}
                if file.endswith(IN_LFS)
                else {}
            ),
        }
        for file, content in files.items()
    ]
    return Answer(path, body=json.dumps({"id": "x", "sha": commit, "siblings": siblings, "gated": False}).encode())


def _batch(hub: Hub, body: bytes) -> Answer:
    objects = [
        {**asked, "actions": {"upload": {"href": f"{hub.store}/cdn/{asked['oid']}"}}}
        if asked["oid"] not in hub.stored
        else asked
        for asked in json.loads(body)["objects"]
    ]
    return Answer("", body=json.dumps({"transfer": "basic", "objects": objects}).encode())


def files_of(folder: Path) -> Files:
    """The files in a folder, as a repository has them."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
