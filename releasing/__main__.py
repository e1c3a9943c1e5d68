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
from releasing.smoke import CPU, TRIALS, install_alone, try_alone

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Everything of a release, in the folder of --output."""
    parser = argparse.ArgumentParser(prog="python -m releasing", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("dist"))
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--extras", action="store_true", help="try each extra that needs no GPU, not [cpu] alone")
    settings = parser.parse_args()
    try:
        release(settings.commit, settings.output, extras=settings.extras)
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def release(commit: str, output: Path, *, extras: bool) -> None:
    """The files of a release, checked and tried, with their SHA-256 in SHA256SUMS."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "dist"
        wheel, sdist = build(ROOT, commit, made)
        run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], Path(folder))
        for name in [CPU, *sorted(TRIALS.keys() - {CPU})] if extras else [CPU]:
            python = install_alone(wheel, name, Path(folder) / name)
            try_alone(python, name, Path(folder) / name)
            sys.stdout.write(f"{wheel.name}[{TRIALS[name].extras}] alone in a new environment: {TRIALS[name].what}\n")
            if name == CPU:
                write_bill(python, wheel, made)
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made.iterdir())]
        (made / "SHA256SUMS").write_text("".join(sums))
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(made, output)
    sys.stdout.write("".join(sums))


if __name__ == "__main__":
    sys.exit(main())
