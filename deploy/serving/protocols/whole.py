"""A picture in memory in, its result in memory out: what protocols need that send pictures inside of messages."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import Request

from deploy.serving.asked import Asked
from deploy.serving.job import Job
from deploy.serving.problems import Problem
from deploy.serving.protocols.tensors import MOST_AT_ONCE
from deploy.serving.upscale_route import client_of, finished, jobs_of


async def results_of(
    request: Request, asked: Asked, pictures: Sequence[bytes], *, via: str
) -> list[tuple[bytes, dict[str, Any]]]:
    """The file of each result, with what is known of it. Problem where one fails; the others end then too."""
    if not 1 <= len(pictures) <= MOST_AT_ONCE:
        raise Problem(422, f"A request has 1 to {MOST_AT_ONCE} pictures, this one has {len(pictures)}.")
    tasks = [asyncio.create_task(_result_of(request, asked, picture, via)) for picture in pictures]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _result_of(request: Request, asked: Asked, picture: bytes, via: str) -> tuple[bytes, dict[str, Any]]:
    jobs = jobs_of(request)

    async def write(target: Path) -> None:
        await asyncio.to_thread(target.write_bytes, picture)

    job: Job = await jobs.submit(asked, write, client=client_of(request), name="", via=via, is_kept=False)
    await finished(request, jobs, job)
    try:
        return await asyncio.to_thread(job.target.read_bytes), {**job.made, "model": job.look["model"]}
    finally:
        jobs.forget(job)
