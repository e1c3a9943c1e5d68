"""What AUTOMATIC1111's web UI answers to scripts that enlarge pictures: `/sdapi/v1/extra-single-image` and beside it.

Sizes are cut off, not rounded, as there. An upscaler is one of the bundles. Scripts and chaiNNer's node can only send
the names of upscalers that come with the web UI; for those, and for None, the first bundle is taken, and the answer
says so.
"""

import asyncio
import base64
import binascii
import io
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image

from deploy.serving.asked import Asked
from deploy.serving.problems import Problem
from deploy.serving.protocols.whole import results_of
from deploy.serving.upscale_route import PROBLEM, client_of, jobs_of, json_of

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"], responses=PROBLEM)

VIA = "sdapi"

OTHERS = (
    *("None", "Lanczos", "Nearest", "LDSR", "ESRGAN_4x", "R-ESRGAN 4x+", "R-ESRGAN 4x+ Anime6B"),
    *("ScuNET", "ScuNET GAN", "ScuNET PSNR", "SwinIR 4x", "SwinIR_4x", "DAT x2", "DAT x3", "DAT x4"),
)
"""Upscalers that come with the web UI."""

ORIENTATION = 0x0112
"""The tag of EXIF; from 5 on, height and width change places."""

PARTS = ("gfpgan_visibility", "codeformer_visibility", "extras_upscaler_2_visibility")
"""Of what is mixed into a result there, and cannot be here."""

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "description": "The picture's file in base64."},
                        "imageList": {"type": "array", "items": {"type": "object"}},
                        "resize_mode": {"type": "integer", "enum": [0, 1]},
                        "upscaling_resize": {"type": "number", "minimum": 1, "default": 2},
                        "upscaling_resize_w": {"type": "integer", "minimum": 1, "default": 512},
                        "upscaling_resize_h": {"type": "integer", "minimum": 1, "default": 512},
                        "upscaling_crop": {"type": "boolean", "default": True},
                        "upscaler_1": {"type": "string"},
                    },
                }
            }
        },
    }
}


@router.get("/upscalers")
async def upscalers(request: Request) -> list[dict[str, Any]]:
    """The bundles that are served, as upscalers."""
    nothing: dict[str, Any] = {"model_name": None, "model_path": None, "model_url": None}
    return [{"name": model["name"], **nothing, "scale": 4} for model in jobs_of(request).pool.models]


@router.get("/options")
async def options() -> dict[str, Any]:
    """Nothing can be set here; programs look whether the service is there."""
    return {"samples_format": "png"}


@router.get("/progress")
async def progress(request: Request) -> dict[str, Any]:
    """How far the pictures are that this client asked for over this interface."""
    jobs = jobs_of(request)
    own = [job for job in jobs.unfinished if job.via == VIA and job.client == client_of(request)]
    left = sum(job.cost * (1 - job.fraction) for job in own)
    first = max(own, key=lambda job: job.fraction, default=None)
    state = {
        "skipped": False,
        "interrupted": False,
        "job": "" if first is None else "extras",
        "job_count": len(own),
        "job_no": 0,
        "job_timestamp": "0",
        "sampling_step": 0 if first is None else first.step,
        "sampling_steps": 0 if first is None else first.look["steps"],
    }
    fraction = 0.0 if first is None else sum(job.fraction for job in own) / len(own)
    eta = round(left, 3)
    return {"progress": fraction, "eta_relative": eta, "state": state, "current_image": None, "textinfo": None}


@router.post("/interrupt")
async def interrupt(request: Request) -> dict[str, Any]:
    """The pictures that this client asked for over this interface end within one step."""
    jobs = jobs_of(request)
    for job in jobs.unfinished:
        if job.via == VIA and job.client == client_of(request):
            jobs.cancel(job)
    return {}


@router.post("/extra-single-image", openapi_extra=_BODY)
async def single(request: Request) -> dict[str, Any]:
    """A picture, enlarged."""
    jobs_of(request).refuse_while_full()  # before it is read
    given = await json_of(request)
    image, words = (await _enlarged(request, given, [given.get("image")]))[0]
    return {"html_info": words, "image": image}


@router.post("/extra-batch-images", openapi_extra=_BODY)
async def batch(request: Request) -> dict[str, Any]:
    """Pictures, enlarged."""
    jobs_of(request).refuse_while_full()
    given = await json_of(request)
    listed = given.get("imageList")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise Problem(422, "imageList must be a list of objects with data and name, one or more.")
    results = await _enlarged(request, given, [each.get("data") for each in listed])
    return {"html_info": results[0][1], "images": [image for image, _ in results]}


async def _enlarged(request: Request, given: dict[str, Any], images: list[Any]) -> list[tuple[str, str]]:
    """Each result in base64, with words on how it was made."""
    for part in PARTS:
        if given.get(part) not in (None, 0, 0.0):
            raise Problem(422, f"{part} must be 0: nothing but the upscaler works on pictures here.")
    names = [model["name"] for model in jobs_of(request).pool.models]
    name = given.get("upscaler_1", "None")
    if name not in (*names, *OTHERS):
        raise Problem(422, f"There is no upscaler {str(name)[:60]!r}; there is {', '.join(names)}.")
    files = [await asyncio.to_thread(_decoded, image) for image in images]
    model = {"model": name} if name in names else {}
    results = []
    # Sizes follow from each picture; those of one request mostly have the same and go together.
    looks = [await asyncio.to_thread(_size_of, file) for file in files]
    for size in dict.fromkeys(looks):
        asked, box = _asked(given, size)
        members = [number for number, look in enumerate(looks) if look == size]
        made = await results_of(request, Asked.of({**asked, **model}), [files[n] for n in members], via=VIA)
        for number, (file, what) in zip(members, made, strict=True):
            file = await asyncio.to_thread(_cut, file, box) if box is not None else file
            words = f"{what['model']}, {what['width']}x{what['height']}, {what['evaluations']} evaluations"
            results.append((number, base64.b64encode(file).decode(), words))
    return [(image, words) for _, image, words in sorted(results)]


def _decoded(image: Any) -> bytes:
    if not isinstance(image, str) or not image:
        raise Problem(422, "The picture must be the base64 of its file, in image (or data, in a list).")
    if image.startswith(("http://", "https://")):
        raise Problem(422, "Pictures are not fetched from addresses; send the file in base64.")
    try:
        return base64.b64decode(image.partition(",")[2] if image.startswith("data:") else image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "The picture is not base64.") from error


def _size_of(file: bytes) -> tuple[int, int]:
    """Width and height by the header; (1, 1) where that cannot be read, which is told when it is tried."""
    try:
        with Image.open(io.BytesIO(file)) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
            return (picture.height, picture.width) if turned else picture.size
    except Exception:  # whatever a damaged file brings about
        return 1, 1


def _asked(given: dict[str, Any], size: tuple[int, int]) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """What is asked for in our words, and the box that is cut out of the middle of the result."""
    numbers = {}
    for name, usual in (("upscaling_resize", 2), ("upscaling_resize_w", 512), ("upscaling_resize_h", 512)):
        value = given.get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise Problem(422, f"{name} must be a number above 0.")
        numbers[name] = value
    width, height = size
    if given.get("resize_mode", 0) in (0, None):
        scale = numbers["upscaling_resize"]
        return {"size": [int(width * scale), int(height * scale)], "format": "png"}, None
    box = int(numbers["upscaling_resize_w"]), int(numbers["upscaling_resize_h"])
    scale = max(box[0] / width, box[1] / height)
    covering = [max(int(width * scale), 1), max(int(height * scale), 1)]
    crops = given.get("upscaling_crop", True)
    if crops:  # what the box needs is there, whatever was cut off
        covering = [max(covering[0], box[0]), max(covering[1], box[1])]
    return {"size": covering, "format": "png"}, box if crops and tuple(covering) != box else None


def _cut(file: bytes, box: tuple[int, int]) -> bytes:
    """The middle of a picture, as PNG."""
    picture = Image.open(io.BytesIO(file))
    left, top = (picture.width - box[0]) // 2, (picture.height - box[1]) // 2
    buffer = io.BytesIO()
    picture.crop((left, top, left + box[0], top + box[1])).save(buffer, "PNG")
    return buffer.getvalue()
