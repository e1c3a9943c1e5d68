"""How far `infer`'s forecast is from the time it takes: `python -m benchmarks.forecast [INFER OPTIONS]`.

The packaged sample is enlarged by `idm-deploy infer --json` in a process of its own: with an empty cache, where the
first steps tell how long it takes, and again, where the run before is known.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

INFER = [sys.executable, "-c", "from deploy.cli.main import main; main()", "infer"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds that a run was said to take and took, and whether that was said before the work or after its first
    steps. Starting Python is in neither."""

    forecast: float
    actual: float
    before_work: bool

    @property
    def error(self) -> float:
        """Of the forecast, as a part of what it took: 0.1 is 10 % too long."""
        return self.forecast / self.actual - 1


def forecast_and_actual(options: Sequence[str], cache: Path | None = None) -> Forecast:
    """What `infer` forecast for the packaged sample with these options, and what it took.

    cache: the folder of caches; None: what the environment says.
    """
    environment = os.environ if cache is None else {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with TemporaryDirectory() as folder:  # without a bundle, so that the packaged one is taken
        sample = _sample()
        command = [*INFER, str(sample), *options, "--json", "-o", str(Path(folder) / "made.png")]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout.splitlines()[-1])  # of the whole run
    return Forecast(
        forecast=report["forecast_seconds"],
        actual=report["seconds"],
        before_work="judging by its first steps" not in done.stderr,
    )


def main(options: Sequence[str]) -> int:
    """The exit code; one line for the first run and one for the second go to stdout."""
    with TemporaryDirectory() as cache:
        for run in ("never timed", "timed before"):
            made = forecast_and_actual(options or ["--scale", "12"], Path(cache))
            print(f"{run}: forecast {made.forecast:.1f} s, took {made.actual:.1f} s ({made.error:+.0%})")
    return 0


def _sample() -> Path:
    from deploy.packaged.places import packaged_pictures

    return packaged_pictures()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
