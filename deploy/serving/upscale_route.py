"""`POST /v1/upscale`: a picture in, a larger one out, at once or as a job; and what is known before one is sent."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.datastructures import FormData, UploadFile

from deploy.images.formats.table import WRITTEN
from deploy.images.reading import MAX_PIXELS
from deploy.serving.asked import Asked, properties_of_schema
from deploy.serving.job import Job
from deploy.serving.jobs import Jobs
from deploy.serving.problems import GONE, MEDIA_TYPE, Problem

router = APIRouter(prefix="/v1", tags=["pictures"])

MOST_FIELDS = 64
MOST_FIELD_BYTES = 1 << 16

MOST_VALUES = 4_000_000
"""Values in JSON, of which each empty list takes 30 times its text: the pixels of 1000x1000 are fewer."""

PROBLEM: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "Refused; `detail` says why.",
        "content": {MEDIA_TYPE: {"schema": {"type": "object", "required": ["title", "status", "detail"]}}},
    },
    "5XX": {
        "description": "Failed; `detail` says why.",
        "content": {MEDIA_TYPE: {"schema": {"type": "object", "required": ["title", "status", "detail"]}}},
    },
}

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "additionalProperties": False,
                    "properties": {
                        "image": {"type": "string", "format": "binary", "description": "The picture's file."},
                        **properties_of_schema(),
                    },
                }
            }
        },
    }
}

_ESTIMATE = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["width", "height"],
                    "additionalProperties": False,
                    "properties": {
                        "width": {"type": "integer", "minimum": 1},
                        "height": {"type": "integer", "minimum": 1},
                        **properties_of_schema(),
                    },
                }
            }
        },
    }
}


def jobs_of(request: Request) -> Jobs:
    """Those of the service."""
    jobs: Jobs = request.app.state.jobs
    return jobs


def client_of(request: Request) -> str:
    """Who asks: by the token that was shown, else by the address."""
    token = request.scope.get("idm_client")
    return token if isinstance(token, str) else (request.client.host if request.client else "unknown")


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The bundles that are served, the limits, and the formats that results may have."""
    jobs = jobs_of(request)
    if not jobs.pool.models:
        raise Problem(503, jobs.pool.refusal or "The service is still starting.", {"Retry-After": "2"})
    listed = [{**model, "default": number == 0} for number, model in enumerate(jobs.pool.models)]
    limits = {"max_pixels": min(jobs.options.max_pixels, MAX_PIXELS), "max_upload": jobs.options.max_upload}
    return {"models": listed, "limits": limits, "formats": [*WRITTEN]}


@router.post("/estimate", openapi_extra=_ESTIMATE, responses=PROBLEM)
async def estimate(request: Request) -> dict[str, Any]:
    """The exact size of a result and the time that it will take, by the pace that was measured."""
    given = await json_of(request)
    sides = {name: given.pop(name, None) for name in ("width", "height")}
    for name, side in sides.items():
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= 1 << 30:
            raise Problem(422, f"{name} is a whole number of pixels from 1, found {side!r:.60}.")
    look = await jobs_of(request).look(Asked.of(given), image=None, width=sides["width"], height=sides["height"])
    return {name: look[name] for name in ("width", "height", "evaluations", "seconds", "bytes")}


@router.post(
    "/upscale",
    openapi_extra=_FORM,
    responses={
        200: {"description": "The picture.", "content": {"image/*": {}}},
        202: {"description": "With wait=false: the job.", "content": {"application/json": {}}},
        **PROBLEM,
    },
    response_class=Response,
)
async def upscale(
    request: Request,
    wait: Annotated[bool, Query(description="false: answer with a job at once.")] = True,
    previews: Annotated[int, Query(ge=0, le=10_000, description="A preview every so many steps; 0: none.")] = 0,
    deadline: Annotated[float | None, Query(gt=0, le=86_400, description="Seconds that it may take.")] = None,
) -> Response:
    """A picture, enlarged."""
    jobs = jobs_of(request)
    jobs.refuse_while_full()  # before it is read
    async with form_of(request) as form:
        image, asked = _parts(form)

        async def write(target: Path) -> None:
            with target.open("wb") as file:
                await asyncio.to_thread(shutil.copyfileobj, image.file, file)

        job = await jobs.submit(
            asked,
            write,
            client=client_of(request),
            name=image.filename or "",
            previews=previews if not wait else 0,
            deadline_seconds=deadline,
            is_kept=not wait,
        )
    request.scope["idm_job"] = job.id
    if not wait:
        answer = jobs.json_of(job)
        return JSONResponse(answer, 202, {"Location": answer["links"]["self"]})
    await finished(request, jobs, job)

    async def forget() -> None:  # a plain function would run on a thread of its own, beside the loop
        jobs.forget(job)

    return result_of(job, BackgroundTask(forget))


async def finished(request: Request, jobs: Jobs, job: Job) -> None:
    """The job is done. Problem where it failed; where the client hangs up it is cancelled and forgotten."""
    ends = asyncio.create_task(jobs.wait(job))
    leaves = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait((ends, leaves), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ends, leaves):
            task.cancel()
        if job.state != "done":
            jobs.cancel(job)
            jobs.forget_later(job)
    if job.state == "done":
        return
    if job.error is not None:
        raise Problem(job.error["status"], job.error["detail"], job.error_headers)
    raise Problem(GONE if leaves.done() else 409, "The request was cancelled.")


def result_of(job: Job, background: BackgroundTask | None = None) -> Response:
    """The file of a job that is done, with what is known of it."""
    made = job.made
    headers = {
        "X-Idm-Size": f"{made['width']}x{made['height']}",
        "X-Idm-Seed": str(job.asked.values.get("seed", 0)),
        "X-Idm-Evaluations": str(made["evaluations"]),
        "X-Idm-Seconds": f"{made['seconds']:.3f}",
        "X-Idm-Model": str(job.look["model"]),
    }
    return FileResponse(
        job.target,
        media_type=made["media_type"],
        filename=job.file_name,
        content_disposition_type="inline",
        headers=headers,
        background=background,
    )


async def _hung_up(request: Request) -> None:
    """Until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form that came, as long as the block runs. Problem where it is none."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Problem(415, "Send the picture as a form, multipart/form-data, with the file in the field image.")
    form = await request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES)
    try:
        yield form
    finally:
        with suppress(OSError):
            await form.close()


def _parts(form: FormData) -> tuple[UploadFile, Asked]:
    fields: dict[str, Any] = {}
    image: UploadFile | None = None
    for name, value in form.multi_items():
        if name == "image":
            if not isinstance(value, UploadFile):
                raise Problem(422, "The field image must be a file, with a file name.")
            image = value
        elif isinstance(value, UploadFile):
            raise Problem(422, f"The field {name[:60]!r} is a file; the picture belongs into the field image.")
        elif name in fields:
            raise Problem(422, f"The field {name[:60]!r} is there more than once.")
        else:
            fields[name] = value
    if image is None:
        raise Problem(422, "There is no picture: put its file into the field image.")
    return image, Asked.of(fields)


async def json_of(request: Request) -> dict[str, Any]:
    """The JSON object that came. Problem where it is none."""
    return await asyncio.to_thread(json_from, await request.body())


def json_from(text: bytes) -> dict[str, Any]:
    """The JSON object of a request. Problem where it is none, or where it would take far more memory than its text."""
    if sum(map(text.count, (b",", b"[", b"{", b":"))) > MOST_VALUES:
        raise Problem(
            413, f"The JSON has more than {MOST_VALUES} values, which is all that is read; send files or binary data."
        )
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "The body is not JSON; send an object, as application/json.") from error
    if not isinstance(given, dict):
        raise Problem(422, "The body must be a JSON object.")
    return given
