"""The server around the application: connections that are too slow end, and a signal lets it finish what it has."""

import asyncio
import tempfile
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from deploy.serving.app import make_app
from deploy.serving.jobs import Jobs
from deploy.serving.options import ServeOptions

HEADER_SECONDS = 15.0
"""That a client has to send the head of a request; later ones on the same connection have to begin within them too."""

READING_SECONDS = 60.0
"""That a client may take nothing of what it asked for."""


class PatientProtocol(H11Protocol):
    """Connections that end where the other side neither asks nor takes what it asked for."""

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
        self._waits_for_reader = self.loop.call_later(READING_SECONDS, self.transport.abort)

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
            self._waits_for_head = self.loop.call_later(HEADER_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """Uvicorn's server with two ways to stop: the first signal lets what was taken be made, the second does not."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.application = make_app(options)
        super().__init__(
            uvicorn.Config(
                self.application,
                host=options.host,
                port=options.port,
                http=PatientProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                timeout_keep_alive=int(HEADER_SECONDS),
                timeout_graceful_shutdown=5,
            )
        )
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def jobs(self) -> Jobs:
        """Those of the application that runs."""
        jobs: Jobs = self.application.state.jobs
        return jobs

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second stops."""
        del sig, frame
        if self._loop is None or self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_to_drain)

    def _begin_to_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """What was taken is made, as far as the time allows; nothing new is taken."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.options.drain_seconds
        jobs = getattr(self.application.state, "jobs", None)
        if jobs is not None:
            jobs.is_draining = True
            while not jobs.is_idle and loop.time() < ends and not self.should_exit:
                await asyncio.sleep(0.05)
        self.should_exit = True


def serve(options: ServeOptions, on_ready: Any) -> None:
    """Listen until a signal ends it; `on_ready(server)` is called once the first picture can be asked for."""
    server = Server(options)

    async def run() -> None:
        telling = asyncio.create_task(_tell_when_ready(server, on_ready))
        await server.serve()
        telling.cancel()

    before = tempfile.tempdir
    try:
        asyncio.run(run())
    finally:
        tempfile.tempdir = before


async def _tell_when_ready(server: Server, on_ready: Any) -> None:
    while not server.started or not (server.jobs.pool.ready or server.jobs.pool.refusal):
        await asyncio.sleep(0.02)
    on_ready(server)
