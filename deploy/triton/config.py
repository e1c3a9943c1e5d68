"""The text of config.pbtxt, in which Triton is told of a model."""

import json
from collections.abc import Iterable, Iterator, Mapping

from deploy.errors import BundleError
from deploy.serving.protocols.tensors import FILE, IMAGE
from deploy.triton.settings import RepositorySettings
from engines.contract import TensorSpec

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
"""NumPy's names of types -> Triton's."""

PIXELS = f'name: "{IMAGE}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ]'
FILES = f'name: "{FILE}" data_type: TYPE_STRING dims: [ 1 ] reshape {{ shape: [ ] }}'
ONE_OF_THEM = "optional: true allow_ragged_batch: true"


def config_of_sampler(settings: RepositorySettings) -> str:
    """Of the model that makes whole pictures: Python, batches of requests of any sizes, a bounded queue."""
    lines = [
        "# Made by idm-deploy export-triton. Numbers may be changed; Triton reads them when it starts.",
        f"name: {_quoted(settings.name)}",
        'backend: "python"',
        f"max_batch_size: {settings.max_batch}",
        "# A request has one of the two; the answer has the same. How pictures are made is said by its parameters.",
        *_listed("input", (f"{PIXELS} {ONE_OF_THEM}", f"{FILES} {ONE_OF_THEM}")),
        *_listed("output", (PIXELS, FILES)),
        *_queue(settings),
        *_instances(settings),
        *_parameters(settings.run.as_parameters()),
    ]
    return "\n".join(lines) + "\n"


def config_of_graph(
    name: str,
    backend: str,
    file: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    settings: RepositorySettings,
) -> str:
    """Of a network by itself, which one of Triton's own backends runs; the batch is an axis like the others."""
    lines = [
        "# Made by idm-deploy export-triton: one network of the sampler by itself.",
        f"name: {_quoted(name)}",
        f"backend: {_quoted(backend)}",
        f"default_model_filename: {_quoted(file)}",
        "max_batch_size: 0",
        *_listed("input", map(_tensor, inputs)),
        *_listed("output", map(_tensor, outputs)),
        *_instances(settings),
    ]
    return "\n".join(lines) + "\n"


def _tensor(spec: TensorSpec) -> str:
    if spec.dtype not in TYPES:
        raise BundleError(f"Triton has no type {spec.dtype}, which {spec.name} of a graph has. Leave the graphs out.")
    dims = ", ".join(str(-1 if isinstance(size, str) else size) for size in spec.shape)
    return f"name: {_quoted(spec.name)} data_type: {TYPES[spec.dtype]} dims: [ {dims} ]"


def _queue(settings: RepositorySettings) -> Iterator[str]:
    yield "dynamic_batching {"
    yield f"  max_queue_delay_microseconds: {round(1000 * settings.delay_ms)}"
    yield "  default_queue_policy {"
    yield f"    max_queue_size: {settings.max_queue}"
    if settings.queue_seconds is not None:
        yield "    timeout_action: REJECT"
        yield f"    default_timeout_microseconds: {round(1e6 * settings.queue_seconds)}"
        yield "    allow_timeout_override: true"
    yield "  }"
    yield "}"


def _instances(settings: RepositorySettings) -> list[str]:
    kind = f"KIND_GPU gpus: [ {', '.join(map(str, settings.gpus))} ]" if settings.gpus else "KIND_CPU"
    return [f"instance_group [ {{ kind: {kind} count: {settings.instances} }} ]"]


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {_quoted(name)} value {{ string_value: {_quoted(value)} }} }}"
        for name, value in values.items()
    ]


def _listed(word: str, entries: Iterable[str]) -> list[str]:
    return [f"{word} [", ",\n".join(f"  {{ {entry} }}" for entry in entries), "]"]


def _quoted(text: str) -> str:
    return json.dumps(text)
