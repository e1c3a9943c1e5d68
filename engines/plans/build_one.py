"""One build in a process of its own: `python -m engines.plans.build_one REQUEST.json`, progress and result on stdout.

A failed build can spoil the next one in the same process (TensorRT), and memory that a build took is given back for
certain only when its process ends. Each line of stdout is one JSON object: {"progress": [phase, fraction]}, and last
{"result": {...}} or {"error": sentence}. What the libraries print goes to stderr.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from engines.errors import EngineError
from engines.plans.tensorrt_builder import BuildRequest, build_plan


def main(request_file: Path) -> None:
    """The request is carried out, and what came of it is the last line of stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(**answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    request = BuildRequest(**json.loads(request_file.read_text()))
    try:
        result = build_plan(request, lambda phase, fraction: tell(progress=[phase, fraction]))
    except EngineError as error:
        tell(error=str(error))
        sys.exit(1)
    except OSError as error:
        tell(error=f"Building {Path(request.graph).name}: {error.strerror} ({error.filename}). Free some space there.")
        sys.exit(1)
    tell(result=asdict(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
