"""A commit as a wheel and an sdist: the same bytes wherever and whenever the same commit is built.

With the same version of setuptools, which constraints.txt pins, and the same zlib: both write into the archives.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


class ReleaseError(Exception):
    """A release that cannot be made, with the words of the program that failed."""


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command printed to stdout; ReleaseError with its last words if it failed."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = f"{done.stdout}\n{done.stderr}".strip()[-3000:]
        raise ReleaseError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{words}")
    return done.stdout


def build(repository: Path, commit: str, output: Path) -> tuple[Path, Path]:
    """(wheel, sdist) of a commit, in a folder that may not exist yet. The wheel is built from the sdist."""
    output.mkdir(parents=True, exist_ok=True)
    epoch = int(run(["git", "log", "-1", "--format=%ct", commit], repository))
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "commit.tar"
        run(["git", "archive", "--format=tar", f"--output={archive}", commit], repository)
        sdist = _built("sdist", _unpacked(archive, folder / "commit"), folder / "sdist", environment)
        final = output / sdist.name
        final.write_bytes(normalised(sdist.read_bytes(), epoch))
        (source,) = _unpacked(final, folder / "source").iterdir()
        wheel = _built("wheel", source, output, environment)
    return wheel, final


def normalised(sdist: bytes, epoch: int) -> bytes:
    """A .tar.gz with the same files in alphabetical order, of nobody, at one time, under one of two sets of rights."""
    tar = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as old,
        tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.mtime = member.type, epoch
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            plain.size = member.size if member.isfile() else 0
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=epoch) as file:
        file.write(tar.getvalue())
    return packed.getvalue()


def _unpacked(archive: Path, folder: Path) -> Path:
    """The files of an archive, with the same rights whatever the umask is."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return folder


def _built(kind: str, source: Path, output: Path, environment: Mapping[str, str]) -> Path:
    """Whatever the build backend that pyproject.toml names makes of a source folder."""
    umask = os.umask(0o022)
    try:
        run(
            [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(output), str(source)],
            source,
            environment,
        )
    finally:
        os.umask(umask)
    (made,) = output.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made
