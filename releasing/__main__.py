"""`python -m releasing`: the wheel, the sdist and the bill of materials of a commit, tried before anybody gets them.

What is built is the commit, never the files that lie around. A package that cannot be installed by itself into an empty
environment, and enlarge a picture there, is not left in the output folder.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from releasing.bill import write_bill
from releasing.build import ReleaseError, build, run
from releasing.pythons import pythons_here
from releasing.smoke import CPU, TRIALS, install_alone, try_alone

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Everything of a release, in the folder of --output."""
    parser = argparse.ArgumentParser(prog="python -m releasing", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("dist"))
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--extras", action="store_true", help="try each extra that needs no GPU, not [cpu] alone")
    parser.add_argument("--pythons", action="store_true", help="try it on every Python of this machine, not this alone")
    settings = parser.parse_args()
    try:
        release(settings.commit, settings.output, extras=settings.extras, pythons=settings.pythons)
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def release(commit: str, output: Path, *, extras: bool, pythons: bool) -> None:
    """The files of a release, checked and tried, with their SHA-256 in SHA256SUMS."""
    names = [CPU, *sorted(TRIALS.keys() - {CPU})] if extras else [CPU]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "dist"
        wheel, sdist = build(ROOT, commit, made)
        run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], Path(folder))
        for name in names:
            place = Path(folder) / name
            python, left = try_on(wheel, name, place, Path(sys.executable))
            if name == CPU:
                write_bill(python, wheel, made)
            shutil.rmtree(place)
            if pythons:
                try_elsewhere(wheel, name, Path(folder), left)
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made.iterdir())]
        (made / "SHA256SUMS").write_text("".join(sums))
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(made, output)
    sys.stdout.write("".join(sums))


def try_elsewhere(wheel: Path, name: str, folder: Path, expected: bytes | None) -> None:
    """ReleaseError unless every other Python of this machine runs a trial, and makes the same picture in it."""
    here = ".".join(map(str, sys.version_info[:2]))
    for version, interpreter in pythons_here().items():
        if version != here:
            place = folder / f"{name}-{version}"
            _, left = try_on(wheel, name, place, interpreter)
            if TRIALS[name].is_picture and left != expected:
                raise ReleaseError(f"{TRIALS[name].command} made another picture on Python {version} than on {here}.")
            shutil.rmtree(place)


def try_on(wheel: Path, name: str, folder: Path, interpreter: Path) -> tuple[Path, bytes | None]:
    """(Python of the new environment, what the trial left) of the wheel with an extra, on one Python."""
    python = install_alone(wheel, name, folder, interpreter)
    left = try_alone(python, name, folder)
    version = run([str(python), "-c", "import platform; print(platform.python_version())"], folder).strip()
    wanted = f"{wheel.name}[{TRIALS[name].extras}] alone in a new environment of Python {version}"
    sys.stdout.write(f"{wanted}: {TRIALS[name].what}\n")
    sys.stdout.flush()
    return python, left


if __name__ == "__main__":
    sys.exit(main())
