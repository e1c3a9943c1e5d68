"""A service on a cluster from its first moment: Ray is connected to, Serve started, and both end with the command."""

import json
import logging
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.cluster.connection import LOCAL, connected
from deploy.errors import ClusterError, MissingPackage
from deploy.serving.cluster.settings import APPLICATION, IMPORT_PATH, ClusterSettings
from deploy.serving.start import listening_socket

CONTROLLER = "SERVE_CONTROLLER_ACTOR"

SAID = re.compile(r"^\s*[\w.]+(?:Error|Package|Exception): (.+)$", re.MULTILINE)
"""The last line of a traceback."""

PATIENCE = 60.0
"""Seconds from the replicas' being ready to the first answer over HTTP."""


def serve_on_cluster(settings: ClusterSettings, address: str, on_ready: Callable[[str, list[Any]], None]) -> None:
    """Serve until a signal ends it; `on_ready(address, models)` is called once pictures can be asked for."""
    is_over = threading.Event()
    with connected(address) as ray:
        try:
            from ray import serve
        except ImportError as error:
            raise MissingPackage(
                "Serving on a cluster needs Ray Serve: pip install 'idm-deploy[ray,serve]', on every machine of it."
            ) from error
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        _refuse_another(ray)
        if address == LOCAL or settings.port == 0:  # the port is of this machine
            with listening_socket(settings.host, settings.port) as free:
                settings = replace(settings, port=free.getsockname()[1])
        everywhere = "HeadOnly" if address == LOCAL or settings.options().is_loopback else "EveryNode"
        try:
            serve.start(proxy_location=everywhere, http_options={"host": settings.host, "port": settings.port})
            from deploy.serving.cluster.application import application

            serve.run(application(settings.as_json()), name=APPLICATION, route_prefix="/")
            place = f"http://{settings.host}:{settings.port}"
            models = _models(place, settings)
            before = {number: signal.signal(number, lambda *_: _end(is_over)) for number in _SIGNALS}
            try:
                on_ready(place, models)
                while not is_over.wait(0.5):
                    pass
                serve.delete(APPLICATION)  # what was taken is made
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        except RuntimeError as error:
            raise ClusterError(f"serving on the Ray cluster {address}: {_reason(serve, error)}") from error
        finally:
            serve.shutdown()


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _end(is_over: threading.Event) -> None:
    """The first signal lets what was taken be made, the second does not."""
    if is_over.is_set():
        raise KeyboardInterrupt
    is_over.set()


def write_config(settings: ClusterSettings, path: Path) -> None:
    """`path` is a file for `serve deploy`: the application with all its arguments, and how Serve listens."""
    config = {
        "proxy_location": "HeadOnly" if settings.options().is_loopback else "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": settings.as_json(),
            }
        ],
    }
    head = (
        "# Deploy with `serve deploy FILE`, where idm-deploy[ray,serve] is installed on every machine of the cluster.\n"
    )
    path.write_text(head + json.dumps(config, indent=2) + "\n")  # JSON is YAML


def _refuse_another(ray: Any) -> None:
    try:
        ray.get_actor(CONTROLLER, namespace="serve")
    except ValueError:
        return
    raise ClusterError(
        "Ray Serve runs on this cluster already, with ports of its own. Write a file with --write-config and add its "
        "application to that one's with `serve deploy`."
    )


def _models(place: str, settings: ClusterSettings) -> list[Any]:
    """What is served, once it answers."""
    headers = {}
    if (tokens := settings.options().tokens) is not None:
        headers["Authorization"] = f"Bearer {tokens[0]}"
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        request = urllib.request.Request(f"{place}/v1/models", headers=headers)
        with suppress(OSError), urllib.request.urlopen(request) as answer:
            models: list[Any] = json.load(answer)["models"]
            return models
        time.sleep(0.1)
    raise RuntimeError("nothing answers over HTTP")


def _reason(serve: Any, error: RuntimeError) -> str:
    """Why it could not be started: what a replica has said last."""
    with suppress(Exception):
        for status in serve.status().applications[APPLICATION].deployments.values():
            sentences = re.findall(
                r"^\s*[\w.]+(?:Error|Package|Exception): (.+)$", _plain(status.message), re.MULTILINE
            )
            if sentences:
                return f"a replica could not start: {sentences[-1]}"
    return _plain(str(error)).strip().splitlines()[-1]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[\d*m", "", text)
