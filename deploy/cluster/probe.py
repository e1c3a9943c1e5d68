"""What listens at the address of a Ray cluster: `python -m deploy.cluster.probe ADDRESS`, in a process of its own.

Ray waits for minutes where nobody answers, and ends the process that asked; so whoever asks here is another process,
which can be stopped. One line of JSON is printed: `problem`, or the `address` to connect to, `is_loopback`, and the
versions `ray` and `python` of the cluster, where it tells them.
"""

import json
import os
import socket
import sys
from typing import Any

PATIENCE = 3.0
"""Seconds in which a machine of a network answers that its port is open."""

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Print what is at the address that was given."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    sys.stdout.write(f"{json.dumps(asked(sys.argv[1]))}\n")


def asked(address: str) -> dict[str, Any]:
    """What answers at `address`."""
    from ray._private import services

    try:
        resolved = services.canonicalize_bootstrap_address(address)
    except ConnectionError:
        return {"problem": "none"}
    except ValueError:
        return {"problem": "form"}
    host, _, port = str(resolved).rpartition(":")
    if not port.isdecimal():
        return {"problem": "form"}
    # Ray takes 127.0.0.1 for the address that other machines know, at which one that is bound to it does not answer.
    is_loopback = False
    if (problem := _refusal(host.strip("[]"), int(port))) is not None:
        if services.get_node_ip_address() != host or _refusal(LOOPBACK, int(port)) is not None:
            return {"problem": "silent", "address": resolved, "detail": problem}
        is_loopback, resolved = True, f"{LOOPBACK}:{port}"
    return {"address": resolved, "is_loopback": is_loopback} | _versions(str(resolved))


def _refusal(host: str, port: int) -> str | None:
    """Why nothing can be connected to there; None if something can."""
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _versions(address: str) -> dict[str, Any]:
    """Those that the cluster was started with. Waits where what listens is no Ray."""
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._raylet import GcsClient  # type: ignore[attr-defined, unused-ignore]  # compiled
    from ray.exceptions import AuthenticationError

    try:
        metadata = get_cluster_metadata(GcsClient(address=address))
    except AuthenticationError:
        return {"problem": "token"}
    if not metadata:
        return {}
    return {"ray": metadata["ray_version"], "python": metadata["python_version"]}


if __name__ == "__main__":
    main()
