"""Commands that meet with trouble: `python -m benchmarks.faults [--kills N] [--only NAME] [--trouble NAME] [--seed S]`.

Each command runs once undisturbed. Then it is killed N times at moments spread over that time, each time where the last
kill left it, and from the beginning once it came to its end; it meets a small disk, a folder that may not be written
to, little memory, a clock that was stepped back (all files are of the future), and itself, at the same place and cache.
After each trouble, what lies under a final name is whole and a refusal is a sentence; after one more run there is
nothing beside it, and it is what the undisturbed run made. Exit code 1 if not.
"""

import argparse
import ctypes
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from PIL import Image

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE, IDM_CHECKPOINT, packaged_pictures
from tests.hub_server import files_of, running_hub

IDM_DEPLOY = [sys.executable, "-c", "from deploy.cli.main import main; main()"]
QUICK = "--pictures 1 --crop 16 --scale 2 --targets ort --force"
ONE_TRY = "--ranges 1 --float-share 0 --min-fidelity 0 --max-psnr-drop 99"
LEFTOVERS = ("*.partial", ".*partial*", "*.incomplete", "*unfinished*", "draft-*", "*.tmp")
BUNDLES = "*/bundle.json"
LONGEST_S = 1800
KILLED = "it was killed"
MOST_ENDED = 3
"""Runs that may end by themselves for each kill: a machine is slower at one time than at another."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, what it needs in its folder, and where it may leave nothing half made.

    `same`: files whose bytes are the same whatever happened before, as patterns.
    """

    words: str
    needs: Sequence[Path] = ()
    same: Sequence[str] = ()
    anew: Sequence[str] = ()
    """What goes, as patterns, before a run that is to do everything from the beginning."""
    hub: bool = False
    tiny: bool = False
    """It needs a bundle that is quantized in seconds, `tiny.bundle`."""
    serves: bool = False
    """It ends by itself no more than once a client has its picture."""


CASES = {
    "export": Case(words=f"export {IDM_CHECKPOINT.name} --force", needs=[IDM_CHECKPOINT], same=["*.bundle/*"]),
    "infer": Case(words="infer coffee.png --scale 6 --preset draft -o made.png", same=["made.png"], anew=["made.png"]),
    "infer-folder": Case(
        words="infer photos -o larger --scale 4 --preset draft", same=["larger/*.png"], anew=["larger"]
    ),
    "build-engine": Case(
        words=f"build-engine {IDM_BUNDLE.name} --size 32x32 --rounds 1 --rebuild",
        needs=[IDM_BUNDLE],
        same=["*.bundle/*"],
    ),
    "quantize": Case(
        words=f"quantize tiny.bundle {QUICK} {ONE_TRY}", tiny=True, same=["*.bundle/*"], anew=["cache/*/calibrations"]
    ),
    "serve": Case(words="serve --port 0 --json --keep-seconds 60", same=["served.png"], serves=True),
    "pull": Case(words="pull me/idm", hub=True, same=["home/assets/**/idm/*"], anew=["home"]),
}


@dataclass
class Found:
    """What came of the kills of one command."""

    kills: int = 0
    others: int = 0
    """Troubles of other kinds."""
    ended: int = 0
    """Runs that came to their end before they were killed."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def line(self, name: str) -> str:
        """For people."""
        said = "; ".join(self.problems) or "lost 0, corrupt 0, leftovers after the next run 0"
        others = f", {self.others} other troubles" if self.others else ""
        ended = f", {self.ended} runs ended before" if self.ended else ""
        return f"{name}: {self.kills} kills in a run of {self.seconds:.0f} s{ended}{others}: {said}"


def tried(case: Case, kills: int, troubles: Sequence[str], dice: random.Random) -> Found:
    """What the troubles of one command leave, in folders that are gone afterwards."""
    found = Found()
    with ExitStack() as stack:
        plain, folder = (Path(stack.enter_context(TemporaryDirectory())) for _ in range(2))
        environment = dict(os.environ)
        if case.hub:
            hub = stack.enter_context(running_hub())
            hub.add("me/idm", files_of(IDM_BUNDLE))
            environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        for place in (plain, folder):
            prepare(case, place)
        began = time.monotonic()
        problem = run(case, plain, environment, None)
        found.seconds = time.monotonic() - began
        found.problems += [f"undisturbed, {problem}"] if problem else []
        while "kills" in troubles and found.kills < kills and found.ended <= MOST_ENDED * kills:
            said = run(case, folder, environment, dice.uniform(0.05, 1.0) * found.seconds)
            found.problems += corrupt(folder)
            if said == KILLED:
                found.kills += 1
            elif said is None:
                found.ended += 1
                forget(case, folder)
            else:
                found.problems.append(f"after {found.kills} kills, {said}")
                break
        for trouble in [name for name in troubles if name != "kills"]:
            found.others += 1
            for problem in TROUBLES[trouble](case, folder, environment):
                if "Traceback" in problem or "it failed" not in problem:
                    found.problems.append(f"{trouble}: {problem}")
            found.problems += [f"{trouble}: {problem}" for problem in corrupt(folder)]
        problem = run(case, folder, environment, None)
        found.problems += [f"the run after them, {problem}"] if problem else []
        found.problems += corrupt(folder)
        found.problems += [f"left: {path.relative_to(folder)}" for path in leftovers(folder)]
        before, after = hashes(case, plain), hashes(case, folder)
        if different := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            found.problems.append(f"not what an undisturbed run makes: {', '.join(different[:3])}")
    return found


def forget(case: Case, folder: Path) -> None:
    """What a run that came to its end left and the next would not make again is gone."""
    for path in [path for pattern in case.anew for path in folder.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def on_a_small_disk(case: Case, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What it says where its folder's disk has little room; where no such disk can be made, each file has little."""
    for room in (1 << 16, 1 << 20, 1 << 22):
        with TemporaryDirectory() as place:
            small = Path(place)
            is_small = shutil.which("mount") and _is_mounted("-t", "tmpfs", "tmpfs", place)
            try:
                shutil.copytree(folder, small, dirs_exist_ok=True, symlinks=True)
                if is_small:
                    assert _is_mounted("-o", f"remount,size={shutil.disk_usage(place).used + room}", place)
                said = run(case, small, environment, None, None if is_small else limited("RLIMIT_FSIZE", room))
                yield from [said] if said else []
                yield from corrupt(small)
            finally:
                if is_small:
                    subprocess.run(["umount", "-l", place], check=True)


def _is_mounted(*words: str) -> bool:
    return not subprocess.run(["mount", *words], capture_output=True, check=False).returncode


def without_rights(case: Case, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What it says where it may not write in its folder or anything in it, as nobody may who is not the owner."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    folders = [path for path in folders if "tmp" not in path.relative_to(folder).parts]  # it is another's, and may go
    for path in folders:
        path.chmod(0o500)
    try:
        said = run(case, folder, environment, None, without_privileges)
    finally:
        for path in folders:
            path.chmod(0o700)
    yield from [said] if said else []


def with_little_memory(case: Case, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What it says with so little memory for its data: in a copy, as pictures come out in smaller tiles then."""
    for mebibytes in (160, 320, 640):
        with TemporaryDirectory() as place:
            shutil.copytree(folder, place, dirs_exist_ok=True, symlinks=True)
            said = run(case, Path(place), environment, None, limited("RLIMIT_DATA", mebibytes << 20))
            yield from [f"{mebibytes} MiB: {said}"] if said else []
            yield from corrupt(Path(place))


def before_its_files(case: Case, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What it says where all files are ten years younger than the clock, as after a clock that was stepped back."""
    later = time.time() + 10 * 365 * 86400
    for path in folder.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (later, later))
    said = run(case, folder, environment, None)
    yield from [f"{said} (files of the future)".replace("it failed", "it did not work")] if said else []


def beside_itself(case: Case, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """What two of it say that run at the same time, with the same files and cache."""
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, case, folder, environment, None, None, str(number)) for number in range(2)]
        said = [run.result() for run in runs]
    yield from filter(None, said)
    if None not in said:
        yield "neither of two came to its end"


TROUBLES: dict[str, Callable[[Case, Path, dict[str, str]], Iterator[str]]] = {
    "disk": on_a_small_disk,
    "rights": without_rights,
    "memory": with_little_memory,
    "clock": before_its_files,
    "two": beside_itself,
}


def limited(name: str, most: int) -> Callable[[], None]:
    """What a new process calls that is not to have more of something."""
    import resource

    return lambda: resource.setrlimit(getattr(resource, name), (most, most))


def without_privileges() -> None:
    """What a new process calls that is not to pass over rights, though it be root's (capabilities 1, 2 and 3)."""
    library = ctypes.CDLL(None)
    for capability in (1, 2, 3):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def prepare(case: Case, folder: Path) -> None:
    """What the command needs, in its folder."""
    for source in case.needs:
        shutil.copytree(source, folder / source.name) if source.is_dir() else shutil.copy(source, folder)
    if case.tiny:
        from tests.deploy.exported import exported

        with TemporaryDirectory() as place:
            bundle = exported("idm_micro", Path(place), {"norm_groups": 8, "image_size": 16})
            presets = {"quick": Preset(equation="ddim", steps=2)}
            with BundleWriter.update(bundle) as writer:
                writer.commit(replace(bundle.manifest, presets=presets, default_preset="quick"))
            shutil.copytree(bundle.path, folder / "tiny.bundle")
    pictures = packaged_pictures()
    (folder / "tmp").mkdir()
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures * 4):
        shutil.copy(picture, folder / "photos" / f"{number}-{picture.name}")
    shutil.copy(next(picture for picture in pictures if picture.stem == "coffee"), folder / "coffee.png")


def run(
    case: Case,
    folder: Path,
    environment: dict[str, str],
    seconds: float | None,
    begin: Callable[[], None] | None = None,
    which: str = "",
) -> str | None:
    """What the command said where it failed or was killed after so many seconds; None if it ended well.

    begin: what its process does before anything else. which: of two at the same time.
    """
    own = {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or str(Path.cwd()),
    }
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [*IDM_DEPLOY, *case.words.split()],
            cwd=folder,
            env=environment | own,
            stdout=said,
            stderr=said,
            preexec_fn=begin,
        )
        end = time.monotonic() + (seconds or LONGEST_S)
        try:
            if case.serves:
                _ask(process, said, folder, end, which)
            process.wait(max(0.0, end - time.monotonic()))
        except (subprocess.TimeoutExpired, TimeoutError):
            process.kill()
            process.wait()
            return KILLED
        said.seek(0)
        words = said.read().decode(errors="replace")
        return None if process.returncode == 0 else f"it failed: {words if 'Traceback' in words else words[-300:]}"


def _ask(process: "subprocess.Popen[bytes]", said: IO[bytes], folder: Path, end: float, which: str) -> None:
    """A picture comes from the service, into `served.png`, and the service is told to end; or it ended before."""
    while not (ready := re.search(rb'"address": "http://([^"]+)"', os.pread(said.fileno(), 1 << 16, 0))):
        if process.poll() is not None:
            return
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    picture = (folder / "coffee.png").read_bytes()
    connection = HTTPConnection(ready[1].decode(), timeout=max(0.01, end - time.monotonic()))
    try:
        connection.request("POST", "/v1/upscale?scale=4&preset=draft", picture, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        content = answer.read()
    except OSError as error:
        if process.poll() is not None:
            return
        raise TimeoutError from error
    finally:
        connection.close()
    if answer.status == 200 and os.access(folder, os.W_OK):
        partial = folder / f"served{which}.part"
        partial.write_bytes(content)
        partial.replace(folder / "served.png")
    process.terminate()


def corrupt(folder: Path) -> list[str]:
    """A sentence for everything under a final name that is not whole."""
    return [f"corrupt: {path.relative_to(folder)}: {why}" for path, why in _corrupt(folder)]


def _corrupt(folder: Path) -> Iterator[tuple[Path, str]]:
    for manifest in folder.rglob("bundle.json"):
        half_made = any(manifest.match(f"{pattern}/bundle.json") for pattern in LEFTOVERS)
        if not half_made and not manifest.is_symlink():  # one of the hub's library, which a bundle is made of
            try:
                Bundle.open(manifest.parent)
            except BundleError as error:
                yield manifest.parent, str(error)
    for picture in [*folder.glob("made.png"), *folder.glob("larger/*.png")]:
        try:
            with Image.open(picture) as image:
                image.load()
        except (OSError, SyntaxError) as error:
            yield picture, str(error)


def leftovers(folder: Path) -> list[Path]:
    """What no run needs any more."""
    found = {path for pattern in LEFTOVERS for path in folder.rglob(pattern)} | set((folder / "tmp").glob("*"))
    for manifest in folder.rglob("bundle.json"):
        if not manifest.is_symlink() and not any(path in manifest.parents for path in found):
            with suppress(BundleError):  # which is told as corrupt
                found |= {manifest.parent / name for name in Bundle.open(manifest.parent, verify="sizes").unlisted()}
    return sorted(found)


def hashes(case: Case, folder: Path) -> dict[str, str]:
    """Of the files that are the same in every run, by their paths in the folder."""
    files = [path for pattern in case.same for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The exit code; a line per command goes to `say`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="this command; repeatable")
    every = ["kills", *TROUBLES]
    parser.add_argument("--trouble", choices=every, action="append", help="this kind alone; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; if left out, a new one, which is said")
    parser.add_argument("--jobs", type=int, default=1, help="commands that are tried at the same time")
    asked = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    say(f"seed {seed}")

    def found_of(name: str) -> Found:
        return tried(CASES[name], asked.kills, asked.trouble or every, random.Random(f"{seed} {name}"))

    names = asked.only or list(CASES)
    bad = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for name, found in zip(names, pool.map(found_of, names), strict=True):
            bad += bool(found.problems)
            say(found.line(name))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
