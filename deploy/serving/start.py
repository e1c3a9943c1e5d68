"""A service from its first moment: its workers start while what answers requests is still being imported."""

import asyncio
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.serving.options import ServeError, ServeOptions
from deploy.serving.pool import Pool

if TYPE_CHECKING:
    from deploy.serving.server import Server


def serve(options: ServeOptions, on_ready: Callable[["Server"], None]) -> None:
    """Listen until a signal ends it; `on_ready(server)` is called once the first picture can be asked for."""
    with listening_socket(options.host, options.port) as listening:
        refusal = asyncio.run(_serve(options, listening, on_ready))
    if refusal is not None:
        raise ServeError(refusal)


async def _serve(options: ServeOptions, listening: socket.socket, on_ready: Callable[["Server"], None]) -> str | None:
    """Why no worker can start; None where the service has ended as it was told."""
    pool = Pool(options, Path(tempfile.mkdtemp(prefix="idm-deploy-serve-")))
    try:
        await pool.start()
        from deploy.serving.server import Server  # meanwhile workers import and open engines

        server = Server(options, pool)
        telling = asyncio.create_task(_tell_when_ready(server, on_ready))
        await server.serve(sockets=[listening])
        telling.cancel()
    finally:
        await pool.stop(0.0)
    return server.refusal


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket at that address. ServeError where another program listens there, or this machine has no such address."""
    name = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"The address {host} is unknown here ({error.strerror}).") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ServeError(
            f"Nothing can listen at {host}, port {port} ({error.strerror}). Name another --port, of which 0 takes any "
            "that is free, or another --host."
        ) from error
    return listening


async def _tell_when_ready(server: "Server", on_ready: Callable[["Server"], None]) -> None:
    while not server.started or not (server.jobs.pool.ready or server.jobs.pool.refusal):
        await asyncio.sleep(0.02)
    if server.jobs.pool.refusal is None:
        on_ready(server)
    else:
        server.refusal = server.jobs.pool.refusal
        server.should_exit = True
