"""What answers clients of a service on a cluster: the routes of `serve`, over jobs that replicas make."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from deploy.serving.app import make_app
from deploy.serving.asked import Asked
from deploy.serving.cluster.binding import bind_to_own_address
from deploy.serving.cluster.replicas import Replicas, write_whole
from deploy.serving.cluster.settings import ClusterSettings
from deploy.serving.job import FINAL, Job
from deploy.serving.jobs import Jobs
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions
from deploy.serving.pool import Event
from deploy.serving.problems import Problem
from deploy.serving.protocols.automatic import VIA

LOOK_SECONDS = 1.0
"""How long a client waits for a replica to look at its picture before it is told of the job without that."""

UNKNOWN: Mapping[str, Any] = {
    **{"steps": 0, "width": 0, "height": 0, "evaluations": 0, "own_bytes": 0, "input": (0, 0)},
    **{"seconds": None, "format": None, "label": "", "kind": ""},
}
"""What is said of a picture that no replica has looked at yet."""


class OnItsWay:
    """A picture on its way through a replica, in place of the worker that makes it."""

    task: "asyncio.Task[None] | None" = None

    def send(self, order: Event) -> None:
        """The only order is that nobody wants it any more."""
        if order["op"] == "cancel" and self.task is not None:
            self.task.cancel()


class RemoteJobs(Jobs):
    """The jobs of a gate: each is made by a replica, which Ray Serve chooses. most: that are here unfinished."""

    pool: Replicas  # type: ignore[assignment]

    def __init__(self, options: ServeOptions, pool: Any, metrics: Metrics, most: int) -> None:
        super().__init__(options, pool, metrics)
        pool.full = self._full
        self._most = most
        self._pace = 1.0  # seconds of a picture, waiting included

    def start(self) -> None:
        """The replicas are asked what they have, and what expires is removed."""
        super().start()
        self._spawn(self.pool.describe())

    def refuse_while_full(self) -> None:
        """Problem where more is here than the replicas and their queue hold."""
        if self.is_draining:
            super().refuse_while_full()
        if len(self.unfinished) + self._arriving >= self._most:
            raise self._full()

    def seconds_to_wait(self) -> int:
        """Until there is room again, by the pace of the last pictures."""
        return max(1, min(3600, round(self._pace / 2)))

    async def _first_look(self, asked: Asked, image: Path) -> Event:
        del image  # a replica looks when it takes the picture
        return {**UNKNOWN, "model": asked.model, "preset": asked.values.get("preset")}

    def _refuse_unfit(self, job: Job) -> None:
        """A replica does."""

    async def _take(self, job: Job) -> None:
        """The job is on its way to a replica. Problem where one refuses it at once."""
        job.worker = way = OnItsWay()
        is_looked_at = asyncio.Event()
        way.task = self._spawn(self._make(job, is_looked_at))
        self._dispatch()
        if not job.is_kept:
            return
        try:
            await asyncio.wait_for(is_looked_at.wait(), LOOK_SECONDS)
        except TimeoutError:
            return  # all are busy: it is told later
        except asyncio.CancelledError:
            self.cancel(job)
            self.forget_later(job)
            raise
        if job.error is not None:
            self.forget(job)
            raise Problem(job.error["status"], job.error["detail"], job.error_headers)

    def _place(self, job: Job) -> int:
        """By when it came: Ray Serve knows no turns of clients."""
        waiting = [other for other in self._jobs.values() if other.state == "queued"]
        return waiting.index(job) + 1

    def _dispatch(self) -> None:
        """Ray Serve begins what can be begun."""
        self.metrics.queue(len(self.unfinished) - len(self.running), len(self.running))

    def _finish(self, job: Job, state: Any, error: Event | None) -> None:
        if job.state not in FINAL:
            self._pace += 0.2 * (time.monotonic() - job.created - self._pace)
        super()._finish(job, state, error)

    async def _make(self, job: Job, is_looked_at: asyncio.Event) -> None:
        """The job is done, or has failed with the reason."""
        is_followed = _is_followed(job)
        if not is_followed:
            self._begin(job)
        try:
            file = await asyncio.to_thread(job.image.read_bytes)
            making = self.pool.make(file, job.asked.as_json(), job.previews, is_followed=is_followed)
            async with aclosing(making) as events:
                async for event in events:
                    await self._hear(job, event)
                    if event["event"] == "looked":
                        is_looked_at.set()
        except Problem as problem:
            job.error_headers = problem.headers
            self._told_of(job, {"event": "failed", "status": problem.status, "detail": problem.detail})
        except asyncio.CancelledError:
            self._told_of(job, {"event": "cancelled"})
            raise
        except Exception as error:  # of Ray: the picture fails, the next one may not
            detail = f"The picture could not be made on the cluster ({type(error).__name__}). Send the request again."
            self._told_of(job, {"event": "failed", "status": 500, "detail": detail})
            raise
        finally:
            is_looked_at.set()

    async def _hear(self, job: Job, event: Event) -> None:
        """An event of a replica."""
        match event["event"]:
            case "looked":
                job.look = event
                job.change()
            case "began":
                self._begin(job)
            case "lost" if _is_followed(job):
                self._made_now.pop(job.id, None)
                job.state, job.began, job.step, job.fraction = "queued", None, 0, 0.0
                job.change()
            case "done":
                await asyncio.to_thread(write_whole, job.target, event.pop("file"))
                job.look = event.pop("look")
                self._told_of(job, event)
            case _:
                self._told_of(job, event)
        self._dispatch()

    def _begin(self, job: Job) -> None:
        """It is being made."""
        job.state, job.began = "running", time.monotonic()
        self.metrics.waited(job.began - job.created)
        self._made_now[job.id] = job
        job.change()

    def _full(self) -> Problem:
        seconds = self.seconds_to_wait()
        detail = f"All replicas are busy and as many pictures wait as may. Try again in {seconds} s."
        return Problem(429, detail, {"Retry-After": str(seconds)})


def _is_followed(job: Job) -> bool:
    """Whether anybody may ask how far it is."""
    return job.is_kept or job.via == VIA


class Gate:
    """Takes requests from Ray's proxies and answers them by the routes of `serve`."""

    def __init__(self, settings: dict[str, Any], pictures: Any) -> None:
        bind_to_own_address()
        self._settings = ClusterSettings.of(settings)
        self._pictures = pictures

    def __serve_build_asgi_app__(self) -> Any:
        """The application, where Ray Serve wants it."""
        settings = self._settings
        most = settings.max_queue + settings.replicas_most * settings.ongoing

        def jobs_of(options: ServeOptions, pool: Any, metrics: Metrics) -> Jobs:
            return RemoteJobs(options, pool, metrics, most)

        return make_app(settings.options(), Replicas(self._pictures), jobs_of)
