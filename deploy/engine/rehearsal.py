"""A stranger's bundle run once in a process of its own: what hangs, crashes or eats memory there does no harm here.

`main` is that process: FOLDER BACKEND PRECISION MEMORY. Its last line of stdout is JSON: the graphs that ran, or the
sentence that says why one did not.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from calibration.errors import CalibrationError
from deploy.bundle import Bundle
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.errors import BundleError, DeployError
from deploy.families.bundles import recorded_config
from deploy.families.cases import BEFORE_STEP, chain
from deploy.families.table import family_named
from deploy.images.sizes import Size
from engines.errors import EngineError

SIDE = 32
"""Of the picture that is made, or what the family's model makes of that."""


def rehearse(bundle: Bundle, choice: EngineChoice, *, deadline_s: float, memory: int) -> list[str]:
    """The names of the graphs that were opened and run once on an engine, in another process.

    A BundleError if that takes longer, more than so many bytes of memory, ends the process, or fails.
    """
    # Modules are found where they were found here, but none in the folder in which this is typed (-I).
    places = [entry for entry in sys.path if entry]
    program = f"import sys; sys.path[:] = {places!r}; from deploy.engine.rehearsal import main; main()"
    command = [sys.executable, "-I", "-c", program]
    arguments = [str(bundle.path.absolute()), choice.backend, choice.precision, str(memory)]
    doing = f"trying {bundle.path} on {choice.name}"
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"{doing}: it was not done after {deadline_s:g} seconds and was ended. Allow more with --deadline, or do "
            "not use this bundle."
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"{doing}: the engine's process was ended by {name}. Do not use this bundle.")
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):  # it could not even begin, above all for want of memory
        words = " ".join(done.stderr.split())[-200:]
        raise BundleError(f"{doing}: its process failed with {memory >> 20} MiB of memory: {words or 'no word'}.")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise BundleError(f"{doing}: {answer['error']}")
    return [str(name) for name in answer["graphs"]]


def main() -> None:
    """The bundle's graphs are run; what came of it is the last line of stdout."""
    folder, backend, precision, memory = sys.argv[1:]
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    choice = EngineChoice(backend=backend, precision=precision, threads=1)
    answer: dict[str, object]
    try:
        answer = {"graphs": _graphs_that_ran(Path(folder), choice)}
    except (DeployError, EngineError, CalibrationError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"it takes more than {int(memory) >> 20} MiB of memory. Do not use this bundle."}
    sys.stdout.write(f"{json.dumps(answer)}\n")


def _graphs_that_ran(folder: Path, choice: EngineChoice) -> list[str]:
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    family = family_named(manifest.family)
    trial = family.trial(recorded_config(family.name, manifest.configuration), Size.square(SIDE), 1)
    order = [*BEFORE_STEP, DENOISE]
    names = [name for name in order if name in manifest.graphs] + sorted(manifest.graphs.keys() - set(order))
    with GraphSet(bundle, choice) as graphs:
        results = chain(trial, names, graphs.run)
        strange = [name for name, array in results.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if strange:
        raise BundleError(f"its {strange[0]} is not a number everywhere. Do not use this bundle.")
    return names
