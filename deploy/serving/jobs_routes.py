"""`/v1/jobs/{id}`: the state of a job, its events, its files, and its end."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from deploy.serving.job import FINAL, Job
from deploy.serving.jobs import Jobs
from deploy.serving.kinds import BICUBIC, INPUT, RESULT
from deploy.serving.problems import Problem
from deploy.serving.upscale_route import PROBLEM, jobs_of, result_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEM)


@router.get("/{name}")
async def state(request: Request, name: str) -> dict[str, Any]:
    """The job as it is now."""
    jobs = jobs_of(request)
    return jobs.json_of(jobs.find(name))


@router.get("/{name}/events", response_class=StreamingResponse)
async def events(request: Request, name: str) -> StreamingResponse:
    """The job at each change, and previews, as server-sent events until it has ended."""
    jobs = jobs_of(request)
    job = jobs.find(name)

    async def lines() -> AsyncIterator[str]:
        async for event, data in jobs.events(job):
            yield f"event: {event}\ndata: {json.dumps(data)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/{name}/result", response_class=Response)
async def result(
    request: Request,
    name: str,
    view: Annotated[Literal["file", "png"], Query(description="png: as a browser can show it, in 8 bits.")] = "file",
) -> Response:
    """The picture."""
    jobs = jobs_of(request)
    job = jobs.find(name)
    if job.state not in FINAL:
        raise Problem(409, f"The picture is not made yet; the job is {job.state}.", {"Retry-After": "1"})
    if job.error is not None:
        raise Problem(job.error["status"], job.error["detail"])
    if job.state != "done":
        raise Problem(410, f"There is no picture any more; the job is {job.state}.")
    return await _shown(jobs, job, RESULT) if view == "png" else result_of(job)


@router.get("/{name}/input", response_class=Response)
async def input_enlarged(request: Request, name: str) -> Response:
    """The input at the size of the result, its pixels repeated, as PNG."""
    jobs = jobs_of(request)
    return await _shown(jobs, jobs.find(name), INPUT)


@router.get("/{name}/bicubic", response_class=Response)
async def bicubic(request: Request, name: str) -> Response:
    """The input enlarged by bicubic interpolation, as PNG."""
    jobs = jobs_of(request)
    return await _shown(jobs, jobs.find(name), BICUBIC)


@router.delete("/{name}")
async def cancel(request: Request, name: str) -> dict[str, Any]:
    """The job ends within one step; one that has ended is forgotten, with its files."""
    jobs = jobs_of(request)
    job = jobs.find(name)
    if job.state in FINAL:
        jobs.forget(job)
    jobs.cancel(job)
    return jobs.json_of(job)


async def _shown(jobs: Jobs, job: Job, kind: str) -> Response:
    if job.state in ("expired", "cancelled"):
        raise Problem(410, f"The picture is not kept any more; the job is {job.state}.")
    return FileResponse(await jobs.shown(job, kind), media_type="image/png")
