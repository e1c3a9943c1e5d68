"""Against a hub on loopback; whatever is fetched, nothing half made lies under a final name."""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.bundle import Bundle, discover
from deploy.checkpoint.load import load_checkpoint
from deploy.errors import HubError
from deploy.hub import Pulled, address_from_text, local_path
from deploy.hub.client import UnreachableHub
from deploy.hub.pull import lines_about, pull
from deploy.hub.shelf import copy_out
from deploy.packaged.places import IDM_BUNDLE
from tests.hub_server import Answer, Hub, files_of, sha256

WEIGHTS = bytes(range(256)) * 40
PIPELINE = {
    "model_index.json": json.dumps({"unet": ["diffusers", "UNet2DModel"]}).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.bin": WEIGHTS,
    "unet/diffusion_pytorch_model.safetensors": WEIGHTS[::-1],
    "unet/diffusion_pytorch_model.fp16.safetensors": b"16",
    "unet/model.onnx": b"onnx",
    "README.md": b"about",
}


def pulled(text: str, seen: list[float] | None = None) -> Pulled:
    return pull(address_from_text(text), lambda _, share: None if seen is None else seen.append(share))


def final_files(home: Path) -> list[str]:
    """Everything under a name that somebody may take for whole: what is kept, and the snapshots of the library."""
    places = [*home.glob("assets/idm-deploy/*/*/*/**/*"), *home.glob("hub/models--*/snapshots/**/*")]
    return sorted(str(path.relative_to(home)) for path in places if path.is_file())


def leftovers(home: Path) -> list[Path]:
    return [path for pattern in ("**/*.incomplete", "**/.unfinished*") for path in home.glob(pattern)]


def test_only_what_is_needed_comes_once_and_stays_without_a_network(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("a/ldm", PIPELINE)
    shares: list[float] = []
    first = pulled("a/ldm", shares)
    needed = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    assert hub.fetched() == needed
    assert (first.kind, first.commit, first.path.name, first.fetched) == ("pipeline", commit, "ldm", first.bytes)
    assert sorted(str(f.relative_to(first.path)) for f in first.path.rglob("*") if f.is_file()) == needed
    assert (first.path / needed[2]).read_bytes() == WEIGHTS[::-1]
    assert shares == sorted(shares) and shares[-1] == 1.0
    asked = len(hub.requests)
    assert local_path(Path("hf://a/ldm")) == local_path(f"hf://a/ldm@{commit}") == first.path
    assert len(hub.requests) == asked  # pinned: nothing is asked
    hub.status = 503
    again = pulled("a/ldm")
    assert (again.path, again.commit, again.fetched) == (first.path, commit, 0)
    assert "the hub cannot be asked" in again.notes[0]
    assert not leftovers(tmp_path)


def test_of_another_pipeline_no_weights_are_fetched(hub: Hub) -> None:
    index = {"model_index.json": b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"]}'}
    hub.add("a/sd", PIPELINE | index)
    with pytest.raises(HubError, match=r"is a diffusers folder \(StableDiffusionPipeline\); run it with diffusers"):
        load_checkpoint("hf://a/sd")
    assert hub.fetched() == ["model_index.json"]


def test_a_revision_that_moved_is_said_and_the_earlier_one_stays(hub: Hub) -> None:
    old = hub.add("a/sr3", {"x_gen.pth": b"old"})
    first = pulled("a/sr3")
    new = hub.add("a/sr3", {"x_gen.pth": b"new"})
    assert local_path("hf://a/sr3") == first.path  # until it is pulled
    second = pulled("a/sr3")
    assert (second.moved_from, second.commit, second.path.read_bytes()) == (old, new, b"new")
    assert f"has moved from {old[:12]} to {new[:12]}" in lines_about(second)[0]
    assert local_path("hf://a/sr3").read_bytes() == b"new"
    assert local_path(f"hf://a/sr3@{old}").read_bytes() == b"old"
    assert pulled("a/sr3").moved_from is None


def test_a_bundle_is_opened_wherever_one_is_named(hub: Hub) -> None:
    hub.add("a/idm", {**files_of(IDM_BUNDLE), "README.md": b"card", "evil.py": b"1/0"})
    bundle = Bundle.open("hf://a/idm")
    assert bundle.manifest == Bundle.open(IDM_BUNDLE).manifest
    assert bundle.unlisted() == [] and "evil.py" not in hub.fetched()
    assert discover(explicit=Path("hf://a/idm@main")) == bundle.path
    hub.add(
        "a/many", {"one.bundle/" + name: content for name, content in files_of(IDM_BUNDLE).items()} | {"b.pt": b"b"}
    )
    assert Bundle.open("hf://a/many/one.bundle").manifest == bundle.manifest


def test_tokens_go_to_the_hub_alone_and_caches_are_shared(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    hub.add("a/gated", {"x.pt": WEIGHTS}, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = pulled("a/gated").path
    tokens = {path.split("/")[1]: headers.get("authorization") for _, path, headers in hub.requests}
    assert tokens == {"api": "Bearer hf_secret", "a": "Bearer hf_secret", "cdn": None}
    asked = len(hub.requests)
    commit = path.relative_to(tmp_path / "home" / "assets" / "idm-deploy" / "a--gated").parts[0]
    assert Path(hf_hub_download("a/gated", "x.pt", revision=commit)).read_bytes() == WEIGHTS  # already there
    assert len(hub.requests) == asked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/gated", r"^hf://a/gated is gated: .* Open http://127.0.0.1:\d+/a/gated, accept them, then log in"),
        (
            "a/nothing",
            r"there is no repository a/nothing at http://127.*, or it is private. Check the name; .*HF_TOKEN",
        ),
        ("a/plain@v9", r"the repository has no revision 'v9'. http.*/a/plain/refs lists"),
        ("a/plain/y.pt", r"a/plain has no file y.pt. It has x.pt"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(hub: Hub, tmp_path: Path, text: str, message: str) -> None:
    hub.add("a/gated", {"x.pt": b"x"}, gated=True)
    hub.add("a/plain", {"x.pt": b"x"})
    with pytest.raises(HubError, match=message):
        pulled(text)
    assert final_files(tmp_path / "home") == []


def test_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.add("a/b", {"x.pt": b"x"})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UnreachableHub, match=r"^hf://a/b is not on this machine, and http.* cannot be reached"):
            pulled("a/b")
    monkeypatch.setattr(constants, "ENDPOINT", "hub.example")
    with pytest.raises(HubError, match=r"HF_ENDPOINT is 'hub.example', which is no address"):
        pulled("a/b")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    import huggingface_hub

    huggingface_hub.close_session()  # it looks at the switch when it is made
    with pytest.raises(UnreachableHub, match="HF_HUB_OFFLINE forbids asking"):
        pulled("a/b")
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    hub.status = 429
    with pytest.raises(UnreachableHub, match=r"asks to wait \(status 429\). Try again later"):
        pulled("a/b")
    hub.status = 418
    with pytest.raises(HubError, match="answers with status 418"):
        pulled("a/b")


def listed(change: Callable[[dict], object]) -> Callable[[Answer], None]:
    """An answer to the question for the files, changed."""

    def spoil(answer: Answer) -> None:
        if answer.path.startswith("/api/models/"):
            data = json.loads(answer.body)
            change(data)
            answer.body = json.dumps(data).encode()

    return spoil


def headed(name: str, value: str) -> Callable[[Answer], None]:
    def spoil(answer: Answer) -> None:
        if "/resolve/" in answer.path:
            answer.headers[name] = value

    return spoil


def endless(answer: Answer) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(10_000):
            yield bytes(1 << 16)

    if answer.path.startswith("/cdn/"):
        answer.headers.pop("Content-Length", None)
        answer.headers["Connection"] = "close"
        answer.more = pieces()


def altered(answer: Answer) -> None:
    if answer.path.startswith("/cdn/"):
        answer.body = answer.body[:-1] + b"\0"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (listed(lambda data: data["siblings"].append({"rfilename": "../../x"})),
         r"lists a file '../../x', which would lie outside"),
        (listed(lambda data: data["siblings"].append({"rfilename": "/etc/x"})), r"lists a file '/etc/x'"),
        (listed(lambda data: data.update(sha="../../../x")), r"calls its commit '../../../x', which is none"),
        (listed(lambda data: data.update(siblings=3)), r"does not answer as a hub does .* Check HF_ENDPOINT"),
        (headed("X-Linked-ETag", '"../../../../x"'), r"says the hash '../../../../x', expected [0-9a-f]{64}"),
        (headed("X-Repo-Commit", "../../x"), r"of x.pt the hub has commit '../../x', expected"),
        (headed("X-Linked-Size", "7"), r"of x.pt the hub says 7 bytes, and 10240 before"),
        (endless, r"x.pt is longer than the 10240 bytes that the hub said; it was not kept"),
        (altered, r"x.pt arrived otherwise than the hub said: SHA-256 [0-9a-f]{16}... instead of"),
    ],
)  # fmt: skip
def test_a_hub_that_lies_is_not_believed(
    hub: Hub, tmp_path: Path, spoil: Callable[[Answer], None], message: str
) -> None:
    hub.add("a/b", {"x.pt": WEIGHTS})
    hub.spoil = spoil
    before = set(tmp_path.parent.rglob("*"))
    with pytest.raises(HubError, match=message):
        pulled("a/b")
    assert final_files(tmp_path / "home") == [] and not leftovers(tmp_path)
    assert all(path.is_relative_to(tmp_path / "home") for path in set(tmp_path.parent.rglob("*")) - before)
    hub.spoil = lambda _: None
    assert pulled("a/b").path.read_bytes() == WEIGHTS  # nothing wrong was kept


def test_a_mirror_that_says_neither_sizes_nor_hashes_will_do(hub: Hub) -> None:
    hub.add("a/b", PIPELINE)
    hub.spoil = listed(lambda data: data.update(siblings=[{"rfilename": s["rfilename"]} for s in data["siblings"]]))
    taken = pulled("a/b")
    assert (taken.path / "unet/diffusion_pytorch_model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert taken.notes == ("the hub lists no hash of 3 of 3 files",)
    hub.add("a/c", {"x.pt": WEIGHTS})
    hub.spoil = lambda answer: (altered(answer), listed(lambda d: d.update(siblings=[{"rfilename": "x.pt"}]))(answer))[
        0
    ]
    with pytest.raises(HubError, match="arrived otherwise than the hub said: SHA-256"):  # by its etag
        pulled("a/c")


def test_a_bundle_of_two_uploads_is_refused(hub: Hub, tmp_path: Path) -> None:
    files = files_of(IDM_BUNDLE)
    name = next(name for name in files if name.endswith(".onnx"))
    hub.add("a/mixed", files | {name: b"of another"})
    with pytest.raises(HubError, match=f"{name} has SHA-256 .*, and its bundle.json says .*; the upload is damaged"):
        pulled("a/mixed")
    assert not list((tmp_path / "home").glob("assets/**/bundle.json"))


def test_what_was_damaged_in_the_cache_comes_again(hub: Hub) -> None:
    hub.add("a/b", {"x.pt": WEIGHTS})
    blob = pulled("a/b").path
    blob.write_bytes(b"damaged")  # the library's file too, by its hard link
    hub.add("a/b", {"x.pt": WEIGHTS, "README.md": b"more"})
    assert pulled("a/b").path.read_bytes() == WEIGHTS


def test_what_a_killed_download_left_goes(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b", {"x.pt": WEIGHTS})
    shelf = tmp_path / "home" / "assets" / "idm-deploy" / "a--b"
    blobs = tmp_path / "home" / "hub" / "models--a--b" / "blobs"
    (shelf / ".unfinished-12" / "x").mkdir(parents=True)
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(WEIGHTS)}.1234abcd.incomplete").write_bytes(b"half")
    pulled("a/b")
    assert not leftovers(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX has it")
def test_a_disk_that_fills_in_the_middle(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/b", {"x.pt": WEIGHTS * 40})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(HubError, match=r"no room is left at .* nothing half was kept. Make room, or have HF_HOME"):
            pulled("a/b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert final_files(tmp_path / "home") == [] and not leftovers(tmp_path)
    assert pulled("a/b").bytes == len(WEIGHTS) * 40


def test_a_disk_that_is_too_small_is_refused_before(hub: Hub) -> None:
    hub.add("a/b", {"x.pt": WEIGHTS})
    hub.spoil = listed(lambda data: data["siblings"][0].update(size=10**18, lfs=None))
    with pytest.raises(HubError, match=r"^1000000000000 MB are to be fetched, and \d+ MB are free at "):
        pulled("a/b")
    assert hub.fetched() == []


def test_a_copy_of_ones_own(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/ldm", PIPELINE)
    source = pulled("a/ldm").path
    copy_out(source, tmp_path / "mine" / "ldm")
    assert (tmp_path / "mine/ldm/unet/config.json").read_bytes() == b"{}"
    with pytest.raises(HubError, match="ldm is there already; choose another place with -o"):
        copy_out(source, tmp_path / "mine" / "ldm")
    with pytest.raises(HubError, match=r"copying to .* failed: .* Make room, or choose another"):
        copy_out(source, tmp_path / "mine/ldm/unet/config.json/x")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["ldm"]


@pytest.mark.slow
def test_the_variables_of_the_library_count(hub: Hub, tmp_path: Path) -> None:
    """Read by the package in a process of its own: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE."""
    hub.add("a/idm", files_of(IDM_BUNDLE))
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "there"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", "from deploy.cli.main import main; main()"]

    def typed(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], env=environment | more, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = typed("pull", "a/idm", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["path"]).is_relative_to(tmp_path / "there")
    asked = [path for _, path, _ in hub.requests]
    assert all(path.startswith(("/api/models/a/idm/revision/main", "/a/idm/resolve/", "/cdn/")) for path in asked), (
        asked
    )
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = typed("infer", "--bundle", "hf://a/idm", "--scale", "2", "--preset", "draft", **more)
        assert done.returncode == 0, done.stderr
    assert len(hub.requests) == len(asked)
    done = typed("pull", "a/idm", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and "HF_HUB_OFFLINE" in done.stderr


def pulling(hub: Hub, home: Path, name: str) -> subprocess.Popen[str]:
    """A process that pulls."""
    more = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", "from deploy.cli.main import main; main()", "pull", name, "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | more, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_kills_cost_nothing_but_time_and_two_at_once_get_the_same(hub: Hub, tmp_path: Path) -> None:
    hub.add("a/idm", files_of(IDM_BUNDLE))
    home = tmp_path / "home"
    for count in (1, 2, 4, 9, 14, 19):  # killed while the hub answers this question
        about_to_answer, go_on = threading.Event(), threading.Event()

        def wait(answer: Answer, count: int = count) -> None:
            if len(hub.requests) == count:
                answer.headers["Content-Length"] = str(len(answer.body))
                answer.body, rest = answer.body[: len(answer.body) // 2], answer.body
                answer.more = held(rest[len(answer.body) :])

        def held(
            rest: bytes, about_to_answer: threading.Event = about_to_answer, go_on: threading.Event = go_on
        ) -> Iterator[bytes]:
            about_to_answer.set()
            go_on.wait(10)
            yield rest

        hub.requests.clear()
        hub.spoil = wait
        process = pulling(hub, home, "a/idm")
        head = not about_to_answer.wait(3)  # of a question for the headers alone nothing is held back
        process.kill()
        process.communicate()
        go_on.set()
        assert head or not list(home.glob("assets/**/bundle.json"))
    hub.spoil = lambda _: None
    pair = [pulling(hub, home, "a/idm") for _ in range(2)]
    records = [json.loads(process.communicate()[0]) for process in pair]
    assert records[0]["path"] == records[1]["path"]
    assert Bundle.open(records[0]["path"]).unlisted() == []
    assert leftovers(home) == []
