"""The process in which a stranger's bundle runs for the first time: every graph once on one engine, at a small size.

`main` is that process: FOLDER BACKEND MEMORY SECONDS. Its last line of stdout is JSON: the graphs that ran, or the
sentence that says why one did not.
"""

import json
import sys
from collections.abc import Mapping

import numpy as np

from calibration.errors import CalibrationError
from deploy.bundle import Bundle
from deploy.bundle.known import digest_of, trust_in_this_process
from deploy.engine.graphs import DENOISE, INT8, EngineChoice, GraphSet
from deploy.engine.int8 import has_int8
from deploy.engine.trials import FLOAT_REFERENCE, trial_noise_level
from deploy.errors import BundleError, DeployError
from deploy.families.bundles import recorded_config
from deploy.families.cases import BEFORE_STEP, chain
from deploy.families.table import family_named
from deploy.images.sizes import Size
from deploy.sampling.plan import PlanRow
from engines.arrays import Array
from engines.errors import EngineError

SIDE = 32
"""Of the picture that is made, or what the family's model makes of that."""


def main() -> None:
    """The bundle's graphs are run; what came of it is the last line of stdout."""
    folder, backend, memory, seconds = sys.argv[1:]
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))  # should whoever waits for it be killed
    answer: dict[str, object]
    try:
        answer = {"graphs": _graphs_that_ran(Bundle.open(folder), backend)}
    except (DeployError, EngineError, CalibrationError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"it takes more than {int(memory) >> 20} MiB of memory. Do not use this bundle."}
    sys.stdout.write(f"{json.dumps(answer)}\n")


def _graphs_that_ran(bundle: Bundle, backend: str) -> list[str]:
    """In the backend's int8 form those that have one, named by its precision, after all in float."""
    trust_in_this_process(digest_of(bundle.manifest))
    precisions = [FLOAT_REFERENCE] if DENOISE in bundle.manifest.graphs else []
    precisions += [INT8] if has_int8(bundle, backend) else []
    ran = []
    for precision in precisions:
        choice = EngineChoice(backend=backend, precision=precision, threads=1)
        names = _run(bundle, choice)
        ran += names if precision == FLOAT_REFERENCE else [f"{DENOISE} {INT8}"]
    return ran


def _run(bundle: Bundle, choice: EngineChoice) -> list[str]:
    manifest = bundle.manifest
    trial = family_named(manifest.family).trial(recorded_config(manifest), Size.square(SIDE), 1)
    order = [*BEFORE_STEP, DENOISE]
    with GraphSet(bundle, choice) as graphs:

        def run(name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
            if name != DENOISE or graphs.int8 is None:
                return graphs.run(name, feeds)
            row = graphs.row(PlanRow.evaluation(trial_noise_level(bundle)))
            return graphs.run(name, {**feeds, **row.feeds}, range_index=row.range_index)

        names = [name for name in order if name in graphs] + sorted(manifest.graphs.keys() - set(order))
        results = chain(trial, names, run)
    strange = [name for name, array in results.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if strange:
        raise BundleError(f"its {strange[0]} is not a number everywhere. Do not use this bundle.")
    return names
