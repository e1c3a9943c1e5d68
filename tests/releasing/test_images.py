"""Container images: what their files say, and what the steps give where there is no container engine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from releasing.smoke import answer_of
from tests.releasing.dockerfile import build_in, command_of, environment_of, steps_of

ROOT = Path(__file__).resolve().parent.parent.parent
BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
FILES = ("Dockerfile", "Dockerfile.cuda")


@pytest.mark.parametrize("name", FILES)
def test_an_image_has_no_rights_and_installs_by_hash(name: str) -> None:
    steps = steps_of(ROOT / name)
    words = [step.word for step in steps]
    user = next(step.rest for step in steps if step.word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) and words.index("USER") < words.index("CMD")
    installs = [part for step in steps if step.word == "RUN" for part in step.rest.split("&&") if " install " in part]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-deps --no-index" in part for part in installs)
    assert environment_of(steps)["XDG_CACHE_HOME"].startswith("/tmp/")
    assert "/healthz" in " ".join(command_of(steps, "HEALTHCHECK"))
    for step in steps:
        if step.word == "COPY" and "--from" not in step.rest:
            assert all((ROOT / source).exists() for source in step.rest.split()[:-1])
            ignored = (ROOT / ".dockerignore").read_text()
            assert all(f"!{source}" in ignored for source in step.rest.split()[:-1])


def test_the_two_images_differ_in_what_they_compute_with_alone() -> None:
    first, second = (steps_of(ROOT / name) for name in FILES)
    assert [step.word for step in first] == [step.word for step in second]
    different = [
        (a.word, b.rest) for a, b in zip(first, second, strict=True) if a.rest.replace("image", "cuda") != b.rest
    ]
    assert [word for word, _ in different] == ["ENV"] and "NVIDIA_VISIBLE_DEVICES=all" in different[0][1]


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    program = shutil.which("hadolint", path=BESIDE) or pytest.skip(
        "hadolint is packaged for Linux on x86-64 and for macOS"
    )
    done = subprocess.run([program, "--no-color", name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that any user may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.long
@pytest.mark.slow
def test_the_steps_of_the_image_give_a_service_that_writes_nothing(root: Path) -> None:
    """Its RUN steps, then its CMD without rights, where only /tmp can be written, until it says that it is well."""
    steps = steps_of(ROOT / "Dockerfile")
    build_in(root, ROOT, steps)
    installed = root / "opt" / "idm-deploy"
    temporary, tokens = root / "tmp", root / "tokens"
    temporary.mkdir(mode=0o777)
    temporary.chmod(0o777)
    tokens.write_text("0123456789abcdef0123\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    places = {"/opt/idm-deploy": str(installed), "/tmp": str(temporary), "$PATH": os.environ["PATH"]}
    environment = {"TMPDIR": str(temporary), "HOME": "/"}
    for name, value in environment_of(steps).items():
        for place, here in places.items():
            value = value.replace(place, here)
        environment[name] = value
    options = command_of(steps, "CMD")
    options = [{"0.0.0.0": "127.0.0.1", "8080": port, "/run/secrets/tokens": str(tokens)}.get(o, o) for o in options]
    command = [str(installed / "bin" / command_of(steps, "ENTRYPOINT")[0]), *options]
    if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv"):
        # Everybody else than root may not reach the interpreter in a home folder; then root loses its rights instead.
        reachable = all(folder.stat().st_mode & 0o001 for folder in Path(sys.executable).resolve().parents)
        user = "--reuid 10001 --regid 10001 --clear-groups" if reachable else ""
        confined = (
            f"mount --make-rprivate / && mount --bind {temporary} {temporary} && mount -o remount,bind,ro / && "
            f'exec setpriv {user} --no-new-privs --inh-caps=-all --bounding-set=-all "$@"'
        )
        command = ["unshare", "--mount", "sh", "-c", confined, "sh", *command]
    health = json.loads(answer_of(command, f"http://127.0.0.1:{port}/healthz", root, environment))
    assert health
    assert not list(installed.glob("lib/*/site-packages/pip"))
    sys.stdout.write(f"installed: {sum(path.stat().st_size for path in installed.rglob('*')) / 1e6:.0f} MB\n")
