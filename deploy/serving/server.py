"""The server around the application: connections that are too slow end, and a signal lets it finish what it has."""

import asyncio
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deploy.serving.app import make_app
from deploy.serving.jobs import Jobs
from deploy.serving.options import ServeOptions
from deploy.serving.pool import Pool


class PatientProtocol(H11Protocol):
    """Connections that end where the other side neither asks nor takes what it asked for.

    idle_seconds: for the head of a request, the first one or a later one, and between two takings of an answer.
    """

    idle_seconds = 20.0

    _waits_for_head: asyncio.TimerHandle | None = None
    _waits_for_reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waits_for_head, self._waits_for_reader):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._waits_for_reader = self.loop.call_later(self.idle_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._waits_for_reader is not None:
            self._waits_for_reader.cancel()
        super().resume_writing()

    def _watch_head(self) -> None:
        """While no request is being answered, the time for the head of the next one runs."""
        is_asked = self.cycle is not None and not self.cycle.response_complete
        if is_asked and self._waits_for_head is not None:
            self._waits_for_head.cancel()
            self._waits_for_head = None
        elif not is_asked and self._waits_for_head is None:
            self._waits_for_head = self.loop.call_later(self.idle_seconds, self.transport.abort)


class Server(uvicorn.Server):
    """Uvicorn's server with two ways to stop: the first signal lets what was taken be made, the second does not."""

    def __init__(self, options: ServeOptions, pool: Pool) -> None:
        self.options = options
        self.application = make_app(options, pool)
        super().__init__(
            uvicorn.Config(
                self.application,
                host=options.host,
                port=options.port,
                http=type("Protocol", (PatientProtocol,), {"idle_seconds": options.idle_seconds}),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                timeout_keep_alive=max(1, round(options.idle_seconds)),
                timeout_graceful_shutdown=5,
            )
        )
        self.refusal: str | None = None  # why no worker can start
        self._signals = 0
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def jobs(self) -> Jobs:
        """Those of the application that runs."""
        jobs: Jobs = self.application.state.jobs
        return jobs

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second stops, the third asks nobody."""
        del sig, frame
        self._signals += 1
        if self._loop is None or self._signals > 2:
            self.should_exit = self.force_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_to_drain if self._signals == 1 else self._stop_now)

    def _begin_to_drain(self) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    def _stop_now(self) -> None:
        self.should_exit = True
        self.jobs.end_all()

    async def _drain(self) -> None:
        """What was taken is made, as far as the time allows; nothing new is taken."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.options.drain_seconds
        self.jobs.is_draining = True
        while not self.jobs.is_idle and loop.time() < ends and not self.should_exit:
            await asyncio.sleep(0.05)
        self.jobs.end_all()
        self.should_exit = True
