"""The worker processes of a service: started, asked, and started again when one dies."""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.serving.options import ServeOptions
from deploy.serving.problems import Problem

LANES = 2
"""Pictures that a worker makes at once: any, and beside it a short one. Engines are shared step by step."""

LONGEST_LINE = 16 << 20
"""Bytes of an event: a preview is the longest."""

SLOWEST_RESTART = 10.0
"""Seconds to wait, at most, before a worker that dies again and again is started anew."""

Event = dict[str, Any]
_LOG = logging.getLogger(__name__)


class WorkerProcess:
    """One process that makes pictures; `listen` reads what it tells until it ends."""

    def __init__(self, settings: dict[str, Any], number: int) -> None:
        self.number = number
        self.is_ready = False
        self.is_on_trial = False  # takes nothing else meanwhile
        self.idle_bytes = 0
        self.resident_bytes = 0
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[str, asyncio.Future[Event]] = {}

    async def start(self) -> None:
        """The process runs; it will tell when it is ready."""
        # -P: nothing in the folder that the service was started in is imported.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "deploy.serving.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            env=os.environ | {"TMPDIR": self._settings["folder"]},
            start_new_session=True,
        )
        self.send(self._settings)

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def send(self, order: Event) -> None:
        """An order is on its way; one to a worker that has died is lost, which `listen` finds out."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def ask(self, order: Event) -> Event:
        """The answer to an order. Problem where it is refused or the worker dies of it."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._answers[order["id"]] = future
        self.send(order)
        try:
            answer = await future
        finally:
            self._answers.pop(order["id"], None)
        if answer["event"] == "failed":
            raise Problem(answer["status"], answer["detail"])
        return answer

    async def listen(self, on_event: Callable[[Event], None]) -> str:
        """Events are told as they come, until the process ends; returns how it ended, in words."""
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            event: Event = json.loads(line)
            if event["event"] == "ready":
                self.is_ready, self.idle_bytes = True, event["idle_bytes"]
            self.resident_bytes = event.get("resident_bytes", self.resident_bytes)
            future = self._answers.get(event.get("id", ""))
            if future is None:
                on_event(event)
            elif not future.done():
                future.set_result(event)
        self.is_ready = False
        code = await self._process.wait()
        ended = how_it_ended(code)
        for future in self._answers.values():
            if not future.done():
                detail = f"The process that looked at this picture ended ({ended}). Send the request again."
                future.set_result({"event": "failed", "status": 500, "detail": detail})
        return ended

    async def stop(self, seconds: float) -> None:
        """The process has ended: by itself if it does so in time."""
        if self._process is None or self._process.returncode is not None:
            return
        self.send({"op": "end"})
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """The process ends now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class Pool:
    """All workers. folder: for their files, and those of whoever uses them; it goes with `stop`.

    `on_event(worker, event)` is called for what they tell, with event "ended" where one has died.
    """

    def __init__(self, options: ServeOptions, folder: Path) -> None:
        self.memory = options.worker_memory()
        settings = {
            "bundles": {name: str(path.resolve()) for name, path in options.bundles.items()},
            "engine": options.engine,
            "precision": options.precision,
            "threads": options.threads,
            "memory": self.memory,
            "max_pixels": options.max_pixels,
            "lanes": LANES,
            "folder": str(folder),
        }
        self.workers = [WorkerProcess(settings, number) for number in range(options.workers)]
        self.models: list[dict[str, Any]] = []
        self.refusal: str | None = None
        self.restarts = 0
        self.folder = folder
        self.on_event: Callable[[WorkerProcess, Event], None] = lambda *_: None
        self._tasks: list[asyncio.Task[None]] = []
        self._turns = 0

    async def start(self) -> None:
        """Each worker runs, and is started again when it dies, until `stop`."""
        await asyncio.gather(*(worker.start() for worker in self.workers))
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self.workers]

    @property
    def ready(self) -> list[WorkerProcess]:
        """Those that can make pictures now."""
        return [worker for worker in self.workers if worker.is_ready]

    async def ask(self, order: Event) -> Event:
        """The answer of one of the workers; while none is ready, of the next one that is, for a while."""
        for _ in range(100):
            if ready := self.ready:
                self._turns += 1
                return await ready[self._turns % len(ready)].ask(order)
            if self.refusal is not None:
                break
            await asyncio.sleep(0.1)
        raise Problem(503, self.refusal or "No worker is ready yet. Try again in a few seconds.", {"Retry-After": "5"})

    async def stop(self, seconds: float) -> None:
        """No process is left; they have so long to end by themselves, all together."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop(seconds) for worker in self.workers))
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _keep(self, worker: WorkerProcess) -> None:
        delay = 0.0
        while True:

            def told(event: Event) -> None:
                nonlocal delay
                if event["event"] == "ready":
                    self.models = event["models"]
                    delay = 0.0
                if event["event"] == "unable":
                    self.refusal = event["detail"]
                self.on_event(worker, event)

            ended = await worker.listen(told)
            _LOG.error("worker %d ended (%s)", worker.number, ended)
            self.restarts += 1
            delay = min(2 * delay + 0.25, SLOWEST_RESTART)
            self.on_event(worker, {"event": "ended", "how": ended})
            await asyncio.sleep(delay)
            await worker.start()


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"killed by {name}, as a system does that runs out of memory" if name == "SIGKILL" else name
    return f"signal {-code}"
