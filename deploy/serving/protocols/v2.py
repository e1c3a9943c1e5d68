"""The Open Inference Protocol, version 2 over HTTP, with its binary tensors: what Triton and KServe speak.

A model has one input, `image`: UINT8 of shape [H, W, 3] or [N, H, W, 3], or BYTES of shape [N], files of pictures. Its
output is called the same and is of the same kind; of files it is PNG. Files may also be called `file` and have shape
[N, 1], as a repository of `export-triton` has them. The fields of /v1/upscale are parameters of the request.
"""

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

import deploy
from deploy.serving.problems import Problem
from deploy.serving.protocols.tensors import (
    FILE,
    IMAGE,
    MOST_AT_ONCE,
    asked_of_parameters,
    files_of_pixels,
    pixels_of_files,
)
from deploy.serving.protocols.whole import results_of
from deploy.serving.upscale_route import PROBLEM, jobs_of, json_from

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=PROBLEM)

HEADER_LENGTH = "Inference-Header-Content-Length"
VERSION = "1"
PIXELS, FILES = "UINT8", "BYTES"


@router.get("")
async def server() -> dict[str, Any]:
    """What this is."""
    return {"name": "idm-deploy", "version": deploy.__version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", response_class=Response)
async def live() -> Response:
    """The process answers."""
    return Response()


@router.get("/health/ready", response_class=Response)
async def ready(request: Request) -> Response:
    """Pictures can be made."""
    jobs = jobs_of(request)
    return Response(status_code=200 if jobs.pool.ready and not jobs.is_draining else 503)


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}")
async def metadata(request: Request, name: str, version: str = VERSION) -> dict[str, Any]:
    """The tensors of a model."""
    _check_model(request, name, version)
    tensor = {"name": IMAGE, "datatype": PIXELS, "shape": [-1, -1, -1, 3]}
    return {"name": name, "versions": [VERSION], "platform": "idm-deploy", "inputs": [tensor], "outputs": [tensor]}


@router.get("/models/{name}/ready", response_class=Response)
@router.get("/models/{name}/versions/{version}/ready", response_class=Response)
async def model_ready(request: Request, name: str, version: str = VERSION) -> Response:
    """The model can be asked."""
    _check_model(request, name, version)
    return Response()


_INFER = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object", "description": "The fields of /v1/upscale."},
                        "inputs": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}


@router.post("/models/{name}/infer", openapi_extra=_INFER)
@router.post("/models/{name}/versions/{version}/infer", openapi_extra=_INFER)
async def infer(request: Request, name: str, version: str = VERSION) -> Response:
    """Pictures, enlarged."""
    _check_model(request, name, version)
    jobs_of(request).refuse_while_full()  # before it is read
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Compressed requests are not read; send the tensors as they are.")
    body = await request.body()
    message, tail = await asyncio.to_thread(_message, body, request.headers.get(HEADER_LENGTH))
    tensor = _only_input(message)
    is_binary = _wants_binary(message, tensor["name"])
    pictures, has_batch = await asyncio.to_thread(_pictures, tensor, tail)
    is_pixels = tensor["datatype"] == PIXELS
    asked = asked_of_parameters(_parameters(message), model=name)
    results = await results_of(request, asked, pictures, via="v2")
    files = [file for file, _ in results]
    output = await asyncio.to_thread(_output, files, is_pixels=is_pixels, has_batch=has_batch, is_binary=is_binary)
    description, data = output
    description["name"] = tensor["name"]
    if not is_pixels:
        description["shape"] = tensor["shape"]
    answer = {"model_name": name, "model_version": VERSION, "outputs": [description]}
    if isinstance(message.get("id"), str):
        answer["id"] = message["id"]
    if data is None:
        return JSONResponse(answer)
    head = json.dumps(answer).encode()
    return Response(head + data, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))})


def _check_model(request: Request, name: str, version: str) -> None:
    names = [model["name"] for model in jobs_of(request).pool.models]
    if name not in names or version != VERSION:
        raise Problem(404, f"There is no model {name[:80]!r} of version {version[:20]!r}; there is {', '.join(names)}.")


def _message(body: bytes, length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the bytes of tensors behind it."""
    end = len(body)
    if length is not None:
        if not length.isascii() or not length.isdecimal() or int(length[:20]) > len(body):
            raise Problem(400, f"{HEADER_LENGTH} must say how many bytes of the body are JSON.")
        end = int(length)
    return json_from(body[:end]), body[end:]


def _only_input(message: dict[str, Any]) -> dict[str, Any]:
    inputs = message.get("inputs")
    tensor = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else None
    if not isinstance(tensor, dict) or tensor.get("name") not in (IMAGE, FILE):
        raise Problem(422, "The request must have one input, named image or file; all else is a parameter.")
    if tensor.get("datatype") not in ((PIXELS, FILES) if tensor["name"] == IMAGE else (FILES,)):
        raise Problem(422, f"The input image is {PIXELS} (pixels) or {FILES} (files of pictures), and file is {FILES}.")
    shape = tensor.get("shape")
    is_shape = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
    if not is_shape:
        raise Problem(422, "The shape of the input must be a list of whole numbers from 1.")
    return tensor


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Problem(422, "The parameters must be a JSON object.")
    return parameters


def _wants_binary(message: dict[str, Any], name: str) -> bool:
    outputs = message.get("outputs")
    wants = bool(_parameters(message).get("binary_data_output", False))
    if outputs is None:
        return wants
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise Problem(422, f"There is one output, named {name}.")
    if outputs[0].get("name") != name:
        raise Problem(422, f"The output is named {name}, as the input is.")
    return bool(_parameters(outputs[0]).get("binary_data", wants))


def _pictures(tensor: dict[str, Any], tail: bytes) -> tuple[list[bytes], bool]:
    """Each picture as a file, and whether the tensor has an axis of pictures."""
    shape = tensor["shape"]
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        if not isinstance(size, int) or size != len(tail):
            raise Problem(400, f"The tensor says {size!r:.30} bytes, and {len(tail)} are there.")
        return _from_bytes(tensor["datatype"], shape, tail)
    if tensor["datatype"] == FILES:
        raise Problem(422, f"{FILES} are sent as binary data, as files are no text.")
    try:
        values = np.asarray(tensor.get("data"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise Problem(422, "The data of the input must be numbers from 0 to 255.") from error
    if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise Problem(422, "The data of the input must be whole numbers from 0 to 255.")
    return _from_bytes(PIXELS, shape, values.astype(np.uint8).tobytes())


def _from_bytes(kind: str, shape: list[int], data: bytes) -> tuple[list[bytes], bool]:
    if kind == FILES:
        files = list(_strings(data))
        if shape not in ([len(files)], [len(files), 1]):
            raise Problem(422, f"The shape of {FILES} is [number of files] or [number, 1]; {len(files)} are there.")
        return files, True
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise Problem(422, f"The shape of the input is [H, W, 3] or [N, H, W, 3], found {str(shape)[:60]}.")
    count = 1
    for side in shape:
        count *= side
    if count != len(data):
        raise Problem(422, f"A tensor of shape {str(shape)[:60]} has {count} values, and {len(data)} are there.")
    if len(shape) == 4 and shape[0] > MOST_AT_ONCE:
        raise Problem(422, f"A request has 1 to {MOST_AT_ONCE} pictures, this one has {shape[0]}.")
    return files_of_pixels(np.frombuffer(data, np.uint8).reshape((-1, *shape[-3:]))), len(shape) == 4


def _strings(data: bytes) -> Iterator[bytes]:
    """Of a tensor of bytes: each has its length before it, four bytes, the lowest first."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (len(data),)
        if at + 4 + length > len(data):
            raise Problem(400, f"The {FILES} are cut short.")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _output(
    files: list[bytes], *, is_pixels: bool, has_batch: bool, is_binary: bool
) -> tuple[dict[str, Any], bytes | None]:
    """What describes the output, and its bytes where those come behind the JSON."""
    if not is_pixels:
        data = b"".join(struct.pack("<I", len(file)) + file for file in files)
        description: dict[str, Any] = {"datatype": FILES, "shape": [len(files)]}
        return description | {"parameters": {"binary_data_size": len(data)}}, data
    pixels = pixels_of_files(files)
    pixels = pixels if has_batch else pixels[0]
    description = {"datatype": PIXELS, "shape": list(pixels.shape)}
    if not is_binary:
        return description | {"data": pixels.ravel().tolist()}, None
    return description | {"parameters": {"binary_data_size": pixels.nbytes}}, pixels.tobytes()
