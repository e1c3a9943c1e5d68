"""A service from its first moment: its workers start while what answers requests is still being imported."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.bundle.locking import DirectoryLock
from deploy.serving.options import ServeError, ServeOptions
from deploy.serving.pool import Pool

if TYPE_CHECKING:
    from deploy.serving.server import Server


_FOLDERS = "idm-deploy-serve-"


def serve(options: ServeOptions, on_ready: Callable[["Server"], None]) -> None:
    """Listen until a signal ends it; `on_ready(server)` is called once the first picture can be asked for."""
    with listening_socket(options.host, options.port) as listening, service_folder() as folder:
        refusal = asyncio.run(_serve(options, folder, listening, on_ready))
    if refusal is not None:
        raise ServeError(refusal)


@contextmanager
def service_folder() -> Iterator[Path]:
    """A folder for what a service keeps, gone after the block; those that services left which were killed go now."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_FOLDERS))
        try:
            lock = DirectoryLock(folder)
        except OSError:  # another took it for one that was left, before it was locked
            continue
        if folder.exists():
            break
        lock.release()
    try:
        for path in folder.parent.glob(f"{_FOLDERS}*"):
            _remove_if_left(path)
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    """Nothing of other users, nor what only has such a name."""
    try:
        if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
            return
        lock = DirectoryLock(folder)
    except OSError:  # its service lives, or it is gone
        return
    if lock.certain:
        shutil.rmtree(folder, ignore_errors=True)
    lock.release()


async def _serve(
    options: ServeOptions, folder: Path, listening: socket.socket, on_ready: Callable[["Server"], None]
) -> str | None:
    """Why no worker can start; None where the service has ended as it was told."""
    pool = Pool(options, folder)
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
