"""What answers clients of a service on a cluster: the routes of `serve`, over jobs that replicas make."""

import asyncio
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.serving.app import make_app
from deploy.serving.asked import Asked
from deploy.serving.cluster.binding import bind_to_own_address
from deploy.serving.cluster.settings import ClusterSettings
from deploy.serving.job import FINAL, Job
from deploy.serving.jobs import Jobs, WritesImage
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions
from deploy.serving.pool import Event
from deploy.serving.problems import Problem, problem_json
from deploy.serving.tracing import current_context, trace_job

MOST_TRIES = 3
"""Replicas that may die of a picture before its request fails."""

NO_JOBS = (
    "A service on a cluster keeps no jobs, so there are no events, previews or results to fetch later: ask "
    "/v1/upscale and wait, which is the default."
)


class Replicas:
    """The replicas as a pool of workers: what routes want to know of it."""

    def __init__(self, folder: Path) -> None:
        self.models: list[Event] = []
        self.refusal: str | None = None
        self.workers: list[Any] = []
        self.restarts = 0
        self.folder = folder
        self.on_event: Any = None

    @property
    def ready(self) -> list[Event]:
        """Something where pictures can be made."""
        return self.models


class RemoteJobs(Jobs):
    """The jobs of a gate: each is made by a replica, which Ray Serve chooses."""

    def __init__(self, options: ServeOptions, pool: Any, metrics: Metrics, pictures: Any, most: int) -> None:
        super().__init__(options, pool, metrics)
        self._pictures = pictures
        self._most = most
        self._pace = 1.0  # seconds of a picture, waiting included
        self._made: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """The replicas are asked what they have."""
        self._spawn(self._describe())

    async def stop(self) -> None:
        """Nothing is left on disk."""
        self.end_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self.pool.folder, ignore_errors=True)

    def refuse_while_full(self) -> None:
        """Problem where more is here than the replicas and their queue hold."""
        if self.is_draining:
            super().refuse_while_full()
        if len(self.unfinished) + self._arriving >= self._most:
            raise self._full()

    def seconds_to_wait(self) -> int:
        """Until there is room again, by the pace of the last pictures."""
        return max(1, min(3600, round(self._pace / 2)))

    async def look(self, asked: Asked, *, image: Path | None, width: int = 0, height: int = 0) -> Event:
        """What a replica says of a request before it is made. Problem where it refuses."""
        del image
        answer: Event = await self._pictures.look.remote(asked.as_json(), width, height)
        if answer["event"] == "failed":
            raise Problem(answer["status"], answer["detail"])
        return answer

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
        """A job that is on its way to a replica. Problem where it is refused."""
        if is_kept or previews:
            raise Problem(501, NO_JOBS)
        self.refuse_while_full()
        number = secrets.token_urlsafe(12)
        folder = self.pool.folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        self._arriving += 1
        try:
            await write_image(folder / "input")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._arriving -= 1
        limit = min(deadline_seconds or self.options.deadline_seconds, self.options.deadline_seconds)
        unknown: Event = {"steps": 0, "seconds": None, "kind": number, "model": asked.model, "own_bytes": 0}
        unknown |= {"width": 0, "height": 0, "evaluations": 0, "preset": asked.values.get("preset"), "label": ""}
        job = Job(
            id=number,
            client=client,
            asked=asked,
            folder=folder,
            name=name,
            look=unknown,
            deadline=time.monotonic() + limit,
            is_kept=False,
            via=via,
            context=current_context(),
            state="running",
            began=time.monotonic(),
        )
        self._jobs[number] = job
        self._made[number] = task = asyncio.create_task(self._make(job, limit))
        task.add_done_callback(lambda _: self._made.pop(number, None))
        self.metrics.queue(0, len(self.unfinished))
        return job

    def cancel(self, job: Job) -> None:
        """The job ends within one step, if it has not ended."""
        if job.state not in FINAL:
            self._end(job, "cancelled", None)
            if (task := self._made.get(job.id)) is not None:
                task.cancel()

    def find(self, name: str) -> Job:
        """Problem: there are no jobs to be found."""
        del name
        raise Problem(501, NO_JOBS)

    def _end(self, job: Job, state: Any, error: Event | None) -> None:
        if job.state in FINAL:
            return
        job.state, job.error, job.ended = state, error, time.monotonic()
        self._pace += 0.2 * (job.ended - job.created - self._pace)
        job.change()
        self.metrics.finished(job)
        self.metrics.queue(0, len(self.unfinished))
        trace_job(job)

    async def _make(self, job: Job, limit: float) -> None:
        """The job is done, or has failed with the reason."""
        try:
            file = await asyncio.to_thread(job.image.read_bytes)
            answer = await asyncio.wait_for(self._answer(file, job.asked), limit)
            if answer["event"] == "failed":
                self._end(job, "failed", problem_json(answer["status"], answer["detail"]))
                return
            await asyncio.to_thread(job.target.write_bytes, answer.pop("file"))
            job.look, job.made = answer.pop("look"), answer
            self._end(job, "done", None)
        except Problem as problem:
            job.error_headers = problem.headers
            self._end(job, "failed", problem.as_json())
        except TimeoutError:
            detail = "The picture was not made within the time that was set for it."
            self._end(job, "failed", problem_json(504, detail))
        except Exception as error:  # of Ray: the picture fails, the next one may not
            detail = f"The picture could not be made on the cluster ({type(error).__name__}). Send the request again."
            self._end(job, "failed", problem_json(500, detail))
            raise

    async def _answer(self, file: bytes, asked: Asked) -> Event:
        """Of a replica; of another one where it dies. Problem where all are busy and enough pictures wait."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

        for _ in range(MOST_TRIES):
            response = self._pictures.make.remote(file, asked.as_json())
            try:
                answer: Event = await response
                return answer
            except BackPressureError as error:
                raise self._full() from error
            except (DeploymentUnavailableError, ReplicaUnavailableError) as error:
                seconds = {"Retry-After": "5"}
                raise Problem(503, "No replica can make pictures now. Try again in a few seconds.", seconds) from error
            except RayActorError:
                continue
            except asyncio.CancelledError:
                response.cancel()
                raise
        raise Problem(500, f"{MOST_TRIES} replicas died while this picture was made: is there memory enough for it?")

    def _full(self) -> Problem:
        seconds = self.seconds_to_wait()
        detail = f"All replicas are busy and as many pictures wait as may. Try again in {seconds} s."
        return Problem(429, detail, {"Retry-After": str(seconds)})

    async def _describe(self) -> None:
        while not self.pool.models:
            try:
                self.pool.models = await self._pictures.describe.remote()
            except Exception:  # none is there yet: it is asked again
                await asyncio.sleep(0.5)


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
            return RemoteJobs(options, pool, metrics, self._pictures, most)

        folder = Path(tempfile.mkdtemp(prefix="idm-deploy-gate-"))
        return make_app(settings.options(), Replicas(folder), jobs_of, has_page=False)
