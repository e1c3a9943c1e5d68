"""The jobs of a service: taken, queued, given to workers, told of, and forgotten when nobody fetches them in time."""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from deploy.picture.memory import text_from_bytes
from deploy.serving.asked import Asked
from deploy.serving.batches import Batches
from deploy.serving.job import FINAL, Job, State
from deploy.serving.kinds import RESULT
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions
from deploy.serving.pool import LANES, Event, Pool, WorkerProcess
from deploy.serving.problems import Problem, problem_json
from deploy.serving.tracing import current_context, trace_job
from deploy.serving.waiting import Waiting

WritesImage = Callable[[Path], Awaitable[None]]
"""Puts what a client sent into a file."""

SHORT_SECONDS = 2.0
"""A picture that takes longer never keeps a worker's second place from a shorter one."""

MOST_FORGOTTEN = 1000
"""Jobs whose end is still told after their files have gone."""


class Jobs:
    """All jobs of a service, on the loop that runs it."""

    def __init__(self, options: ServeOptions, pool: Pool, metrics: Metrics) -> None:
        self.options = options
        self.metrics = metrics
        self.pool = pool
        pool.on_event = self._told
        self.is_draining = False
        self._folder = pool.folder
        self._jobs: dict[str, Job] = {}
        self._waiting: Waiting[Job] = Waiting()
        self.batches = Batches(options.batch)
        self._running: dict[WorkerProcess, dict[int, str]] = {worker: {} for worker in self.pool.workers}  # by lane
        self._made_now: dict[str, Job] = {}
        self._arriving = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """What expires is removed from now on."""
        self._spawn(self._tidy())

    async def stop(self) -> None:
        """Nothing runs any more and nothing is left on disk."""
        self.end_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.stop(2.0)

    def end_all(self) -> None:
        """No job goes on."""
        for job in list(self._jobs.values()):
            if job.state in FINAL:
                continue
            if job.worker is not None:
                job.worker.send({"op": "cancel", "id": job.id})
            self._finish(job, "failed", problem_json(503, "The service was stopped before the picture was made."))

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
        return list(self._made_now.values())

    @property
    def unfinished(self) -> list[Job]:
        """Jobs that wait or are in the making."""
        return [job for job in self._jobs.values() if job.state not in FINAL]

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
        via: str = "v1",
    ) -> Job:
        """A job in the queue. Problem where it is refused, after which nothing of it is left."""
        self.refuse_while_full()
        self._arriving += 1
        number = secrets.token_urlsafe(12)
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            await write_image(folder / "input")
            look = await self._first_look(asked, folder / "input")
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
                via=via,
                context=current_context(),
            )
            self._refuse_unfit(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._arriving -= 1
        self._jobs[number] = job
        await self._take(job)
        return job

    def find(self, name: str) -> Job:
        """The job of that name. Problem where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise Problem(404, "There is no such job, or it ended long ago.")
        return job

    def json_of(self, job: Job) -> dict[str, Any]:
        """What clients see of it now."""
        return job.as_json(self._place(job) if job.state == "queued" else None)

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
        """A PNG of 8 bits for a browser: one of deploy.serving.kinds."""
        target = job.folder / kind
        if not target.exists():
            order = {"op": "show", "id": secrets.token_hex(8), "asked": job.asked.as_json(), "kind": kind}
            image = job.target if kind == RESULT else job.image
            await self.pool.ask(order | {"image": str(image), "target": str(target)})
            job.weigh()
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

    async def _first_look(self, asked: Asked, image: Path) -> Event:
        """What is known of a picture that has just come. Problem where it is refused."""
        return await self.look(asked, image=image)

    async def _take(self, job: Job) -> None:
        """The job is on its way."""
        self._waiting.push(job)
        self._dispatch()

    def _refuse_unfit(self, job: Job) -> None:
        """Problem where the input alone would take more memory than there is; results are cut into tiles that fit."""
        room = self.pool.memory - max((worker.idle_bytes for worker in self.pool.ready), default=0)
        if job.input_bytes > room:
            raise Problem(
                413,
                f"This picture takes about {text_from_bytes(job.input_bytes)} of memory before it is enlarged, and "
                f"there is room for {text_from_bytes(room)}. Send a smaller one.",
            )

    def _place(self, job: Job) -> int:
        """Of one that waits: 1 for the next."""
        return self._waiting.place(job) + 1

    def _dispatch(self) -> None:
        """Whatever can be begun is."""
        for lane in range(LANES):
            for worker in self.pool.ready:
                if not worker.is_on_trial and lane not in self._running[worker]:
                    self._fill(worker, lane)
        self.metrics.queue(len(self._waiting), len(self.running))

    def _fill(self, worker: WorkerProcess, lane: int) -> None:
        """A lane of a worker gets the next picture that is fit for it, and those that are made with it."""
        taken = sum(job.own_bytes for job in self.running if job.worker is worker)
        room = self.pool.memory - worker.idle_bytes

        def is_fit(job: Job) -> bool:
            return (lane == 0 or job.cost <= SHORT_SECONDS) and (not taken or taken + job.own_bytes <= room)

        job = self._waiting.peek(is_fit)
        if job is None:
            return
        kind = job.kind
        alike = sum(other.kind == kind for other in self._waiting)
        is_trial = self.batches.is_to_be_tried(kind, alike)
        if is_trial and self._running[worker]:
            return  # a trial wants the engine for itself
        most = self.batches.most if is_trial else len(self.batches.parts(kind, range(alike))[0])
        group: list[Job] = []
        while len(group) < most:
            left = room - taken - sum(each.own_bytes for each in group)
            nearest = self._waiting.pop(partial(_goes_with, first=job, is_first=not group, left=left))
            if nearest is None:
                break
            group.append(nearest)
        self._give(group, worker, lane, is_trial=is_trial)

    def _give(self, group: list[Job], worker: WorkerProcess, lane: int, *, is_trial: bool) -> None:
        number = secrets.token_hex(8)
        self._running[worker][lane] = number
        worker.is_on_trial = is_trial
        self.metrics.batched(len(group))
        for job in group:
            job.worker, job.order = worker, number
            job.state, job.began = "running", time.monotonic()
            self.batches.count(job.kind)
            self.metrics.waited(job.began - job.created)
            self._made_now[job.id] = job
            job.change()
        pictures = [
            {
                "id": job.id,
                "asked": job.asked.as_json(),
                "image": str(job.image),
                "target": str(job.target),
                "previews": job.previews,
            }
            for job in group
        ]
        order: Event = {"op": "make", "id": number, "pictures": pictures, "is_trial": is_trial, "kind": group[0].kind}
        order |= {"at_once": self.batches.size(group[0].kind), "is_tried": self.batches.is_tried}
        order["is_short"] = all(job.cost <= SHORT_SECONDS for job in group)
        worker.send(order)

    def _told(self, worker: WorkerProcess, event: Event) -> None:
        """An event of a worker."""
        match event["event"]:
            case "ended":
                worker.is_on_trial = False
                self._running[worker].clear()
                detail = f"The process that made this picture ended ({event['how']}). Send the request again."
                for lost in [job for job in self.running if job.worker is worker]:
                    self._let_go(lost)
                    self._finish(lost, "failed", problem_json(500, detail))
            case "free":
                worker.is_on_trial = False
                lanes = self._running[worker]
                for lost in [job for job in self.running if job.order == event["id"]]:  # a bug, which the log tells
                    self._let_go(lost)
                    self._finish(lost, "failed", problem_json(500, "The picture could not be made; the log has more."))
                self._running[worker] = {lane: number for lane, number in lanes.items() if number != event["id"]}
            case "tried":
                worker.is_on_trial = False
                self.batches.learn(event["kind"], event["count"])
            case _:
                if (job := self._made_now.get(event.get("id", ""))) is not None:
                    self._told_of(job, event)
        self._dispatch()

    def _told_of(self, job: Job, event: Event) -> None:
        """An event of a picture in the making."""
        match event["event"]:
            case "step":
                job.step, job.fraction = event["step"], event["fraction"]
                job.look["steps"] = event["steps"]
                job.change()
            case "preview":
                job.preview = {"step": event["step"], "image": event["image"]}
                job.change()
            case "done":
                if job.state == "running":
                    job.made, job.step, job.fraction = event, job.look["steps"], 1.0
                self._let_go(job)
                self._finish(job, "done", None)
            case "failed":
                self._let_go(job)
                self._finish(job, "failed", problem_json(event["status"], event["detail"]))
            case "cancelled":
                self._let_go(job)

    def _let_go(self, job: Job) -> None:
        """No worker has the job any more; files of one that nobody wants go."""
        self._made_now.pop(job.id, None)
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
        job.weigh()
        self.metrics.finished(job)
        trace_job(job)
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
        """Results that are kept, with their inputs, take so much disk at most; the oldest go first."""
        kept = [job for job in self._jobs.values() if job.state in ("done", "failed")]
        taken = sum(job.kept_bytes for job in kept)
        for job in kept:
            if taken <= self.options.max_kept:
                break
            taken -= job.kept_bytes
            self._expire(job)
        ended = [job for job in self._jobs.values() if job.state in FINAL]
        for job in ended[: max(len(ended) - MOST_FORGOTTEN, 0)]:
            self.forget(job)

    def _expire(self, job: Job) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.state = "expired"
        job.change()

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _goes_with(job: Job, *, first: Job, is_first: bool, left: int) -> bool:
    """Whether a job is the first of a group, or one of its kind that fits into the memory that is left."""
    return job is first if is_first else job.kind == first.kind and job.own_bytes <= left
