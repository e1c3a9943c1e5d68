"""What a repository says of itself: how it is started and asked, and what Triton's Python needs."""

from collections.abc import Sequence

import deploy
from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO
from deploy.triton.settings import RepositorySettings
from engines.backends import BACKENDS, backend_named
from engines.contract import Backend
from engines.packages import installed_version

NEEDED = ("numpy>=1.26", "pillow>=11.3", "msgspec>=0.19")
"""What the run time imports; pyproject.toml has the same."""


def requirements(settings: RepositorySettings) -> str:
    """The packages that Triton's Python needs, engines in the versions that are here: others may give other bytes."""
    return "\n".join([*NEEDED, *map(_pinned, _records(settings))]) + "\n"


def _records(settings: RepositorySettings) -> list[Backend]:
    """The engine that is asked for, else those that are installed here, else the first that could run it."""
    if settings.run.engine != AUTO:
        return [backend_named(settings.run.engine)]
    able = [record for record in BACKENDS.values() if record.on_gpu == bool(settings.gpus)]
    return [record for record in able if installed_version(record.package) is not None] or able[:1]


def _pinned(record: Backend) -> str:
    version = installed_version(record.package)
    return record.package if version is None else f"{record.package}=={version.partition('+')[0]}"


def readme(bundle: Bundle, settings: RepositorySettings, graphs: Sequence[str]) -> str:
    """The page, in Markdown."""
    name, where = settings.name, ", ".join(f"GPU {number}" for number in settings.gpus) or "the processor"
    version = f"{name}/{settings.version}"
    origin = bundle.manifest.source.file
    return f"""# {name}: a model repository for Triton Inference Server

Written by idm-deploy {deploy.__version__} from {bundle.path.resolve().name} ({bundle.manifest.family}, of {origin}).
It runs on {where}.

## Start it

Triton needs Python 3.11 or newer for its Python backend. Install the packages of `requirements.txt` for that Python
once, in its container or in an image made of it, then start Triton on this folder:

    pip install -r requirements.txt
    tritonserver --model-repository .

Or pack an environment with those packages (conda-pack) and name it in `{name}/config.pbtxt`:

    parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "/path/to/env.tar.gz" }} }}

Triton hands pictures to its Python backend through shared memory: give a container of it enough (`--shm-size=1g`).

idm-deploy itself need not be installed: it lies in `{version}/runtime`, and the bundle beside it. At the start every
file is held against `{version}/SHA256SUMS`; `sha256sum --check SHA256SUMS` here does the same for all.

## Ask it

    import numpy as np, tritonclient.http as triton
    client = triton.InferenceServerClient("127.0.0.1:8000")
    tensor = triton.InferInput("file", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[open("photo.png", "rb").read()]], object))
    answer = client.infer("{name}", [tensor], parameters={{"scale": 4, "seed": 0}})
    open("larger.png", "wb").write(answer.as_numpy("file").item())

A request has one input: `file`, BYTES [N, 1], pictures as files, of which PNG comes back with all that they say of
themselves; or `image`, UINT8 [N, H, W, 3]. The answer has the same name. How pictures are made is said by the
request's parameters, as `idm-deploy infer` has them: `scale` or `size`, `long_edge`, `fit`, `megapixels`; `preset`,
`seed`, `steps` and the others. The bytes are those of `infer` with the same versions of packages. `idm-deploy serve`
answers the same requests.

## Change it

`{name}/config.pbtxt` may be changed: `max_batch_size`; `max_queue_size` (of more requests Triton answers 503,
UNAVAILABLE), and how long it waits for more of them; `instance_group` (each instance has the networks in memory); and
the parameters `engine`, `precision`, `threads`, `max_memory`, `max_pixels`, `batch`, of which empty ones mean that the
machine decides.
{_words_of_graphs(graphs)}"""


def _words_of_graphs(graphs: Sequence[str]) -> str:
    if not graphs:
        return ""
    names = ", ".join(f"`{name}`" for name in graphs)
    return f"""
## The networks by themselves

{names}:
one evaluation each, run by Triton's own backend, for programs that take the steps themselves. Their inputs and outputs
are those of the bundle's graphs, the batch among the axes; each has its own copy of the weights.
"""
