"""The jobs of a service: taken, queued, given to workers, told of, and forgotten when nobody fetches them in time."""

import asyncio
import logging
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deploy.picture.memory import text_from_bytes
from deploy.serving.asked import Asked
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions
from deploy.serving.pool import LANES, Event, Pool, WorkerProcess
from deploy.serving.problems import Problem, problem_json
from deploy.serving.views import RESULT
from deploy.serving.waiting import Waiting

WritesImage = Callable[[Path], Awaitable[None]]
"""Puts what a client sent into a file."""

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
FINAL: frozenset[State] = frozenset({"done", "failed", "cancelled", "expired"})

SHORT_SECONDS = 2.0
"""A picture that takes longer never keeps a worker's second place from a shorter one."""

USUAL_SECONDS = 1.0
"""Cost of a picture of which nothing is known."""

MOST_FORGOTTEN = 1000
"""Jobs whose end is still told after their files have gone."""

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Job:
    """One picture that was asked for. look: what the worker says of it beforehand; made: what became of it."""

    id: str
    client: str
    asked: Asked
    folder: Path
    name: str  # of the client's file
    look: Event
    deadline: float  # by the clock of the loop
    previews: int = 0
    is_kept: bool = True  # its result can be fetched later, rather than being the answer of its request
    state: State = "queued"
    step: int = 0
    fraction: float = 0.0
    created: float = field(default_factory=time.monotonic)
    began: float | None = None
    ended: float | None = None
    error: dict[str, Any] | None = None
    made: Event = field(default_factory=dict)
    preview: Event | None = None
    worker: WorkerProcess | None = None
    lane: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cost(self) -> float:
        """Seconds that it is expected to take."""
        seconds = self.look["seconds"]
        return USUAL_SECONDS if seconds is None else float(seconds)

    @property
    def own_bytes(self) -> int:
        """Memory that its making takes, with its input."""
        width, height = self.look["input"]
        decoded: int = 8 * width * height
        return int(self.look["own_bytes"]) + decoded

    @property
    def image(self) -> Path:
        """What the client sent."""
        return self.folder / "input"

    @property
    def target(self) -> Path:
        """The file of the result."""
        return self.folder / "result"

    @property
    def file_name(self) -> str:
        """What a browser calls the result: made of the client's name, and of nothing that is not a name."""
        stem = re.sub(r"[^\w .-]+", "_", Path(self.name.replace("\\", "/")).name.rsplit(".", 1)[0]).strip(" .")[:80]
        return f"{stem or 'picture'}_{self.look['label']}{self.made.get('suffix', '')}"

    def change(self) -> None:
        """Whoever watches looks again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def as_json(self, place: int | None) -> dict[str, Any]:
        """What clients see of it."""
        end = self.ended or time.monotonic()
        address = f"/v1/jobs/{self.id}"
        return {
            "id": self.id,
            "state": self.state,
            "place": place,
            "step": self.step,
            "steps": self.look["steps"],
            "fraction": round(self.fraction, 4),
            "width": self.look["width"],
            "height": self.look["height"],
            "evaluations": self.made.get("evaluations", self.look["evaluations"]),
            "seconds": None if self.began is None else round(end - self.began, 3),
            "expected_seconds": self.look["seconds"],
            "seed": self.asked.values.get("seed", 0),
            "preset": self.look["preset"],
            "model": self.look["model"],
            "format": self.made.get("format", self.look["format"]),
            "bytes": self.made.get("bytes"),
            "notices": self.made.get("notices", []),
            "error": self.error,
            "links": {
                "self": address,
                **{name: f"{address}/{name}" for name in ("events", "result", "input", "bicubic")},
            },
        }


class Jobs:
    """All jobs of a service, on the loop that runs it."""

    def __init__(self, options: ServeOptions, folder: Path, metrics: Metrics) -> None:
        self.options = options
        self.metrics = metrics
        self.pool = Pool(options, folder, self._told)
        self.is_draining = False
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._waiting: Waiting[Job] = Waiting()
        self._running: dict[WorkerProcess, dict[int, Job]] = {worker: {} for worker in self.pool.workers}
        self._arriving = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Workers start, and what expires is removed from now on."""
        self.pool.start()
        self._spawn(self._tidy())

    async def stop(self) -> None:
        """Nothing runs any more and nothing is left on disk."""
        for job in list(self._jobs.values()):
            if job.state not in FINAL:
                self._finish(job, "failed", problem_json(503, "The service was stopped before the picture was made."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.stop(2.0)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._waiting and not any(self._running.values()) and not self._arriving

    @property
    def queue_length(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def running(self) -> list[Job]:
        """Jobs in the making."""
        return [job for lanes in self._running.values() for job in lanes.values()]

    def refuse_while_full(self) -> None:
        """Problem where no request can be taken now."""
        if self.is_draining:
            raise Problem(503, "The service is being stopped and takes no more pictures.", {"Retry-After": "10"})
        if len(self._waiting) + self._arriving >= self.options.max_queue:
            seconds = self.seconds_to_wait()
            raise Problem(
                429,
                f"{len(self._waiting)} pictures wait already, which is all that this service takes. Try again in "
                f"{seconds} s.",
                {"Retry-After": str(seconds)},
            )

    def seconds_to_wait(self) -> int:
        """Until there is room again, by the pace that was measured: whole seconds from 1."""
        left = sum(job.cost * (1 - job.fraction) for job in self.running)
        average = (self._waiting.seconds() + left) / max(len(self._waiting) + len(self.running), 1)
        return max(1, min(3600, round(average * max(len(self._waiting), 1) / 4 / self.options.workers)))

    async def look(self, asked: Asked, *, image: Path | None, width: int = 0, height: int = 0) -> Event:
        """What a worker says of a request before it is made. Problem where it refuses."""
        order: Event = {"op": "look", "id": secrets.token_hex(8), "asked": asked.as_json()}
        order |= {"image": None if image is None else str(image), "width": width, "height": height}
        return await self.pool.ask(order)

    async def submit(
        self,
        asked: Asked,
        write_image: WritesImage,
        *,
        client: str,
        name: str,
        previews: int = 0,
        deadline_seconds: float | None = None,
        is_kept: bool = True,
    ) -> Job:
        """A job in the queue. Problem where it is refused, after which nothing of it is left."""
        self.refuse_while_full()
        self._arriving += 1
        number = secrets.token_urlsafe(12)
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            await write_image(folder / "input")
            look = await self.look(asked, image=folder / "input")
            limit = min(deadline_seconds or self.options.deadline_seconds, self.options.deadline_seconds)
            job = Job(
                id=number,
                client=client,
                asked=asked,
                folder=folder,
                name=name,
                look=look,
                deadline=time.monotonic() + limit,
                previews=previews,
                is_kept=is_kept,
            )
            self._refuse_unfit(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._arriving -= 1
        self._jobs[number] = job
        self._waiting.push(job)
        self._dispatch()
        return job

    def find(self, name: str) -> Job:
        """The job of that name. Problem where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise Problem(404, "There is no such job, or it ended long ago.")
        return job

    def json_of(self, job: Job) -> dict[str, Any]:
        """What clients see of it now."""
        return job.as_json(self._waiting.place(job) + 1 if job.state == "queued" else None)

    def cancel(self, job: Job) -> None:
        """The job ends within one step, if it has not ended."""
        if job.state in FINAL:
            return
        if job.worker is not None:
            job.worker.send({"op": "cancel", "id": job.id})
        self._finish(job, "cancelled", None)

    async def wait(self, job: Job) -> None:
        """Until the job has ended."""
        while job.state not in FINAL:
            await job.changed.wait()

    async def events(self, job: Job) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """(event, data) at each change, the newest where several came at once, until the job has ended."""
        last: dict[str, Any] | None = None
        preview: Event | None = None
        while True:
            changed = job.changed
            if job.preview is not None and job.preview is not preview:
                preview = job.preview
                yield "preview", preview
            now = self.json_of(job)
            if now != last:
                last = now
                yield "job", now
            if job.state in FINAL:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 1.0)  # a place in the queue changes without the job

    async def shown(self, job: Job, kind: str) -> Path:
        """A PNG of 8 bits for a browser: one of deploy.serving.views.KINDS."""
        target = job.folder / kind
        if not target.exists():
            order = {"op": "show", "id": secrets.token_hex(8), "asked": job.asked.as_json(), "kind": kind}
            image = job.target if kind == RESULT else job.image
            await self.pool.ask(order | {"image": str(image), "target": str(target)})
        return target

    def forget(self, job: Job) -> None:
        """Nothing of the job is kept."""
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def forget_later(self, job: Job) -> None:
        """Nothing of the job is kept once the worker has let it go."""
        if job.worker is None:
            self.forget(job)
        else:
            job.is_kept = False

    def _refuse_unfit(self, job: Job) -> None:
        room = self.pool.memory
        if job.look["bytes"] + job.own_bytes - job.look["own_bytes"] > room:
            raise Problem(
                413,
                f"This picture needs about {text_from_bytes(job.look['bytes'])} of memory, and this service may take "
                f"{text_from_bytes(room)}. Ask for a smaller one.",
            )

    def _dispatch(self) -> None:
        """Whatever can be begun is."""
        for lane in range(LANES):
            for worker in self.pool.ready:
                lanes = self._running[worker]
                if lane in lanes:
                    continue
                taken = sum(job.own_bytes for job in lanes.values())
                room = self.pool.memory - worker.idle_bytes

                def is_fit(job: Job, lane: int = lane, taken: int = taken, room: int = room) -> bool:
                    return (lane == 0 or job.cost <= SHORT_SECONDS) and (not taken or taken + job.own_bytes <= room)

                if (job := self._waiting.pop(is_fit)) is not None:
                    self._give(job, worker, lane)
        self.metrics.queue(len(self._waiting), len(self.running))

    def _give(self, job: Job, worker: WorkerProcess, lane: int) -> None:
        self._running[worker][lane] = job
        job.worker, job.lane = worker, lane
        job.state, job.began = "running", time.monotonic()
        self.metrics.waited(job.began - job.created)
        worker.send(
            {
                "op": "make",
                "id": job.id,
                "asked": job.asked.as_json(),
                "image": str(job.image),
                "target": str(job.target),
                "previews": job.previews,
            }
        )
        job.change()

    def _told(self, worker: WorkerProcess, event: Event) -> None:
        """An event of a worker."""
        if event["event"] == "ready":
            self._dispatch()
            return
        lanes = self._running[worker]
        if event["event"] == "ended":
            detail = f"The process that made this picture ended ({event['how']}). Send the request again."
            for lost in list(lanes.values()):
                self._free(lost)
                self._finish(lost, "failed", problem_json(500, detail))
            self._dispatch()
            return
        job = next((job for job in lanes.values() if job.id == event.get("id")), None)
        if job is not None:
            self._told_of(job, event)
            self._dispatch()

    def _told_of(self, job: Job, event: Event) -> None:
        """An event of a worker that makes a job."""
        match event["event"]:
            case "step":
                job.step, job.fraction = event["step"], event["fraction"]
                job.look["steps"] = event["steps"]
                job.change()
            case "preview":
                job.preview = {"step": event["step"], "image": event["image"]}
                job.change()
            case "done":
                self._free(job)
                if job.state == "running":
                    job.made, job.step, job.fraction = event, job.look["steps"], 1.0
                    self._finish(job, "done", None)
            case "failed":
                self._free(job)
                self._finish(job, "failed", problem_json(event["status"], event["detail"]))
            case "cancelled":
                self._free(job)

    def _free(self, job: Job) -> None:
        """The worker's place is free; files of a job that nobody wants go."""
        if job.worker is not None:
            self._running[job.worker].pop(job.lane, None)
            job.worker = None
        if not job.is_kept and job.state in FINAL:
            self.forget(job)
        elif job.state == "cancelled":
            shutil.rmtree(job.folder, ignore_errors=True)

    def _finish(self, job: Job, state: State, error: dict[str, Any] | None) -> None:
        if job.state in FINAL:
            return
        self._waiting.remove(job)
        job.state, job.error, job.ended = state, error, time.monotonic()
        self.metrics.finished(job)
        if state == "cancelled" and job.worker is None:
            shutil.rmtree(job.folder, ignore_errors=True)
        job.change()
        self._dispatch()

    async def _tidy(self) -> None:
        """What is too late is ended, and what was kept long enough is removed, for ever."""
        while True:
            await asyncio.sleep(min(1.0, max(self.options.keep_seconds / 4, 0.05)))
            now = time.monotonic()
            for job in list(self._jobs.values()):
                if job.state not in FINAL and now > job.deadline:
                    if job.worker is not None:
                        job.worker.send({"op": "cancel", "id": job.id})
                    detail = "The picture was not made within the time that was set for it."
                    self._finish(job, "failed", problem_json(504, detail))
                elif job.state in ("done", "failed") and job.ended and now > job.ended + self.options.keep_seconds:
                    self._expire(job)
            self._bound()

    def _bound(self) -> None:
        """Results that are kept take so much disk at most; the oldest go first."""
        done = [job for job in self._jobs.values() if job.state == "done"]
        taken = sum(job.made["bytes"] for job in done)
        for job in done:
            if taken <= self.options.max_kept:
                break
            taken -= job.made["bytes"]
            self._expire(job)
        ended = [job for job in self._jobs.values() if job.state in FINAL]
        for job in ended[: max(len(ended) - MOST_FORGOTTEN, 0)]:
            self.forget(job)

    def _expire(self, job: Job) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.state = "expired"
        job.change()

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
