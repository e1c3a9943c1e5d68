"""Commands that are killed at random moments: `python -m benchmarks.faults [--kills N] [--only NAME] [--seed S]`.

Each command runs once undisturbed, then is killed N times at moments spread over that time, then runs to its end. After
every kill, what lies under a final name is whole; after the last run there is nothing beside it, and it is what the
undisturbed run made. Exit code 1 if not.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from deploy.bundle import Bundle
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE, IDM_CHECKPOINT, packaged_pictures
from tests.hub_server import files_of, running_hub

IDM_DEPLOY = [sys.executable, "-c", "from deploy.cli.main import main; main()"]
QUICK = "--pictures 1 --crop 16 --scale 2 --targets ort --force"
LEFTOVERS = ("*.partial", ".*partial*", "*.incomplete", "*unfinished*", "draft-*", "*.tmp")
BUNDLES = "*/bundle.json"
LONGEST_S = 1800


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, what it needs in its folder, and where it may leave nothing half made.

    `same`: files whose bytes are the same whatever happened before, as patterns.
    """

    words: str
    needs: Sequence[Path] = ()
    same: Sequence[str] = ()
    hub: bool = False


CASES = {
    "export": Case(words=f"export {IDM_CHECKPOINT.name} --force", needs=[IDM_CHECKPOINT], same=["*.bundle/*"]),
    "infer": Case(words="infer coffee.png --scale 6 --preset draft -o made.png", same=["made.png"]),
    "infer-folder": Case(words="infer photos -o larger --scale 4 --preset draft", same=["larger/*.png"]),
    "build-engine": Case(
        words=f"build-engine {IDM_BUNDLE.name} --size 32x32 --rounds 1 --rebuild",
        needs=[IDM_BUNDLE],
        same=["*.bundle/*"],
    ),
    "quantize": Case(words=f"quantize {IDM_BUNDLE.name} {QUICK}", needs=[IDM_BUNDLE]),
    "pull": Case(words="pull me/idm", hub=True, same=["home/assets/**/idm/*"]),
}


@dataclass
class Found:
    """What came of the kills of one command."""

    kills: int = 0
    late: int = 0
    """Kills that came after the command had ended by itself."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def line(self, name: str) -> str:
        """For people."""
        said = "; ".join(self.problems) or "lost 0, corrupt 0, leftovers after the next run 0"
        return f"{name}: {self.kills} kills in a run of {self.seconds:.0f} s ({self.late} after its end): {said}"


def killed(case: Case, kills: int, dice: random.Random) -> Found:
    """What the kills of one command leave, in folders that are gone afterwards."""
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
        for _ in range(kills):
            if run(case, folder, environment, dice.uniform(0.05, 1.0) * found.seconds) is None:
                found.late += 1
            found.kills += 1
            found.problems += corrupt(folder)
        problem = run(case, folder, environment, None)
        found.problems += [f"the run after them, {problem}"] if problem else []
        found.problems += corrupt(folder)
        found.problems += [f"left: {path.relative_to(folder)}" for path in leftovers(folder)]
        if hashes(case, plain) != hashes(case, folder):
            found.problems.append("what it made in the end is not what an undisturbed run makes")
    return found


def prepare(case: Case, folder: Path) -> None:
    """What the command needs, in its folder."""
    for source in case.needs:
        shutil.copytree(source, folder / source.name) if source.is_dir() else shutil.copy(source, folder)
    pictures = packaged_pictures()
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures * 4):
        shutil.copy(picture, folder / "photos" / f"{number}-{picture.name}")
    shutil.copy(next(picture for picture in pictures if picture.stem == "coffee"), folder / "coffee.png")


def run(case: Case, folder: Path, environment: dict[str, str], seconds: float | None) -> str | None:
    """What the command said where it failed or was killed after so many seconds; None if it ended well."""
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "home")}
    with (folder / "said.txt").open("w+b") as said:
        process = subprocess.Popen(
            [*IDM_DEPLOY, *case.words.split()], cwd=folder, env=environment | own, stdout=said, stderr=said
        )
        try:
            process.wait(seconds or LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "it was killed"
        said.seek(0)
        return None if process.returncode == 0 else f"it failed: {said.read().decode(errors='replace')[-300:]}"


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
    return sorted({path for pattern in LEFTOVERS for path in folder.rglob(pattern)})


def hashes(case: Case, folder: Path) -> dict[str, str]:
    """Of the files that are the same in every run, by their paths in the folder."""
    files = [path for pattern in case.same for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The exit code; a line per command goes to `say`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="this command; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; if left out, a new one, which is said")
    asked = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    say(f"seed {seed}")
    bad = 0
    for name in asked.only or CASES:
        found = killed(CASES[name], asked.kills, random.Random(f"{seed} {name}"))
        bad += bool(found.problems)
        say(found.line(name))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
